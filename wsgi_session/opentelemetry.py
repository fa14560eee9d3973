"""The recorder's part in a trace: attributes and events of the span that a request already has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from opentelemetry import trace

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from .observe import Finding, RecordHook, RequestRecord

__all__ = ["annotate_span"]

_PREFIX = "wsgi_session."
_OF_CONNECTIONS = ("waited", "held")
_OF_STATEMENTS = ("idle", "in_database", "statement_count", "commits", "rollbacks")


def annotate_span(_environ: WSGIEnvironment, /) -> RecordHook | None:
    """Return what puts a request's record on the span that is the current one now; for ``Recorder(on_begin=...)``.

    ::

        recorder = Recorder(statements=True, on_begin=annotate_span)
        application = SessionMiddleware(application, Session, recorder=recorder)
        application = OpenTelemetryMiddleware(application)  # outside, so that the span ends after the scope

    The span gets attributes, each ``wsgi_session.`` and the name of a field of the `RequestRecord`: ``waited``,
    ``held``, and with statements ``idle`` and ``in_database``, in seconds, ``statement_count``, ``commits`` and
    ``rollbacks``; ``outcome``, its kind; and ``findings``, their kinds. Each finding is also an event,
    ``wsgi_session.finding``.

    No spans are made: OpenTelemetry's own instrumentations of WSGI and SQLAlchemy are what does that.

    Returns:
        The hook; None where no span is recorded.
    """
    span = trace.get_current_span()
    return partial(_annotate, span) if span.is_recording() else None


def _annotate(span: Span, record: RequestRecord) -> None:
    if span.is_recording():  # it may have ended before the response was closed
        span.set_attributes(_attributes(record))
        for finding in record.findings:
            span.add_event(_PREFIX + "finding", _of_finding(finding))


def _attributes(record: RequestRecord) -> dict[str, AttributeValue]:
    names = _OF_CONNECTIONS if record.in_database is None else _OF_CONNECTIONS + _OF_STATEMENTS
    found: dict[str, AttributeValue] = {_PREFIX + name: getattr(record, name) for name in names}
    found[_PREFIX + "outcome"] = record.outcome.kind.value
    found[_PREFIX + "findings"] = [finding.kind.value for finding in record.findings]
    return found


def _of_finding(finding: Finding) -> dict[str, AttributeValue]:
    said: dict[str, AttributeValue] = {
        "kind": finding.kind.value,
        "subject": finding.subject,
        "count": finding.count,
        "cure": finding.cure,
    }
    return said if finding.line is None else {**said, "line": finding.line}
