"""A session before its first touch, and after its end.

Building a `Session` costs a few microseconds; most requests for a static page or an error never need it. So what a
request is given at first is *unbuilt*: an instance of a subclass of the real class, allocated without ``__init__``,
that becomes the real thing as soon as anything is read from it. At the end it becomes *ended*: an
instance of another such subclass, from which only ``close()`` can be had.

An unbuilt session can be written to: what was written is in its ``__dict__``, and written again when it has been built,
which is when anything is first read. So a scope can leave its mark on it by a plain store, and change its class, at a
tenth of the price of ``object.__setattr__``.

Both subclasses are made by ``type.__new__``, so that neither a metaclass nor an ``__init_subclass__`` of the user's is
run for them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MemberDescriptorType, SimpleNamespace
from typing import Any, Generic, NoReturn, Protocol, SupportsIndex, TypeVar

from sqlalchemy.orm import Session, sessionmaker

from ..errors import ScopeEndedError
from . import dispatch

S = TypeVar("S", bound=Session)

OnBuild = Callable[[S, Any], None]
"""Told of a session that has just been built, and of the owner that it was made for."""


class Owner(Protocol):
    """What sessions are made for, such as a scope."""

    def completed(self, source: SessionSource[Any], kw: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments with which *source* builds a session, which is asked for with *kw*."""
        ...


class Unbuilt:
    """What becomes a session on first touch."""

    def __init_subclass__(cls) -> None:
        """Keep the ``__init_subclass__`` of users' session classes from running."""


