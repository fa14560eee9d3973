"""A session before its first touch, and after its end.

Building a `Session` costs a few microseconds; most requests for a static page or an error never need it. So what a
request is given at first is *unbuilt*: an instance of a subclass of the real class, allocated without ``__init__``,
that becomes the real thing as soon as anything is read from it. When its scope has ended it becomes *ended*: an
instance of another such subclass, from which only ``close()`` can be had. One that was never read becomes that when it
is: at the end it loses its owner, which is all that most requests pay for.

An unbuilt session can be written to: what was written is in its ``__dict__``, and written again when it has been built,
which is when anything is first read. So a scope can leave its mark on it by a plain store, and change its class, at a
tenth of the price of ``object.__setattr__``.

A session that has changed its class is slower as long as it lives, for its attributes are in a dictionary of their own
then; which one that is decides by how much (`Forms.blank`). Tried in its place, with CPU time on Python 3.13: to
exchange the session for one that was built at once where the registry is asked for it first (no difference any more); a
class for good whose ``__getattr__`` builds what is missing (no faster). A session for every request that is built when
its scope opens makes a SELECT one or two per cent faster, and a request that needs none ten times as dear.

Both subclasses are made by ``type.__new__``, so that neither a metaclass nor an ``__init_subclass__`` of the user's is
run for them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any, Generic, NoReturn, SupportsIndex, TypeVar

from sqlalchemy.orm import Session, sessionmaker

from ..errors import ScopeEndedError
from .makeup import is_of_sessionmaker

S = TypeVar("S", bound=Session)


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
"""The attribute of an unbuilt session that refers to what it was made for; None when that has ended."""

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

    __slots__ = ("blank", "dispatch", "ended", "real", "unbuilt")

    blank: dict[str, Any]
    """The attributes of a session before its ``__init__``.

    To change its class takes them out of the object, into a dictionary of its own. In one that has the names already
    Python finds them where they were in the last one: a SELECT by primary key is two per cent faster by it, an INSERT
    one (in CPU time on Python 3.13). Code of the user's could see those, so where there is any it begins with none.
    """

    dispatch: Any
    """One such as each session of the class has; None until the first is built, which settles what events there are."""

    def __init__(self, real: type[S], build: Callable[[S], None]) -> None:
        """Derive both forms from *real*.

        Args:
            real: A session class.
            build: Turns an unbuilt session into a built one, or into an ended one, in place.
        """
        is_sqlalchemys = is_of_sessionmaker(real) and real.__bases__ == (Session,)
        self.blank = dict.fromkeys(_NAMES) if is_sqlalchemys else {}
        self.dispatch = None
        self.real: type[S] = real
        self.unbuilt: type[S] = _subclass(Unbuilt, real, _building(build, real))
        self.ended: type[S] = _subclass(Ended, real, _finalizing(real))


_NAMES = tuple(vars(Session()))
"""The attributes that a session has after SQLAlchemy's ``__init__``."""

_BUILT_AT_ONCE = ("__new__", "__del__", "__getattribute__", "__setattr__", "__delattr__")
"""What a session class may not define, to be built on first touch; nor may it have slots: ``__dict__`` lacks them."""


def can_wait(session_factory: sessionmaker[Any]) -> bool:
    """Say whether nobody can tell a session that is built later: all is as SQLAlchemy wrote it."""
    real = session_factory.class_
    return (
        type(session_factory).__call__ is sessionmaker.__call__
        and type(real).__call__ is type.__call__
        and not any(name in vars(base) for base in real.__mro__[:-1] for name in _BUILT_AT_ONCE)
        and not any(isinstance(value, MemberDescriptorType) for base in real.__mro__ for value in vars(base).values())
    )


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

    def __enter__(self: S) -> S:
        build(self)
        return self.__enter__()

    def __reduce_ex__(self: S, protocol: SupportsIndex) -> Any:
        build(self)
        return self.__reduce_ex__(protocol)

    methods = (__getattribute__, __enter__, __reduce_ex__)
    return {"__init__": object.__init__, **{method.__name__: method for method in methods}}


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
