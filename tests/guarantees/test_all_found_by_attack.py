"""What was found by attacking the guarantees, each with the number of the one that it broke."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, String, TypeDecorator, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, SessionEvents, mapped_column, sessionmaker
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.pool import NullPool
from sqlalchemy.util import memoized_property

from tests.helpers import Exchange, Word, add_words, all_words, answer, is_clean, new_environ, orphan, request, words
from wsgi_session import (
    NoScopeError,
    PartialCommitError,
    RequestScopedSession,
    RetryMiddleware,
    ScopeEndedError,
    SessionMiddleware,
    State,
    _fork,
    current_environ,
    current_scope,
    never,
    on_commit,
    on_success,
    on_unsafe_success,
    session_scope,
    until_close,
)
from wsgi_session._response import steps as steps_module

KEY = "sqlalchemy.session"


@pytest.mark.parametrize("commit", [never, until_close, on_success])
def test_an_error_while_rows_are_fetched_ends_no_transaction(commit: Any, Session: Any, engine: Engine) -> None:
    """5: what was written before a fetch that failed, and was handled, is committed as SQLAlchemy says."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(Session, "saved")
        Session.flush()
        with pytest.raises(OperationalError):
            Session.execute(text("SELECT CAST(x'ff' AS TEXT)")).all()
        if commit is not on_success:
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


@pytest.mark.parametrize("commit", [never, until_close, on_success])
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


def test_engines_with_options_share_the_dialect(engine: Engine) -> None:
    """4: a COMMIT is guarded once, however many engines with options are made from one."""
    Session: Any = RequestScopedSession(sessionmaker(engine))
    for _ in range(3):
        with session_scope(Session):
            Session(bind=engine.execution_options(schema_translate_map={None: None})).execute(text("SELECT 1"))

    assert not hasattr(engine.dialect.do_commit.args[0], "args")  # type: ignore[attr-defined]


@pytest.mark.parametrize("act", ["remove", "clear"])
def test_a_callback_that_does_away_with_the_info(act: str, Session: Any, caplog: Any) -> None:
    """5: the client is told of the success, and the log of the callback's error."""

    def callback() -> None:
        if act == "remove":
            Session.remove()
        else:
            Session().info.clear()
        raise ValueError(act)

    def app(environ: Any, start_response: Any) -> Any:
        add_words(Session, "committed")
        on_commit(Session(), callback)
        answer(start_response)
        return [b""]

    exchange = request(SessionMiddleware(app, Session, commit=on_success))

    assert exchange.status == "200 OK"
    assert act in caplog.text


def test_an_iterator_that_is_no_iterable(Session: Any) -> None:
    """7: what ``iter()`` of a body returns is asked for chunks only."""

    class Chunks:
        left = [b"y", b"x"]  # noqa: RUF012

        def __next__(self) -> bytes:
            if self.left:
                return self.left.pop()
            raise StopIteration

    class Body:
        def __iter__(self) -> Any:
            return Chunks()

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Body()

    assert request(SessionMiddleware(app, Session)).body == b"xy"


def test_the_end_hook_of_an_inner_request_that_was_read(Session: Any) -> None:
    """2: it finds its own ended session in the environ that it shares, not the outer one's."""
    found: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        if environ["PATH_INFO"] == "/inner":
            current_scope().on_end(lambda scope: found.append(scope.environ[KEY]))
            found.append(environ[KEY])
            return (chunk for chunk in [b"x"])
        environ["PATH_INFO"] = "/inner"
        request(wrapped, environ=environ)
        return []

    wrapped = SessionMiddleware(app, Session)
    request(wrapped)

    assert found[0] is found[1]


def test_an_untouched_stream_in_a_child(Session: Any) -> None:
    """13: a child that closes what it has inherited says nothing, and its interpreter does not either."""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return (chunk for chunk in [b"x"])

    exchange = Exchange(SessionMiddleware(app, Session))
    exchange.step()
    if not (child := os.fork()):
        failed: list[Any] = []
        sys.unraisablehook = failed.append
        exchange.close()
        exchange.result = None
        os._exit(len(failed))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    exchange.close()


def test_an_interrupt_in_the_close_of_a_session_makes_no_cycle(engine: Engine) -> None:
    """3: what it leaves behind is freed by reference counting."""

    class Interrupted(SQLAlchemySession):
        def close(self) -> None:
            super().close()
            raise SystemExit

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Interrupted))

    scopes: list[weakref.ref[Any]] = []
    gc.disable()
    try:
        with suppress(SystemExit), session_scope(Session):
            all_words(Session)
            scopes.append(weakref.ref(current_scope()))
        assert scopes[0]() is None
    finally:
        gc.enable()


def test_a_session_class_with_an_info_of_its_own(engine: Engine) -> None:
    """7: its sessions have it."""

    class Tenant(SQLAlchemySession):
        @memoized_property
        def info(self) -> dict[Any, Any]:
            return {"tenant": 1}

    with session_scope(RequestScopedSession(sessionmaker(engine, class_=Tenant))) as session:
        assert session.info["tenant"] == 1


def test_an_engine_that_is_used_without_a_session_under_uwsgi(Session: Any, engine: Engine, monkeypatch: Any) -> None:
    """13: where Python is not told of a fork, each call looks whether it is in another process."""
    with session_scope(Session):
        all_words(Session)
    monkeypatch.setitem(sys.modules, "uwsgi", sys)
    pools: list[Any] = [engine.pool]

    def app(environ: Any, start_response: Any) -> Any:
        pools.append(engine.pool)
        answer(start_response)
        return []

    wrapped = SessionMiddleware(app, Session)
    monkeypatch.setattr(_fork, "pid", -1)
    request(wrapped)
    request(wrapped)

    assert pools[0] is not pools[1]
    assert pools[1] is pools[2]
    pools[0].dispose()


