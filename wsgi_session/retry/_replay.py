"""A request body that can be read again: ``wsgi.input`` for each attempt."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import IO, TYPE_CHECKING

from .. import _wsgi
from .._log import log

if TYPE_CHECKING:
    from wsgiref.types import InputStream, WSGIEnvironment


class RequestBody:
    """What has been read of a request's body.  Lives as long as the request.

    Nothing is read before the application reads it, and then just that: the client may not have sent more. What was
    read is kept, on disk beyond a threshold, for the next attempt to read it first.
    """

    def __init__(self, environ: WSGIEnvironment, *, max_body: int, max_in_memory: int) -> None:
        """Take over ``wsgi.input``.

        Args:
            environ: As the server has made it.
            max_body: How many bytes are kept; what is longer cannot be read again.
            max_in_memory: How many bytes are kept in memory.
        """
        self._source: InputStream = environ["wsgi.input"]
        self._read: IO[bytes] | None = None
        self._max_in_memory = max_in_memory
        self._max_body = max_body
        self._length = _wsgi.request_length(environ)
        self.is_whole = self._length is None or self._length <= max_body
        self.size = 0

    def reader(self) -> Reader:
        """Return an input that begins at the beginning."""
        return Reader(self)

    def kept(self, position: int, read: Callable[[IO[bytes]], bytes]) -> bytes:
        """Read from what was read before.

        Args:
            position: Where to begin.
            read: Such as ``lambda file: file.readline()``.
        """
        if self._read is None or position >= self.size:
            return b""
        self._read.seek(position)
        return read(self._read)

    def more(self, read: Callable[[InputStream, int], bytes], size: int) -> bytes:
        """Read what nobody has read yet, and keep it.

        Args:
            read: Such as ``InputStream.read``, called with the input and the most that may be asked of it.
            size: How many bytes are wanted; -1 for no limit.
        """
        if self._length is not None:
            left = max(0, self._length - self.size)
            size = left if size < 0 else min(size, left)
        chunk = read(self._source, size) if size else b""
        self.size += len(chunk)
        if self.is_whole and self.size > self._max_body:
            self.is_whole = False
            self.close()
        if self.is_whole and chunk:
            self._keep(chunk)
        return chunk

    def close(self) -> None:
        """Forget what was read."""
        if self._read is not None:
            self._read.close()
            self._read = None

    __del__ = close  # of a response that a server has dropped

    def _keep(self, chunk: bytes) -> None:
        try:
            if self._read is None:
                self._read = self._file()
            self._read.seek(0, io.SEEK_END)
            self._read.write(chunk)
        except OSError:
            log.warning("A request body could not be kept on disk, so its request is not repeated.", exc_info=True)
            self.is_whole = False
            self.close()

    def _file(self) -> IO[bytes]:
        if not self._max_in_memory:  # no limit, to a SpooledTemporaryFile
            return TemporaryFile()
        return SpooledTemporaryFile(max_size=self._max_in_memory)


class Reader:
    """The ``wsgi.input`` of one attempt (PEP 3333).  Lives as long as the attempt."""

    def __init__(self, body: RequestBody) -> None:
        """Begin at the beginning of *body*."""
        self._body = body
        self._position = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most *size* bytes, or all that is left."""
        wanted = -1 if size is None or size < 0 else size
        chunk = self._kept(lambda kept: kept.read(wanted))
        if self._is_at_the_end and (wanted < 0 or len(chunk) < wanted):
            chunk += self._more(_read, wanted, chunk)
        return chunk

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return a line, or at most *size* bytes of it."""
        wanted = -1 if size is None or size < 0 else size
        chunk = self._kept(lambda kept: kept.readline(wanted))
        if self._is_at_the_end and not chunk.endswith(b"\n") and (wanted < 0 or len(chunk) < wanted):
            chunk += self._more(_readline, wanted, chunk)
        return chunk

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Return the lines that are left, or as many as make *hint* bytes."""
        lines: list[bytes] = []
        for line in self:
            lines.append(line)
            if hint is not None and 0 < hint <= sum(map(len, lines)):
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the lines."""
        return iter(self.readline, b"")

    @property
    def _is_at_the_end(self) -> bool:
        return self._position == self._body.size

    def _kept(self, read: Callable[[IO[bytes]], bytes]) -> bytes:
        chunk = self._body.kept(self._position, read)
        self._position += len(chunk)
        return chunk

    def _more(self, read: Callable[[InputStream, int], bytes], wanted: int, chunk: bytes) -> bytes:
        more = self._body.more(read, wanted if wanted < 0 else wanted - len(chunk))
        self._position += len(more)
        return more


def _read(source: InputStream, size: int) -> bytes:
    """Read at most *size* bytes, or all: in pieces, for not every server understands -1."""
    return source.read(size) if size >= 0 else b"".join(iter(partial(source.read, 65536), b""))


def _readline(source: InputStream, size: int) -> bytes:
    return source.readline() if size < 0 else source.readline(size)
