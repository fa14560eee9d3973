"""The caught: errors of which a framework makes a page, and that nobody would see but for its log.

Flask and Django log them with their traceback, Falcon and Bottle write that to ``wsgi.errors`` while they handle them.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from . import _whose
from ._fault import contained

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import ErrorStream, WSGIEnvironment


@cache
def listen() -> None:
    """Note the errors that are logged in requests, from now on in this process.

    A handler would see them, too, but where there is a handler Python does not show warnings any more by itself.
    """
    make = logging.getLogRecordFactory()

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if record.exc_info:
            _note(record.exc_info[1])
        return record

    logging.setLogRecordFactory(made)


def note_errors_of(environ: WSGIEnvironment) -> None:
    """Note the errors during which something is written to ``wsgi.errors``."""
    stream = environ.get("wsgi.errors")
    if stream is not None and not isinstance(stream, NotedErrors):
        environ["wsgi.errors"] = NotedErrors(stream)


class NotedErrors:
    """A ``wsgi.errors`` that notes which error is handled when something is written to it.  Lives as long as that."""

    def __init__(self, stream: ErrorStream) -> None:
        """Write to *stream*."""
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Return what else the stream has."""
        return getattr(self._stream, name)

    def write(self, text: str, /) -> object:
        """Write it."""
        _note(sys.exc_info()[1])
        return self._stream.write(text)

    def writelines(self, lines: Iterable[str], /) -> object:
        """Write them."""
        _note(sys.exc_info()[1])
        return self._stream.writelines(list(lines))


@contained
def _note(error: BaseException | None) -> None:
    if error is not None and (recording := _whose.current()) is not None:
        recording.catch(error)
