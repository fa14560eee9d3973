"""11: a conflict is recognised wherever it hides: behind a framework, behind another error, in a savepoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError
from sqlalchemy.orm import sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from tests.conflicts import Lock
from tests.drivers import on_mariadb, on_postgresql
from tests.guarantees.test_05_the_last_word import meet_a_deadlock
from tests.helpers import Word, add_words, answer, beside, is_clean, request, words
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    TransactionLostError,
    is_retryable,
    on_commit,
    on_unsafe_success,
    retrying,
    service_unavailable,
)

KEY = "sqlalchemy.session"


@pytest.fixture
def engine(driver: str, engine_by: Callable[..., Engine]) -> Engine:
    """Return an engine with a pool of one that waits for no lock on SQLite, and two words."""
    engine = engine_by(driver, **({"connect_args": {"timeout": 0}} if driver == "sqlite" else {}))
    with sessionmaker(engine).begin() as session:
        session.add_all([Word(id=1001, text="there"), Word(id=1002, text="there too")])
    return engine


@pytest.fixture
def lock(engine: Engine) -> Iterator[Lock]:
    """Return another program that holds a lock on the file."""
    lock = Lock(engine)
    yield lock
    lock.close()


def framework(view: Any) -> Any:
    """Make a 500 of every error that *view* raises, as frameworks do."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            body: str = view(environ)
        except Exception:
            answer(start_response, "500 Internal Server Error")
            return [b"sorry"]
        answer(start_response)
        return [body.encode()]

    return app


def behind_framework(engine: Engine, view: Any, **options: Any) -> Any:
    """Put *view* behind a framework and both middlewares."""
    app = SessionMiddleware(framework(view), sessionmaker(engine), commit=on_unsafe_success)
    return RetryMiddleware(app, wait=0, **options)


# Handled conflicts: the cause of what COMMIT raises.


def meets_a_change(session: Any, attempt: int) -> None:
    """Write, and in a first attempt meet a row that somebody else has changed meanwhile."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    add_words(session, "ada")
    session.flush()
    if attempt == 0:
        elsewhere(changes, session.get_bind())
    with suppress(DBAPIError):
        session.execute(update(Word).where(Word.id == 1001).values(text="mine"))


def elsewhere(function: Callable[..., object], *arguments: object) -> None:
    """Call *function* where no attempt is observed."""
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


def changes(engine: Engine) -> None:
    """Change a row, and commit."""
    with beside(engine).begin() as other:
        other.execute(update(Word).where(Word.id == 1001).values(text="changed"))


@on_postgresql
def test_a_handled_conflict_is_repeated(engine: Engine) -> None:
    """A serialization failure that the view has handled is no success, and so the request is done again."""
    runs: list[int] = []

    def view(environ: Any) -> str:
        runs.append(environ["retry.attempt"])
        meets_a_change(environ[KEY], runs[-1])
        return "done"

    exchange = request(behind_framework(engine, view), "POST")

    assert exchange.body == b"done"
    assert runs == [0, 1]
    assert sorted(words(engine)) == ["ada", "mine", "there too"]


@on_postgresql
def test_a_handled_conflict_of_a_job_is_repeated(engine: Engine) -> None:
    """So is the job."""
    Session = RequestScopedSession(sessionmaker(engine))
    runs: list[int] = []

    @retrying(Session, wait=0)
    def job() -> None:
        runs.append(len(runs))
        meets_a_change(Session(), runs[-1])

    job()

    assert runs == [0, 1]
    assert sorted(words(engine)) == ["ada", "mine", "there too"]


# Errors that hide a conflict.


@on_mariadb
def test_a_deadlock_in_a_savepoint(engine: Engine) -> None:
    """MariaDB has forgotten the savepoint, and its end says only that; it is repeated all the same."""
    errors: list[BaseException] = []

    def view(environ: Any) -> str:
        add_words(environ[KEY], "ada")
        environ[KEY].flush()
        if environ["retry.attempt"] == 0:
            try:
                with environ[KEY].begin_nested():
                    meet_a_deadlock(environ[KEY])
            except DBAPIError as error:
                errors.append(error)
                raise
        return "done"

    assert request(behind_framework(engine, view), "POST").body == b"done"
    assert "1305" in str(errors[0])
    assert is_retryable(errors[0])
    assert words(engine).count("ada") == 1


@on_postgresql
def test_a_lock_that_could_not_be_had(engine: Engine) -> None:
    """A lock that was asked for with NOWAIT, or not granted in time, is a conflict."""

    def view(environ: Any) -> str:
        with beside(engine).connect() as other:
            if environ["retry.attempt"] == 0:
                other.execute(select(Word).with_for_update())
            environ[KEY].execute(select(Word).with_for_update(nowait=True))
        return "done"

    assert request(behind_framework(engine, view), "POST").body == b"done"


@on_postgresql
@pytest.mark.parametrize("then", ["another statement", "a savepoint"])
def test_a_statement_after_a_conflict(then: str, engine: Engine) -> None:
    """PostgreSQL refuses what comes after the conflict with an error of its own, which hides it."""

    def view(environ: Any) -> str:
        session = environ[KEY]
        if environ["retry.attempt"] == 0:
            with suppress(DBAPIError):
                session.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$"))
            if then == "a savepoint":
                session.begin_nested()
            session.execute(text("SELECT 1"))
        return "done"

    assert request(behind_framework(engine, view), "POST").body == b"done"


def test_a_session_whose_flush_has_met_a_conflict(engine: Engine, lock: Lock) -> None:
    """SQLAlchemy refuses the session after it, with an error of its own."""
    lock.write()
    errors: list[type] = []

    def view(environ: Any) -> str:
        add_words(environ[KEY], "ada")
        try:
            environ[KEY].flush()
        except OperationalError:
            lock.let_go()
        try:
            environ[KEY].scalars(select(Word)).all()
        except PendingRollbackError as error:
            errors.append(type(error))
            raise
        return "done"

    assert request(behind_framework(engine, view), "POST").body == b"done"
    assert errors == [PendingRollbackError]
    assert words(engine)[2:] == ["ada"]


def test_an_error_of_the_applications_own(engine: Engine, lock: Lock) -> None:
    """An application may make an error of its own while it handles the conflict, and does not have to say from what."""
    lock.write()

    class ServiceError(Exception):
        """What a service raises."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "ada")
        try:
            environ[KEY].flush()
        except OperationalError:
            lock.let_go()
            raise ServiceError  # noqa: B904
        answer(start_response)
        return [b"done"]

    app_ = RetryMiddleware(SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success), wait=0)

    assert request(app_, "POST").body == b"done"


