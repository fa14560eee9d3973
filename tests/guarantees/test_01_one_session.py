"""Guarantee 1: one request, one session."""

from __future__ import annotations

import abc
import copy
import threading
from collections.abc import Callable, Iterator
from inspect import isfunction
from typing import Any, Generic, TypeVar

import pytest
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.event.base import dispatcher
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import SessionEvents, object_session, scoped_session, sessionmaker

from tests.helpers import Exchange, Word, add_words, all_words, answer, both_ways, request, words
from wsgi_session import (
    RequestScopedSession,
    ScopeEndedError,
    SessionMiddleware,
    current_scope,
    never,
    on_success,
    session_of,
    session_scope,
    until_close,
)

KEY = "sqlalchemy.session"

T = TypeVar("T")


@pytest.mark.parametrize("commit", [until_close, on_success, never])
def test_every_way_of_asking_returns_the_same_object(Session: Any, commit: Any) -> None:
    """Environ, registry call and proxy are one session: in the handler, in ``next()``, in ``close()``."""
    seen: list[object] = []

    class Body:
        def __init__(self, environ: Any) -> None:
            self.environ, self.left = environ, 2

        def __iter__(self) -> Iterator[bytes]:
            seen.append(Session())
            return self

        def __next__(self) -> bytes:
            seen.extend([self.environ[KEY], Session()])
            self.left -= 1
            if self.left < 0:
                raise StopIteration
            return b"x"

        def close(self) -> None:
            seen.extend([self.environ[KEY], Session()])

    def app(environ: Any, start_response: Any) -> Any:
        seen.extend([environ[KEY], Session(), object_session(Session.merge(Word(id=1, text="x")))])
        answer(start_response)
        return Body(environ)

    for wrapped in both_ways(app, Session, commit=commit):
        seen.clear()

        request(wrapped)

        assert len(seen) > 10
        assert len({id(session) for session in seen}) == 1


def test_on_whatever_thread_a_step_runs(Session: Any) -> None:
    """Call, ``next()`` and ``close()`` on three threads see one session."""
    seen: list[object] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(Session())
        answer(start_response)

        def body() -> Iterator[bytes]:
            try:
                seen.append(Session())
                yield b"x"
                seen.append(Session())
                yield b"y"
            finally:
                seen.append(Session())

        return body()

    exchange = on_thread(lambda: Exchange(SessionMiddleware(app, Session)))
    on_thread(exchange.step)
    on_thread(exchange.step)
    on_thread(exchange.close)

    assert len(seen) == 4
    assert len({id(session) for session in seen}) == 1


def test_the_session_is_a_real_one(Session: Any) -> None:
    """What is in the environ is an instance of the `sessionmaker`'s class, and after the touch exactly that."""
    real = Session.session_factory.class_
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        seen.extend([isinstance(session, SQLAlchemySession), isinstance(session, real), session.__class__ is real])
        seen.append(type(session) is real)
        session.execute(text("SELECT 1"))
        seen.append(type(session) is real)
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert seen == [True, True, True, False, True]


def test_to_read_from_it_builds_it(Session: Any) -> None:
    """The first attribute that is read is that of a session which has been built."""

    def app(environ: Any, start_response: Any) -> Any:
        assert environ[KEY].autoflush
        assert type(environ[KEY]) is Session.session_factory.class_
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))


def test_what_was_written_first_is_there_when_it_is_built(Session: Any) -> None:
    """What was set before the first touch holds, as if it had been set after it; what was deleted again does not."""

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        session.autoflush = False
        session.expire_on_commit = False
        del session.expire_on_commit
        with pytest.raises(AttributeError, match="nothing_of_the_kind"):
            del session.nothing_of_the_kind
        assert not session.autoflush
        assert session.expire_on_commit
        assert type(session) is Session.session_factory.class_
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))


