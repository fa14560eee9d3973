"""The isolated block."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, func, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

from tests.helpers import Base, Exchange, Letter, Word, add_words, all_words, answer, is_clean, orphan, request, words
from tests.words_application import registry_on, shop, text_of
from wsgi_session import RequestScopedSession, SessionMiddleware, on_commit, session_scope
from wsgi_session.testing import IsolationError, isolated, isolated_session

DATABASES = [
    "sqlite",
    pytest.param("postgresql+psycopg", marks=pytest.mark.system("postgresql")),
    pytest.param("mariadb+pymysql", marks=pytest.mark.system("mariadb")),
]
on_all = pytest.mark.parametrize("driver", DATABASES)


@on_all
def test_commits_are_real_inside_and_gone_afterwards(driver: str, engine_by: Callable[..., Engine]) -> None:
    """The test, and each request, sees what the others have committed; nobody sees any of it afterwards."""
    engine = engine_by(driver)
    Session = registry_on(engine)
    app = shop(Session)

    with isolated() as isolation:
        session = isolation.session(Session)
        add_words(session, "ada")
        session.commit()
        assert text_of(app, "POST", "/bob") == "ada,bob"
        assert text_of(app) == "ada,bob"
        assert all_words(session) == ["ada", "bob"]

    assert words(engine) == []
    assert is_clean(engine)


@on_all
def test_a_rollback_undoes_its_own_transaction_alone(driver: str, engine_by: Callable[..., Engine]) -> None:
    """A request that fails loses what it has written, and nothing of those before it."""
    engine = engine_by(driver)
    Session = registry_on(engine)

    def duplicate(session: Any) -> None:
        session.add(Word(id=1, text="twice"))
        session.flush()

    with isolated() as isolation:
        session = isolation.session(Session)
        session.add(Word(id=1, text="ada"))
        session.commit()
        with pytest.raises(IntegrityError):
            request(shop(Session, duplicate), "POST", "/lost")
        assert text_of(shop(Session), "POST", "/kept") == "ada,kept"

    assert words(engine) == []


@on_all
def test_a_transaction_that_the_database_ends_is_an_error(driver: str, engine_by: Callable[..., Engine]) -> None:
    """A COMMIT that is sent as text, or one that MariaDB makes of DDL, is named at the end of the block."""
    engine = engine_by(driver)
    Session = registry_on(engine)
    sent = "CREATE TABLE made_by_ddl (id INTEGER)" if driver.startswith("mariadb") else "COMMIT"

    with pytest.raises(IsolationError, match="was ended by the database itself"), isolated() as isolation:
        session = isolation.session(Session)
        add_words(session, "left")
        session.flush()
        session.execute(text(sent))

    assert words(engine) == ["left"]
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS made_by_ddl"))


@on_all
def test_direct_commit_on_an_engine_is_refused(driver: str, engine_by: Callable[..., Engine]) -> None:
    """A connection that the application takes from the engine itself may not commit, and the line is named."""
    engine = engine_by(driver, pool_size=2)
    Session = registry_on(engine)

    def write_beside(session: Any) -> None:
        session.rollback()
        with engine.begin() as connection:
            connection.execute(select(1))

    with isolated() as isolation:
        all_words(isolation.session(Session))
        with pytest.raises(IsolationError, match=r"commits outside .* at tests/test_testing_isolated.py:\d+"):
            request(shop(Session, write_beside))
        with pytest.raises(IsolationError, match="commits outside"):
            isolation.check()


def test_direct_commit_before_the_first_session_is_an_error(engine: Engine) -> None:
    """What was committed on an engine that only later turns out to be the test's is named at the end."""
    Session = registry_on(engine)

    with pytest.raises(IsolationError, match="commits outside"), isolated() as isolation:
        with engine.begin() as connection:
            connection.execute(insert(Word).values(text="left"))
        all_words(isolation.session(Session))


def test_commits_on_other_engines_are_no_concern(new_engine: Callable[..., Engine]) -> None:
    """An engine that no session of the block uses may be committed on."""
    engine, other = new_engine(), new_engine()

    with isolated() as isolation:
        all_words(isolation.session(registry_on(engine)))
        with other.begin() as connection:
            connection.execute(insert(Word).values(text="kept"))

    assert words(other) == ["kept"]


