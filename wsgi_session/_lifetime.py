"""The lifetime of a scope: the sessions that were made in it, how their outcome is settled, and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from os import getpid
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.orm.session import _sessions  # pyright: ignore[reportPrivateUsage]

from . import _fork, _wsgi, callbacks
from ._log import log
from ._session import lazy, transaction
from .errors import PartialCommitError, PendingChangesError, ScopeEndedError, ScopeStateError
from .scope import EndHook, H, Scope, State, checked_hook

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from sqlalchemy.orm import Session


S = TypeVar("S", bound="Session")

_OF_SESSION = "wsgi_session.scope"
"""The key of `Session.info` under which a session's scope is."""

OPEN, DOOMED, SETTLING, COMMITTED, UNCOMMITTED, ROLLED_BACK, ENDED = State
"""Its members: to look one up in the class has the price of a call."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all scopes of one middleware, or of one kind of block, have in common.  Lives as long as they are opened."""

    source: lazy.SessionSource[Any]
    """Of the registry that the scopes are opened for."""

    settles: bool
    """Whether anything is ever committed for the application."""

    generation: int = field(default_factory=lambda: _fork.generation)
    """Of the process that the scopes are open in: they are ended in a child."""

    key: str = ""
    """Where the session is put in the environ."""

    hooks: tuple[EndHook, ...] = ()
    """What to call at the end of each."""


