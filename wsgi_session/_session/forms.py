"""A session before its first touch, and after its end.

Building a `Session` costs a few microseconds; most requests for a static page or an error never need it. So what a
request is given at first is *unbuilt*: an instance of the real class whose ``__init__`` has not run. Its ``__dict__``
has nothing in it but what it was made for, so the first attribute that is read is missing, and ``__getattr__``, which
Python calls then and at no other time, builds it. At the end it becomes *ended*: an instance of a subclass from which
only ``close()`` can be had.

An unbuilt session can be written to: what was written is in its ``__dict__``, and written again when it has been built.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, SupportsIndex, TypeVar

from sqlalchemy.orm import Session, sessionmaker

from ..errors import ScopeEndedError

if TYPE_CHECKING:
    from collections.abc import Callable

S = TypeVar("S", bound=Session)


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
"""The attribute of the ended form that is the session class it was derived from."""


def is_built(session: Session) -> bool:
    """Say whether *session* has been touched and has not ended, without touching it."""
    return type(session) is session.__class__ and OWNER not in attributes_of(session)


def attributes_of(session: Session) -> dict[str, Any]:
    """Return the ``__dict__`` of *session*, without touching it."""
    attributes: dict[str, Any] = object.__getattribute__(session, "__dict__")
    return attributes


class Forms(Generic[S]):
    """The unbuilt and the ended form of one session class.  Lives as long as the source that uses it."""

    __slots__ = ("dispatch", "ended", "real", "unbuilt")

    dispatch: Any
    """One such as each session of the class has; None until the first is built, which settles what events there are."""

    unbuilt: Callable[[], S]
    """Makes an unbuilt session."""

    def __init__(self, real: type[S]) -> None:
        """Know the class of a session when it is neither."""
        self.dispatch = None
        self.ended: type[S] = _ended_form(real)
        self.real: type[S] = real
        self.unbuilt = partial(object.__new__, real)


def build_on_touch(real: type[Session]) -> None:
    """Have the unbuilt sessions of *real*, which is a `sessionmaker`'s own class, built when anything is read.

    It is the class itself that is given this: to change the class of a session when it is built would take two per cent
    of a SELECT, for Python no longer keeps the attributes of such an object where it finds them soonest.
    """
    if "__getattr__" not in vars(real):
        inherited: Callable[[Any, str], Any] = getattr(real, "__getattr__", object.__getattribute__)
        for name, value in _building(inherited).items():
            setattr(real, name, value)


def can_wait(session_factory: sessionmaker[Any]) -> bool:
    """Say whether nobody can tell a session that is built later."""
    real = session_factory.class_
    return (
        type(session_factory).__call__ is sessionmaker.__call__
        and type(real).__call__ is type.__call__
        and real.__module__ == Session.__module__  # a class of its own, as each sessionmaker makes one
        and real.info is Session.info
        and not any(name in vars(base) for base in real.__mro__[:-1] for name in _BUILT_AT_ONCE)
        and not any(isinstance(value, MemberDescriptorType) for base in real.__mro__ for value in vars(base).values())
        and (real.__init__ is Session.__init__ or not _has_defaults(real))
    )


_BUILT_AT_ONCE = ("__new__", "__del__", "__getattribute__", "__setattr__", "__delattr__")
"""What a session class may not define, to be built on first touch; nor may it have slots: ``__dict__`` lacks them."""


def _has_defaults(real: type[Session]) -> bool:
    """Say whether a user's class has an attribute that is found in it, and so is not missing before ``__init__``."""
    return any(
        not name.startswith("__") and not isinstance(value, FunctionType | classmethod | staticmethod | property)
        for base in real.__mro__[1:]
        if base not in Session.__mro__
        for name, value in vars(base).items()
    )


def _building(inherited: Callable[[Any, str], Any]) -> dict[str, Any]:
    """Return what a class is given, for an unbuilt session to be built.

    Beside ``__getattr__`` that is what is found in a class, so it is not missing, but tells of the session.

    Args:
        inherited: What the class does with an attribute that is missing.
    """

    def __getattr__(self: Any, name: str) -> Any:
        return getattr(self, name) if _build(self) else inherited(self, name)

    def __reduce_ex__(self: Any, protocol: SupportsIndex) -> Any:
        _build(self)
        return object.__reduce_ex__(self, protocol)

    return {"__getattr__": __getattr__, "__reduce_ex__": __reduce_ex__, "info": _Info()}


class _Info:
    """The ``info`` of a session, which is in its ``__dict__`` afterwards."""

    def __get__(self, session: Session | None, owner: type[Session]) -> Any:
        if session is None:
            return Session.info
        return session.info if _build(session) else Session.info.__get__(session, owner)


def _build(session: Session) -> bool:
    """Build *session* if it is unbuilt, and say whether it was."""
    owner = attributes_of(session).get(OWNER)
    if owner is None:
        return False
    owner.build(session)
    return True


def _ended_form(real: type[S]) -> type[S]:
    """Derive from *real* what behaves as `Ended` says.

    It is made by ``type.__new__``, so that neither a metaclass nor an ``__init_subclass__`` of the user's is run: by
    `Ended` as a base where *real* has an ``__init_subclass__`` of its own, else by its methods. A second base may give
    the class another memory layout, if the first one of *real* has empty ``__slots__``.
    """
    named = {"__module__": real.__module__, "__qualname__": real.__qualname__, "__doc__": real.__doc__, _REAL: real}
    named |= _finalizing(real)
    if any("__init_subclass__" in vars(base) for base in real.__mro__[:-1] if base is not Generic):
        return type.__new__(type(real), real.__name__, (Ended, real), named)
    methods = {name: value for name, value in vars(Ended).items() if callable(value)}
    return type.__new__(type(real), real.__name__, (real,), methods | named)


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
