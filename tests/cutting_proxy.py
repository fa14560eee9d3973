"""A proxy in front of PostgreSQL that cuts a connection when COMMIT passes, before or after the server has had it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from benchmarks.wire import Listener, wired

BEFORE, AFTER = b"cut before COMMIT", b"cut after COMMIT"
"""What a statement has in it that asks for it, for its own connection."""


def cutting_proxy(host: str, port: int) -> AbstractContextManager[int]:
    """Run a proxy for a server, for as long as the block lasts, and yield its port."""
    return wired((host, port), _new_listener)


def _new_listener() -> Listener:
    """Listen to a connection until it is to be cut."""
    cut = b""
    is_in_commit = False

    def listen(data: bytes, is_driver: bool) -> bool:
        nonlocal cut, is_in_commit
        if not is_driver:
            return not is_in_commit  # the answer that is not handed on: it is committed, and nobody hears of it
        cut = next((one for one in (BEFORE, AFTER) if one in data), cut)
        is_in_commit = bool(cut) and b"COMMIT" in data.replace(cut, b"")
        return not (is_in_commit and cut == BEFORE)

    return listen