class Lifetime(Scope):
    """A scope, with what only this package may do to it.  Lives as long as its request or block."""

    __slots__ = (
        "__weakref__",
        "_hooks",
        "_may_warn",
        "_others",
        "environ",
        "is_untouched",
        "outcome",
        "outer",
        "recording",
        "session",
        "terms",
    )

    environ: WSGIEnvironment | None

    is_untouched: bool | None
    """Whether there is nothing in it but an unbuilt session, so that its end cannot fail; None when it has ended.

    Most requests stay so: `_hooks`, `_may_warn` and `_others` are not set before `touch`.
    """

    outcome: State
    """What has been settled so far; not set where nothing ever is."""

    outer: Lifetime | None
    """The nearest scope that had not ended when this one was opened."""

    recording: object
    """What is noted of it, if it is; not set otherwise."""

    session: Any
    """The session of the registry that it was opened for."""

    terms: Terms

    _hooks: tuple[EndHook, ...]
    _may_warn: bool
    _others: tuple[tuple[lazy.SessionSource[Any], Any], ...]

    @property
    def state(self) -> State:
        """What has become of this scope."""
        return ENDED if self.is_ended else getattr(self, "outcome", OPEN)

    @property
    def is_ended(self) -> bool:
        """Whether this scope has ended, or was inherited from a parent process."""
        return self.is_untouched is None or self.terms.generation != _fork.generation

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
        self._hooks = (*self._hooks, hook)

    def doom(self) -> None:
        """Have everything rolled back when the outcome is settled."""
        if not self.terms.settles and not self.is_ended:
            raise ScopeStateError(f"{self!r} cannot be doomed, for it commits nothing. Use the session's 'rollback()'.")
        if self.state not in (OPEN, DOOMED):
            raise ScopeStateError(f"{self!r} cannot be doomed any more: its outcome is settled.")
        self.outcome = DOOMED

    def release(self) -> None:
        """End the transactions and give the connections back, now."""
        self.require_open()
        for session in self._built():
            reason = transaction.why_not_release(session)
            if not reason and (awaited := callbacks.awaited(session)):
                reason = f"its commit is waited for ({awaited})"
            if reason:
                raise PendingChangesError(
                    f"{self!r}: {session!r} cannot be released: {reason}. Commit or roll back first."
                )
        for session in self._built():
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
        if self.is_untouched:
            self._hooks = self.terms.hooks
            self._may_warn = self.terms.settles and self.environ is not None
            self._others = ()
            self.is_untouched = False  # last: another thread, or an interrupt, may come in between

    def show(self) -> None:
        """Put the session where it is looked for: that of a request is in the environ, that of a block nowhere."""

    def session_of(self, source: lazy.SessionSource[S]) -> S:
        """Return the session that a registry has in this scope, made now if there is none."""
        if self.terms.source is source:
            return self.session  # type: ignore[no-any-return]
        self.touch()
        for known, session in reversed(self._others):
            if known is source:
                return session  # type: ignore[no-any-return]
        session = source.make(self)
        self._others += ((source, session),)
        return session

    def replace(self, source: lazy.SessionSource[S], session: S) -> None:
        """Give a registry another session in this scope, and in the environ; the scope ends both."""
        self.touch()
        if self.terms.source is source:
            self._others += ((source, self.session),)
            self.session = session
            self.show()
        else:
            self._others += ((source, session),)

    def commit(self) -> list[Exception]:
        """Commit every session that is in a transaction, that of the scope's own registry last.

        Also one that has begun while another was being committed, as for an audit log, and one for whose commit a
        callback waits.

        Returns:
            The errors of the callbacks of `on_commit`.

        Raises:
            OpenTransactionError: If one is still inside a ``session.begin()`` block; nothing was committed then.
            PartialCommitError: If a commit failed after another had succeeded.
        """
        committed: list[Session] = []
        errors: list[Exception] = []
        self.outcome = SETTLING  # it is too late for doom()
        try:
            waiting = self._uncommitted(committed)
            for session in waiting:
                transaction.refuse_open_block(session, self)
            while waiting:
                errors += _commit_after(committed, waiting[0])
                committed.append(waiting[0])
                waiting = self._uncommitted(committed) if self._others else []
        except BaseException as error:
            callbacks.log_errors(errors)
            self.roll_back(error)
            raise
        self.outcome = COMMITTED
        return errors

    def commit_block(self) -> None:
        """Commit a block that was left without an error, unless it was doomed.

        Raises:
            Exception: The first error of a callback of `on_commit`; everything is committed then.
        """
        if self.outcome is DOOMED:
            self.roll_back()
        elif errors := self.commit():
            callbacks.log_errors(errors[1:])
            raise errors[0]

    def roll_back(self, error: BaseException | None = None) -> None:
        """Roll back every session, or abandon it if *error* leaves its connection in a state nobody knows."""
        self.touch()
        self._may_warn = False
        if self.state in (OPEN, DOOMED, SETTLING):
            self.outcome = ROLLED_BACK
        built = self._built()
        for session in built:
            callbacks.forget(session)
        undo = transaction.abandon if _is_fatal(error) else transaction.roll_back
        _call_each(partial(undo, session) for session in reversed(built) if session.in_transaction())

    def finish_transactions(self) -> None:
        """Give the connections back, for the response is complete; a ``session.begin()`` block keeps its own."""
        sessions = [session for session in self._built() if not transaction.is_open_block(session)]
        if not sessions:
            return
        if self._may_warn:
            self._warn_of_losses(sessions)
        for session in sessions:
            transaction.give_back(session)

    def holds_connection(self) -> bool:
        """Say whether a session is in a transaction."""
        return any(session.in_transaction() for session in self._built())

    def end(self, error: BaseException | None = None) -> None:
        """Close the sessions, end their use and run the hooks, once, whatever a part of it raises.

        Args:
            error: What is on its way while it ends.
        """
        terms = self.terms
        if self.is_untouched is None or terms.generation != _fork.generation:
            return
        if self.is_untouched:
            if not terms.hooks:
                terms.source.end(self.session)
                self.is_untouched = None
                if self.outer is not None:
                    self.outer = nearest_open(self.outer)
                return
            self.touch()
        try:
            if error is None and self._may_warn:
                self._warn_of_losses(self._built())
        finally:
            self.is_untouched = None
            token = None if look() is self else enter(self)  # for what runs in the scope that has ended
            try:
                if self._hooks or self._others:
                    _call_each(self._end_steps(error))
                else:
                    _end_session(terms.source, self.session, error)  # the same, where there is one step only
            finally:
                self._hooks = self._others = ()
                if self.outer is not None:
                    self.outer = nearest_open(self.outer)
                if token is not None:
                    leave(token)

    def disown(self) -> None:
        """End in a child process, without a word to the database: the connections are the parent's."""
        self.touch()
        for source, session in self._sessions():
            _fork.kept.append(session)
            source.end(session)
        self.is_untouched = None

    def _end_steps(self, error: BaseException | None) -> Iterator[Callable[[], object]]:
        for source, session in reversed([*self._sessions()]):
            yield partial(_end_session, source, session, error)
        for hook in self._hooks:
            yield partial(self._run, hook)

    def _sessions(self) -> Iterator[tuple[lazy.SessionSource[Any], Any]]:
        yield from self._others
        yield self.terms.source, self.session

    def _built(self) -> list[Session]:
        """List the sessions that have been touched, that of the scope's own registry last."""
        if self.is_untouched is not False:
            return []
        if not self._others:
            return [self.session] if lazy.is_built(self.session) else []
        return [session for _, session in self._sessions() if lazy.is_built(session)]

    def _uncommitted(self, committed: list[Session]) -> list[Session]:
        return [
            session
            for session in self._built()
            if session not in committed and (session.in_transaction() or callbacks.awaited(session))
        ]

    def _warn_of_losses(self, sessions: list[Session]) -> None:
        """Say in the log, once, what a response that did not fail leaves uncommitted in *sessions*."""
        losses: list[str] = []
        try:
            for session in sessions:
                if session.in_transaction() and (loss := transaction.changes(session)):
                    losses.append(loss)
                if awaited := callbacks.awaited(session):
                    losses.append(awaited)
        except Exception:  # a column type of the user's may fail to compare
            log.exception("%r: what it leaves uncommitted could not be found out.", self)
            return
        if losses:
            self._may_warn = False
            log.warning("%s leaves uncommitted, and so loses: %s.", repr(self), "; ".join(losses))

    def _run(self, hook: EndHook) -> None:
        try:
            hook(self)
        except Exception:
            log.exception("End hook %r of %r failed.", hook, self)