def test_a_session_may_not_commit_its_connection(engine: Engine) -> None:
    """``session.connection().commit()`` would end the test's transaction, and is refused before it does."""
    with pytest.raises(IsolationError, match="commits outside"), isolated() as isolation:
        isolation.session(registry_on(engine)).connection().commit()

    assert words(engine) == []


def test_an_error_that_the_application_swallows_is_raised_in_the_end(new_engine: Callable[..., Engine]) -> None:
    """What was refused, and made a plain error page of, fails the block all the same."""
    engine = new_engine(pool_size=2)
    Session = registry_on(engine)

    def swallow(session: Any) -> None:
        all_words(session)
        with suppress(IsolationError), engine.begin() as connection:
            connection.execute(select(1))

    with pytest.raises(IsolationError, match="commits outside"), isolated():
        request(shop(Session, swallow))


def test_an_error_on_its_way_is_given_notes(engine: Engine) -> None:
    """What the block has to complain of does not hide the error of the test."""
    app = shop(registry_on(engine), open_stream)

    with pytest.raises(ZeroDivisionError) as raised, isolated():
        left = Exchange(app)
        left.step()
        1 / 0  # noqa: B018

    assert "GET / was never closed" in raised.value.__notes__[0]


@pytest.mark.system("postgresql")
def test_deferred_constraints_are_checked_at_a_commit(postgresql_engine: Engine) -> None:
    """A commit in the block raises what COMMIT raises, and the deferred constraints stay deferred."""
    Session = registry_on(postgresql_engine)

    with isolated() as isolation:
        session = isolation.session(Session)
        session.add(orphan())
        with pytest.raises(IntegrityError, match="ForeignKeyViolation"):
            session.commit()
        session.rollback()
        session.add_all([Letter(id=1, word_id=7)])
        session.flush()
        session.add(Word(id=7, text="late"))
        session.commit()
        assert all_words(session) == ["late"]


def test_deferred_constraints_of_sqlite_are_checked(engine: Engine) -> None:
    """SQLite's, too, where it enforces foreign keys; those that were broken before the block are no concern."""
    Session = registry_on(engine)
    with sqlite3.connect(str(engine.url.database)) as connection:
        connection.execute("INSERT INTO letter (word_id) VALUES (999)")
    connection.close()

    with isolated() as isolation:
        session = isolation.session(Session)
        add_words(session, "ada")
        session.commit()
        session.add(orphan())
        with pytest.raises(IntegrityError, match="FOREIGN KEY constraint failed"):
            session.commit()


def test_savepoints_of_the_application_are_its_own(engine: Engine) -> None:
    """``begin_nested()`` works in the block as in production, and checks nothing."""
    Session = registry_on(engine)

    with isolated() as isolation:
        session = isolation.session(Session)
        with session.begin_nested():
            add_words(session, "kept")
        with session.begin_nested() as nested:
            add_words(session, "lost")
            session.flush()
            nested.rollback()
        session.commit()
        assert all_words(session) == ["kept"]


def test_threads_in_turn_are_let_in(engine: Engine) -> None:
    """Another thread may use the connection of the test, one after the other; what it commits, the test sees."""
    Session = registry_on(engine)

    with isolated() as isolation:
        session = isolation.session(Session)
        assert all_words(session) == []
        in_a_thread(lambda: request(shop(Session), "POST", "/ada"))
        assert all_words(session) == ["ada"]
        in_a_thread(lambda: add_words(session, "bob"))
        session.commit()
        assert text_of(shop(Session)) == "ada,bob"

    assert words(engine) == []


def test_objects_of_the_test_show_what_another_thread_has_committed(Session: Any) -> None:
    """The test's own objects are read anew, whichever thread has changed them."""

    def shout(session: Any) -> None:
        session.get_one(Word, 1).text = "ADA"

    with isolated() as isolation:
        session = isolation.session(Session)
        word = Word(id=1, text="ada")
        session.add(word)
        session.commit()
        assert word.text == "ada"
        in_a_thread(lambda: request(shop(Session, shout), "POST", "/bob"))
        assert word.text == "ADA"


