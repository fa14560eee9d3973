"""The address: where the inspector is mounted, and how it is asked for with its key and without."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


def base_of(environ: WSGIEnvironment) -> str:
    """Return the path that the inspector is mounted at; never one that begins with ``//``, which names a host."""
    mounted = environ.get("SCRIPT_NAME", "").strip("/")
    return "/" + quote(mounted.encode("latin-1")) if mounted else ""


def keys_in(environ: WSGIEnvironment) -> list[str]:
    """Return each key that the query has."""
    return [value for name, value in _query_of(environ) if name == "key"]


def link_with(key: str, environ: WSGIEnvironment) -> str:
    """Return the link that a person at this computer opens the inspector with.

    Its port is the server's own: the one in ``Host`` is the visitor's to choose, and who chooses it may listen there
    for the key.
    """
    host = re.sub(r":\d*$", "", environ["HTTP_HOST"])
    return f"{environ['wsgi.url_scheme']}://{host}:{environ['SERVER_PORT']}{base_of(environ)}/?key={key}"


def without_key(environ: WSGIEnvironment) -> str:
    """Return the path and the query of a request, without the key."""
    path = "/" + quote(environ.get("PATH_INFO", "").lstrip("/").encode("latin-1"))
    query = urlencode([(name, value) for name, value in _query_of(environ) if name != "key"])
    return base_of(environ) + path + (f"?{query}" if query else "")


def _query_of(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    return parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
