"""What was found by attacking the guarantees, each with the number of the one that it broke."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, String, TypeDecorator, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.pool import NullPool

from tests.helpers import Exchange, Word, add_words, all_words, answer, is_clean, orphan, request, words
from wsgi_session import (
    NoScopeError,
    PartialCommitError,
    RequestScopedSession,
    RetryMiddleware,
    ScopeEndedError,
    SessionMiddleware,
    State,
    current_environ,
    current_scope,
    never,
    on_commit,
    on_success,
    on_unsafe_success,
    session_scope,
)

KEY = "sqlalchemy.session"


@pytest.mark.parametrize("commit", [None, on_success])
def test_an_error_while_rows_are_fetched_ends_no_transaction(commit: Any, Session: Any, engine: Engine) -> None:
    """5: what was written before a fetch that failed, and was handled, is committed as SQLAlchemy says."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(Session, "saved")
        Session.flush()
        with pytest.raises(OperationalError):
            Session.execute(text("SELECT CAST(x'ff' AS TEXT)")).all()
        if commit is None:
            Session.commit()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, commit=commit), "POST")

    assert words(engine) == ["saved"]


@pytest.mark.parametrize("begins", ["own", "other"])
def test_a_session_that_begins_during_anothers_commit_is_committed(begins: str, new_engine: Any) -> None:
    """5: an audit log that is written by a ``before_commit`` listener is part of what a rule commits."""
    first, second = new_engine(), new_engine()
    own, other = RequestScopedSession(sessionmaker(first)), RequestScopedSession(sessionmaker(second))
    writer, listened_to = (own, other) if begins == "own" else (other, own)

    @event.listens_for(listened_to.session_factory, "before_commit")
    def audit(session: Any) -> None:
        writer().add(Word(text="audit"))

    def app(environ: Any, start_response: Any) -> Any:
        add_words(listened_to, "order")
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, own, commit=on_success), "POST")

    assert {*words(first), *words(second)} == {"order", "audit"}


def test_a_hook_that_stops_the_worker_leaves_no_scope_behind(Session: Any) -> None:
    """2: a `BaseException` out of the end goes on its way, and the thread is outside again."""

    def app(environ: Any, start_response: Any) -> Any:
        @current_scope().on_end
        def stop(scope: Any) -> None:
            raise KeyboardInterrupt

        answer(start_response)
        return iter([b"x"])

    exchange = Exchange(SessionMiddleware(app, Session)).read()
    with pytest.raises(KeyboardInterrupt):
        exchange.close()

    with pytest.raises(NoScopeError):
        current_scope()


class OwnBase(DeclarativeBase):
    """Tables with a column type of the user's."""


class CaseInsensitive(TypeDecorator[str]):
    """Cannot compare with None."""

    impl = String
    cache_ok = True

    def compare_values(self, x: Any, y: Any) -> bool:
        return bool(x.lower() == y.lower())


class Name(OwnBase):
    """A name."""

    __tablename__ = "name"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None] = mapped_column(CaseInsensitive)


@pytest.mark.parametrize("length", [None, "1"])
def test_a_loss_that_cannot_be_found_out_is_no_failure(length: Any, engine: Engine, caplog: Any) -> None:
    """10: where the warning about uncommitted changes cannot be made, the request ends as it should."""
    OwnBase.metadata.create_all(engine)
    Session = RequestScopedSession(sessionmaker(engine, autoflush=False))
    with session_scope(Session):
        Session.add(Name(id=1, text="x"))

    def app(environ: Any, start_response: Any) -> Any:
        name = Session.get_one(Name, 1)
        assert name.text == "x"
        name.text = None
        answer(start_response, "200 OK", *([("Content-Length", length)] if length else []))
        return iter([b"x"])

    assert request(SessionMiddleware(app, Session, commit=on_unsafe_success)).body == b"x"
    assert is_clean(engine)
    assert "could not be found out" in caplog.text


