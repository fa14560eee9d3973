"""The search for the middleware of an application, and so for the registry of its sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..middleware import SessionMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import scoped_session

_INNER = ("wsgi_app", "app", "application", "_app", "_application", "__self__", "__wrapped__")
"""The attributes by which objects refer to the application that they wrap."""


def registry_of(app: object) -> scoped_session[Any]:
    """Return the registry of the first `SessionMiddleware` that is found in *app*, from the outside in.

    Args:
        app: A WSGI application. Each of its middlewares has to refer to the next by an attribute with one of the usual
            names, such as ``app`` or ``wsgi_app``; of a plain function nothing can be seen.

    Raises:
        TypeError: If it is no application.
        LookupError: If there is no `SessionMiddleware`.
    """
    if not callable(app):
        raise TypeError(f"A WSGI application is callable; {app!r} is not.")
    for found in _inwards(app, []):
        if isinstance(found, SessionMiddleware):
            return found.registry
    raise LookupError(f"No SessionMiddleware was found in {app!r}: it has none, or one that is out of sight.")


def _inwards(app: Any, seen: list[Any]) -> Iterator[Any]:
    """Yield *app* and what it wraps, each once."""
    if any(app is one for one in seen):
        return
    seen.append(app)
    yield app
    for name in _INNER:
        inner = getattr(app, name, None)
        if callable(inner):
            yield from _inwards(inner, seen)
