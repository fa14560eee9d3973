"""The mount: an application with the inspector below a path of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ._address import base_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from ._sight import Sight

PLACE_OF_APPLICATION = "wsgi_session.place"
"""The key of the environ under which the inspector finds where the application is, if it shows requests there."""


class Mount:
    """Calls one application below a path, and another one elsewhere.  Lives as long as they do."""

    def __init__(
        self,
        below: WSGIApplication,
        elsewhere: WSGIApplication,
        path: str,
        sight_of: Callable[[WSGIEnvironment, str], Sight | None] | None,
    ) -> None:
        """Call *below* at *path* and below it, and *elsewhere* for all other paths.

        Args:
            below: The inspector.
            elsewhere: The application.
            path: Where the inspector is.
            sight_of: Returns what shows a request, by its environ and the path of the inspector, to who may see it.

        Raises:
            TypeError: If *path* is no string.
            ValueError: If it is no path, or that of the whole site.
        """
        self._below = below
        self._elsewhere = elsewhere
        self._path = checked_path(path).encode().decode("latin-1")  # as servers have it (PEP 3333)
        self._sight_of = sight_of

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        path = environ.get("PATH_INFO", "")
        if path != self._path and not path.startswith(f"{self._path}/"):
            return self._answer_elsewhere(environ, start_response)
        moved = {**environ, "PATH_INFO": path.removeprefix(self._path), "SCRIPT_NAME": self._place_in(environ)}
        if self._sight_of is not None:
            moved[PLACE_OF_APPLICATION] = base_of(environ) or "/"
        return self._below(moved, start_response)

    def _answer_elsewhere(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._sight_of is not None:
            sight = self._sight_of(environ, base_of({"SCRIPT_NAME": self._place_in(environ)}))
            if sight is not None:
                return sight.answer(self._elsewhere, environ, start_response)
        return self._elsewhere(environ, start_response)

    def _place_in(self, environ: WSGIEnvironment) -> str:
        return str(environ.get("SCRIPT_NAME", "")) + self._path


def checked_path(path: str) -> str:
    """Return *path*, or raise an error if nothing could be mounted there."""
    if not isinstance(path, str):
        raise TypeError(f"path has to be a string, not {path!r}.")
    if not re.fullmatch(r"(?:/[^/?#]+)+", path):
        raise ValueError(f"path={path!r} has to be a path below which nothing else is, such as '/-/inspector'.")
    return path