def stale(error: BaseException) -> bool:
    """Say that a row that is gone is worth another attempt."""
    return isinstance(error, StaleDataError)


def test_an_error_of_a_flush(engine: Engine) -> None:
    """An ``is_retryable`` of one's own is asked for what a flush has raised, also where a framework has answered."""
    runs: list[int] = []

    def view(environ: Any) -> str:
        runs.append(environ["retry.attempt"])
        word = environ[KEY].get(Word, 1001 if runs[-1] == 0 else 1002)
        if runs[-1] == 0:
            environ[KEY].connection().execute(text("DELETE FROM word WHERE id = 1001"))
        word.text = "mine"
        environ[KEY].flush()
        return "done"

    assert request(behind_framework(engine, view, is_retryable=stale), "POST").body == b"done"
    assert runs == [0, 1]


def test_an_error_that_is_not_seen(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Where a framework has kept an error to itself, the log says once that ``is_retryable`` was not asked."""

    def view(environ: Any) -> str:
        raise KeyError("hidden")

    app = behind_framework(engine, view, is_retryable=lambda error: isinstance(error, KeyError))

    assert [request(app, "POST").body for _ in range(2)] == [b"sorry", b"sorry"]
    assert caplog.text.count("POST / was answered with 500, and the framework has kept the error to itself") == 1


def test_an_error_that_start_response_was_told(engine: Engine) -> None:
    """It is asked for what the application has given to its ``start_response``."""
    runs: list[int] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        runs.append(environ["retry.attempt"])
        if runs[-1] == 0:
            error = KeyError("told")
            start_response("500 Sorry", [("Content-Type", "text/plain")], (KeyError, error, None))
            return [b"sorry"]
        answer(start_response)
        return [b"done"]

    app_ = RetryMiddleware(app, wait=0, is_retryable=lambda error: isinstance(error, KeyError))

    assert request(app_, "POST").body == b"done"


# What is not repeated says so, once.


def commits_before(session: Any) -> None:
    """Commit something."""
    add_words(session, "ada")
    session.commit()


def commits_before_as_text(session: Any) -> None:
    """Commit something past SQLAlchemy."""
    session.execute(text("INSERT INTO word (text) VALUES ('ada')"))
    session.execute(text("COMMIT"))


NOT_AGAIN: list[tuple[Any, dict[str, Any], str]] = [
    (commits_before, {}, "not again: something was committed, or may have been"),
    (commits_before_as_text, {}, "not again: something was committed, or may have been"),
    (lambda session: None, {"attempts": 1}, "not again: it was the last attempt"),
    (lambda session: None, {"max_body": 3}, "not again: its request body is too long to be kept"),
]


@pytest.mark.parametrize(("before", "options", "reason"), NOT_AGAIN)
def test_why_it_was_not_repeated(
    before: Any, options: Any, reason: str, engine: Engine, lock: Lock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where an attempt has ended in a conflict and is not repeated, one line says why, and the page is sent."""
    runs: list[int] = []

    def view(environ: Any) -> str:
        runs.append(environ["retry.attempt"])
        before(environ[KEY])
        lock.write()
        environ[KEY].execute(text("INSERT INTO word (text) VALUES ('ada')"))
        return "done"

    exchange = request(behind_framework(engine, view, **options), "POST", CONTENT_LENGTH="5")

    assert exchange.body == b"sorry"
    assert runs == [0]
    assert [one.getMessage().endswith(f"{reason}.") for one in caplog.records if "Attempt" in one.message] == [True]


def test_a_page_of_the_applications_own(engine: Engine, lock: Lock, caplog: pytest.LogCaptureFixture) -> None:
    """What the application has answered itself is its answer, with a word in the log."""
    lock.write()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        add_words(environ[KEY], "ada")
        with pytest.raises(OperationalError):
            environ[KEY].flush()
        answer(start_response, "503 Busy")
        return [b"busy"]

    app_ = RetryMiddleware(SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success), wait=0)

    assert request(app_, "POST").body == b"busy"
    assert "not again: the application has answered 503 itself" in caplog.text