@pytest.mark.system("postgresql")
def test_a_dead_connection_does_not_hold_up_the_last_chunk(postgresql_engine: Engine) -> None:
    """10: a connection that the database has cut is found out when it is given back, and only the log is told."""
    from sqlalchemy import create_engine

    Session = RequestScopedSession(sessionmaker(postgresql_engine))
    killer = create_engine(postgresql_engine.url, poolclass=NullPool)

    def app(environ: Any, start_response: Any) -> Any:
        number = Session.scalar(text("SELECT pg_backend_pid()"))
        with killer.connect() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend({number}, 5000)"))
        answer(start_response, "200 OK", ("Content-Length", "2"))
        return iter([b"ok"])

    assert request(SessionMiddleware(app, Session, commit=on_unsafe_success)).body == b"ok"
    assert postgresql_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_remove_in_a_hook_leaves_the_threads_session_alone(engine: Engine, caplog: Any) -> None:
    """9: in a hook, ``remove()`` does nothing, also where the thread has a session outside of scopes."""
    Session = RequestScopedSession(sessionmaker(engine), outside="thread")
    outside = Session()

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return [b""]

    middleware = SessionMiddleware(app, Session)
    middleware.on_request_end(lambda scope: Session.remove())
    request(middleware)

    assert Session() is outside
    assert caplog.records == []
    Session.remove()


def test_a_session_class_that_begins_in_its_init(engine: Engine) -> None:
    """4: its very first failed COMMIT is rolled back, too."""

    class Eager(SQLAlchemySession):
        def __init__(self, *args: Any, **kw: Any) -> None:
            super().__init__(*args, **kw)
            self.execute(text("SELECT 1"))

    Session = RequestScopedSession(sessionmaker(engine, class_=Eager))

    def fails(environ: Any, start_response: Any) -> Any:
        Session().add_all([Word(text="lost"), orphan()])
        with pytest.raises(IntegrityError):
            Session.commit()
        Session.close()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(fails, Session))
    with session_scope(Session):
        add_words(Session, "good")

    assert words(engine) == ["good"]


@pytest.mark.parametrize("commit", [None, on_success])
def test_exc_info_by_its_name(commit: Any, Session: Any) -> None:
    """7: what most servers take, a ``start_response`` that is called with names, is taken here, too."""

    def app(environ: Any, start_response: Any) -> Any:
        try:
            raise ValueError("handled")
        except ValueError:
            start_response(status="500 Handled", headers=[], exc_info=sys.exc_info())
        return [b""]

    def server(status: str, headers: Any, exc_info: Any = None) -> None:
        seen.append((status, exc_info[0]))

    seen: list[Any] = []
    SessionMiddleware(app, Session, commit=commit)({"REQUEST_METHOD": "GET"}, server)  # type: ignore[arg-type]

    assert seen == [("500 Handled", ValueError)]


def test_an_iterator_of_the_bodys_own_cleans_up_before_the_end(Session: Any, engine: Engine) -> None:
    """3: the ``finally`` of a generator that a body has made runs while its session lives."""

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield b"x"
                yield b"y"
            finally:
                add_words(Session, "cleaned up")
                Session.commit()

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Body()

    exchange = Exchange(SessionMiddleware(app, Session))
    exchange.step()
    result = exchange.result
    exchange.close()

    assert words(engine) == ["cleaned up"]
    assert list(result) == []


@pytest.mark.parametrize(("inner", "outer", "runs"), [(1, 3, 3), (3, 3, 9), (3, 1, 3)])
def test_a_retry_around_another_one(inner: int, outer: int, runs: int) -> None:
    """11: each of two that lie around each other counts its own attempts."""
    ran: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        ran.append(environ["retry.attempt"])
        if len(ran) > runs:
            raise SystemExit("It does not end.")
        raise LookupError

    application: Any = app
    for attempts in (inner, outer):
        application = RetryMiddleware(application, attempts=attempts, wait=0, is_retryable=is_lookup_error)
    with pytest.raises(LookupError):
        request(application)

    assert len(ran) == runs


def is_lookup_error(error: BaseException) -> bool:
    """Say that a `LookupError` is worth another attempt."""
    return isinstance(error, LookupError)


def test_a_callbacks_error_is_not_lost_with_a_later_commit(new_engine: Any, caplog: Any) -> None:
    """12: what a callback of the first commit has raised is in the log when the second commit fails."""
    own, other = (RequestScopedSession(sessionmaker(new_engine())) for _ in range(2))

    def fails() -> None:
        raise LookupError("the mail was not sent")

    def app(environ: Any, start_response: Any) -> Any:
        add_words(other, "kept")
        on_commit(other(), fails)
        own.add(orphan())
        answer(start_response)
        return [b""]

    with pytest.raises(PartialCommitError):
        request(SessionMiddleware(app, own, commit=on_success), "POST")

    assert "the mail was not sent" in caplog.text


class Interrupting(TypeDecorator[str]):
    """Is interrupted when it compares, as by a worker's timeout."""

    impl = String
    cache_ok = True

    def compare_values(self, x: Any, y: Any) -> bool:
        raise KeyboardInterrupt


