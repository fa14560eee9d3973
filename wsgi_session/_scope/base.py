"""What every scope is made of: the sessions that it holds, and what its users may do to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _fork, _wsgi, callbacks
from .._checks import checked_bind, checked_hook
from .._session import forms, lazy, transaction
from ..errors import PendingChangesError, ScopeEndedError, ScopeStateError
from ..scope import EndHook, H, Scope, State
from .life import DOOMED, ENDED, OPEN, OVER, TOUCHED, UNTOUCHED, Life
from .notes import Notes

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from .terms import Terms

S = TypeVar("S", bound="Session")

UNKNOWN: Any = object()
"""In place of an engine that nobody has asked for yet; None may be chosen."""

ASKED_FOR: Any = object()
"""In place of an engine that is being chosen."""


class BaseScope(Scope):
    """A scope, with what only this package may see of it.  Lives as long as its request or block.

    What becomes of the transactions is `outcome`'s, and the end is `end`'s.
    """

    __slots__ = (
        "__weakref__",
        "bind",
        "environ",
        "hooks",
        "life",
        "lost",
        "others",
        "outcome",
        "outer",
        "recording",
        "session",
        "terms",
    )

    bind: Engine | None
    """What was chosen for its session; before, `UNKNOWN` or `ASKED_FOR`."""

    environ: WSGIEnvironment | None

    hooks: tuple[EndHook, ...]
    """What to call at its end."""

    life: Life
    """Most requests stay `UNTOUCHED`: `bind`, `hooks`, `lost` and `others` are not set before `touch`."""

    lost: tuple[str, ...] | None
    """What was thrown away that was not committed; None if no word is to be said of it any more."""

    others: tuple[tuple[lazy.SessionSource[Any], Any], ...]
    """The sessions of other registries, and those that were replaced, each with what has made it."""

    outcome: State
    """What has been settled so far."""

    outer: BaseScope | None
    """The nearest scope that had not ended when this one was opened."""

    recording: Notes
    """What is noted of it, if it is; not set otherwise."""

    session: Any
    """The session of the registry that it was opened for."""

    terms: Terms

    @property
    def state(self) -> State:
        """What has become of this scope."""
        return ENDED if self.is_ended else self.outcome

    @property
    def is_ended(self) -> bool:
        """Whether this scope has ended, or was inherited from a parent process."""
        return self.life is OVER or self.terms.generation != _fork.generation

    @property
    def notes(self) -> Notes | None:
        """What is noted of it, if it is."""
        return getattr(self, "recording", None)

    @property
    def is_dropped(self) -> bool:
        """Whether the server has dropped the response without closing it."""
        return False

    def on_end(self, hook: H) -> H:
        """Have *hook* called with this scope when it has ended."""
        self.require_open()
        self.add_hook(checked_hook(hook))
        return hook

    def add_hook(self, hook: EndHook) -> None:
        """Do as `on_end` does, with a hook that needs no check."""
        self.touch()
        self.hooks = (*self.hooks, hook)

    def doom(self) -> None:
        """Have everything rolled back when the outcome is settled."""
        if not self.terms.settles and not self.is_ended:
            raise ScopeStateError(
                f"{self!r} cannot be doomed, because it commits nothing. Use the session's 'rollback()'."
            )
        if self.state not in (OPEN, DOOMED):
            raise ScopeStateError(f"{self!r} cannot be doomed any more: its outcome is settled.")
        self.touch()
        self.outcome = DOOMED
        if (notes := self.notes) is not None:
            notes.doom()

    def fail(self, error: BaseException | None = None) -> None:
        """Note that what this scope is for has failed: none of it is to be committed, and what it loses is no loss.

        That is all that a failure is, whoever has seen it: an exception on its way, ``exc_info``, a rule, a status.
        The changes are undone now, by `outcome.roll_back`, or with the rest at the end.

        Args:
            error: What it has failed with, if that is known.
        """
        self.touch()
        self.lost = None
        if error is not None and (notes := self.notes) is not None:
            notes.fail(error)
        if self.outcome is OPEN and self.terms.settles:
            self.outcome = DOOMED

    def release(self) -> None:
        """End the transactions and give the connections back, now."""
        self.require_open()
        for session in self.built():
            if reason := callbacks.why_not_release(session):
                raise PendingChangesError(
                    f"{self!r}: {session!r} cannot be released: {reason}. Commit or roll back first."
                )
        for session in self.built():
            transaction.release(session)

    def __repr__(self) -> str:
        """Show whose scope this is, and its state."""
        what = "block" if self.environ is None else _wsgi.method_and_path(self.environ)
        return f"<Scope of {what}, {self.state.value}>"

    def require_open(self) -> None:
        """Raise `ScopeEndedError` if this scope has ended."""
        if self.is_ended:
            raise ScopeEndedError(
                f"{self!r}: what belonged to it is gone. Open a scope of your own with 'with session_scope(...)'."
            )

    def touch(self) -> None:
        """Make room for more than an unbuilt session."""
        if self.life is UNTOUCHED:
            self.bind = UNKNOWN
            self.hooks = self.terms.hooks
            self.lost = ()
            self.others = ()
            self.life = TOUCHED  # last: another thread, or an interrupt, may come in between

    def show(self) -> None:
        """Put the session where it is looked for: that of a request is in the environ, that of a block nowhere."""

    def completed(self, source: lazy.SessionSource[Any], kw: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments with which *source* builds a session: the engine that was chosen, beside *kw*.

        It is chosen once in a scope, for the registry that the scope was opened for.

        Raises:
            ScopeStateError: If what chooses asks for the session.
            TypeError: If what was chosen is no engine.
        """
        choose = self.terms.bind
        if choose is None or source is not self.terms.source or "bind" in kw:
            return kw
        assert self.environ is not None  # only a request has terms that choose
        self.touch()
        if self.bind is ASKED_FOR:
            raise ScopeStateError(f"{self!r}: the session cannot be used by the function that chooses its engine.")
        if self.bind is UNKNOWN:
            self.bind = ASKED_FOR
            try:
                bind = checked_bind(choose(self.environ), choose)
            except BaseException:
                self.bind = UNKNOWN
                raise
            self.bind = bind
        return kw if self.bind is None else {"bind": self.bind, **kw}

    def session_of(self, source: lazy.SessionSource[S]) -> S:
        """Return the session that a registry has in this scope, made now if there is none."""
        if self.terms.source is source:
            return self.session  # type: ignore[no-any-return]
        self.touch()
        for known, session in reversed(self.others):
            if known is source:
                return session  # type: ignore[no-any-return]
        session = source.make(self)
        self.others += ((source, session),)
        return session

    def replace(self, source: lazy.SessionSource[S], session: S) -> None:
        """Give a registry another session in this scope, and in the environ; the scope ends both."""
        self.touch()
        if self.terms.source is source:
            self.others += ((source, self.session),)
            self.session = session
            self.show()
        else:
            self.others += ((source, session),)

    def sessions(self) -> Iterator[tuple[lazy.SessionSource[Any], Any]]:
        """Yield all sessions with what has made them, that of the scope's own registry last."""
        yield from self.others
        yield self.terms.source, self.session

    def built(self) -> list[Session]:
        """List the sessions that have been touched, that of the scope's own registry last."""
        if self.life is not TOUCHED:
            return []
        if not self.others:
            return [self.session] if forms.is_built(self.session) else []
        return [session for _, session in self.sessions() if forms.is_built(session)]

    def holds_connection(self) -> bool:
        """Say whether a session is in a transaction."""
        return any(session.in_transaction() for session in self.built())
