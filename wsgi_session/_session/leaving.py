"""The leaving of a session: what the application does to it that throws away what was not committed.

``Session.remove()`` and the end of ``with Session() as session:`` are a ``close()``, too. SQLAlchemy has no event that
comes before the objects are gone. But each `sessionmaker` makes a class of its own for its sessions, and so its
``close()``, ``invalidate()`` and ``reset()`` can say first that they are called; what shares its class with others is
left alone.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from sqlalchemy.orm import Session, scoped_session

from .makeup import is_of_sessionmaker

_CLOSE = "_wsgi_session_close"
"""The attribute of a class that is watched which is its ``close()`` as it was."""

on_leave: list[Callable[[Session, FrameType, str], object]] = []
"""Are called with a session that is about to be left, the frame that does it, and the name of the method."""


def watch(session_class: type[Session]) -> None:
    """Have `on_leave` told of the sessions of *session_class*, if that is a `sessionmaker`'s own."""
    if is_of_sessionmaker(session_class):
        setattr(session_class, _CLOSE, session_class.close)
        for name in ("close", "invalidate", "reset"):
            setattr(session_class, name, _telling(session_class, name))


def close(session: Session) -> None:
    """Close *session* for its scope, which has ended and need not be told."""
    own = type(session).__dict__
    if _CLOSE in own:
        own[_CLOSE](session)
    else:
        session.close()


def described(frame: FrameType, name: str) -> str:
    """Say what an application has written that leaves its session: *frame* has called the method *name*."""
    if frame.f_code is scoped_session.remove.__code__:
        return "'Session.remove()'"
    if frame.f_code is Session.__exit__.__code__:
        return "the end of 'with Session() as session:'"
    return f"'session.{name}()'"


def _telling(session_class: type[Session], name: str) -> Callable[[Any], None]:
    @functools.wraps(getattr(Session, name))
    def leave(self: Any) -> None:
        frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        for tell in on_leave:
            tell(self, frame, name)
        getattr(super(session_class, self), name)()

    return leave
