"""Whose: which request that is recorded code and sessions belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._scope.look import look
from .._scope.membership import scope_of_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from .._scope.base import BaseScope
    from ._recording import Recording


def current() -> Recording | None:
    """Return the recording of the request that this code runs in, if there is one."""
    return _outwards(look())


def of_session(session: Session) -> Recording | None:
    """Return the recording of the request that *session* belongs to; of one made by hand, of the current request."""
    scope = scope_of_session(session)
    return current() if scope is None else _outwards(scope)


def _outwards(scope: BaseScope | None) -> Recording | None:
    while scope is not None:
        recording: Recording | None = getattr(scope, "recording", None)
        if recording is not None and recording.is_open:
            return recording
        scope = scope.outer
    return None
