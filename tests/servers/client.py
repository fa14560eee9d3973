"""A client that sees every byte: it reads the framing, leaves half-way, reads slowly, and keeps a connection."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

VARYING = {"date"}
"""Headers that differ from one moment to the next."""


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

    def __init__(self, port: int, timeout: float = 10, receive_buffer: int = 0) -> None:
        """Connect."""
        self._socket = socket.socket()
        self._socket.settimeout(timeout)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise
        self._received = b""
        self._is_reset = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, path: str, method: str = "GET", header: str = "") -> None:
        """Send a request without a body."""
        headers = ["Host: 127.0.0.1", header, "Content-Length: 0" if method == "POST" else ""]
        lines = [f"{method} {path} HTTP/1.1", *filter(None, headers), "", ""]
        self._socket.sendall("\r\n".join(lines).encode())

    def peek(self, patience: float) -> bool:
        """Wait for something to arrive, for *patience* seconds at most, and say whether it has."""
        if self._received:
            return True
        timeout = self._socket.gettimeout()
        self._socket.settimeout(patience)
        try:
            self._receive()
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(timeout)
        return bool(self._received)

    def leave(self) -> None:
        """Reset the connection: whatever the server writes from now on is an error."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def answer(self, method: str = "GET") -> Answer:
        """Read the answer to a request."""
        while b"\r\n\r\n" not in self._received:
            if not self._receive():  # what has come without a head is no answer
                return NOTHING
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(":", 1) for line in lines]
        headers = tuple((name.lower(), value.strip()) for name, value in pairs if name.lower() not in VARYING)
        bare = Answer(status_line, headers, "", b"", True)
        if method == "HEAD":
            return Answer(status_line, headers, "no body", self._until_closed(), True)
        if bare.header("transfer-encoding") == "chunked":
            return Answer(status_line, headers, "chunked", *self._chunks())
        if length := bare.header("content-length"):
            body = self._exactly(int(length))
            return Answer(status_line, headers, "length", body, len(body) == int(length))
        body = self._until_closed()
        return Answer(status_line, headers, "end of connection", body, not self._is_reset)

    def _receive(self) -> bytes:
        try:
            received = self._socket.recv(1 << 20)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # servers write in small pieces
        except ConnectionResetError:
            received = b""
            self._is_reset = True
        self._received += received
        return received

    def _until_closed(self) -> bytes:
        parts = [self._received]
        self._received = b""
        while self._receive():
            parts.append(self._received)
            self._received = b""
        return b"".join(parts)

    def _exactly(self, length: int) -> bytes:
        parts, missing = [], length
        while missing:
            if not self._received and not self._receive():
                break
            part, self._received = self._received[:missing], self._received[missing:]
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _chunks(self) -> tuple[bytes, bool]:
        chunks: list[bytes] = []
        while True:
            while b"\r\n" not in self._received:
                if not self._receive():
                    return b"".join(chunks), False
            size, _, self._received = self._received.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            chunk = self._exactly(length + 2)
            if len(chunk) < length + 2:
                return b"".join([*chunks, chunk]), False
            if not length:
                return b"".join(chunks), True
            chunks.append(chunk[:-2])