def test_a_statement_while_another_thread_sends_one_is_refused(engine: Engine) -> None:
    """In the middle of a statement, the connection is nobody else's; the error says what can be done."""
    Session = registry_on(engine)
    errors: list[str] = []

    def meet() -> int:
        def ask() -> None:
            with pytest.raises(IsolationError) as raised:
                request(shop(Session))
            errors.append(str(raised.value))

        in_a_thread(ask)
        return 1

    with isolated() as isolation:
        session = isolation.session(Session)
        driver: Any = session.connection().connection.driver_connection
        driver.create_function("meet", 0, meet)
        assert session.scalar(text("SELECT meet()")) == 1
        assert all_words(session) == []
        with pytest.raises(IsolationError, match="at the same time"):
            isolation.check()

    assert "Two threads use" in errors[0]
    assert "committing()" in errors[0]


def test_a_connection_that_another_thread_uses_now_is_not_lent(engine: Engine) -> None:
    """Nor may a statement be sent on a connection that was lent before."""
    Session = registry_on(engine)

    with isolated() as isolation:
        session = isolation.session(Session)
        lent = session.connection()
        driver: Any = lent.connection.driver_connection

        def ask() -> None:
            with pytest.raises(IsolationError, match="at the same time"):
                lent.execute(select(1))

        driver.create_function("meet", 0, lambda: in_a_thread(ask))
        session.execute(text("SELECT meet()"))
        with pytest.raises(IsolationError):
            isolation.check()


def test_requests_of_two_threads_at_the_same_time_are_refused(Session: Any) -> None:
    """A request that begins while one of another thread is in its transaction would be on the same connection."""

    def stream(session: Any) -> Iterator[bytes]:
        yield from (word.encode() for word in all_words(session))

    def ask() -> None:
        with pytest.raises(IsolationError, match=r"Two threads use .* at the same time"):
            request(shop(Session))

    with isolated() as isolation:
        session = isolation.session(Session)
        add_words(session, "ada", "bob")
        session.commit()
        first = Exchange(shop(Session, stream))
        first.step()
        in_a_thread(ask)
        first.read()
        first.close()
        with pytest.raises(IsolationError):
            isolation.check()


def test_a_server_is_given_the_time_to_close_a_response(Session: Any) -> None:
    """A client may have all of a response before its thread has closed it: that is no leak."""
    left: list[Exchange] = []

    def declared(environ: Any, start_response: Any) -> Iterator[bytes]:
        all_words(environ["sqlalchemy.session"])
        answer(start_response, "200 OK", ("Content-Length", "1"))
        yield b"x"

    def serve() -> None:
        left.append(Exchange(SessionMiddleware(declared, Session)))
        left[0].step()

    with isolated() as isolation:
        in_a_thread(serve)
        closing = threading.Timer(0.2, left[0].close)
        closing.start()
        isolation.check()
        closing.join()


