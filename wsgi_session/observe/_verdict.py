"""The verdict: what has become of a request's changes, and why, from what its scope and its databases have told."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .._sql.excerpt import excerpt
from ..commit import SAFE_METHODS, CommitRule, never, on_unsafe_success, until_close
from ..scope import State
from ._record import Loss, Outcome, OutcomeKind

if TYPE_CHECKING:
    from collections.abc import Iterator


class Failure(NamedTuple):
    """An error of the application, or of its COMMIT."""

    error: str
    """Its name; never its text."""

    line: str | None
    """The innermost line of the application that it has come through."""

    is_of_commit: bool = False
    """Whether it is why COMMIT has failed, or what comes before it, such as a flush."""

    def __str__(self) -> str:
        """Say it in a few words."""
        return f"{self.error}{_in(self.line)}{', before or in COMMIT' if self.is_of_commit else ''}"


class Verdict:
    """What has become of the changes of one request.  Lives as long as its recording, from the first thing told on."""

    __slots__ = ("caught", "commit_line", "doom_line", "failure", "has_committed", "is_doomed", "loss", "ruled_on")

    caught: Failure | None
    """The last error that the application has caught and logged: behind a framework, why it has answered with 500."""

    commit_line: str | None
    """The line of the application that has committed last."""

    doom_line: str | None
    failure: Failure | None
    """The first error that has ended what was done."""

    has_committed: bool
    """Whether the application has committed, in whatever line."""

    is_doomed: bool
    loss: Loss | None
    ruled_on: int | None
    """The status for which the rule has committed something."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.caught = self.commit_line = self.doom_line = self.failure = self.loss = self.ruled_on = None
        self.has_committed = self.is_doomed = False

    def commit(self, line: str | None) -> None:
        """Note that the application has committed."""
        self.has_committed, self.commit_line = True, line

    def doom(self, line: str | None) -> None:
        """Note that the application has doomed the request."""
        self.is_doomed, self.doom_line = True, line

    def fail(self, failure: Failure) -> None:
        """Note an error; those that come after the first are of its consequences."""
        if self.failure is None:
            self.failure = failure

    def outcome(self, state: State, rule: CommitRule, method: str, status: int | None) -> Outcome:
        """Say what has become of the changes; the arguments are those of `plain_outcome`."""
        kind, why = self._decided(state, rule, method, status)
        if self.loss is None:
            return Outcome(kind, why, tuple(self._afterwards(kind)))
        before = (f"before, {kind.value}: {why}",) if kind is OutcomeKind.COMMITTED else ()
        return Outcome(OutcomeKind.LOST, self.loss.what, before)

    def _decided(self, state: State, rule: CommitRule, method: str, status: int | None) -> tuple[OutcomeKind, str]:
        if state is State.COMMITTED and self.ruled_on is not None:
            return OutcomeKind.COMMITTED, f"{method} {self.ruled_on}, {_name(rule)}"
        if self.failure is not None and state is not State.COMMITTED:
            return OutcomeKind.ROLLED_BACK, str(self.failure)
        if state is State.ROLLED_BACK and self.is_doomed:
            return OutcomeKind.ROLLED_BACK, f"doomed{_in(self.doom_line)}"
        if state is State.ROLLED_BACK and self.caught is not None and status is not None and status >= 500:
            return OutcomeKind.ROLLED_BACK, f"{self.caught}, answered with {status}"
        if state is not State.ROLLED_BACK and self.has_committed:
            return OutcomeKind.COMMITTED, f"by the application{_in(self.commit_line)}"
        plain = plain_outcome(state, rule, method, status)
        return plain.kind, plain.why

    def _afterwards(self, kind: OutcomeKind) -> Iterator[str]:
        """Say what else there was: an error that came too late, or a COMMIT before the error."""
        if kind is not OutcomeKind.ROLLED_BACK and self.failure is not None:
            yield f"then failed: {self.failure}"
        if kind is OutcomeKind.ROLLED_BACK and self.has_committed:
            yield f"before, committed by the application{_in(self.commit_line)}"


def plain_outcome(state: State, rule: CommitRule, method: str, status: int | None) -> Outcome:
    """Say what has become of a request of which nothing else was told than how it was settled.

    Args:
        state: That of its scope, as it was settled.
        rule: What the middleware was told of commits.
        method: Of the request.
        status: The code of the response, if there is one.
    """
    try:
        return _remembered(state, rule, method, status)
    except TypeError:  # a rule that has no hash
        return _remembered.__wrapped__(state, rule, method, status)


def plain_kind(state: State) -> str:
    """Return the value of the kind of what `plain_outcome` returns."""
    return _ROLLED_BACK if state is State.ROLLED_BACK else _NOT_COMMITTED


_NOT_COMMITTED, _ROLLED_BACK = OutcomeKind.NOT_COMMITTED.value, OutcomeKind.ROLLED_BACK.value
"""To look one up has the price of a call."""


def repeated(conflicts: tuple[str, ...]) -> tuple[str, ...]:
    """Say that a request was repeated, and for what, by the codes of *conflicts*."""
    if not conflicts:
        return ()
    times = {1: "once", 2: "twice"}.get(len(conflicts), f"{len(conflicts)} times")
    return (f"repeated {times}: {', '.join(dict.fromkeys(conflicts))}",)


@lru_cache(maxsize=256)
def _remembered(state: State, rule: CommitRule, method: str, status: int | None) -> Outcome:
    """Say it; most requests have one of a few outcomes."""
    answer = f"{method} {status or 'without a status'}"
    if state is State.ROLLED_BACK:
        return Outcome(OutcomeKind.ROLLED_BACK, "start_response was not called" if status is None else answer)
    if state is State.COMMITTED:
        return Outcome(OutcomeKind.NOT_COMMITTED, f"there was nothing to commit ({_name(rule)})")
    return Outcome(OutcomeKind.NOT_COMMITTED, _refusal(rule, method, answer))


def _refusal(rule: CommitRule, method: str, answer: str) -> str:
    """Say why nothing was committed of a response that did not fail."""
    if rule is never:
        return "that is left to the views (never)"
    if rule is until_close:
        return "that is left to the application (until_close)"
    if rule is on_unsafe_success and method in SAFE_METHODS:
        return f"{method} is safe"
    return f"{_name(rule)} says no to {answer}"


_MAX_NAME = 200


def _name(rule: CommitRule) -> str:
    return excerpt(getattr(rule, "__name__", repr(rule)), _MAX_NAME)


def _in(line: str | None) -> str:
    return f" in {line}" if line else ""
