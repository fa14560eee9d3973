"""The wire: what lies between a driver and its server, and counts the round trips."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy import URL


class Wire:
    """Hands on what a driver and its server say to each other.  Lives as long as the block of `wired`.

    A round trip is what the driver says until the server says something: protocols without pipelining speak in turn.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        """Listen for a driver.

        Args:
            server: Its host and port.
        """
        self.round_trips = 0
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def accept(self) -> None:
        """Serve each connection in a thread, until the wire is closed."""
        while True:
            try:
                driver, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            threading.Thread(target=self._hand_on, args=(driver, server), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _hand_on(self, driver: socket.socket, server: socket.socket) -> None:
        with ExitStack() as stack:
            for end in (driver, server):
                stack.enter_context(end)
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(driver, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, driver)
            last: object = server
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    if key.fileobj is driver and last is server:
                        self.round_trips += 1
                    last = key.fileobj
                    key.data.sendall(data)


@contextmanager
def wired(url: URL) -> Iterator[tuple[Wire, URL]]:
    """Lay a wire to the server of *url*, and yield it with the address of its other end."""
    wire = Wire((url.host or "127.0.0.1", url.port or 5432))
    thread = threading.Thread(target=wire.accept, daemon=True)
    thread.start()
    try:
        yield wire, url.set(host="127.0.0.1", port=wire.port)
    finally:
        wire.close()
        thread.join()
