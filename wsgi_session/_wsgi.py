"""PEP 3333: what a body, a status line and the headers say."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ._log import log

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

Headers = list[tuple[str, str]]


class Repeating:
    """What calls its application again, and so belongs outside of every `SessionMiddleware`."""


@lru_cache(maxsize=128)
def status_code(status: str) -> int:
    """Read the number of a status line, such as ``"200 OK"``.

    Raises:
        ValueError: If it does not begin with three digits.
    """
    code = status[:3]
    if len(code) == 3 and code.isascii() and code.isdigit():
        return int(code)
    raise ValueError(f"A status has to begin with three digits, such as '200 OK'; this one is {status!r}.")


def known_code(status: Any) -> int | None:
    """Read the number of a status line; None of what is none."""
    try:
        return status_code(status)
    except (TypeError, ValueError):
        return None


def is_error(status: Any) -> bool:
    """Say whether a status line is one of an error, from 400 on; what is none is not."""
    code = known_code(status)
    return code is not None and code >= 400


def content_length(headers: Headers) -> int | None:
    """Read the declared length of a body in bytes, or None if it is not declared, declared twice or invalid."""
    declared = [value for name, value in headers if name.lower() == "content-length"]
    return _length(declared[0]) if len(declared) == 1 else None


def request_length(environ: WSGIEnvironment) -> int | None:
    """Read the declared length of a request's body in bytes, or None if the server marks its end.

    Without a length there is no body (PEP 3333), but for ``wsgi.input_terminated`` and for chunks that it has decoded.
    """
    if environ.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" in environ:
        return None
    return _length(environ.get("CONTENT_LENGTH", "")) or 0


def _length(declared: str) -> int | None:
    length = declared.strip()
    return int(length) if length.isascii() and length.isdigit() else None


def method_and_path(environ: WSGIEnvironment) -> str:
    """Name a request for a reader of the log."""
    return escaped(
        f"{environ.get('REQUEST_METHOD', '-')} {environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    )


def escaped(text: str) -> str:
    """Return a *text* of a client's for a reader of the log, with line breaks and the like escaped."""
    return text.encode("unicode_escape").decode("ascii")


def is_file(body: object, file_wrapper: Any) -> bool:
    """Say whether *body* is the server's own wrapper around a real file.

    Args:
        body: What the application returned.
        file_wrapper: ``environ["wsgi.file_wrapper"]`` as it was before the application was called.

    A server recognises its wrapper by its class; where ``wsgi.file_wrapper`` is a plain function, as in uWSGI, by the
    identity of the file itself. Either way it has to be handed on as it is. A real file answers ``fileno()``. A wrapper
    that does not show its file, such as bjoern's, is taken for one around a real file.
    """
    if file_wrapper is None:
        return False
    if isinstance(file_wrapper, type):
        return isinstance(body, file_wrapper) and (_has_descriptor(body) or not _shows_file(body))
    return hasattr(body, "read") and _has_descriptor(body)


def is_finished(body: object, file_wrapper: Any) -> bool:
    """Say whether no code of the application is left to run in *body*: a list, a tuple, or the server's file."""
    kind = type(body)
    return kind is list or kind is tuple or is_file(body, file_wrapper)


def close(body: Any) -> None:
    """Close *body*, if it can be closed (PEP 3333)."""
    if hasattr(body, "close"):
        body.close()


def close_quietly(body: object) -> None:
    """Close a *body* that is thrown away, because of an error that is the one to report."""
    try:
        close(body)
    except Exception:
        log.warning("The close() of %r failed; ignored.", body, exc_info=True)


def is_iterable(body: object) -> bool:
    """Say whether ``iter(body)`` has anything to call."""
    return hasattr(body, "__iter__") or hasattr(body, "__getitem__")


def _shows_file(body: object) -> bool:
    return any(hasattr(body, name) for name in ("fileno", "filelike", "file"))


def _has_descriptor(body: object) -> bool:
    return any(_answers_fileno(file) for file in (body, getattr(body, "filelike", None), getattr(body, "file", None)))


def _answers_fileno(file: Any) -> bool:
    try:
        return isinstance(file.fileno(), int)
    except Exception:  # it is the user's, and what raises is no file
        return False
