"""gunicorn's configuration: its parent process uses the engine again when one of its workers has ended."""

from __future__ import annotations


def child_exit(server: object, worker: object) -> None:
    """Use the parent's connection."""
    from tests.servers import on_postgresql

    on_postgresql.note_own_backend("a child has ended")
