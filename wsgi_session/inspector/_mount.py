"""The mount: an application with the inspector below a path of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class Mount:
    """Calls one application below a path, and another one elsewhere.  Lives as long as they do."""

    def __init__(self, below: WSGIApplication, elsewhere: WSGIApplication, path: str) -> None:
        """Call *below* at *path* and below it, and *elsewhere* for all other paths.

        Raises:
            TypeError: If *path* is no string.
            ValueError: If it is no path, or that of the whole site.
        """
        self._below = below
        self._elsewhere = elsewhere
        self._path = checked_path(path).encode().decode("latin-1")  # as servers have it (PEP 3333)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        path = environ.get("PATH_INFO", "")
        if path != self._path and not path.startswith(f"{self._path}/"):
            return self._elsewhere(environ, start_response)
        moved = {
            "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + self._path,
            "PATH_INFO": path.removeprefix(self._path),
        }
        return self._below({**environ, **moved}, start_response)


def checked_path(path: str) -> str:
    """Return *path*, or raise an error if nothing could be mounted there."""
    if not isinstance(path, str):
        raise TypeError(f"path has to be a string, not {path!r}.")
    if not re.fullmatch(r"(?:/[^/?#]+)+", path):
        raise ValueError(f"path={path!r} has to be a path below which nothing else is, such as '/-/inspector'.")
    return path