# A pool that has run dry, and a connection that is lost.


@pytest.mark.parametrize("renewed", [False, True])
def test_a_pool_that_has_run_dry(renewed: bool, engine: Engine) -> None:
    """The application for that answers, though the framework has made a 500 of it; also when the pool is a new one."""
    request(behind_framework(engine, lambda environ: str(environ[KEY].scalar(select(Word.id)))))
    if renewed:
        engine.dispose()
    seen: list[Any] = []

    def busy(environ: Any, start_response: Any) -> Any:
        seen.append(environ["wsgi_session.error"])
        return service_unavailable(environ, start_response)

    with engine.connect():
        app = behind_framework(engine, lambda environ: str(environ[KEY].scalar(select(Word.id))), exhausted=busy)

        assert request(app, "POST").status == "503 Service Unavailable"
        assert engine.pool.status()  # asks the pool, too, and is no drought

    assert "No connection was left in time" in str(seen[0])
    assert request(app, "POST").status == "200 OK"


def test_a_look_at_the_pool_is_no_drought(engine: Engine) -> None:
    """A page that has looked at a pool, and failed for another reason, is sent as it is."""

    def view(environ: Any) -> str:
        environ[KEY].scalar(select(Word.id))
        raise KeyError(engine.pool.status())

    app = behind_framework(engine, view, exhausted=service_unavailable)

    assert [request(app, "POST").status for _ in range(2)] == ["500 Internal Server Error"] * 2


def cut(session: Any) -> None:
    """Have the server end the connection of *session*."""
    end(session.get_bind(), session.scalar(text("SELECT pg_backend_pid()")))


def end(engine: Engine, number: int) -> None:
    """Have the server end a connection of *engine*."""
    with beside(engine).connect() as other:
        other.execute(text(f"SELECT pg_terminate_backend({number}, 5000)"))


@on_postgresql
@pytest.mark.parametrize("retry_disconnects", [False, True])
def test_a_lost_connection(retry_disconnects: bool, engine: Engine) -> None:
    """It is repeated by choice, for nothing can have been committed before COMMIT was sent."""

    def view(environ: Any) -> str:
        add_words(environ[KEY], "ada")
        environ[KEY].flush()
        if environ["retry.attempt"] == 0:
            cut(environ[KEY])
            environ[KEY].scalar(select(Word.id))
        return "done"

    exchange = request(behind_framework(engine, view, retry_disconnects=retry_disconnects), "POST")

    assert exchange.body == (b"done" if retry_disconnects else b"sorry")
    assert words(engine).count("ada") == retry_disconnects
    assert is_clean(engine)


