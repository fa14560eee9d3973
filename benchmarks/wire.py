"""The wire: what lies between a driver and its server, hears both, and may cut them off."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias

Listener: TypeAlias = Callable[[bytes, bool], bool]
"""Hears what one side of a connection says, and whether that is the driver; says whether it is handed on.

What is not handed on ends the connection.
"""


@contextmanager
def wired(server: tuple[str, int], new_listener: Callable[[], Listener]) -> Iterator[int]:
    """Lay a wire to a server, for as long as the block lasts, and yield the port of its other end.

    Args:
        server: Its host and port.
        new_listener: Makes the listener of each connection.
    """
    with socket.create_server(("127.0.0.1", 0)) as end:
        thread = threading.Thread(target=_accept, args=(end, server, new_listener), daemon=True)
        thread.start()
        try:
            yield end.getsockname()[1]
        finally:
            end.shutdown(socket.SHUT_RDWR)
            thread.join()


class RoundTrips:
    """Counts the round trips of all connections through a wire.  Lives as long as the wire.

    A round trip is what the driver says until the server says something: protocols without pipelining speak in turn.
    """

    def __init__(self) -> None:
        """Begin at none."""
        self.count = 0

    def new_listener(self) -> Listener:
        """Count those of one more connection, too."""
        was_server = True

        def listen(data: bytes, is_driver: bool) -> bool:
            nonlocal was_server
            self.count += is_driver and was_server
            was_server = not is_driver
            return True

        return listen


def _accept(end: socket.socket, server: tuple[str, int], new_listener: Callable[[], Listener]) -> None:
    """Serve each connection in a thread, until the wire is closed."""
    while True:
        try:
            driver, _ = end.accept()
        except OSError:
            return
        connection = (driver, socket.create_connection(server), new_listener())
        threading.Thread(target=_hand_on, args=connection, daemon=True).start()


def _hand_on(driver: socket.socket, server: socket.socket, listen: Listener) -> None:
    with driver, server, selectors.DefaultSelector() as selector, suppress(ConnectionError):
        selector.register(driver, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, driver)
        while True:
            for key, _ in selector.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data or not listen(data, key.fileobj is driver):
                    return
                key.data.sendall(data)
