"""5: what a response that did not fail has not committed is said, in every mode, once, with what to write instead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import scoped_session, sessionmaker

from tests.drivers import MARIADB, POSTGRESQL, with_every_driver
from tests.helpers import Word, add_words, answer, beside, is_clean, request, words
from wsgi_session import (
    RequestScopedSession,
    SessionMiddleware,
    current_scope,
    never,
    on_commit,
    on_success,
    on_unsafe_success,
    session_scope,
    until_close,
)

KEY = "sqlalchemy.session"

MODES = [never, until_close, on_unsafe_success]
in_every_mode = pytest.mark.parametrize("commit", MODES, ids=lambda mode: mode.__name__)


@pytest.fixture
def engine(driver: str, engine_by: Callable[..., Engine]) -> Engine:
    """Return an engine with a pool of one, and a word."""
    engine = engine_by(driver)
    with sessionmaker(engine).begin() as session:
        session.add(Word(id=1001, text="there"))
    return engine


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """List what was said."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# What is lost, and how.


def new(session: Any) -> None:
    """Add an object."""
    add_words(session, "new")


def changed(session: Any) -> None:
    """Change an object."""
    session.get(Word, 1001).text = "changed"


def deleted(session: Any) -> None:
    """Delete an object."""
    session.delete(session.get(Word, 1001))


def flushed(session: Any) -> None:
    """Send an object."""
    add_words(session, "new")
    session.flush()


def directly(session: Any) -> None:
    """Send a statement of Core."""
    session.execute(update(Word).values(text="changed"))


def as_text(session: Any) -> None:
    """Send text."""
    session.execute(text("UPDATE word SET text = 'changed'"))


def awaited(session: Any) -> None:
    """Wait for a commit that never comes."""
    session.scalars(select(Word)).all()
    on_commit(session, print)


WHAT: dict[Any, str] = {
    new: "1 new Word",
    changed: "1 changed Word",
    deleted: "1 deleted Word",
    flushed: "flushed changes",
    directly: "what was sent directly",
    as_text: "what was sent directly",
    awaited: "1 callback of on_commit()",
}


def is_left_open(Session: Any) -> None:
    """Do nothing more."""


def removes(Session: Any) -> None:
    """Do as in a teardown for a thread-local session."""
    Session.remove()


def closes(Session: Any) -> None:
    """Close it by hand."""
    Session().close()


def resets(Session: Any) -> None:
    """Forget everything, and go on."""
    Session().reset()


def invalidates(Session: Any) -> None:
    """Throw away its connection, and everything."""
    Session().invalidate()


HOW: dict[Any, str] = {
    is_left_open: ", not committed. ",
    removes: ", thrown away by 'Session.remove()'. ",
    closes: ", thrown away by 'session.close()'. ",
    resets: ", thrown away by 'session.reset()'. ",
    invalidates: ", thrown away by 'session.invalidate()'. ",
}


@in_every_mode
@pytest.mark.parametrize("how", HOW, ids=lambda how: how.__name__)
@pytest.mark.parametrize("what", WHAT, ids=lambda what: what.__name__)
def test_what_is_lost_is_said(what: Any, how: Any, commit: Any, engine: Engine, caplog: Any) -> None:
    """One line says what, and how it was lost; nothing of it is in the database."""
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> list[bytes]:
        what(Session())
        how(Session)
        answer(start_response)
        return [b"saved"]

    method = "GET" if how is is_left_open else "POST"  # which a rule would commit
    request(SessionMiddleware(app, Session, commit=commit), method, "/words")

    [said] = warnings_of(caplog)
    assert said.startswith(f"{method} /words has lost what it wrote: {WHAT[what]}{HOW[how]}")
    assert words(engine) == ["there"]
    assert is_clean(engine)


@in_every_mode
@pytest.mark.parametrize("plain", [False, True])
def test_the_end_of_a_with_statement(plain: bool, commit: Any, engine: Engine, caplog: Any) -> None:
    """``with Session() as session:`` closes it without a commit, whichever kind of registry has made it."""
    factory = sessionmaker(engine)
    Session = scoped_session(factory, scopefunc=current_scope) if plain else RequestScopedSession(factory)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        with Session() as session:
            session.add(Word(text="new"))
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, Session, commit=commit), "POST")

    [said] = warnings_of(caplog)
    assert "1 new Word, thrown away by the end of 'with Session() as session:'" in said


def refuses(environ: Any, status: int, headers: Any) -> bool:
    """Commit nothing."""
    return False


REMEDIES = [
    (never, "Call 'session.commit()' in the view, before it returns, or have the middleware do it"),
    (until_close, "Call 'session.commit()' before the response is closed."),
    (on_unsafe_success, "'on_unsafe_success' commits no GET, which is a safe method. Write in a POST, or call"),
    (refuses, "The rule 'refuses' has not committed it"),
]