class Ended:
    """What was a session until its scope ended."""

    def __init_subclass__(cls) -> None:
        """Keep the ``__init_subclass__`` of users' session classes from running."""

    def __getattribute__(self, name: str) -> Any:
        """Refuse everything but what Python itself asks for."""
        if name == "__class__":
            return type(self)._wsgi_session_real  # type: ignore[attr-defined]  # noqa: SLF001  # its form has it
        if name.startswith("__") or name == "close":
            return object.__getattribute__(self, name)
        raise _ended()

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse."""
        raise _ended()

    def __delattr__(self, name: str) -> None:
        """Refuse."""
        raise _ended()

    def __enter__(self) -> NoReturn:
        """Refuse."""
        raise _ended()

    def __exit__(self, *exc_info: object) -> None:
        """Leave a block that was entered while the session lived."""

    def close(self) -> None:
        """Do nothing: everything has been closed."""


OWNER = "_wsgi_session_owner"
"""The attribute of an unbuilt session that refers to what it was made for."""

_REAL = "_wsgi_session_real"
"""The attribute of a form that is the session class it was derived from."""


def is_built(session: Session) -> bool:
    """Say whether *session* has been touched and has not ended, without touching it: else it shows another class."""
    return type(session) is session.__class__


def attributes_of(session: Session) -> dict[str, Any]:
    """Return the ``__dict__`` of *session*, without touching it."""
    attributes: dict[str, Any] = object.__getattribute__(session, "__dict__")
    return attributes


class Forms(Generic[S]):
    """The unbuilt and the ended form of one session class.  Lives as long as the source that uses it."""

    __slots__ = ("dispatch", "ended", "has_usual_info", "real", "unbuilt", "unset")

    dispatch: Any
    """One such as each session of the class has; None until the first is built, which settles what events there are."""

    unset: dict[str, None]
    """What the ``__dict__`` of a session has before its ``__init__``: the names of what that will set.

    They spare it to grow by one name at a time. Nobody is misled by a None in it, for SQLAlchemy does not read what it
    has not set, and nobody else's code runs meanwhile: a class where it would has no such names.
    """

    def __init__(self, real: type[S], build: Callable[[S], None]) -> None:
        """Derive both forms from *real*.

        Args:
            real: A session class.
            build: Turns an unbuilt session into a built one, in place.
        """
        self.dispatch = None
        self.has_usual_info: bool = real.info is Session.info
        self.real: type[S] = real
        self.unbuilt: type[S] = _subclass(Unbuilt, real, _building(build, real))
        self.unset = _unset(real)
        self.ended: type[S] = _subclass(Ended, real, _finalizing(real))


class SessionSource(Generic[S]):
    """Makes the sessions of one ``session_factory``.  Lives as long as its registry.

    Scopes know a registry by this object.
    """

    __slots__ = ("_forms_of_classes", "_on_build", "_on_class", "forms", "session_factory")

    forms: Forms[S] | None
    """The forms of its sessions before their first touch and after their end; None if they are built at once."""

    def __init__(
        self, session_factory: Callable[..., S], on_class: Callable[[type[S]], None], on_build: OnBuild[S]
    ) -> None:
        """Look at what *session_factory* makes, and whether it can be made later.

        Args:
            session_factory: A `sessionmaker`, or anything else that returns sessions.
            on_class: Told of the class of its sessions, before the first ``__init__`` if a `sessionmaker` names it.
            on_build: Told of each session that has been built; the session is not built if it raises.
        """
        self.session_factory: Callable[..., S] = session_factory
        self._on_class = on_class
        self._on_build = on_build
        self._forms_of_classes: dict[type[S], Forms[S]] = {}
        self.forms = None
        if isinstance(session_factory, sessionmaker):
            on_class(session_factory.class_)
            if _can_wait(session_factory):
                self.forms = self._forms_of(session_factory.class_)

    def make(self, owner: Owner) -> S:
        """Make a session for *owner*, unbuilt where that is possible."""
        forms = self.forms
        if forms is None:
            return self.make_now(owner)
        session = forms.unbuilt()
        session._wsgi_session_owner = owner  # type: ignore[attr-defined]  # noqa: SLF001
        return session

    def make_now(self, owner: Owner | None, **kw: Any) -> S:
        """Make a session for *owner* that is built."""
        if owner is not None:
            kw = owner.completed(self, kw)
        session = self.session_factory(**kw)
        self._on_class(type(session))
        self._on_build(session, owner)
        return session

    def build(self, session: S, **kw: Any) -> None:
        """Turn an unbuilt *session* into the real one, by the `sessionmaker` as it is now.

        Args:
            session: The session.  If its owner or its ``__init__`` raises, it is unbuilt again.
            **kw: Arguments for the `sessionmaker`, beside its own.
        """
        forms = self.forms
        assert forms is not None
        attributes: dict[str, Any] = object.__getattribute__(session, "__dict__")
        kw = attributes[OWNER].completed(self, kw)
        owner = attributes.pop(OWNER)
        written = attributes.copy() if attributes else None
        attributes.clear()
        attributes.update(forms.unset)
        if forms.has_usual_info:
            attributes["info"] = {}  # where `Session.info` would put it, at the price of a look-up of its own
        session.__class__ = forms.real
        if forms.dispatch is None:
            forms.dispatch = dispatch.of_class(forms.real)
        dispatch.share(forms.dispatch, session.dispatch)  # before __init__, which may listen to what it makes
        try:
            if kw:
                self._initialize_with(session, kw)
            else:
                session.__init__(**self.session_factory.kw)  # type: ignore[attr-defined, misc]
            self._on_build(session, owner)
        except BaseException:
            self.unbuild(session, owner)
            raise
        finally:
            if written:
                attributes.update(written)

    def unbuild(self, session: S, owner: Owner) -> bool:
        """Make a *session* that is closed unbuilt again.

        Returns:
            Whether that is possible for a session of its class.
        """
        if self.forms is None:
            return False
        attributes_of(session).clear()
        object.__setattr__(session, "__class__", self.forms.unbuilt)
        session._wsgi_session_owner = owner  # type: ignore[attr-defined]  # noqa: SLF001
        return True

    def end(self, session: S) -> None:
        """Make of *session* one that refuses every use."""
        forms, kind = self.forms, type(session)
        if forms is not None and kind is forms.real:
            session.__class__ = forms.ended
        elif forms is not None and kind is forms.unbuilt:
            session._wsgi_session_owner = None  # type: ignore[attr-defined]  # noqa: SLF001
            session.__class__ = forms.ended
        else:
            object.__setattr__(session, "__class__", self._forms_of(kind).ended)

    def _initialize_with(self, session: S, kw: dict[str, Any]) -> None:
        """Do as ``sessionmaker.__call__`` does, which merges the arguments, to the session that is there."""
        own = self.session_factory.kw  # type: ignore[attr-defined]
        sessionmaker.__call__(SimpleNamespace(kw=own, class_=session.__init__), **kw)  # type: ignore[arg-type, misc]

    def _forms_of(self, real: type[S]) -> Forms[S]:
        if real not in self._forms_of_classes:
            self._forms_of_classes[real] = Forms(real, self.build)
        return self._forms_of_classes[real]


_BUILT_AT_ONCE = ("__new__", "__del__", "__getattribute__", "__setattr__", "__delattr__")
"""What a session class may not define, to be built on first touch; nor may it have slots: ``__dict__`` lacks them."""


def _can_wait(session_factory: sessionmaker[Any]) -> bool:
    """Say whether nobody can tell a session that is built later: all is as SQLAlchemy wrote it."""
    real = session_factory.class_
    return (
        type(session_factory).__call__ is sessionmaker.__call__
        and type(real).__call__ is type.__call__
        and not any(name in vars(base) for base in real.__mro__[:-1] for name in _BUILT_AT_ONCE)
        and not any(isinstance(value, MemberDescriptorType) for base in real.__mro__ for value in vars(base).values())
    )


_READ_BY_INIT = ("__getattr__", "__init__", "_add_bind", "execution_options", "info")
"""What ``Session.__init__`` may run, beside the setters of what it sets, where a session class defines it."""


def _unset(real: type[Session]) -> dict[str, None]:
    names = tuple(vars(Session()))
    own = {name for base in real.__mro__ if base not in Session.__mro__ for name in vars(base)}
    return dict.fromkeys(names) if own.isdisjoint((*names, *_READ_BY_INIT)) else {}


def _subclass(first: type, real: type[S], namespace: dict[str, Any]) -> type[S]:
    """Derive from *real* what behaves as *first* says.

    By *first* as a base where *real* has an ``__init_subclass__`` of its own, which must not run, else by its methods:
    a second base may give the class another memory layout, if the first one of *real* has empty ``__slots__``.
    """
    named = {"__module__": real.__module__, "__qualname__": real.__qualname__, "__doc__": real.__doc__, _REAL: real}
    if any("__init_subclass__" in vars(base) for base in real.__mro__[:-1] if base is not Generic):
        return type.__new__(type(real), real.__name__, (first, real), named | namespace)
    methods = {name: value for name, value in vars(first).items() if callable(value)}
    return type.__new__(type(real), real.__name__, (real,), methods | named | namespace)


def _building(build: Callable[[S], None], real: type[S]) -> dict[str, Any]:
    def __getattribute__(self: S, name: str) -> Any:
        if name == "__class__":
            return real
        build(self)
        return getattr(self, name)

    def __reduce_ex__(self: S, protocol: SupportsIndex) -> Any:
        build(self)
        return self.__reduce_ex__(protocol)

    return {"__init__": object.__init__, "__getattribute__": __getattribute__, "__reduce_ex__": __reduce_ex__}


def _finalizing(real: type[S]) -> dict[str, Any]:
    """Give a class with a ``__del__`` its attributes' class back for it, for it reads them."""
    if not hasattr(real, "__del__"):
        return {}

    def __del__(self: S) -> None:
        object.__setattr__(self, "__class__", real)
        real.__del__(self)  # type: ignore[attr-defined]

    return {"__del__": __del__}


def _ended() -> ScopeEndedError:
    return ScopeEndedError(
        "This session's scope has ended: its request is over, or its block was left."
        " Objects that it loaded can still be read; for anything else"
        " open a scope of your own with 'with session_scope(...)'."
    )