def test_a_replaced_session_of_a_registry_that_no_middleware_was_given(new_engine: Any) -> None:
    """Its ``remove()`` makes another session in the request's scope, which ends both."""

    class Counted(SQLAlchemySession):
        def __del__(self) -> None:
            pass

    own = RequestScopedSession(sessionmaker(new_engine()))
    others = [RequestScopedSession(sessionmaker(new_engine(), class_=Counted)) for _ in range(2)]
    given: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        for other in others:
            given.append(other())
            other.remove()
            given.append(other())
        assert others[0]() is given[1]
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, own))

    assert len({id(session) for session in given}) == 4
    for session in given:
        with pytest.raises(RuntimeError, match="ended"):
            session.execute(text("SELECT 1"))


def test_close_in_mid_request(Session: Any, engine: Engine) -> None:
    """``close()`` and ``with Session() as s:`` mean what SQLAlchemy says: the session can be used again."""
    seen: list[object] = []

    def app(environ: Any, start_response: Any) -> Any:
        for word in ("a", "b"):
            with Session() as session:
                seen.append(session)
                add_words(session, word)
                session.commit()
        environ[KEY].close()
        seen.extend([Session(), environ[KEY], dict(environ)[KEY]])
        add_words(Session, "c")
        Session.commit()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert len({id(session) for session in seen}) == 1
    assert words(engine) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda Session, environ: Session(), id="registry"),
        pytest.param(lambda Session, environ: session_of(environ, Session), id="session_of"),
    ],
)
def test_who_asks_the_registry_first(ask: Any, Session: Any, engine: Engine) -> None:
    """The session that is given to the first who asks is the one of the environ, before it is built and afterwards."""

    def app(environ: Any, start_response: Any) -> Any:
        unbuilt = environ[KEY]
        session = ask(Session, environ)
        assert session is unbuilt
        session.add(Word(text="ada"))
        assert type(session) is Session.session_factory.class_
        assert environ[KEY] is session is Session() is session_of(environ, Session)
        session.commit()
        answer(start_response)
        return iter([b"x"])

    for wrapped in both_ways(app, Session):
        request(wrapped)

    assert words(engine) == ["ada", "ada"]


@pytest.mark.parametrize(
    "hold",
    [
        pytest.param(lambda environ: [environ[KEY]], id="session"),
        pytest.param(lambda environ: [*dict(environ).values()], id="environ"),
    ],
)
def test_who_has_the_session_before_it_is_built(hold: Any, Session: Any) -> None:
    """What somebody has got from the environ, or has a copy of, stays the session of the request."""

    def app(environ: Any, start_response: Any) -> Any:
        held = hold(environ)
        session = Session()
        assert session is environ[KEY]
        assert any(one is session for one in held)
        all_words(session)
        answer(start_response)
        return []

    request(SessionMiddleware(app, Session))


def test_an_environ_that_has_something_else(Session: Any) -> None:
    """What the application has put in the place of the session stays there."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY] = "mine"
        all_words(Session())
        assert environ[KEY] == "mine"
        answer(start_response)
        return []

    request(SessionMiddleware(app, Session))


def test_a_block_whose_session_nobody_names(Session: Any, engine: Engine) -> None:
    """The registry has one session in it, which is committed."""
    with session_scope(Session):
        Session().add(Word(text="ada"))
        assert Session() is Session()

    assert words(engine) == ["ada"]


def test_after_remove_the_same_object_is_unbuilt_again(Session: Any, engine: Engine) -> None:
    """After ``remove()`` the session is built anew at the next touch, by the `sessionmaker` as it is then."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        before, copy = environ[KEY], dict(environ)
        add_words(before, "lost")
        Session.remove()
        seen.append(Session.registry.has())
        Session.configure(info={"tenant": 7})
        add_words(before, "kept")
        seen.extend([Session() is before, environ[KEY] is before, copy[KEY] is before, before.info["tenant"]])
        Session.commit()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert seen == [False, True, True, True, 7]
    assert words(engine) == ["kept"]


def test_a_session_that_cannot_be_unbuilt_is_replaced(engine: Engine) -> None:
    """Where a class has a ``__del__``, ``remove()`` puts another session in its place, in the environ, too."""

    class Counted(SQLAlchemySession):
        def __del__(self) -> None:
            pass

    Session = RequestScopedSession(sessionmaker(engine, class_=Counted))
    given: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        given.append(environ[KEY])
        assert type(environ[KEY]) is Session.session_factory.class_
        all_words(Session)
        Session.remove()
        given.append(environ[KEY])
        assert Session() is environ[KEY]
        given[0].execute(text("SELECT 1"))
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert given[0] is not given[1]
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    for session in given:
        with pytest.raises(RuntimeError, match="ended"):
            session.execute(text("SELECT 1"))