@on_postgresql
@pytest.mark.parametrize("handled", ["in a savepoint", "and gone on", "until COMMIT"])
def test_a_lost_connection_that_was_handled(handled: str, engine: Engine) -> None:
    """No savepoint absorbs it. What comes after it says only that the transaction is gone, so it is repeated."""

    def view(environ: Any) -> str:
        add_words(environ[KEY], "ada")
        environ[KEY].flush()
        if environ["retry.attempt"] == 0:
            with suppress(DBAPIError), environ[KEY].begin_nested() if handled == "in a savepoint" else nullcontext():
                cut(environ[KEY])
                environ[KEY].scalar(select(Word.id))
        if handled != "until COMMIT":
            environ[KEY].scalar(select(Word.id))
        return "done"

    app = behind_framework(engine, view, retry_disconnects=True)

    assert request(app, "POST").body == b"done"
    assert words(engine).count("ada") == 1


@on_postgresql
def test_a_connection_that_is_lost_at_the_end_of_a_savepoint(engine: Engine) -> None:
    """It is no echo of the error for which the savepoint is rolled back."""

    def view(environ: Any) -> str:
        session = environ[KEY]
        add_words(session, "ada")
        session.flush()
        number = session.scalar(text("SELECT pg_backend_pid()"))
        if environ["retry.attempt"] == 0:
            with suppress(DBAPIError), session.begin_nested():
                try:
                    session.execute(text("SELECT 1/0"))
                finally:
                    end(engine, number)
        session.scalar(select(Word.id))
        return "done"

    app = behind_framework(engine, view, retry_disconnects=True)

    assert request(app, "POST").body == b"done"
    assert words(engine).count("ada") == 1


@on_postgresql
def test_a_connection_that_is_lost_in_commit(engine: Engine) -> None:
    """Nobody knows what became of that, so it is never repeated."""
    runs: list[int] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        runs.append(environ["retry.attempt"])
        add_words(environ[KEY], "ada")
        environ[KEY].flush()
        cut(environ[KEY])
        answer(start_response)
        return [b"done"]

    app_ = SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success)
    with pytest.raises(DBAPIError):
        request(RetryMiddleware(app_, wait=0, retry_disconnects=True), "POST")

    assert runs == [0]


def test_a_server_that_cannot_be_reached(driver: str) -> None:
    """A connection that could not be made is repeated by the same choice."""
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    Session = RequestScopedSession(sessionmaker(engine))
    told: list[Any] = []

    @retrying(Session, wait=0, retry_disconnects=True, on_failed_attempt=told.append)
    def job() -> None:
        Session().scalar(select(Word.id))

    with pytest.raises(OperationalError):
        job()

    assert len(told) == 3


@on_postgresql
def test_what_was_lost_is_an_error_that_can_be_judged(engine: Engine) -> None:
    """A handled error that is no conflict is not repeated, and the error says which it was."""
    told: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        add_words(environ[KEY], "ada")
        environ[KEY].flush()
        with pytest.raises(DBAPIError):
            environ[KEY].execute(text("SELECT 1/0"))
        answer(start_response)
        return [b"done"]

    app_ = SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success)
    with pytest.raises(TransactionLostError, match="22012"):
        request(RetryMiddleware(app_, wait=0, on_failed_attempt=told.append), "POST")

    assert told == []


def test_an_error_for_another_reason(engine: Engine, lock: Lock) -> None:
    """An exception that comes after a conflict was handled speaks for itself: it is neither repeated nor excused."""
    runs: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        runs.append(environ["retry.attempt"])
        lock.write()
        with suppress(OperationalError):
            environ[KEY].execute(text("INSERT INTO word (text) VALUES ('ada')"))
        environ[KEY].rollback()
        raise KeyError("a bug")

    app_ = SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success)
    with pytest.raises(KeyError, match="a bug"):
        request(RetryMiddleware(app_, wait=0, exhausted=service_unavailable), "POST")

    assert runs == [0]


# What was done cannot be done again.


def sends_a_mail(session: Any) -> None:
    """Have a callback run where nothing has begun."""
    on_commit(session, lambda: None)
    session.commit()


def writes_by_a_common_table(session: Any) -> None:
    """SQLite's driver sends no BEGIN before a WITH, so it is saved at once."""
    session.execute(text("WITH one AS (SELECT 'ada' AS text) INSERT INTO word (text) SELECT text FROM one"))


def commits_after_a_comment(session: Any) -> None:
    """A COMMIT may come late in a text."""
    session.execute(text("INSERT INTO word (text) VALUES ('ada')"))
    session.execute(text("/* done */ COMMIT"))


