"""The scope of a request: its environ, its outcome under a rule, and the steps of its response."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Generator, Iterable
from types import GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _wsgi, callbacks
from .._log import log
from .._scope.base import COMMITTED, DOOMED, OPEN, ROLLED_BACK, UNCOMMITTED, BaseScope
from .._scope.end import end
from .._scope.look import enter, leave, look
from .._scope.outcome import commit, finish, release_reads, roll_back
from ..commit import until_close
from .start import UNCALLED

if TYPE_CHECKING:
    from contextvars import Token
    from wsgiref.types import WSGIEnvironment

    from ..commit import CommitRule
    from ..scope import State
    from .start import Start


NOTHING = object()

on_exhausted: list[Callable[[RequestScope], object]] = []
"""Are called with the scope of a response whose last chunk was taken, in the step that has found no more."""


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
    """Whether a step is past its last look for a ``close()``, or none is under way."""

    missing: int | None
    """How many bytes are to come before the connections go back; None if nobody has declared it, or they have gone."""

    shadowed: Any
    """What the environ held under the key before this request, and holds again between its steps.

    `NOTHING` where the request does not share its environ with another one, which goes on between the steps.
    """

    @property
    def is_dropped(self) -> bool:
        """Whether the server has dropped the response without closing it."""
        return self.is_untouched is None and not getattr(self, "is_closing", True)

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
            outcome = self._judged(status, start.headers)
        else:
            outcome = ROLLED_BACK if _wsgi.is_error(status) else UNCOMMITTED
        if outcome is COMMITTED and not self.is_untouched:
            callbacks.log_errors(commit(self))
        elif outcome is ROLLED_BACK:
            self.fail()
            if terms.settles:
                roll_back(self)
        elif terms.settles:
            self.outcome = outcome
            if terms.release_reads:
                release_reads(self)

    def _judged(self, status: str, headers: _wsgi.Headers) -> State:
        """Return the outcome that the rule wants; it may doom the scope itself."""
        rule = self.terms.commit
        try:
            code = _wsgi.status_code(status)
            is_success = rule(self.environ, code, headers)
            if is_success and is_success is not True and isinstance(is_success, Awaitable):
                _refuse_awaitable(rule, is_success)
        except BaseException as error:
            roll_back(self, error)
            raise
        if self.outcome is DOOMED:
            return ROLLED_BACK
        return COMMITTED if is_success else ROLLED_BACK if code >= 400 else UNCOMMITTED

    def fail(self, error: BaseException | None = None) -> None:
        """Note that the response has failed: nothing of it is to be committed, and what it loses is no loss.

        Args:
            error: What it has failed with, if the application has shown that.
        """
        self.touch()
        self.lost = None
        if error is not None and (notes := self.notes) is not None:
            notes.fail(error)
        if self.outcome is OPEN and self.terms.settles:
            self.outcome = DOOMED

    def count(self, start: Start) -> None:
        """Count the chunks from now on, to give the connections back before the one that completes the response."""
        self.missing = None
        if start.status is UNCALLED or self.terms.commit is until_close:
            return
        length = _wsgi.content_length(start.headers)
        if length is not None:
            self.missing = length - start.written
            if self.missing <= 0 and not self.is_untouched:
                self._finish()

    def _finish(self) -> None:
        self.missing = None
        finish(self)

    def steps(self, is_generator: bool) -> Generator[bytes]:
        """Yield the chunks, each taken with this scope, or what it was in the step before, as the current one.

        Args:
            is_generator: Whether the body is one: it is its own iterator, and at its end there is nothing to close.
        """
        token: Token[BaseScope | None] | None = enter(self.current)
        try:
            chunks: Any = self.chunks
            if not is_generator:
                self.chunks = iterator = iter(chunks)
                chunks = iter(iterator.__next__, self)  # a loop over the iterator would ask for its iterator
            for chunk in chunks:
                if self.missing is not None:
                    self.missing -= len(chunk)
                    if self.missing <= 0 and not self.is_untouched:
                        self._finish()
                self.current = look()
                token = leave(token)  # type: ignore[arg-type]  # None: it is not set now
                self.is_handing_over = True
                if self.is_closing:
                    self._close_for_another()
                    yield chunk
                    return
                yield chunk
                self.is_handing_over = False
                token = enter(self.current)
            for tell in on_exhausted:
                tell(self)
            if is_generator:
                self.body = self.chunks = None
        except BaseException as error:
            if token is not None:
                roll_back(self, error)
            raise
        finally:
            self._leave(token)

    def shown_steps(self, is_generator: bool) -> Generator[bytes]:
        """Yield as `steps` does, with the session in the environ during each step."""
        steps = self.steps(is_generator)
        while True:
            self.show()
            try:
                chunk = next(steps)
            except StopIteration:
                return
            finally:
                self.hide()
            if self.is_closing:
                self._close_for_another()
                yield chunk
                return
            yield chunk

    def close(self) -> None:
        """Call the ``close()`` of what the application returned, and end; only once."""
        try:
            current = self.current
            del self.current
        except AttributeError:  # somebody else ends it, or has
            return
        is_shadowing = self.shadowed is not NOTHING
        if self.body is None and not is_shadowing:
            end(self)
            return
        token = enter(current)
        try:
            if is_shadowing:
                self.show()
            try:
                _wsgi.close(self.body)
            finally:
                self._drop_body()
        except BaseException as error:
            end(self, error)
            raise
        else:
            end(self)
        finally:
            leave(token)
            if is_shadowing:
                self.hide()

    def drop(self) -> None:
        """End without that ``close()``, for the server has dropped the response.

        This may be any thread, in the middle of any other request, so no code of the application's is run but a
        generator's clean-up, and the environ is not touched.
        """
        try:
            current = self.current
            del self.current
        except AttributeError:  # it has ended
            return
        held_connection = self.holds_connection()
        token = enter(current)
        try:
            self._drop_body()
        finally:
            leave(token)
            end(self)
        if held_connection:
            warnings.warn(f"The response of {self!r} was never closed.", ResourceWarning, stacklevel=2)

    def _leave(self, token: Token[BaseScope | None] | None) -> None:
        """Leave the last step, if it is not over, and close if that was asked for meanwhile."""
        if token is None:
            return
        current = look()
        try:
            leave(token)
        except RuntimeError:  # an interrupt has struck when that had just been done
            pass
        else:
            self.current = current
        self.is_handing_over = True
        if self.is_closing:
            self._close_for_another()

    def _close_for_another(self) -> None:
        """Close after a ``close()`` that came from elsewhere and has returned, so that nobody waits for an error."""
        try:
            self.close()
        except Exception:
            log.exception("The application's close() failed, in %r.", self)

    def _drop_body(self) -> None:
        """Let go of the body while its scope is current, for its clean-up to find its session."""
        chunks = self.chunks
        self.body = self.chunks = None
        if isinstance(chunks, GeneratorType):
            chunks.close()


def _refuse_awaitable(rule: CommitRule, answer: object) -> NoReturn:
    """Raise an error, for what nobody awaits is true."""
    raise TypeError(f"The rule {rule!r} has returned {answer!r}, which nobody awaits.")