def test_arguments_build_an_unbuilt_session(Session: Any) -> None:
    """``Session(**kw)`` builds an unbuilt session with them, and is SQLAlchemy's error on one that is built."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        seen.append(Session(expire_on_commit=False) is session)
        seen.append(session.expire_on_commit)
        with pytest.raises(InvalidRequestError, match="already present"):
            Session(expire_on_commit=True)
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert seen == [True, False]


def test_late_configuration(engine: Engine) -> None:
    """``Session.configure(bind=...)`` works before and after the middleware was built."""
    Session = RequestScopedSession(sessionmaker())

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return [repr(all_words(environ[KEY])).encode()]

    app = SessionMiddleware(app, Session)
    Session.configure(bind=engine)

    assert request(app).body == b"[]"


def plain(value: Any) -> Any:
    """Return what can be compared of an attribute: one that belongs to a single session is known by its class."""
    return value if isinstance(value, bool | str | type | None | Engine) else type(value)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"autoflush": False, "expire_on_commit": False, "twophase": True, "autobegin": False},
        {"info": {"from": "the factory"}, "join_transaction_mode": "control_fully"},
        {"binds": {Word: create_engine("sqlite://")}},
        {"execution_options": {"populate_existing": True}} if hasattr(SQLAlchemySession, "execution_options") else {},
    ],
    ids=["none", "flags", "info", "binds", "options of 2.1"],
)
def test_it_has_the_attributes_of_a_session_made_by_hand(arguments: dict[str, Any], engine: Engine) -> None:
    """A session that was built on first touch has what one made by hand has, in the same ``__dict__``, and no more."""
    factory = sessionmaker(engine, **arguments)
    Session: Any = RequestScopedSession(factory)
    by_hand = factory()
    assert by_hand.info is by_hand.info  # both have asked
    assert by_hand.dispatch is by_hand.dispatch

    with session_scope(Session, commit=False) as session:
        session.autoflush  # noqa: B018  # the first touch
        found = {name: plain(value) for name, value in vars(session).items()}
        assert found == {name: plain(value) for name, value in vars(by_hand).items()}
        assert {key: value for key, value in session.info.items() if key in by_hand.info} == by_hand.info


def events() -> list[str]:
    """List the names of the events of a session."""
    return [name for name, value in vars(SessionEvents).items() if isfunction(value) and not name.startswith("_")]


def test_it_has_the_listeners_of_a_session_made_by_hand(engine: Engine) -> None:
    """Who listens to which event is the same, whatever it was listened to: the class, `Session`, the factory."""
    factory = sessionmaker(engine)
    Session: Any = RequestScopedSession(factory)
    by_hand = factory()

    with session_scope(Session, commit=False) as session:
        session.autoflush  # noqa: B018  # the first touch
        kept = session.dispatch
        assert len(events()) > 20
        for name in events():
            # what a slot has without its being asked for, and what asking finds for a session of the same class
            assert type(kept).__dict__[name].__get__(kept) is getattr(by_hand.dispatch, name)


@pytest.mark.parametrize("target", ["Session", "the factory", "the class"])
def test_who_listens_later_hears_all_sessions(target: str, engine: Engine) -> None:
    """A listener that comes when there are sessions already hears them, and those to come."""
    factory = sessionmaker(engine)
    Session: Any = RequestScopedSession(factory)
    targets: dict[str, Any] = {"Session": SQLAlchemySession, "the factory": factory, "the class": factory.class_}
    heard: list[Any] = []

    with session_scope(Session) as session:
        session.autoflush  # noqa: B018  # the first touch
        event.listen(targets[target], "after_transaction_create", listen := lambda session, *_: heard.append(session))
        session.begin()
        with session_scope(Session) as later:
            later.begin()
        assert heard == [session, later]
    event.remove(targets[target], "after_transaction_create", listen)
    with session_scope(Session) as last:
        last.begin()
    assert len(heard) == 2


@pytest.mark.parametrize("class_", [SQLAlchemySession, "listening"])
def test_who_listens_to_one_session_hears_no_other(class_: Any, engine: Engine) -> None:
    """A listener to one session, also one that its ``__init__`` has set, is that session's alone."""
    heard: list[Any] = []

    def hear(session: Any, *_: Any) -> None:
        heard.append(session)

    class Listening(SQLAlchemySession):
        def __init__(self, **kw: Any) -> None:
            super().__init__(**kw)
            if not heard:
                event.listen(self, "after_transaction_create", hear)

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Listening if class_ == "listening" else class_))
    with session_scope(Session) as first:
        if class_ is SQLAlchemySession:
            event.listen(first, "after_transaction_create", hear)
        first.begin()
        with session_scope(Session) as second:
            second.begin()

    assert heard == [first]