@pytest.mark.parametrize("acts", [sends_a_mail, writes_by_a_common_table, commits_after_a_comment])
def test_what_cannot_be_done_twice(acts: Any, engine: Engine, lock: Lock) -> None:
    """A request that has saved something, in whatever way, or has told somebody, is not repeated."""
    runs: list[int] = []

    def view(environ: Any) -> str:
        runs.append(environ["retry.attempt"])
        acts(environ[KEY])
        lock.write()
        environ[KEY].execute(text("INSERT INTO word (text) VALUES ('bob')"))
        return "done"

    assert request(behind_framework(engine, view), "POST").body == b"sorry"
    assert runs == [0]


IMPLICIT = [
    "SET autocommit = 1",
    "START TRANSACTION",
    "LOCK TABLES word WRITE",
    "CREATE TABLE IF NOT EXISTS of_mine (id INT)",
]


@on_mariadb
@pytest.mark.parametrize("statement", IMPLICIT)
def test_what_mariadb_commits_by_itself(statement: str, engine: Engine) -> None:
    """A statement before which MariaDB commits is a commit, for a retry."""
    runs: list[int] = []

    def view(environ: Any) -> str:
        runs.append(environ["retry.attempt"])
        if "autocommit" in statement:
            environ[KEY].execute(text(statement))
        environ[KEY].execute(text("INSERT INTO word (text) VALUES ('ada')"))
        environ[KEY].execute(text(statement))
        environ[KEY].execute(text("SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213"))
        return "done"

    app = behind_framework(engine, view)
    assert request(app, "POST").body == b"sorry"
    assert runs == [0]
    engine.dispose()  # a lock, and the setting, are the connection's
    assert words(engine).count("ada") == 1


@on_mariadb
def test_autocommit_by_the_driver(driver: str, engine_by: Callable[..., Engine]) -> None:
    """A connection that was made with ``autocommit=True`` is known to be in it."""
    engine = engine_by(driver, connect_args={"autocommit": True})
    runs: list[int] = []

    def view(environ: Any) -> str:
        runs.append(environ["retry.attempt"])
        environ[KEY].execute(text("INSERT INTO word (text) VALUES ('ada')"))
        environ[KEY].execute(text("SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213"))
        return "done"

    assert request(behind_framework(engine, view), "POST").body == b"sorry"
    assert runs == [0]


@on_postgresql
def test_a_timeout_that_strikes_in_commit(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not the driver's, as of a timeout by a signal, leaves it open what became of COMMIT."""

    class TimeLimitError(Exception):
        """What a worker raises."""

    runs: list[int] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        runs.append(environ["retry.attempt"])
        add_words(environ[KEY], "ada")
        environ[KEY].flush()
        answer(start_response)
        return [b"done"]

    commit = engine.dialect.do_commit

    def strikes(connection: Any) -> None:
        commit(connection)
        raise TimeLimitError

    monkeypatch.setattr(engine.dialect, "do_commit", strikes)
    app_ = SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success)
    app_ = RetryMiddleware(app_, wait=0, is_retryable=lambda error: isinstance(error, TimeLimitError))
    with pytest.raises(TimeLimitError):
        request(app_, "POST")

    assert runs == [0]
    assert words(engine).count("ada") == 1


@on_postgresql
def test_a_ping_that_fails_is_no_error_of_the_request(driver: str, engine_by: Callable[..., Engine]) -> None:
    """A pool that makes another connection has mended what it found."""
    engine = engine_by(driver, pool_pre_ping=True)
    runs: list[int] = []
    with engine.connect() as connection:
        number = connection.scalar(text("SELECT pg_backend_pid()"))
    with beside(engine).connect() as other:
        other.execute(text(f"SELECT pg_terminate_backend({number}, 5000)"))

    def view(environ: Any) -> str:
        runs.append(environ["retry.attempt"])
        environ[KEY].scalar(select(Word.id))
        raise KeyError("a bug")

    assert request(behind_framework(engine, view, retry_disconnects=True), "POST").body == b"sorry"
    assert runs == [0]


@on_postgresql
def test_a_connection_that_is_lost_in_a_commit_as_text(engine: Engine) -> None:
    """That is in doubt, too."""
    runs: list[int] = []
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION dies() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE CONSTRAINT TRIGGER dying AFTER INSERT ON letter DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION dies()"
            )
        )

    def view(environ: Any) -> str:
        runs.append(environ["retry.attempt"])
        environ[KEY].execute(text("INSERT INTO letter (word_id) VALUES (1001)"))
        environ[KEY].execute(text("COMMIT"))
        return "done"

    try:
        assert request(behind_framework(engine, view, retry_disconnects=True), "POST").body == b"sorry"
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP TRIGGER dying ON letter"))
    assert runs == [0]
