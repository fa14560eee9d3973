"""The callers: which line of the application has caused what happens now."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import sqlalchemy

_OURS = str(Path(__file__).parent) + os.sep
_OTHERS = tuple(
    {sysconfig.get_path("stdlib") + os.sep, sysconfig.get_path("platstdlib") + os.sep}
    | {str(Path(sqlalchemy.__file__).parent) + os.sep, _OURS}
)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_OUTERMOST = (_OURS + "middleware.py", _OURS + "_response.py")
"""Where an application is called from: what is further out is the server."""

_MAX_LINES = 4096


class Callers:
    """Finds the line of the application that runs.  Lives as long as its recorder.

    What is decided once for each file is whether it belongs to the application.
    """

    __slots__ = ("_lines", "_names", "_skip")

    def __init__(self, skip: tuple[str, ...] = ()) -> None:
        """Take for the application what is not installed, except for files that have one of *skip* in their path."""
        self._lines: dict[tuple[Any, int], str] = {}
        self._names: dict[str, str | None] = {}
        self._skip = skip

    def line(self) -> str | None:
        """Return the innermost line of the application, such as ``"shop/views.py:29"``; None if none is running.

        Of a template it is the template's own line.
        """
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            code = frame.f_code
            known = self._lines.get((code, frame.f_lineno))
            if known is not None:
                return known
            if code.co_filename in _OUTERMOST:
                return None
            if found := self._line_of(frame):
                return self._remember(frame, found)
            frame = frame.f_back
        return None

    def _remember(self, frame: FrameType, line: str) -> str:
        if len(self._lines) >= _MAX_LINES:
            self._lines.clear()
        self._lines[frame.f_code, frame.f_lineno] = line
        return line

    def _line_of(self, frame: FrameType) -> str | None:
        filename = frame.f_code.co_filename
        try:
            name = self._names[filename]
        except KeyError:
            name = self._names[filename] = self._name(filename)
        if name is None and not filename.startswith("<template"):
            return None
        return _in_jinja2(frame) or _in_mako(frame) or (name and f"{name}:{frame.f_lineno}")

    def _name(self, filename: str) -> str | None:
        """Name a file of the application, by its path from the working directory where it is below it."""
        path = os.path.abspath(filename)
        if filename.startswith("<") or path.startswith(_OTHERS):
            return None
        if any(part in path for part in (*_INSTALLED, *self._skip)):
            return None
        return _short(path)


def _short(path: str) -> str:
    here = os.getcwd() + os.sep
    return path.removeprefix(here)


def _in_jinja2(frame: FrameType) -> str | None:
    """Return the line of a Jinja2 template that is rendered in *frame*."""
    template = frame.f_globals.get("__jinja_template__")
    if template is None:
        return None
    file: str = template.filename or "<template>"
    name = template.name if file.startswith("<") else _short(file)
    return f"{name}:{template.get_corresponding_lineno(frame.f_lineno)}"


def _in_mako(frame: FrameType) -> str | None:
    """Return the line of a Mako template that is rendered in *frame*, as Mako's own tracebacks do."""
    if "_template_uri" not in frame.f_globals:
        return None
    from mako.exceptions import RichTraceback  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]

    trace = TracebackType(None, frame, frame.f_lasti, frame.f_lineno)
    *_, name, line, _, _ = RichTraceback(Exception(), trace).records[0]
    return f"{_short(name)}:{line}"
