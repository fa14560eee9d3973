"""The recording: what a request has come to, when it is over."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from .. import _wsgi
from ._fault import log_once
from ._findings import Seen, find, may_be_odd
from ._labels import label_of
from ._notes import RequestNotes
from ._record import RequestRecord
from ._verdict import plain_kind, plain_outcome, repeated

if TYPE_CHECKING:
    from .._scope.base import BaseScope
    from ._record import Finding, Loss, Outcome
    from ._values import Values


class Recording(RequestNotes):
    """What is noted of one request, and what it has come to.  Lives as long as its scope, or as its record is kept.

    Most of what a record says is found out when somebody asks for it, for most of them are never looked at.
    """

    __slots__ = ("_duration", "_engine", "_is_dropped", "_record", "_rule", "_state", "findings")

    findings: tuple[Finding, ...]
    """There, as all that is noted by `end`, when the request is over."""

    def end(self, scope: BaseScope) -> None:
        """Note that *scope* has ended, and with it the request."""
        try:
            now = perf_counter()
            terms = scope.terms
            self.is_open = False
            self._record: RequestRecord | None = None
            self._duration = now - self.began
            self._engine = None if terms.bind is None else scope.bind
            self._is_dropped = scope.is_dropped
            self._rule = terms.commit
            self._state = scope.outcome
            if self._holds is None and self._transcript is None and self.verdict is None:
                self.findings = ()
            else:
                self.holds.end(now)
                self.findings = find(self._seen(), terms.release_reads) if self._is_odd() else ()
            self._manner.keep(self)
        except Exception:
            log_once(self.end)

    @property
    def kind(self) -> str:
        """What has become of the request's changes, as a value of `OutcomeKind`, when it is over."""
        if self.verdict is None:
            return plain_kind(self._state)
        return self.outcome().kind.value

    def record(self) -> RequestRecord:
        """Return what it has come to, when it is over."""
        if self._record is None:
            self._record = self._made()
        return self._record

    def outcome(self) -> Outcome:
        """Say what has become of the changes, and why."""
        decided = plain_outcome if self.verdict is None else self.verdict.outcome
        found = decided(self._state, self._rule, self.method, _wsgi.known_code(self._status))
        engine = (f"on {label_of(self._engine)}",) if isinstance(self._engine, Engine) else ()
        beside = repeated(self._conflicts) + engine
        return replace(found, notes=found.notes + beside) if beside else found

    def _made(self) -> RequestRecord:
        holds, transcript = self.holds, self._transcript
        sent: dict[str, Any] = {}
        if transcript is not None:
            sent = {
                "in_database": transcript.duration,
                "statement_count": transcript.count,
                "statements": transcript.statements(self.began),
                "commits": transcript.commits,
                "rollbacks": transcript.rollbacks,
                "ends": transcript.ends,
            }
        elif self._manner.statements:
            sent = {"in_database": 0.0}
        return RequestRecord(
            method=self.method,
            path=self.path,
            number=self.number,
            attempt=self.attempt,
            status=_wsgi.known_code(self._status),
            started=self._started,
            duration=self._duration,
            waited=holds.waited,
            held=holds.duration,
            connections=holds.connections(self.began),
            errors=self._errors,
            ran_dry=holds.ran_dry,
            is_dropped=self._is_dropped,
            outcome=self.outcome(),
            loss=self._loss(),
            findings=self.findings,
            **sent,
        )

    def values(self) -> dict[int, Values]:
        """Return what was given to statements, by their place among those of the record."""
        return {} if self._transcript is None else self._transcript.values

    def _is_odd(self) -> bool:
        """Say whether there may be findings."""
        transcript, verdict = self._transcript, self.verdict
        if self._is_dropped or self.holds.ran_dry is not None or (verdict is not None and verdict.loss is not None):
            return True
        return transcript is not None and may_be_odd(transcript.count, self.holds.duration - transcript.duration)

    def _seen(self) -> Seen:
        holds, transcript = self.holds, self._transcript
        return Seen(
            statements=() if transcript is None else transcript.kept,
            connections=holds.over,
            held=holds.duration,
            idle=None if transcript is None else max(0.0, holds.duration - transcript.duration),
            ran_dry=holds.ran_dry,
            is_dropped=self._is_dropped,
            loss=self._loss(),
        )

    def _loss(self) -> Loss | None:
        loss = None if self.verdict is None else self.verdict.loss
        undone = None if self._transcript is None else self._transcript.undone
        return loss if loss is None or undone is None else replace(loss, line=undone.line)
