"""The terms that scopes are opened on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import _fork
from ..commit import never

if TYPE_CHECKING:
    from .._session import lazy
    from ..commit import CommitRule
    from ..scope import ChooseBind, EndHook, SetUpHook


@dataclass(frozen=True, slots=True)
class Terms:
    """What all scopes of one middleware, or of one kind of block, have in common.  Lives as long as they are opened."""

    source: lazy.SessionSource[Any]
    """Of the registry that the scopes are opened for."""

    settles: bool
    """Whether there is an outcome that is settled before the end; under `until_close` there is none."""

    commit: CommitRule = never
    """What the middleware was told of commits."""

    has_rule: bool = False
    """Whether that is a rule, and so anything is committed for the application."""

    release_reads: bool = False
    """Whether what has only read gives its connections back before the first byte."""

    generation: int = field(default_factory=lambda: _fork.generation)
    """Of the process that the scopes are open in: they are ended in a child."""

    key: str = ""
    """Where the session is put in the environ."""

    hooks: tuple[EndHook, ...] = ()
    """What to call at the end of each."""

    bind: ChooseBind | None = None
    """Chooses the engine of each."""

    on_begin: SetUpHook | None = None
    """What to call where a transaction begins in one."""

    is_recorded: bool = False
    """Whether something records some of them."""
