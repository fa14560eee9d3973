"""From a session to its request: what code in SQLAlchemy's events finds in ``session.info``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from tests.helpers import Exchange, add_words, answer, request, words
from wsgi_session import RequestScopedSession, SessionMiddleware, current_scope, on_success, session_scope

OF_SESSION = "wsgi_session.scope"


class AuditedSession(SQLAlchemySession):
    """The sessions of these tests: each test listens to a class of its own."""


@pytest.fixture
def audited() -> type[AuditedSession]:
    """Return a session class that nobody listens to yet."""
    return type("OwnSession", (AuditedSession,), {})


def test_an_event_finds_the_request_of_its_session(engine: Engine, audited: type[AuditedSession]) -> None:
    """An audit in ``before_flush`` knows which request has changed what it sees."""
    seen: list[str] = []

    @event.listens_for(audited, "before_flush")
    def audit(session: SQLAlchemySession, *of_the_event: Any) -> None:
        environ = session.info[OF_SESSION].environ
        seen.append(f"{environ['REMOTE_USER']} {len(session.new)}")

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ["sqlalchemy.session"], "ada", "bob")
        answer(start_response)
        return []

    request(SessionMiddleware(app, sessionmaker(engine, class_=audited), commit=on_success), REMOTE_USER="eve")

    assert seen == ["eve 2"]
    assert words(engine) == ["ada", "bob"]


def test_interleaved_bodies_find_their_own(engine: Engine, new_engine: Any, audited: type[AuditedSession]) -> None:
    """What is set at the beginning of each transaction is the session's own, also when a server interleaves bodies."""
    begun: list[str] = []

    @event.listens_for(audited, "after_begin")
    def set_tenant(session: SQLAlchemySession, *of_the_event: Any) -> None:
        begun.append(session.info[OF_SESSION].environ["PATH_INFO"])

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        for _ in range(2):
            environ["sqlalchemy.session"].execute(text("SELECT 1"))
            environ["sqlalchemy.session"].commit()
            yield b"."

    apps = [SessionMiddleware(app, sessionmaker(one, class_=audited)) for one in (engine, new_engine())]
    first, second = Exchange(apps[0], path="/a"), Exchange(apps[1], path="/b")
    for exchange in (first, second, first, second):
        exchange.step()
    first.close()
    second.close()

    assert begun == ["/a", "/b", "/a", "/b"]


def test_a_block_has_no_environ(engine: Engine, audited: type[AuditedSession]) -> None:
    """In a block the scope is there, too, and says that this is no request."""
    seen: list[Any] = []

    @event.listens_for(audited, "after_begin")
    def note(session: SQLAlchemySession, *of_the_event: Any) -> None:
        seen.append((session.info[OF_SESSION] is current_scope(), session.info[OF_SESSION].environ))

    with session_scope(RequestScopedSession(sessionmaker(engine, class_=audited))) as session:
        session.execute(text("SELECT 1"))

    assert seen == [(True, None)]


def test_a_session_made_by_hand_has_none(engine: Engine, audited: type[AuditedSession]) -> None:
    """A session that was made by hand belongs to no scope, so an event asks with ``get``."""
    seen: list[Any] = []

    @event.listens_for(audited, "after_begin")
    def note(session: SQLAlchemySession, *of_the_event: Any) -> None:
        seen.append(session.info.get(OF_SESSION))

    with audited(engine) as session:
        session.execute(text("SELECT 1"))

    assert seen == [None]