def test_a_session_class_with_events_of_its_own(engine: Engine) -> None:
    """What another package has made of the events of its session class stays as it is."""

    class OwnEvents(SessionEvents):
        _dispatch_target = None

        def after_tea(self, session: Any) -> None: ...

    class Own(SQLAlchemySession):
        dispatch = dispatcher(OwnEvents)  # type: ignore[assignment]

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Own))
    with session_scope(Session) as session:
        session.execute(text("SELECT 1"))
        assert not session.dispatch.after_tea


def test_a_session_whose_init_raises_is_unbuilt_again(engine: Engine) -> None:
    """If ``__init__`` raises, the caller sees it, and the next touch tries again."""
    attempts: list[int] = []

    class Fussy(SQLAlchemySession):
        def __init__(self, **kw: Any) -> None:
            attempts.append(1)
            if len(attempts) == 1:
                raise ValueError("not yet")
            super().__init__(**kw)

    Session = RequestScopedSession(sessionmaker(engine, class_=Fussy))

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        with pytest.raises(ValueError, match="not yet"):
            session.in_transaction()
        assert Session() is session
        answer(start_response)
        return [repr(all_words(session)).encode()]

    assert request(SessionMiddleware(app, Session)).body == b"[]"


def test_a_session_that_cannot_be_built_for_the_registry(engine: Engine) -> None:
    """If it cannot be built, who uses it sees the error, and the next one gets a session."""
    factory: Any = sessionmaker(engine, nonsense=True)
    Session = RequestScopedSession(factory)

    def app(environ: Any, start_response: Any) -> Any:
        session = Session()
        with pytest.raises(TypeError, match="nonsense"):
            session.begin()
        del factory.kw["nonsense"]
        assert session is Session() is environ[KEY]
        answer(start_response)
        return [repr(all_words(session)).encode()]

    assert request(SessionMiddleware(app, Session)).body == b"[]"


def test_what_runs_while_a_session_is_built_may_ask_for_it(engine: Engine) -> None:
    """An ``__init__`` that calls the registry gets the session that it is of, whoever has asked first."""

    class Asking(SQLAlchemySession):
        def __init__(self, **kw: Any) -> None:
            super().__init__(**kw)
            self.found = Session()

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Asking))

    def app(environ: Any, start_response: Any) -> Any:
        assert Session().found is Session() is environ[KEY]
        answer(start_response)
        return []

    request(SessionMiddleware(app, Session))


def test_what_the_factory_says_is_there_at_once(engine: Engine) -> None:
    """The first thing that is read of a session may be its ``info``, which its class has, too."""
    Session = RequestScopedSession(sessionmaker(engine, info={"tenant": 7}))
    with session_scope(Session) as session:
        assert session.info["tenant"] == 7
        assert type(session).info is SQLAlchemySession.info


def test_a_listener_to_an_untouched_session(Session: Any) -> None:
    """It is told of what happens in it later."""
    told: list[Any] = []
    with session_scope(Session, commit=False) as session:
        event.listen(session, "after_begin", lambda *arguments: told.append(arguments[0]))
        session.execute(text("SELECT 1"))
        assert told == [session]


