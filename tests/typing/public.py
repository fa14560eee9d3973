"""What type checkers are to make of the public names; checked, not run."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

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
    session_scope,
)
from wsgi_session.inspector import Inspector
from wsgi_session.observe import Recorder, is_local
from wsgi_session.opentelemetry import annotate_span


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
    recorder = Recorder(statements=True, server_timing=is_local, on_begin=annotate_span, on_finish=print)
    assert_type(is_local(environ), bool)
    assert_type(Recorder(server_timing=True).clear(), None)
    return Inspector(recorder, allow=is_local)