def in_a_thread(call: Callable[[], object]) -> None:
    """Make a *call* in a thread of its own, and wait for it."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def test_isolation_level_asked_for_inside_is_refused(engine: Engine) -> None:
    """The level of a transaction that has begun cannot change, and the error says so."""
    Session = registry_on(engine)

    def serializable(session: Any) -> None:
        session.connection(execution_options={"isolation_level": "SERIALIZABLE"})

    with isolated() as isolation:
        with pytest.raises(IsolationError, match="isolation_level='SERIALIZABLE' was asked for"):
            request(shop(Session, serializable))
        with pytest.raises(IsolationError):
            isolation.check()


def test_isolation_level_of_the_engine_holds(engine: Engine) -> None:
    """The transaction of the test has the level of the engine; a second one is refused."""
    serializable = engine.execution_options(isolation_level="SERIALIZABLE")
    uncommitted = engine.execution_options(isolation_level="READ UNCOMMITTED")

    with isolated() as isolation:
        session = isolation.session(registry_on(serializable))
        assert session.connection().get_isolation_level() == "SERIALIZABLE"
        with pytest.raises(IsolationError, match="one of them wants isolation_level='READ UNCOMMITTED'"):
            all_words(isolation.session(registry_on(uncommitted)))
        with pytest.raises(IsolationError):
            isolation.check()


@on_all
def test_autocommit_is_refused(driver: str, engine_by: Callable[..., Engine]) -> None:
    """What commits each statement cannot be undone."""
    engine = engine_by(driver).execution_options(isolation_level="AUTOCOMMIT")

    with isolated() as isolation:
        with pytest.raises(IsolationError, match="commits each statement by itself"):
            all_words(isolation.session(registry_on(engine)))
        with pytest.raises(IsolationError):
            isolation.check()

    assert is_clean(engine)


def test_several_engines(new_engine: Callable[..., Engine]) -> None:
    """Each engine has its transaction; a session class finds its engines by its own ``get_bind``."""
    first, second = new_engine(), new_engine()

    class Routing(SQLAlchemySession):
        def get_bind(self, mapper: Any = None, **kw: Any) -> Engine:
            return second if mapper is not None and mapper.class_ is Letter else first

    Session = RequestScopedSession(sessionmaker(class_=Routing))

    with isolated() as isolation:
        session = isolation.session(Session)
        assert isinstance(session, Routing)
        session.add_all([Word(id=1, text="ada"), Letter(id=1, word_id=1)])
        with pytest.raises(IntegrityError):
            session.commit()  # there is no such word in the second database
        session.rollback()
        assert text_of(shop(Session), "POST", "/ada") == "ada"
        assert session.scalar(select(func.count(Letter.id))) == 0

    assert words(first) == words(second) == []
    assert is_clean(first)
    assert is_clean(second)


def test_sub_engines_share_a_connection_and_keep_their_options(engine: Engine) -> None:
    """Engines made by ``execution_options()`` are one database; each one's schema map holds for its sessions."""
    with engine.begin() as connection:
        connection.execute(text("ATTACH ':memory:' AS extra"))
    tenant = engine.execution_options(schema_translate_map={None: "main"})
    elsewhere = engine.execution_options(schema_translate_map={None: "nowhere"})

    with isolated() as isolation:
        session, other, third = (isolation.session(registry_on(one)) for one in (engine, tenant, elsewhere))
        add_words(session, "ada")
        session.commit()
        assert all_words(other) == ["ada"]
        with pytest.raises(OperationalError, match=r"no such table: nowhere\.word"):
            all_words(third)
        assert all_words(session) == ["ada"]

    assert words(engine) == []


def test_a_bind_that_is_a_connection_stays(engine: Engine) -> None:
    """A session that its user has bound to a connection is left alone."""
    with engine.connect() as connection, isolated() as isolation:
        session = isolation.session(RequestScopedSession(sessionmaker(connection)))
        assert session.connection() is connection
        add_words(session, "ada")
        session.rollback()


def test_the_sessions_own_events_and_options_hold(engine: Engine) -> None:
    """The user's ``sessionmaker``, its options, and its events stay in force, and hooks run at a commit."""
    maker = sessionmaker(engine, expire_on_commit=False, info={"tenant": 7})
    Session = RequestScopedSession(maker)
    heard: list[str] = []
    event.listen(maker, "after_commit", lambda session: heard.append("after_commit"))

    def work(session: Any) -> None:
        assert session.info["tenant"] == 7
        on_commit(session, lambda: heard.append("on_commit"))

    with isolated() as isolation:
        request(shop(Session, work), "POST", "/ada")
        assert len(isolation.commits) == 1

    assert heard == ["after_commit", "on_commit"]


def test_what_was_shadowed_is_put_back(engine: Engine) -> None:
    """A session that outlives the block is as it was, its own ``get_bind`` included; so is Python's SQLite driver."""
    Session = RequestScopedSession(sessionmaker(engine), outside="thread")
    before = SQLAlchemySession.get_bind

    with isolated():
        session = Session()
        session.join_transaction_mode = "create_savepoint"
        add_words(session, "ada")
        session.commit()

    assert SQLAlchemySession.get_bind is before
    assert session.get_bind() is engine
    assert "get_bind" not in vars(session)
    assert session.join_transaction_mode == "conditional_savepoint"
    with engine.connect() as connection:
        assert connection.connection.driver_connection.isolation_level == ""  # type: ignore[union-attr]
    Session.remove()


