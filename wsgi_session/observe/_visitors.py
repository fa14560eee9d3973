"""The visitors: who asks, and whether that is somebody at this very computer."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

_host = re.compile(r"(?:(?:[a-z0-9-]+\.)*localhost|127\.0\.0\.1|\[::1\])(?::\d*)?", re.IGNORECASE)
_of_proxies = re.compile(
    r"HTTP_(?:X_FORWARDED\w*|FORWARDED|VIA|X_REAL_IP|X_CLIENT_IP|X_CLUSTER_CLIENT_IP|TRUE_CLIENT_IP|CF_\w+|CDN_LOOP)"
)


def is_local(environ: WSGIEnvironment) -> bool:
    """Say whether a request seems to come from this very computer: nothing in it says that it does not.

    Its address is one of the loopback, its Host is a name of that, which another site's name that was bound to the
    address is not (DNS rebinding), and it has no header that proxies add. Through a Unix socket nobody is local.

    Behind a proxy at this computer that adds no header, as nginx adds none with ``proxy_pass`` alone, every visitor has
    such a request, from anywhere. Nothing in the environ tells them apart: keep no secret by this alone.
    """
    return foreign_sign(environ) is None


def foreign_sign(environ: WSGIEnvironment) -> tuple[str, str] | None:
    """Return the key of the environ that shows a request not to be local, and its value; None if there is none."""
    address, host = environ.get("REMOTE_ADDR", ""), environ.get("HTTP_HOST", "")
    if not _is_loopback(address):
        return "REMOTE_ADDR", address
    if _host.fullmatch(host) is None:
        return "HTTP_HOST", host
    return next(((name, environ[name]) for name in environ if _of_proxies.fullmatch(name)), None)


def is_from_same_origin(environ: WSGIEnvironment) -> bool:
    """Say whether a form was sent by a page of this very site, as browsers tell it; what tells nothing is not.

    A browser that sends no ``Sec-Fetch-Site``, as over plain HTTP to another computer, sends its ``Origin``.
    """
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return bool(site == "same-origin")
    origin = f"{environ['wsgi.url_scheme']}://{environ.get('HTTP_HOST', '')}"
    return bool(environ.get("HTTP_ORIGIN") == origin)


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)