class Slow(OwnBase):
    """A row whose changes take a while to be found."""

    __tablename__ = "slow"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Interrupting)


def test_an_interrupt_while_losses_are_looked_for(engine: Engine) -> None:
    """3: a worker's timeout in the very last moment keeps no session, no connection and no hook from the end."""
    OwnBase.metadata.create_all(engine)
    Session = RequestScopedSession(sessionmaker(engine))
    with session_scope(Session):
        Session.add(Slow(id=1, text="x"))
    ended: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        current_scope().on_end(ended.append)
        answer(start_response)

        def body() -> Iterator[bytes]:
            row = Session.get_one(Slow, 1)
            row.text = "y"
            yield b"x"
            assert row.text == "y"

        return body()

    exchange = Exchange(SessionMiddleware(app, Session, commit=never)).read()
    with pytest.raises(KeyboardInterrupt):
        exchange.close()

    assert [scope.state for scope in ended] == [State.ENDED]
    assert is_clean(engine)


@pytest.mark.parametrize("outside", ["error", "thread"])
def test_a_block_in_a_hook_leaves_the_ended_scope_current(outside: Any, engine: Engine) -> None:
    """8: after a block in an end hook, the registry says as before it that the scope has ended."""
    Session = RequestScopedSession(sessionmaker(engine), outside=outside)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return [b""]

    def hook(scope: Any) -> None:
        with session_scope(Session):
            add_words(Session, "block")
        with pytest.raises(ScopeEndedError):
            Session()
        ran.append(scope)

    ran: list[Any] = []
    middleware = SessionMiddleware(app, Session)
    middleware.on_request_end(hook)
    request(middleware)

    assert len(ran) == 1
    assert words(engine) == ["block"]


def test_a_thread_whose_session_could_not_be_made() -> None:
    """9: it has none, so the next call may have arguments."""
    calls: list[dict[str, Any]] = []

    def factory(**kw: Any) -> SQLAlchemySession:
        calls.append(kw)
        if len(calls) == 1:
            raise LookupError("not configured yet")
        return SQLAlchemySession(**kw)

    Session: Any = RequestScopedSession(factory, outside="thread")  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        Session()

    assert Session(info={"key": "value"}).info == {"key": "value"}
    Session.remove()


def test_a_fork_builds_no_session(engine: Engine) -> None:
    """13: a fork in a request whose session was removed, and so is untouched again, leaves it so."""
    built: list[int] = []

    class Counted(SQLAlchemySession):
        def __init__(self, *args: Any, **kw: Any) -> None:
            built.append(os.getpid())
            super().__init__(*args, **kw)

    Session = RequestScopedSession(sessionmaker(engine, class_=Counted))

    def app(environ: Any, start_response: Any) -> Any:
        all_words(Session)
        Session.remove()
        if not (child := os.fork()):
            os._exit(0)
        os.waitpid(child, 0)
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert built == [os.getpid()]


class Slotted(SQLAlchemySession):
    """A session whose instances have another layout."""

    __slots__ = ("note",)


class Finalized(SQLAlchemySession):
    """A session with a finalizer that reads it."""

    finalized: list[object] = []  # noqa: RUF012

    def __del__(self) -> None:
        self.finalized.append(self.bind)


@pytest.mark.parametrize("session_class", [Slotted, Finalized])
def test_a_session_that_was_put_into_the_registry(session_class: Any, Session: Any, engine: Engine) -> None:
    """8: it ends as what it is, whatever the registry makes itself."""
    Finalized.finalized.clear()
    kept: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        session = session_class(engine)
        Session.registry.set(session)
        all_words(Session)
        if session_class is Slotted:
            kept.append(session)
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))
    gc.collect()

    assert is_clean(engine)
    for session in kept:
        with pytest.raises(ScopeEndedError):
            session.execute(text("SELECT 1"))
    assert Finalized.finalized == [engine] * (session_class is Finalized)


def test_a_block_of_another_registry_is_named(new_engine: Any) -> None:
    """9: in a block that is not its own, a registry says so, and `current_environ` says that there is no request."""
    A, B = (RequestScopedSession(sessionmaker(new_engine())) for _ in range(2))

    with session_scope(A):
        with pytest.raises(NoScopeError, match="<Scope of block, open> is another registry's"):
            B()
        with pytest.raises(NoScopeError, match="<Scope of block, open> is no request's"):
            current_environ()