def test_a_default_that_init_overwrites(engine: Engine) -> None:
    """What ``__init__`` sets is what is read first, also where the class has a default of the same name."""

    class WithDefault(SQLAlchemySession):
        tenant = "nobody"

        def __init__(self, **kw: Any) -> None:
            super().__init__(**kw)
            self.tenant = "ada"

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=WithDefault))
    with session_scope(Session) as session:
        assert session.tenant == "ada"


def test_attributes_that_a_class_computes(engine: Engine) -> None:
    """A ``__getattr__`` of the user's is asked for what is missing, and an error in a property is its own."""

    class Computing(SQLAlchemySession):
        @property
        def tenant(self) -> str:
            return self.info["no tenant"].name  # type: ignore[no-any-return]

        def __getattr__(self, name: str) -> str:
            if name.startswith("the_"):
                return f"{name} of {self.autoflush}"
            raise AttributeError(f"nothing called {name}")

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Computing))
    for session in (Session.session_factory(), Session.session_factory.class_(engine)):
        assert session.the_tea == "the_tea of True"
    with session_scope(Session) as session:
        assert session.the_tea == "the_tea of True"
        with pytest.raises(AttributeError, match="nothing called coffee"):
            session.coffee  # noqa: B018
        with pytest.raises(KeyError, match="no tenant"):
            session.tenant  # noqa: B018


def test_an_error_in_a_property_of_a_class(engine: Engine) -> None:
    """It is the property's own, though Python looks elsewhere for the attribute first."""

    class Unfinished(SQLAlchemySession):
        @property
        def tenant(self) -> str:
            raise AttributeError("unfinished")

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Unfinished))
    with session_scope(Session) as session, pytest.raises(AttributeError, match="unfinished"):
        session.tenant  # noqa: B018


def test_what_was_written_first_is_gone_after_remove(Session: Any) -> None:
    """``remove()`` forgets what was written to a session before it was read, as what was written after."""
    with session_scope(Session) as session:
        session.tenant = "ada"
        Session.remove()

        assert not hasattr(session, "tenant")


def test_a_copy_of_an_untouched_session(Session: Any) -> None:
    """It is the copy of a session that has been built, also where Python asks the class (3.13) and not the session."""
    with session_scope(Session) as session:
        assert copy.copy(session).is_active
    with session_scope(Session) as session:
        _, (real, *_), *_ = type(session).__reduce_ex__(session, 4)
        assert real is Session.session_factory.class_


def test_a_slot_that_is_written_first(engine: Engine) -> None:
    """What was written to a session before it was read is there also if it is in a slot, which ``__init__`` sets."""

    class WithDefault(Slotted):
        def __init__(self, **kw: Any) -> None:
            self.tenant = None
            super().__init__(**kw)

    Registry = RequestScopedSession(sessionmaker(engine, class_=WithDefault))
    with session_scope(Registry) as session:
        session.tenant = "ada"

        assert session.tenant == "ada"
        Registry.remove()
        assert Registry().tenant is None


class Slotted(SQLAlchemySession):
    """Has ``__slots__``."""

    __slots__ = ("tenant",)


class Slotless:
    """A mixin with empty ``__slots__``."""

    __slots__ = ()


class Abstract(abc.ABC, SQLAlchemySession):
    """Has a mixin first, and a metaclass."""


class OfTenant(Generic[T], SQLAlchemySession):
    """Has a generic first."""


class Mixed(Slotless, SQLAlchemySession):
    """Has a mixin first."""


class MixedAndBuiltAtOnce(Slotless, SQLAlchemySession):
    """Has a mixin first, and sets attributes in its own way."""

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


@pytest.mark.parametrize("kind", [Abstract, OfTenant, Mixed, MixedAndBuiltAtOnce])
def test_a_mixin_before_the_session(kind: Any, engine: Engine) -> None:
    """A session class may have a mixin first: its sessions are used and ended like any."""
    with session_scope(RequestScopedSession(sessionmaker(engine, class_=kind))) as session:
        assert all_words(session) == []

    with pytest.raises(ScopeEndedError):
        all_words(session)