def opened(terms: Terms) -> Lifetime:
    """Open the scope of a block, inside of the nearest one that has not ended."""
    scope = Lifetime()
    scope.environ = None
    scope.is_untouched = True
    scope.outer = nearest_open(look())
    scope.terms = terms
    scope.outcome = OPEN
    scope.session = terms.source.make(scope)
    return scope


_innermost: ContextVar[Lifetime | None] = ContextVar("wsgi_session.scope", default=None)

look = _innermost.get
"""Return the scope that code runs in, or None; `current` says how it is read."""

enter = _innermost.set
"""Make another scope the one that code runs in, and return a token for `leave`."""

leave = _innermost.reset
"""Go back to what was current before; in the same function, for a token belongs to its context."""


def nearest_open(scope: Lifetime | None) -> Lifetime | None:
    """Look outwards from *scope* for one that has not ended."""
    while scope is not None and scope.is_ended:
        scope = scope.outer
    return scope


def scope_of_session(session: Session) -> Lifetime | None:
    """Return the scope that *session* was made in; None for a session that was made by hand, or for a thread."""
    scope: Lifetime | None = session.info.get(_OF_SESSION)
    return scope


def note_built(session: Session, scope: Lifetime | None) -> None:
    """Note a session that has been built.

    Args:
        session: The session.
        scope: The scope that it was made in, if any.

    Raises:
        ScopeEndedError: If that scope was inherited from a parent process.
    """
    if getpid() != _fork.pid:
        _fork.check()
    if scope is not None:
        if scope.is_untouched is None or scope.terms.generation != _fork.generation:
            scope.require_open()
        scope.touch()
        session.info[_OF_SESSION] = scope
    for tell in on_build:
        tell(session)


def _call_each(calls: Iterator[Callable[[], object]]) -> None:
    """Make all of *calls*, whatever they raise; the last error is raised, with the one before as its context.

    As an `ExitStack` does, at a third of what that costs.
    """
    try:
        for call in calls:
            call()
    except BaseException:
        _call_each(calls)
        raise


def _commit_after(committed: list[Session], session: Session) -> list[Exception]:
    try:
        return callbacks.commit(session)
    except Exception as error:
        if not committed:
            raise
        raise PartialCommitError(
            f"{session!r} on {session.bind!r} could not be committed, after"
            f" {committed[-1]!r} on {committed[-1].bind!r} had been: {error}"
        ) from error


def _end_session(source: lazy.SessionSource[Any], session: Session, error: BaseException | None) -> None:
    if not lazy.is_built(session):
        source.end(session)
        return
    info = session.info
    try:
        if error is not None and _is_fatal(error):
            transaction.abandon(session)
    finally:
        try:
            transaction.close(session)
        finally:
            info.clear()  # what is in it refers to the session
            source.end(session)


def _is_fatal(error: BaseException | None) -> bool:
    """Say whether *error* may have struck in the middle of a statement: a worker's timeout, a killed greenlet."""
    return error is not None and not isinstance(error, Exception | GeneratorExit)


on_build: list[Callable[[Any], object]] = []
"""Are called with each session that has been built, in a scope or for a thread."""


def _with_sessions() -> list[Lifetime]:
    """List the scopes that have a built session, in all threads.

    SQLAlchemy keeps the sessions already, under a name that is not public; a list of our own, of each session that is
    built and gone again, would cost every request more than all else that it is charged for.
    """
    found = [lazy.attributes_of(session).get("info", {}).get(_OF_SESSION) for session in list(_sessions.values())]
    return [scope for scope in found if scope is not None]


_inherited: _fork.Inheritance[Lifetime] = _fork.Inheritance(Lifetime.disown, _with_sessions)
