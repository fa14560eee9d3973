"""What makes the sessions of a registry: unbuilt, and real on first touch, wherever that is possible."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy.orm import Session, sessionmaker

from . import dispatch
from .forms import OWNER, Forms, attributes_of, can_wait

S = TypeVar("S", bound=Session)

OnBuild = Callable[[S, Any], None]
"""Told of a session that has just been built, and of the owner that it was made for."""


class Owner(Protocol):
    """What sessions are made for, such as a scope."""

    def completed(self, source: SessionSource[Any], kw: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments with which *source* builds a session, which is asked for with *kw*."""
        ...


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
            if can_wait(session_factory):
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
        if self.forms is None:
            session = self.session_factory(**kw)
            self._on_class(type(session))
        else:
            session = object.__new__(self.forms.real)
            self._initialize(session, kw)
        self._on_build(session, owner)
        return session

    def build(self, session: S, **kw: Any) -> None:
        """Turn an unbuilt *session* into the real one, by the `sessionmaker` as it is now, or into one that has ended.

        Args:
            session: The session.  If its owner or its ``__init__`` raises, it is unbuilt again.
            **kw: Arguments for the `sessionmaker`, beside its own.
        """
        forms = self.forms
        assert forms is not None
        attributes: dict[str, Any] = object.__getattribute__(session, "__dict__")
        owner = attributes[OWNER]
        if owner is None:
            session.__class__ = forms.ended
            return
        kw = owner.completed(self, kw)
        del attributes[OWNER]
        session.__class__ = forms.real
        session.__dict__ = forms.blank.copy()
        try:
            self._initialize(session, kw)
            self._on_build(session, owner)
        except BaseException:
            self.unbuild(session, owner)
            raise
        finally:
            if attributes:  # what was written to it before
                attributes_of(session).update(attributes)

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
        else:
            object.__setattr__(session, "__class__", self._forms_of(kind).ended)

    def _initialize(self, session: S, kw: dict[str, Any]) -> None:
        """Do as ``sessionmaker.__call__`` does, which merges the arguments, to the session that is there."""
        forms = self.forms
        assert forms is not None
        if forms.dispatch is None:
            forms.dispatch = dispatch.of_class(forms.real)
        dispatch.share(forms.dispatch, session.dispatch)  # before __init__, which may listen to what it makes
        own = self.session_factory.kw  # type: ignore[attr-defined]
        if kw:
            like = SimpleNamespace(kw=own, class_=session.__init__)  # type: ignore[misc]
            sessionmaker.__call__(like, **kw)  # type: ignore[arg-type]
        else:
            session.__init__(**own)  # type: ignore[misc]

    def _forms_of(self, real: type[S]) -> Forms[S]:
        if real not in self._forms_of_classes:
            self._forms_of_classes[real] = Forms(real, self.build)
        return self._forms_of_classes[real]
