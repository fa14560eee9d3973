"""A proxy in front of PostgreSQL that cuts a connection when COMMIT passes, before or after the server has had it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

BEFORE, AFTER = b"cut before COMMIT", b"cut after COMMIT"
"""What a statement has in it that asks for it, for its own connection."""


@contextmanager
def cutting_proxy(host: str, port: int) -> Iterator[int]:
    """Run a proxy for a server, for as long as the block lasts, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, (host, port)), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=10)


def _accept(listener: socket.socket, address: tuple[str, int]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # the block has been left
            return
        _Connection(client, socket.create_connection(address)).start()


@dataclass
class _Connection:
    """A connection through the proxy.  Lives as long as either side holds it."""

    client: socket.socket
    server: socket.socket
    cut: bytes = b""
    is_in_commit: bool = False
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for work in (self._to_server, self._to_client):
            self.threads.append(threading.Thread(target=work, daemon=True))
            self.threads[-1].start()

    def _to_server(self) -> None:
        with suppress(OSError):
            while data := self.client.recv(65536):
                self.cut = next((cut for cut in (BEFORE, AFTER) if cut in data), self.cut)
                self.is_in_commit = bool(self.cut) and b"COMMIT" in data.replace(self.cut, b"")
                if self.is_in_commit and self.cut == BEFORE:
                    break
                self.server.sendall(data)
        self._close()

    def _to_client(self) -> None:
        with suppress(OSError):
            while data := self.server.recv(65536):
                if self.is_in_commit:  # this is the answer: it is committed, and nobody hears of it
                    break
                self.client.sendall(data)
        self._close()

    def _close(self) -> None:
        for side in (self.client, self.server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()