@pytest.mark.parametrize(("commit", "remedy"), REMEDIES)
def test_the_line_says_what_to_write(commit: Any, remedy: str, engine: Engine, caplog: Any) -> None:
    """The remedy is one for the mode."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        new(environ[KEY])
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, sessionmaker(engine), commit=commit))

    assert remedy in warnings_of(caplog)[0]


def test_it_is_said_once(engine: Engine, caplog: Any) -> None:
    """Several losses of a request are one line."""
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        new(Session())
        Session.remove()
        flushed(Session())
        answer(start_response)
        yield b"x"
        new(Session())

    request(SessionMiddleware(app, Session), "POST")

    [said] = warnings_of(caplog)
    assert "1 new Word, thrown away by 'Session.remove()'; " in said
    assert "flushed changes, not committed" in said


# Where nothing is said.


def rolls_back(Session: Any) -> None:
    """The application's own rollback is no loss."""
    flushed(Session())
    Session.rollback()
    Session.remove()


def commits(Session: Any) -> None:
    """It is saved."""
    flushed(Session())
    Session.commit()
    Session.remove()


def rolls_a_savepoint_back(Session: Any) -> None:
    """What a savepoint has undone is no loss."""
    with Session().begin_nested() as savepoint:
        flushed(Session())
        as_text(Session())
        savepoint.rollback()


def reads(Session: Any) -> None:
    """There is nothing to lose."""
    Session.scalars(select(Word)).all()
    Session.execute(text("WITH q AS (SELECT 1 AS n) SELECT n FROM q")).all()
    Session.remove()


@in_every_mode
@pytest.mark.parametrize("act", [rolls_back, commits, rolls_a_savepoint_back, reads], ids=lambda act: act.__name__)
def test_what_is_no_loss(act: Any, commit: Any, engine: Engine, caplog: Any) -> None:
    """Nothing is said of what the application has undone or saved itself."""
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> list[bytes]:
        act(Session)
        answer(start_response)
        return [b"done"]

    request(SessionMiddleware(app, Session, commit=commit), "POST")

    assert warnings_of(caplog) == []


@in_every_mode
@pytest.mark.parametrize("how", [is_left_open, removes], ids=lambda how: how.__name__)
@pytest.mark.parametrize("failure", ["status", "exc_info", "exception", "status in the body"])
def test_a_response_that_failed_loses_nothing(failure: str, how: Any, commit: Any, engine: Engine, caplog: Any) -> None:
    """What a request wrote that was answered with an error was not meant to be kept."""
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Any:
        flushed(Session())
        how(Session)
        if failure == "exception":
            raise KeyError
        if failure == "status in the body":
            return late(start_response)
        error = KeyError()
        start_response("500 Sorry", [], *([(KeyError, error, None)] if failure == "exc_info" else []))
        return [b"sorry"]

    def late(start_response: Any) -> Iterator[bytes]:
        answer(start_response, "404 Not Found")
        yield b"sorry"

    app_ = SessionMiddleware(app, Session, commit=commit)
    if failure == "exception":
        with pytest.raises(KeyError):
            request(app_, "POST")
    else:
        request(app_, "POST")

    assert warnings_of(caplog) == []
    assert words(engine) == ["there"]


@with_every_driver
@pytest.mark.parametrize(("what", "kept"), [(directly, ["changed"]), (flushed, ["new", "there"])])
def test_what_is_committed_by_itself_is_not_lost(what: Any, kept: list[str], engine: Engine, caplog: Any) -> None:
    """In AUTOCOMMIT, what was sent directly or by a flush is saved."""
    Session = sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"))

    def app(environ: Any, start_response: Any) -> list[bytes]:
        what(environ[KEY])
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, Session), "POST")

    assert warnings_of(caplog) == []
    assert sorted(words(engine)) == kept


