"""What type checkers are to make of the public names; checked, not run."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, ScalarResult, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from wsgi_session import (
    CommitRule,
    RequestScopedSession,
    Scope,
    SessionMiddleware,
    State,
    current_environ,
    current_scope,
    from_veto,
    never,
    on_success,
    on_unsafe_success,
    session_of,
    session_scope,
    until_close,
)
from wsgi_session.health import EngineHealth, HealthCheck
from wsgi_session.inspector import Inspector
from wsgi_session.observe import (
    BeginHook,
    Finding,
    FindingKind,
    Gauges,
    Held,
    LiveConnection,
    LiveRequest,
    Load,
    Loss,
    Outcome,
    OutcomeKind,
    PoolGauges,
    Recorder,
    RecordHook,
    RequestRecord,
    Statement,
    is_local,
)
from wsgi_session.opentelemetry import annotate_span, measure
from wsgi_session.prometheus import RecorderCollector
from wsgi_session.testing import StatementBudget, committing, isolated, isolated_session, registry_of


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Word(Base):
    """A table."""

    __tablename__ = "word"
    id: Mapped[int] = mapped_column(primary_key=True)


class OwnSession(Session):
    """A session class of the user's."""


def registries(engine: Engine) -> None:
    """A registry's calls have the `sessionmaker`'s class."""
    plain = RequestScopedSession(sessionmaker(engine))
    own = RequestScopedSession(sessionmaker(engine, class_=OwnSession), outside="thread")

    assert_type(plain, RequestScopedSession[Session])
    assert_type(plain(), Session)
    assert_type(own(), OwnSession)
    assert_type(plain.scalars(select(Word)), ScalarResult[Word])


def blocks(engine: Engine) -> None:
    """A block yields the registry's session; a decorator keeps the function's type."""
    own = RequestScopedSession(sessionmaker(engine, class_=OwnSession))
    with session_scope(own, commit=False) as session:
        assert_type(session, OwnSession)

    @session_scope(own)
    def job(number: int, *, name: str = "") -> list[str]:
        return [name] * number

    assert_type(job(1, name="x"), list[str])


def middlewares(app: WSGIApplication, engine: Engine, start_response: StartResponse, environ: WSGIEnvironment) -> None:
    """A middleware is a WSGI application, made from any of five things, with any rule."""
    wrapped: WSGIApplication = SessionMiddleware(app, engine, commit=on_success)
    SessionMiddleware(wrapped, sessionmaker(engine), commit=on_unsafe_success)
    SessionMiddleware(wrapped, "sqlite://", commit=never, environ_key="db")
    middleware = SessionMiddleware(wrapped, scoped_session(sessionmaker(engine), scopefunc=current_scope))

    def veto(environ: WSGIEnvironment, status: str, headers: list[tuple[str, str]]) -> bool:
        return status.startswith("418")

    rule: CommitRule = from_veto(veto)
    SessionMiddleware(wrapped, engine, commit=rule)

    @middleware.on_request_end
    def ended(scope: Scope) -> None:
        assert_type(scope.state, State)
        assert_type(scope.environ, WSGIEnvironment | None)

    hook: Callable[[Scope], None] = current_scope().on_end(ended)
    middleware.on_request_end(hook)
    assert_type(current_environ(), WSGIEnvironment)
    with_session: Session = current_environ()["sqlalchemy.session"]
    with_session.commit()


def inspectors(environ: WSGIEnvironment) -> WSGIApplication:
    """A recorder takes the hooks that there are, and its inspector is an application."""
    recorder = Recorder(statements=True, server_timing=is_local, on_begin=annotate_span, on_finish=measure())
    assert_type(is_local(environ), bool)
    assert_type(Recorder(server_timing=True).clear(), None)
    assert_type(Inspector(recorder, key="open-sesame-open-sesame"), Inspector)
    mounted: WSGIApplication = Inspector(recorder).mounted(Inspector(recorder), path="/inspector")
    Inspector(recorder).mounted(mounted)
    return Inspector(recorder, allow=is_local)


def collectors(registry: CollectorRegistry) -> None:
    """A recorder can be collected from."""
    registry.register(RecorderCollector(Recorder()))


def health_checks(engine: Engine) -> WSGIApplication:
    """A health check is an application, and can be asked without a request."""
    check = HealthCheck(engine, behind=lambda connection: 1.5, max_behind=2, details=is_local)
    assert_type(check.check(), tuple[EngineHealth, ...])
    return check


def recorders(app: WSGIApplication, engine: Engine) -> None:
    """What a recorder says has a type of its own, down to strings and numbers."""
    recorder = Recorder(record_if=is_local, skip=["shop/repositories/"])
    SessionMiddleware(app, engine, recorder=recorder)
    assert_type(recorder.records, tuple[RequestRecord, ...])
    assert_type(recorder.holders(), tuple[str, ...])
    assert_type(recorder.watch(engine), None)
    gauges = recorder.gauges()
    assert_type(gauges, Gauges)
    assert_type(gauges.pools, tuple[PoolGauges, ...])
    for live in recorder.live():
        assert_type(live, LiveRequest)
        assert_type(live.waiting, float | None)
        assert_type(live.connections, tuple[LiveConnection, ...])


def records(record: RequestRecord) -> None:
    """So has what a record is made of."""
    assert_type(record.connections, tuple[Held, ...])
    assert_type(record.statements, tuple[Statement, ...])
    assert_type(record.statements[0].load, Load | None)
    assert_type(record.findings, tuple[Finding, ...])
    assert_type(record.findings[0].kind, FindingKind)
    assert_type(record.loss, Loss | None)
    assert_type(record.outcome, Outcome)
    assert_type(record.outcome.kind, OutcomeKind)


def hooks_of_a_recorder() -> None:
    """Any function that takes a record is a hook, also a method; one of the beginning returns such a one, or none."""
    seen: list[RequestRecord] = []
    on_finish: RecordHook = seen.append

    def begin(environ: WSGIEnvironment) -> RecordHook | None:
        return on_finish if is_local(environ) else None

    on_begin: BeginHook = begin
    Recorder(on_begin=on_begin, on_finish=on_finish)


def tests(app: WSGIApplication, registry: RequestScopedSession[Session]) -> None:
    """A block makes sessions of the registry's kind."""
    with isolated() as isolation, StatementBudget(at_most=1) as budget:
        assert_type(isolation.session(registry), Session)
        assert_type(isolation.commits, list[Callable[[], object]])
        assert_type([one.line for one in budget.statements], list[str | None])
    with committing(database="test") as real:
        real.check()
    assert_type(isolated_session(), Session)
    session_scope(registry_of(app))


def the_session_of_an_environ(
    environ: WSGIEnvironment, app: WSGIApplication, registry: RequestScopedSession[OwnSession]
) -> None:
    """It has the type of its registry, and so has that of a middleware."""
    assert_type(session_of(environ, registry), OwnSession)
    middleware = SessionMiddleware(app, registry, commit=until_close, release_reads=True)
    assert_type(middleware.registry, scoped_session[OwnSession])
    assert_type(session_of(environ, middleware.registry), OwnSession)


def of_an_engine(app: WSGIApplication, engine: Engine) -> None:
    """A middleware that is made from an engine or an address has a registry of plain sessions."""
    assert_type(SessionMiddleware(app, engine).registry, scoped_session[Session])
    assert_type(SessionMiddleware(app, "sqlite://").registry(), Session)