def test_an_own_get_bind_of_an_instance_is_used_and_put_back(engine: Engine) -> None:
    """What a session class sets on its instances stays in force."""

    class Bound(SQLAlchemySession):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.get_bind = self._find  # type: ignore[method-assign]

        def _find(self, *args: Any, **kw: Any) -> Engine:
            return engine

    with isolated() as isolation:
        session = isolation.session(RequestScopedSession(sessionmaker(class_=Bound)))
        add_words(session, "ada")
        session.commit()

    assert words(engine) == []
    assert session.get_bind() is engine


def test_a_session_that_was_removed_is_isolated_again(Session: Any, engine: Engine) -> None:
    """A session that is built anew in the same scope is in the block, too."""
    with isolated(), session_scope(Session) as session:
        add_words(session, "ada")
        session.commit()
        Session.remove()
        assert all_words(session) == ["ada"]

    assert words(engine) == []


def test_a_user_who_begins_for_sqlite_is_left_alone(new_engine: Callable[..., Engine]) -> None:
    """An engine with SQLAlchemy's recipe for SQLite's transactions works as it is."""
    engine = new_engine()

    @event.listens_for(engine, "connect")
    def no_legacy(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    engine.dispose()
    with isolated() as isolation:
        session = isolation.session(registry_on(engine))
        add_words(session, "ada")
        session.commit()

    assert words(engine) == []


def test_a_database_in_memory(tmp_path: Any) -> None:
    """A ``StaticPool``, whose one connection is the database, is as clean afterwards."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    Session = registry_on(engine)

    with isolated():
        assert text_of(shop(Session), "POST", "/ada") == "ada"

    with engine.connect() as connection:
        assert connection.scalar(select(func.count(Word.id))) == 0
    engine.dispose()


def test_two_phase_sessions_commit_in_one(engine: Engine) -> None:
    """A session with ``twophase=True`` is isolated as any other."""
    with isolated() as isolation:
        session = isolation.session(registry_on(engine, twophase=True))
        add_words(session, "ada")
        session.commit()
        assert all_words(session) == ["ada"]

    assert session.twophase


def test_the_test_does_not_see_stale_attributes(Session: Any) -> None:
    """What a request has changed, the test's objects show, without a word of it."""

    def shout(session: Any) -> None:
        session.get_one(Word, 1).text = "ADA"

    with isolated() as isolation:
        session = isolation.session(Session)
        word = Word(id=1, text="ada")
        session.add(word)
        session.commit()
        assert word.text == "ada"  # in a transaction again, which only reads
        request(shop(Session, shout), "POST", "/bob")
        assert word.text == "ADA"


@pytest.mark.parametrize("is_flushed", [False, True])
def test_uncommitted_changes_of_the_test_are_refused(Session: Any, is_flushed: bool) -> None:
    """What a request would not see in production, it does not see in a test: the error says to commit."""
    with isolated() as isolation:
        session = isolation.session(Session)
        add_words(session, "ada")
        if is_flushed:
            session.flush()
        with pytest.raises(IsolationError, match="not committed"):
            request(shop(Session))
        session.rollback()
        with pytest.raises(IsolationError):
            isolation.check()


def test_uncommitted_statements_of_the_test_are_refused(Session: Any) -> None:
    """Nor what it has written without the ORM."""
    with isolated() as isolation:
        isolation.session(Session).execute(insert(Word).values(text="ada"))
        with pytest.raises(IsolationError, match="what was sent directly"):
            request(shop(Session))
        with pytest.raises(IsolationError):
            isolation.check()


@pytest.mark.system("postgresql")
def test_what_a_common_table_expression_has_written_is_not_ended_for_others(postgresql_engine: Engine) -> None:
    """A SELECT whose WITH writes is a write, which a request that begins does not undo in silence."""
    Session = registry_on(postgresql_engine)
    ada = insert(Word.__table__).values(text="ada").returning(Word.id).cte()  # type: ignore[arg-type]

    with isolated() as isolation:
        isolation.session(Session).execute(select(ada.c.id))
        with pytest.raises(IsolationError, match="what was sent directly"):
            request(shop(Session))
        with pytest.raises(IsolationError):
            isolation.check()


def test_a_response_that_is_never_closed_is_named(Session: Any) -> None:
    """A response that nobody has read to its end, and that is open at the end of the block, fails it."""
    app = shop(Session, open_stream)

    with pytest.raises(IsolationError, match="The response of GET /left was never closed, nor read"), isolated():
        left = Exchange(app, path="/left")
        left.step()


def test_a_response_that_was_read_is_closed_as_a_server_does(Session: Any) -> None:
    """A client that takes the whole response, and does not close it, fails no test: all servers close it."""
    ended: list[str] = []
    app: Any = shop(Session, open_stream)
    app.on_request_end(lambda scope: ended.append(scope.environ["PATH_INFO"]))

    with isolated():
        first = Exchange(app, path="/first").read()
        assert ended == ["/first"]
        Exchange(app, path="/dropped").read().drop()
        first.close()

    assert ended == ["/first", "/dropped"]


def test_a_response_of_the_declared_length_is_closed_as_a_server_does(Session: Any) -> None:
    """A client may take as much as was declared and no more, as Werkzeug's does."""
    ended: list[str] = []

    def declared(environ: Any, start_response: Any) -> Iterator[bytes]:
        all_words(environ["sqlalchemy.session"])
        answer(start_response, "200 OK", ("Content-Length", "1"))
        yield b"x"

    app = SessionMiddleware(declared, Session)
    app.on_request_end(lambda scope: ended.append(scope.environ["PATH_INFO"]))

    with isolated() as isolation:
        first = Exchange(app, path="/first")
        first.step()
        assert ended == []
        second = Exchange(app, path="/second")
        second.step()
        assert ended == ["/first"]
        isolation.check()
        assert ended == ["/first", "/second"]
        dropped = Exchange(app, path="/dropped")
        dropped.step()
        dropped.drop()


def open_stream(session: Any) -> Iterator[bytes]:
    """Read, and go on."""
    all_words(session)
    yield b"x"
    yield b"y"


def test_a_response_that_was_dropped_is_named(Session: Any) -> None:
    """One that is collected without having been closed, too."""

    def stream(session: Any) -> Iterator[bytes]:
        yield ",".join(all_words(session)).encode()

    with pytest.raises(IsolationError, match="GET /dropped was never closed"), isolated():
        exchange = Exchange(shop(Session, stream), path="/dropped")
        exchange.step()
        with pytest.warns(ResourceWarning, match="never closed"):
            del exchange  # and so the response


def test_a_response_that_is_open_may_not_be_in_the_way(Session: Any) -> None:
    """One that has written, and is not closed, is named when the next request begins."""

    def stream(session: Any) -> Iterator[bytes]:
        session.execute(insert(Word).values(text="ada"))
        yield b"x"

    with isolated() as isolation:
        left = Exchange(shop(Session, stream), path="/left")
        left.step()
        with pytest.raises(IsolationError, match="GET /left was never closed"):
            request(shop(Session))
        left.close()
        with pytest.raises(IsolationError):
            isolation.check()


def test_responses_that_read_may_interleave(Session: Any) -> None:
    """Two responses that are open at once, and only read, do not disturb each other nor what is committed meanwhile."""

    def stream(session: Any) -> Iterator[bytes]:
        yield from (word.encode() for word in all_words(session))
        yield from (word.encode() for word in all_words(session))

    with isolated() as isolation:
        session = isolation.session(Session)
        add_words(session, "ada")
        session.commit()
        first = Exchange(shop(Session, stream))
        first.step()
        assert text_of(shop(Session), "POST", "/bob") == "ada,bob"
        first.read()
        first.close()
        assert first.chunks == [b"ada", b"ada", b"bob"]
        assert text_of(shop(Session)) == "ada,bob"


def test_a_connection_that_is_not_given_back_is_named(engine: Engine) -> None:
    """The request that has taken a connection, and the line, are named."""
    kept = []

    def take(session: Any) -> None:
        session.rollback()
        kept.append(engine.connect())

    engine = create_engine(engine.url, poolclass=NullPool)
    message = r"GET /take has taken a connection at tests/test_testing_isolated.py:\d+"
    with pytest.raises(IsolationError, match=message), isolated():
        request(shop(registry_on(engine), take), path="/take")

    kept[0].close()


def test_a_block_in_a_request_may_commit(Session: Any) -> None:
    """A `session_scope` inside of a request commits for itself, and both commits stay."""

    def audit(session: Any) -> None:
        session.flush()
        with session_scope(Session) as own:
            add_words(own, "audit")

    with isolated():
        assert text_of(shop(Session, audit), "POST", "/ada") == "ada,audit"
        assert text_of(shop(Session)) == "ada,audit"


def test_a_rollback_that_undoes_the_commit_of_another_is_an_error(Session: Any) -> None:
    """What a block has committed inside of a request stays in production; here a rollback takes it, which is said."""

    def fail(session: Any) -> None:
        session.flush()
        with session_scope(Session) as own:
            add_words(own, "audit")
        session.rollback()

    with pytest.raises(IsolationError, match=r"rollback of .*POST /ada.* has undone .*block"), isolated():
        request(shop(Session, fail), "POST", "/ada")


def test_a_block_that_is_left_open_is_named(Session: Any) -> None:
    """A `session_scope` that nobody leaves is a leak as a response is."""
    block = session_scope(Session)

    with pytest.raises(IsolationError, match="A session_scope"), isolated():
        all_words(block.__enter__())

    block.__exit__(None, None, None)


def test_a_connection_that_is_lost_is_named(engine: Engine) -> None:
    """So is the database that has gone away."""
    with pytest.raises(IsolationError, match="was lost"), isolated() as isolation:
        session = isolation.session(registry_on(engine))
        add_words(session, "ada")
        session.commit()
        session.connection().invalidate()


def test_a_session_that_is_no_registrys_is_left_alone(engine: Engine) -> None:
    """A session that somebody has made by hand goes to the database itself, and so may not commit."""
    with isolated() as isolation, SQLAlchemySession(engine) as by_hand:
        assert all_words(by_hand) == []
        by_hand.rollback()
        assert all_words(isolation.session(registry_on(engine))) == []


def test_leaks_can_be_asked_for_at_any_time(Session: Any) -> None:
    """Each is told once."""
    with isolated() as isolation:
        left = Exchange(shop(Session, open_stream), path="/left")
        left.step()
        with pytest.raises(IsolationError, match="GET /left"):
            isolation.check()
        isolation.check()
    left.close()


def test_blocks_are_not_nested(Session: Any) -> None:
    """There is one block at a time, and after an error another can be made."""
    with isolated(), pytest.raises(RuntimeError, match="cannot be nested"), isolated():
        pass

    with isolated():
        pass


def test_only_a_registry_makes_sessions(engine: Engine) -> None:
    """The test's own session is of the kind that the application's are."""
    with isolated() as isolation, pytest.raises(TypeError, match="takes a registry"):
        isolation.session(sessionmaker(engine))  # type: ignore[arg-type]


def test_factories_find_the_session_of_the_test(Session: Any) -> None:
    """A factory that is made at import finds the session of the test that runs."""
    with pytest.raises(RuntimeError, match="no session of its own"):
        isolated_session()

    with isolated() as isolation:
        session = isolation.session(Session)
        assert isolated_session() is session


def test_nothing_is_left_listening(Session: Any, engine: Engine) -> None:
    """After the block the application is as it was: it commits for real."""
    with isolated():
        request(shop(Session), "POST", "/gone")

    request(shop(Session), "POST", "/kept")

    assert words(engine) == ["kept"]


def test_a_block_of_the_test_that_only_reads_is_not_in_the_way(Session: Any) -> None:
    """A transaction that the test has begun by hand goes on, and its end undoes nothing of what was committed."""
    with isolated() as isolation:
        own = isolation.session(Session)
        with own.begin():
            assert all_words(own) == []
            assert text_of(shop(Session), "POST", "/ada") == "ada"
            own.rollback()
        assert all_words(own) == ["ada"]


def test_a_session_that_has_written_by_hand_is_in_the_way(Session: Any) -> None:
    """What one session has written, a session of another scope would not see in production."""
    message = "has written. In production the session of <Scope of block"
    with isolated() as isolation:
        with session_scope(Session) as outer, session_scope(Session) as inner:
            add_words(inner, "ada")
            inner.flush()
            with pytest.raises(IsolationError, match=message):
                all_words(outer)
        with pytest.raises(IsolationError):
            isolation.check()
