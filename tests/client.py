"""A client that sees the framing, leaves half-way, reads slowly, and keeps a connection."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from select import select
from types import MappingProxyType

import h11

VARYING = {"date"}
"""Headers that differ from one moment to the next."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

FRAMINGS = {"transfer-encoding": "chunked", "content-length": "length"}
"""What a header says of how the end of a body is marked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server has sent in answer to one request."""

    status_line: str
    headers: tuple[tuple[str, str], ...]
    framing: str
    """How its end is marked: ``"length"``, ``"chunked"``, ``"end of connection"``; or ``"no body"``."""
    body: bytes
    is_whole: bool
    """Whether that end has come."""

    @property
    def status(self) -> int:
        """The status code; 0 if there was no answer."""
        return int(self.status_line.split(" ")[1]) if self.status_line else 0

    def header(self, name: str) -> str:
        """Return the value of a header, in lower case, or the empty string."""
        return next((value.lower() for key, value in self.headers if key == name), "")

    @property
    def is_last(self) -> bool:
        """Whether the server says, or shows, that the connection takes no other request."""
        one_request = self.status_line.startswith("HTTP/1.0") and self.header("connection") != "keep-alive"
        return one_request or self.header("connection") == "close" or self.framing == "end of connection"


NOTHING = Answer("", (), "nothing", b"", False)
"""The connection was closed without an answer."""
NEVER = Answer("", (), "never", b"", False)
"""There was no answer, and the connection stayed open."""


class Client:
    """One connection to a server.  Lives as long as its block, or until it leaves."""

    def __init__(self, port: int, timeout: float = 10, receive_buffer: int = 0, address: str = "127.0.0.1") -> None:
        """Connect, to a port of an address and from that address."""
        self._http = h11.Connection(h11.CLIENT)
        self._socket = socket.socket()
        self._socket.settimeout(timeout)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self._socket.bind((address, 0))
            self._socket.connect((address, port))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, path: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Send a request."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        length = [("Content-Length", str(len(body)))] if body or method == "POST" else []
        head = h11.Request(
            method=method, target=path, headers=[*({"Host": "127.0.0.1"} | dict(headers)).items(), *length]
        )
        parts = [self._http.send(part) for part in (head, h11.Data(data=body), h11.EndOfMessage())]
        self._socket.sendall(b"".join(parts))

    def peek(self, patience: float) -> bool:
        """Wait for something to arrive, for *patience* seconds at most, and say whether it has."""
        return bool(select([self._socket], [], [], patience)[0])

    def listen(self, patience: float) -> None:
        """Take what arrives, until there was nothing for *patience* seconds."""
        with suppress(ConnectionResetError):
            while self.peek(patience):
                received = self._receive()
                self._http.receive_data(received)
                if not received:
                    return

    def leave(self) -> None:
        """Reset the connection: whatever the server writes from now on is an error."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def answer(self, method: str = "GET") -> Answer:
        """Read the answer to a request."""
        head = self._event()
        if not isinstance(head, h11.Response):  # what has come without a head is no answer
            return NOTHING
        status_line = b"HTTP/%b %d %b" % (head.http_version, head.status_code, head.reason)
        pairs = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
        headers = tuple((name, value) for name, value in pairs if name not in VARYING)
        body = []
        while isinstance(event := self._event(), h11.Data):
            body.append(bytes(event.data))
        framing = next((FRAMINGS[name] for name in FRAMINGS if name in dict(headers)), "end of connection")
        if method == "HEAD":
            framing, body = "no body", [self._http.trailing_data[0], *iter(self._receive, b"")]
        is_whole = isinstance(event, h11.EndOfMessage)
        return Answer(status_line.decode("latin-1"), headers, framing, b"".join(body), is_whole)

    def _event(self) -> object:
        """Read until something is whole; it is None if the connection has ended before."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(self._receive())
        except (h11.RemoteProtocolError, ConnectionResetError):
            return None
        return event

    def _receive(self) -> bytes:
        received = self._socket.recv(1 << 20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # servers write in small pieces
        return received


def asked(
    port: int, path: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS
) -> Answer:
    """Make a request, and read until the server closes the connection: by then it has closed the response, too."""
    with Client(port, timeout=60) as client:
        client.send(path, method, body, {"Connection": "close", **headers})
        answer = client.answer()
        assert client.peek(60)
    return answer
