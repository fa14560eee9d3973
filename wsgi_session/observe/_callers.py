"""The callers: which line of the application has caused what happens now."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import sqlalchemy

from .._sql.excerpt import excerpt

_OURS = str(Path(__file__).parents[1]) + os.sep
_OTHERS = tuple(
    {sysconfig.get_path("stdlib") + os.sep, sysconfig.get_path("platstdlib") + os.sep}
    | {str(Path(sqlalchemy.__file__).parent) + os.sep, _OURS}
)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_OUTERMOST = (_OURS + "middleware.py", os.path.join(_OURS, "_response", "response.py"))
"""Where an application is called from: what is further out is the server."""

_SERVER = "(server)"
"""The name of those files, by its identity."""

_MAX_FILES = _MAX_LINES = 4096
_MAX_NAME = 300


class Callers:
    """Finds the line of the application that runs.  Lives as long as its recorder.

    What is decided once for each file is whether it belongs to the application.
    """

    __slots__ = ("_names", "_plain", "_skip", "_templates")

    def __init__(self, skip: tuple[str, ...] = ()) -> None:
        """Take for the application what is not installed, except for files that have one of *skip* in their path."""
        self._names: dict[str, str | None] = {}
        self._plain: set[str] = set()
        self._skip = skip
        self._templates: dict[tuple[CodeType, int], str] = {}

    def line(self, depth: int = 1) -> str | None:
        """Return the innermost line of the application, such as ``"shop/views.py:29"``; None if none is running.

        Of a template it is the template's own line. Each frame that is looked at has to be made for it, which is
        most of what this costs.

        Args:
            depth: How many functions, this one included, are known not to be the application's.
        """
        frame: FrameType | None = sys._getframe(depth)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        names, plain = self._names, self._plain
        while frame is not None:
            filename = frame.f_code.co_filename
            try:
                name = names[filename]
            except KeyError:
                name = self._named(filename)
            if name is not None:
                if filename in plain:
                    return f"{name}:{frame.f_lineno}"
                if name is _SERVER:
                    return None
                if line := self._line_of(frame, frame.f_lasti, frame.f_lineno, name):
                    return line
            frame = frame.f_back
        return None

    def line_of(self, error: BaseException) -> str | None:
        """Return the innermost line of the application that *error* has come through; None if there is none."""
        traces: list[TracebackType] = []
        trace = error.__traceback__
        while trace is not None:
            traces.append(trace)
            trace = trace.tb_next
        return next(filter(None, map(self._line_in, reversed(traces))), None)

    def clear(self) -> None:
        """Forget which file is whose."""
        self._names.clear()
        self._plain.clear()
        self._templates.clear()

    def _line_in(self, trace: TracebackType) -> str | None:
        frame = trace.tb_frame
        filename = frame.f_code.co_filename
        name = self._names[filename] if filename in self._names else self._named(filename)
        return None if name is None or name is _SERVER else self._line_of(frame, trace.tb_lasti, trace.tb_lineno, name)

    def _named(self, filename: str) -> str | None:
        if len(self._names) >= _MAX_FILES:
            self._names.clear()
            self._plain.clear()
        name = self._names[filename] = self._name(filename)
        return name

    def _name(self, filename: str) -> str | None:
        """Name a file of the application, by its path from the working directory where it is below it.

        Returns:
            The name; empty for a template that has no file, None for what is not the application's, and `_SERVER` for
            what calls it.
        """
        if filename in _OUTERMOST:
            return _SERVER
        if filename.startswith("<"):
            return "" if filename.startswith("<template") else None
        path = _absolute(filename)
        if path.startswith(_OTHERS) or any(part in path for part in (*_INSTALLED, *self._skip)):
            return None
        return _short(path)

    def _line_of(self, frame: FrameType, instruction: int, number: int, name: str) -> str | None:
        """Return the line of *frame* that has a *number*, by the *name* of its file; in a template, the template's."""
        if "_template_uri" in frame.f_globals:
            return self._in_mako(frame, instruction, number)
        if "__jinja_template__" in frame.f_globals:
            return _in_jinja2(frame.f_globals["__jinja_template__"], number)
        if not name:
            return None
        self._plain.add(frame.f_code.co_filename)  # a file is a template, or is none
        return f"{name}:{number}"

    def _in_mako(self, frame: FrameType, instruction: int, number: int) -> str:
        """Return the line of a Mako template that is rendered in *frame*, which takes long to find out."""
        key = frame.f_code, number
        if key not in self._templates:
            if len(self._templates) >= _MAX_LINES:
                self._templates.clear()
            self._templates[key] = _line_in_mako(TracebackType(None, frame, instruction, number))
        return self._templates[key]


def _short(path: str) -> str:
    return excerpt(path.removeprefix(_here()), _MAX_NAME)


def _absolute(path: str) -> str:
    return os.path.normpath(os.path.join(_here(), path))


def _here() -> str:
    """Return the working directory, with its separator; nothing for one that is gone."""
    try:
        return os.path.join(os.getcwd(), "")
    except OSError:
        return ""


def _in_jinja2(template: Any, number: int) -> str:
    """Return the line of a Jinja2 *template* from which the line of Python with a *number* was made."""
    file: str = template.filename or "<template>"
    name = excerpt(str(template.name), _MAX_NAME) if file.startswith("<") else _short(file)
    return f"{name}:{template.get_corresponding_lineno(number)}"


def _line_in_mako(trace: TracebackType) -> str:
    """Ask Mako itself, as its own tracebacks do."""
    from mako.exceptions import RichTraceback  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]

    *_, name, line, _, _ = RichTraceback(Exception(), trace).records[0]
    return f"{_short(name)}:{line}"