class WithInit(SQLAlchemySession):
    """Has an ``__init__`` and a property of its own."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.created = [1]

    @property
    def how_many(self) -> int:
        return len(self.created)


class Registering(SQLAlchemySession):
    """Registers its subclasses."""

    known: list[type] = []  # noqa: RUF012

    def __init_subclass__(cls, **kw: Any) -> None:
        Registering.known.append(cls)


class Meta(type):
    """Counts the classes it makes."""

    made: list[str] = []  # noqa: RUF012

    def __new__(cls, name: str, bases: Any, namespace: Any) -> Any:
        cls.made.append(name)
        return super().__new__(cls, name, bases, namespace)


class WithMeta(SQLAlchemySession, metaclass=Meta):
    """Has a metaclass."""


class WithDel(SQLAlchemySession):
    """Has a ``__del__`` that reads its own attributes."""

    deleted: list[object] = []  # noqa: RUF012

    def __del__(self) -> None:
        WithDel.deleted.append(self.autoflush)


class OwnCall(sessionmaker[Any]):
    """Makes sessions in its own way."""

    def __call__(self, **kw: Any) -> Any:
        session = super().__call__(**kw)
        session.info["made by"] = "OwnCall"
        return session


class WithNew(SQLAlchemySession):
    """Has a ``__new__``."""

    def __new__(cls, *args: Any, **kw: Any) -> Any:
        session = super().__new__(cls)
        session.__dict__["new"] = True
        return session


def _sqlmodel_session() -> type[SQLAlchemySession]:
    from sqlmodel import Session as SQLModelSession

    return SQLModelSession


FACTORIES: dict[str, Callable[[Engine], Any]] = {
    "init": lambda engine: sessionmaker(engine, class_=WithInit),
    "slots": lambda engine: sessionmaker(engine, class_=Slotted),
    "init_subclass": lambda engine: sessionmaker(engine, class_=Registering),
    "metaclass": lambda engine: sessionmaker(engine, class_=WithMeta),
    "del": lambda engine: sessionmaker(engine, class_=WithDel),
    "new": lambda engine: sessionmaker(engine, class_=WithNew),
    "own call": lambda engine: OwnCall(engine),
    "sqlmodel": lambda engine: sessionmaker(engine, class_=_sqlmodel_session()),
    "function": lambda engine: lambda **kw: SQLAlchemySession(engine, **kw),
}


@pytest.mark.parametrize("kind", FACTORIES)
@pytest.mark.parametrize("touched", [True, False])
def test_session_classes_of_users(kind: str, touched: bool, engine: Engine) -> None:
    """Whatever the session class, it is built, used, ended and collected as SQLAlchemy alone would have it."""
    factory = FACTORIES[kind](engine)
    known, made = len(Registering.known), len(Meta.made)
    Session: Any = RequestScopedSession(factory)
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        seen.append(session)
        if touched:
            add_words(session, kind)
            session.commit()
            session.remark = "mine"
            assert session.remark == "mine"
            del session.remark
            assert Session() is session
            assert kind != "init" or session.how_many == 1
            assert kind != "own call" or session.info["made by"] == "OwnCall"
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert words(engine) == ([kind] if touched else [])
    assert (len(Registering.known), len(Meta.made)) == (known, made)
    with pytest.raises(RuntimeError, match="ended"):
        seen[0].execute(text("SELECT 1"))
    WithDel.deleted.clear()
    seen.clear()
    assert WithDel.deleted == ([True] if kind == "del" else [])


def test_a_plain_scoped_session(engine: Engine) -> None:
    """A ``scoped_session(..., scopefunc=current_scope)``, as in SQLAlchemy's documentation, works too."""
    Session = scoped_session(sessionmaker(engine), scopefunc=current_scope)
    seen: list[bool] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(Session() is environ[KEY])
        add_words(Session, "a")
        Session.commit()
        Session.remove()
        seen.append(Session(autoflush=False) is environ[KEY])
        seen.append(environ[KEY].autoflush)
        Session.scalars(select(Word)).all()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert seen == [True, True, False]
    assert words(engine) == ["a"]
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def on_thread(function: Callable[[], Any]) -> Any:
    """Run *function* on a thread of its own and return what it returns."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join(timeout=10)
    return results[0]
