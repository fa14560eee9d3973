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
    """Say whether a request comes from this very computer, was sent to it, and passed no proxy.

    Its address is one of the loopback, its Host is a name of that, which another site's name that was bound to the
    address is not (DNS rebinding), and it has no header that proxies add. Through a Unix socket nobody is local.
    """
    return (
        _is_loopback(environ.get("REMOTE_ADDR", ""))
        and _host.fullmatch(environ.get("HTTP_HOST", "")) is not None
        and not any(map(_of_proxies.fullmatch, environ))
    )


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
