"""The token: a position that a client brings back, signed, and for a short time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import TYPE_CHECKING

from ._position import read, written

if TYPE_CHECKING:
    from ._position import Position

SHORTEST_SECRET = 16
"""In bytes."""

SIGNATURE = 12
"""The bytes of a signature: who forges one only sends his own reads to the primary."""

LONGEST = 512
"""The characters of a token: what is longer is not looked at."""


class Tokens:
    """Makes and reads tokens.  Lives as long as the program."""

    def __init__(self, secret: str | bytes, max_age: int) -> None:
        """Sign with *secret*; a token is good for *max_age* seconds.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: If *secret* is too short, or *max_age* is not positive.
        """
        if not isinstance(secret, str | bytes):
            raise TypeError(f"secret has to be a string or bytes, not of {type(secret)!r}.")
        self._secret = secret.encode() if isinstance(secret, str) else secret
        if len(self._secret) < SHORTEST_SECRET:
            raise ValueError(f"secret has to have {SHORTEST_SECRET} bytes or more: 'secrets.token_hex()' makes one.")
        if not isinstance(max_age, int) or max_age <= 0:
            raise ValueError(f"max_age={max_age!r} has to be a whole number of seconds, 1 or more.")
        self.max_age = max_age

    def token_of(self, position: Position) -> str:
        """Return a token of *position*."""
        value = f"{written(position)}.{int(time.time()):x}"
        return f"{value}.{self._signature(value)}"

    def position_in(self, token: str) -> Position | None:
        """Return the position of a *token*; None if it is forged, too old, or none."""
        value, _, signature = token.rpartition(".")
        if len(token) > LONGEST or not token.isascii() or not hmac.compare_digest(signature, self._signature(value)):
            return None
        position, _, seconds = value.rpartition(".")
        return read(position) if time.time() - int(seconds, 16) <= self.max_age else None

    def _signature(self, value: str) -> str:
        digest = hmac.digest(self._secret, value.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:SIGNATURE]).decode()
