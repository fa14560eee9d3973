"""The scope of a request: its environ, its outcome under a rule, and how much of its response is to come."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _wsgi, callbacks
from .._scope.base import BaseScope
from .._scope.life import COMMITTED, DOOMED, OVER, ROLLED_BACK, UNCOMMITTED, UNTOUCHED
from .._scope.outcome import commit, finish, release_reads, roll_back
from ..commit import until_close
from .start import UNCALLED

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from ..commit import CommitRule
    from ..scope import State
    from .start import Start


NOTHING = object()


class RequestScope(BaseScope):
    """The scope of a request, which `SessionMiddleware` opens.  Lives as long as the request.

    What is its own is set later: `shadowed` where there is something, all of it where the body is taken in steps.
    """

    __slots__ = (
        "body",
        "chunks",
        "current",
        "is_closing",
        "is_handing_over",
        "missing",
        "shadowed",
    )

    environ: WSGIEnvironment  # pyright: ignore[reportIncompatibleVariableOverride]  # a block has none

    body: Iterable[bytes] | None
    """What the application returned, to be closed; None when there is nothing to close."""

    chunks: Iterable[bytes] | None
    """What is iterated; from the first step on its iterator, to be dropped in this scope."""

    current: BaseScope | None
    """The current scope of the next step, which may be that of a block in the body.

    Who ends the response deletes it: of several threads that try, one succeeds.
    """

    is_closing: bool
    """Whether somebody has called ``close()``."""

    is_handing_over: bool
    """Whether a step is past its last look for a ``close()``, so that whoever closes has to come again."""

    missing: int | None
    """How many bytes are to come before the connections go back; None if nobody has declared it, or they have gone."""

    shadowed: Any
    """What the environ held under the key before this request, and holds again between its steps.

    `NOTHING` where the request does not share its environ with another one, which goes on between the steps.
    """

    @property
    def is_dropped(self) -> bool:
        """Whether the server has dropped the response without closing it."""
        return self.life is OVER and not getattr(self, "is_closing", True)

    def show(self) -> None:
        """Put the session into the environ."""
        self.environ[self.terms.key] = self.session

    def hide(self) -> None:
        """Put back what the environ held before."""
        self.environ[self.terms.key] = self.shadowed

    def settle(self, start: Start) -> None:
        """Decide the outcome of a response, and carry it out; only once.

        Without a commit, a body keeps its transactions until they are finished.

        Args:
            start: What the application has called its ``start_response`` with.

        Raises:
            Exception: What the rule or COMMIT raised; everything has been rolled back then.
        """
        terms, status = self.terms, start.status
        if status is UNCALLED or self.outcome is DOOMED:
            outcome = ROLLED_BACK
        elif terms.has_rule:
            rule = terms.commit
            try:
                code = _wsgi.status_code(status)
                wants_commit = rule(self.environ, code, start.headers)
                if wants_commit and wants_commit is not True and isinstance(wants_commit, Awaitable):
                    _refuse_awaitable(rule, wants_commit)
            except BaseException as error:
                roll_back(self, error)
                raise
            outcome = COMMITTED if wants_commit else ROLLED_BACK if code >= 400 else UNCOMMITTED
            if self.outcome is DOOMED:  # by the rule itself
                outcome = ROLLED_BACK
        else:
            outcome = ROLLED_BACK if _wsgi.is_error(status) else UNCOMMITTED
        if outcome is not UNCOMMITTED:
            self._carry_out(outcome)
        elif terms.settles:
            self.outcome = outcome
            if terms.release_reads and self.life is not UNTOUCHED:
                release_reads(self)

    def _carry_out(self, outcome: State) -> None:
        terms = self.terms
        if outcome is ROLLED_BACK:
            if terms.settles:
                roll_back(self)
            else:
                self.fail()
        elif self.life is UNTOUCHED:
            self.outcome = outcome
        else:
            callbacks.log_errors(commit(self))

    def count(self, start: Start) -> None:
        """Count the chunks from now on, to give the connections back before the one that completes the response."""
        self.missing = None
        if start.status is UNCALLED or self.terms.commit is until_close:
            return
        length = _wsgi.content_length(start.headers)
        if length is not None:
            self.missing = length - start.written
            if self.missing <= 0 and self.life is not UNTOUCHED:
                self.finish()

    def finish(self) -> None:
        """Give the connections back, for the response is complete; only once."""
        self.missing = None
        finish(self)


def _refuse_awaitable(rule: CommitRule, answer: object) -> NoReturn:
    """Raise an error, for what nobody awaits is true."""
    raise TypeError(f"The rule {rule!r} has returned {answer!r}, which nobody awaits.")
