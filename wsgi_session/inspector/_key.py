"""The key: what a visitor shows once, in a link, and has a cookie for from then on."""

from __future__ import annotations

import hmac
import re
import secrets
from typing import TYPE_CHECKING

from ._address import base_of, keys_in, link_with

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import WSGIEnvironment

_INSPECTOR, _SIGHT = "inspector", "sight"
"""What a cookie is for."""

SHORTEST = 16
"""How many characters a key has at least: nobody guesses as many that were chosen at random."""


class Key:
    """A secret that opens an inspector.  Lives as long as the inspector.

    The cookie has not the key, but a hash of it: who reads the cookie cannot make the link. It is the same in every
    process that has the same key.
    """

    def __init__(self, given: str | None) -> None:
        """Take the key that is *given*, or make one.

        Raises:
            TypeError: If it is no string.
            ValueError: If it is too short, or is not the same in a URL.
        """
        self._text = secrets.token_hex(16) if given is None else _checked(given)
        self._hash = hmac.digest(self._text.encode(), b"the cookie of an inspector", "sha256").hex()
        self._hash_of_sight = hmac.digest(self._text.encode(), b"the sight of an inspector", "sha256").hex()

    def is_in_query(self, environ: WSGIEnvironment) -> bool:
        """Say whether a request brings the key itself."""
        return _is_among(keys_in(environ), self._text)

    def is_in_cookie(self, environ: WSGIEnvironment) -> bool:
        """Say whether a request brings the cookie that the key was exchanged for."""
        return _is_among(_cookies_in(environ), self._hash)

    def is_in_sight(self, environ: WSGIEnvironment) -> bool:
        """Say whether a request to the application comes from a browser that has opened the inspector."""
        return _is_among(_cookies_in(environ, _SIGHT), self._hash_of_sight)

    def cookie(self, environ: WSGIEnvironment) -> str:
        """Return the cookie that the key is exchanged for, as the value of ``Set-Cookie``; it ends with the browser."""
        return _cookie(_INSPECTOR, self._hash, base_of(environ) or "/", environ)

    def cookie_of_sight(self, place: str, environ: WSGIEnvironment) -> str:
        """Return the cookie that has the application at *place* show requests; nobody opens the inspector with it."""
        return _cookie(_SIGHT, self._hash_of_sight, place, environ)

    def link(self, environ: WSGIEnvironment) -> str:
        """Return the link that has the key in it."""
        return link_with(self._text, environ)


def is_anything_shown(environ: WSGIEnvironment) -> bool:
    """Say whether a request brings a key or a cookie, be it one for another inspector."""
    return bool(keys_in(environ) or _cookies_in(environ))


def _checked(given: str) -> str:
    """Return *given* if it can be a key; no error shows it, because an error is read by others."""
    if not isinstance(given, str):
        raise TypeError(f"key has to be a string, not of {type(given)!r}.")
    if len(given) < SHORTEST:
        raise ValueError(
            f"key has {len(given)} characters, and needs {SHORTEST} or more, so that nobody guesses it:"
            " 'secrets.token_urlsafe()' makes one."
        )
    if not re.fullmatch(r"[A-Za-z0-9._~-]+", given):
        raise ValueError(
            "key has a character that a URL does not show as it is. Use letters from A to Z, digits, and '-._~':"
            " 'secrets.token_urlsafe()' makes one."
        )
    return given


def _is_among(shown: Iterable[str], secret: str) -> bool:
    """Compare what is shown in a time that does not tell how much of it is right."""
    return any(one.isascii() and hmac.compare_digest(one, secret) for one in shown)


def _cookie(kind: str, value: str, place: str, environ: WSGIEnvironment) -> str:
    secure = "; Secure" if environ["wsgi.url_scheme"] == "https" else ""
    return f"{_name_of_cookie(environ, kind)}={value}; Path={place}; HttpOnly; SameSite=Strict{secure}"


def _cookies_in(environ: WSGIEnvironment, kind: str = _INSPECTOR) -> list[str]:
    """Return each value of the cookie: another inspector, mounted further out, may have sent one of the same name."""
    pairs = (part.strip().partition("=") for part in environ.get("HTTP_COOKIE", "").split(";"))
    name = _name_of_cookie(environ, kind)
    return [value for found, _, value in pairs if found == name]


def _name_of_cookie(environ: WSGIEnvironment, kind: str) -> str:
    """Name the cookie after the port, because a browser sends the cookies of a host to all of its ports."""
    return f"wsgi_session_{kind}_{environ['SERVER_PORT']}"
