"""The entry: who is let in, and what the log says of who is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._log import log
from .._sql.excerpt import excerpt
from ..observe._visitors import foreign_sign
from ._address import base_of
from ._key import is_anything_shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIEnvironment

    from ._key import Key

SHOWN = 100
"""How many characters of what a visitor has sent are shown in the log."""


class Refusal(NamedTuple):
    """Why a visitor is not let in."""

    kind: str
    """One of a few; each is logged once."""
    reason: str
    """What is missing, and what to do."""


class LocalEntry:
    """Lets in who is at this computer and has the key.  Lives as long as the inspector."""

    def __init__(self, key: Key) -> None:
        """Ask for *key*."""
        self._is_announced = False
        self._key = key

    def refusal_of(self, environ: WSGIEnvironment) -> Refusal | None:
        """Say why a visitor is not let in; None if he is."""
        sign = foreign_sign(environ)
        if sign is not None:
            return _not_local(*sign)
        self._announce(environ)
        if self._key.is_in_query(environ) or self._key.is_in_cookie(environ):
            return None
        return _OTHER_KEY if is_anything_shown(environ) else _NO_KEY

    def cookies_for(self, environ: WSGIEnvironment, place: str | None) -> list[str]:
        """Return the cookies that a key in the query is exchanged for; none if there is none.

        Args:
            environ: Of the request.
            place: Where the application is, if it shows requests.
        """
        if not self._key.is_in_query(environ):
            return []
        of_sight = [] if place is None else [self._key.cookie_of_sight(place, environ)]
        return [self._key.cookie(environ), *of_sight]

    def sees(self, environ: WSGIEnvironment) -> bool:
        """Say whether who asks the application may see the inspector."""
        return foreign_sign(environ) is None and self._key.is_in_sight(environ)

    def _announce(self, environ: WSGIEnvironment) -> None:
        """Log the link, once: at the first visit from this computer, because only a visit says where it leads."""
        if not self._is_announced:
            self._is_announced = True
            log.warning("Inspector: %s", self._key.link(environ))


class AllowedEntry:
    """Lets in whom a function names.  Lives as long as the inspector."""

    def __init__(self, allow: Callable[[WSGIEnvironment], bool]) -> None:
        """Ask *allow*."""
        self._allow = allow
        self._has_warned = False

    def refusal_of(self, environ: WSGIEnvironment) -> Refusal | None:
        """Say why a visitor is not let in; None if he is."""
        if not self._allow(environ):
            return _NOT_ALLOWED
        self._warn_of_strangers(environ)
        return None

    def cookies_for(self, _environ: WSGIEnvironment, _place: str | None) -> list[str]:
        """Exchange nothing: there is no key."""
        return []

    def sees(self, environ: WSGIEnvironment) -> bool:
        """Say whether who asks the application may see the inspector; a function that fails harms no request."""
        try:
            return bool(self._allow(environ))
        except Exception:
            log.exception("'allow' of an inspector has failed.")
            return False

    def _warn_of_strangers(self, environ: WSGIEnvironment) -> None:
        """Say once in the log that there are visitors from elsewhere, for that may be a mistake."""
        if not self._has_warned and foreign_sign(environ) is not None:
            self._has_warned = True
            who, host = environ.get("REMOTE_ADDR"), environ.get("HTTP_HOST")
            log.warning("An inspector answers %r at %r, who is not at this computer: its 'allow' says so.", who, host)


class Refusals:
    """The refusals of an inspector, of which each kind is logged once.  Lives as long as the inspector."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kinds: set[str] = set()

    def tell(self, refusal: Refusal, environ: WSGIEnvironment) -> None:
        """Log a refusal, unless there was one of its kind."""
        if refusal.kind not in self._kinds:
            self._kinds.add(refusal.kind)
            base, reason = base_of(environ), refusal.reason
            log.warning(
                "The inspector at '%s/' has refused a visitor, who gets a 404: %s This is logged once.", base, reason
            )


def _not_local(name: str, value: str) -> Refusal:
    """Say by what a visitor is not local; proxies have many headers, which are one kind."""
    kind = name if name in ("REMOTE_ADDR", "HTTP_HOST") else "proxy"
    return Refusal(
        kind,
        f"not local, because {excerpt(name, SHOWN)} is {excerpt(value, SHOWN)!r}. In a container or behind a proxy, say"
        " who may see it: 'Inspector(..., allow=...)'.",
    )


_NO_KEY = Refusal(
    "no key",
    "no key. Open the link in this log that begins with 'Inspector: '. Paste it: where a page of another site leads"
    " here, a browser does not send the cookie.",
)
_OTHER_KEY = Refusal(
    "another key",
    "another key. Open the link that was logged last. Where there are several processes, give them the same key, or"
    " each has its own: 'Inspector(..., key=...)'.",
)
_NOT_ALLOWED = Refusal("allow", "its 'allow' says no.")