def test_a_close_between_a_step_and_its_chunk(Session: Any) -> None:
    """3: it ends the request at once also where the environ is being given back to another request."""
    closes: list[str] = []

    class Environ(dict[str, Any]):
        response: Any = None

        def __setitem__(self, key: str, value: object) -> None:
            super().__setitem__(key, value)
            if self.response is not None and value == "theirs":
                self.response.close()

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x", b"y"])

        def close(self) -> None:
            closes.append("close")

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Body()

    environ = Environ(new_environ(), **{KEY: "theirs"})
    response: Any = SessionMiddleware(app, Session)(environ, lambda *of_the_call: print)
    environ.response = response

    assert list(response) == [b"x"]
    assert closes == ["close"]
    assert environ[KEY] == "theirs"


def test_a_generator_whose_response_is_closed_and_dropped_in_a_step(Session: Any, engine: Engine) -> None:
    """3: the step ends it, and nothing is left to the end of its iterator."""
    in_step, go_on = threading.Event(), threading.Event()
    ended: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        all_words(Session)
        in_step.set()
        assert go_on.wait(10)
        yield b"x"

    middleware = SessionMiddleware(app, Session)
    middleware.on_request_end(ended.append)
    response: Any = middleware(new_environ(), lambda *of_the_call: print)
    thread = threading.Thread(target=next, args=[iter(response)])
    thread.start()
    assert in_step.wait(10)
    response.close()
    del response
    assert not ended
    go_on.set()
    thread.join(10)
    del thread

    assert len(ended) == 1
    assert is_clean(engine)


def test_an_interrupt_when_a_step_has_just_been_left(Session: Any, monkeypatch: Any) -> None:
    """10: it is the error that is raised, and the body is closed in its own scope."""
    closed_in: list[Any] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            closed_in.append(current_scope())

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        closed_in.append(current_scope())
        return Body()

    response: Any = SessionMiddleware(app, Session)(new_environ(), lambda *of_the_call: print)

    def interrupted(token: Any) -> None:
        monkeypatch.setattr(steps_module, "leave", leave)
        leave(token)
        raise KeyboardInterrupt

    leave = steps_module.leave
    monkeypatch.setattr(steps_module, "leave", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(response)
    response.close()

    assert closed_in[0] is closed_in[1]


def test_an_interrupt_in_a_rollback(engine: Engine) -> None:
    """4: it is raised, and the connection is not used again."""

    class Interrupted(SQLAlchemySession):
        def rollback(self) -> None:
            raise SystemExit

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Interrupted))

    def app(environ: Any, start_response: Any) -> Any:
        add_words(Session, "lost")
        Session.flush()
        answer(start_response, "400 Bad Request")
        return [b""]

    with pytest.raises(SystemExit):
        request(SessionMiddleware(app, Session, commit=on_success))

    assert is_clean(engine)
    assert words(engine) == []


def test_a_status_of_none_is_one_that_the_rule_cannot_read(Session: Any, engine: Engine) -> None:
    """7: ``start_response(None, ...)`` is an error under a rule, not an application that has not called it."""
    started: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        add_words(Session, "lost")
        start_response(None, [])
        return [b""]

    with pytest.raises(TypeError):
        SessionMiddleware(app, Session, commit=on_success)(new_environ(), lambda *call: started.append(call))

    assert started == []
    assert words(engine) == []


def test_a_status_of_none_reaches_the_server_from_a_retry(Session: Any) -> None:
    """7: what is wrong with it is for the server to say."""
    started: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        start_response(None, [("A", "b")])
        with pytest.raises(AssertionError, match="a second time"):
            start_response("200 OK", [])
        return [b""]

    RetryMiddleware(app)(new_environ(), lambda *call: started.append(call))  # type: ignore[arg-type]

    assert started == [(None, [("A", "b")])]


class WithSetter(SQLAlchemySession):
    """Has a property that asks whether the session is made already."""

    @property
    def autoflush(self) -> bool:  # type: ignore[override]
        return self._own_autoflush

    @autoflush.setter
    def autoflush(self, value: bool) -> None:
        self.was_made = hasattr(self, "twophase")
        self._own_autoflush = value


class WithGetattr(SQLAlchemySession):
    """Answers for attributes that are missing."""

    def __getattr__(self, name: str) -> Any:
        if name == "twophase":
            return "missing"
        raise AttributeError(name)

    @property
    def bind(self) -> Any:  # type: ignore[override]
        return self._own_bind

    @bind.setter
    def bind(self, value: Any) -> None:
        self.was_made = self.twophase != "missing"
        self._own_bind = value


@pytest.mark.parametrize("session_class", [WithSetter, WithGetattr])
def test_a_property_that_asks_whether_the_session_is_made(session_class: Any, engine: Engine) -> None:
    """1: while a session is made, it has no attribute that has not been set yet."""
    Session: Any = RequestScopedSession(sessionmaker(engine, class_=session_class))
    with session_scope(Session):
        assert Session.execute(text("SELECT 1")).scalar() == 1
        assert not Session().was_made


def test_events_of_a_session_class_that_come_after_the_registry(engine: Engine) -> None:
    """1: what a package adds to the events of a class before its first session is there."""

    class Own(SQLAlchemySession):
        """A session class."""

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Own))
    heard: list[Any] = []

    class OwnEvents(SessionEvents):
        _dispatch_target = Own

        def tenant_changed(self, session: Any) -> None:
            """Is sent by the application."""

    event.listen(Own, "tenant_changed", heard.append)
    with session_scope(Session) as session:
        session.dispatch.tenant_changed(session)
        assert heard == [session]