@pytest.mark.parametrize("driver", [*POSTGRESQL, "sqlite"])
def test_what_was_committed_as_text_is_not_lost(engine: Engine, caplog: Any) -> None:
    """What text has committed is saved, and the drivers know it."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        flushed(environ[KEY])
        environ[KEY].execute(text("COMMIT"))
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, sessionmaker(engine)), "POST")

    assert warnings_of(caplog) == []
    assert sorted(words(engine)) == ["new", "there"]


@with_every_driver
def test_what_is_the_users_own_transaction(engine: Engine, caplog: Any) -> None:
    """A session on a connection whose owner has begun the transaction loses nothing that it has sent."""
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        with engine.begin() as connection:
            Session(bind=connection)
            flushed(Session())
            Session.close()
        answer(start_response)
        yield b"saved"

    request(SessionMiddleware(app, Session), "POST")

    assert warnings_of(caplog) == []
    assert sorted(words(engine)) == ["new", "there"]


@pytest.mark.parametrize("driver", MARIADB)
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMPORARY TABLE passing (n int)",
        "SET SESSION autocommit = 0",
        "SET NAMES utf8mb4 /* autocommit */",
        "UNLOCK TABLES",
        "ANALYZE SELECT 1",
        "BEGIN NOT ATOMIC SET @x = 1; END",
    ],
)
def test_what_commits_nothing_on_mariadb(statement: str, engine: Engine, caplog: Any) -> None:
    """A statement that only looks like one that commits keeps nobody from hearing of a loss."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        directly(environ[KEY])
        environ[KEY].execute(text(statement))
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, sessionmaker(engine)), "POST")

    assert "what was sent directly" in warnings_of(caplog)[0]
    assert words(engine) == ["there"]


@pytest.mark.parametrize("driver", POSTGRESQL[:1])
def test_what_went_with_its_connection(engine: Engine, caplog: Any) -> None:
    """What was flushed on a connection that is gone is lost, also if the view has handled the error."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        flushed(environ[KEY])
        pid = environ[KEY].scalar(text("SELECT pg_backend_pid()"))
        with beside(engine).connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(DBAPIError):
            environ[KEY].execute(text("SELECT 1"))
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, sessionmaker(engine)), "POST")

    assert "flushed changes" in warnings_of(caplog)[0]
    assert words(engine) == ["there"]


@pytest.mark.parametrize("what", [directly, flushed], ids=lambda what: what.__name__)
def test_what_sqlite_has_rolled_back(what: Any, engine: Engine, caplog: Any) -> None:
    """What went with an ``OR ROLLBACK`` whose error was handled is lost, also if nobody commits."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        what(environ[KEY])
        with pytest.raises(IntegrityError):
            environ[KEY].execute(text("INSERT OR ROLLBACK INTO word (id, text) VALUES (1001, 'again')"))
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, sessionmaker(engine)), "POST")

    assert WHAT[what] in warnings_of(caplog)[0]
    assert words(engine) == ["there"]


@pytest.mark.parametrize("how", [removes, closes, resets, invalidates], ids=lambda how: how.__name__)
def test_what_a_block_loses(how: Any, engine: Engine, caplog: Any) -> None:
    """A block whose session was closed before its end has nothing to commit, and says so; in a request, too."""
    Session = RequestScopedSession(sessionmaker(engine))

    def work() -> None:
        with session_scope(Session) as session:
            new(session)
            how(Session)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        work()
        answer(start_response)
        return [b"saved"]

    work()
    request(SessionMiddleware(app, Session), "POST")

    said = warnings_of(caplog)
    assert len(said) == 2
    assert all(
        line.startswith("A block of session_scope() has lost what it wrote: 1 new Word, thrown") for line in said
    )
    assert words(engine) == ["there"]


def test_a_block_that_commits_nothing(engine: Engine, caplog: Any) -> None:
    """``commit=False`` says that nothing is to be kept, unless the block commits: what it leaves is said."""
    Session = RequestScopedSession(sessionmaker(engine))

    with session_scope(Session, commit=False) as session:
        session.scalars(select(Word)).all()
    with session_scope(Session, commit=False) as session:
        flushed(session)

    [said] = warnings_of(caplog)
    assert "flushed changes, not committed. Call 'session.commit()' in the block, or leave out 'commit=False'." in said


@with_every_driver
@pytest.mark.parametrize("what", [flushed, directly, as_text], ids=lambda what: what.__name__)
def test_losses_on_every_driver(what: Any, engine: Engine, caplog: Any) -> None:
    """What was sent and not committed is said with every driver."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        what(environ[KEY])
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, sessionmaker(engine)), "POST")

    assert WHAT[what] in warnings_of(caplog)[0]
    assert words(engine) == ["there"]


def test_a_list_that_was_answered_before_it_wrote(engine: Engine, caplog: Any) -> None:
    """Under a rule what a body writes later is said, too."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        yield b"x"
        new(environ[KEY])

    request(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST")

    assert "what is written later has to be committed where it is written" in warnings_of(caplog)[0]


# The log itself.


def test_a_logger_that_is_disabled(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``fileConfig()`` has disabled it, a warning says so, once."""
    logger = logging.getLogger("wsgi_session")
    monkeypatch.setattr(logger, "disabled", True)
    monkeypatch.setattr("wsgi_session._log.log._is_mentioned", False)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        new(environ[KEY])
        answer(start_response)
        return [b"saved"]

    app_ = SessionMiddleware(app, sessionmaker(engine))
    with pytest.warns(RuntimeWarning, match="disable_existing_loggers=False"):
        request(app_)
    request(app_)
