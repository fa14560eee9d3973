"""Guarantee 7: transparent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest

from tests.helpers import Exchange, all_words, answer, both_ways, new_environ, request
from wsgi_session import SessionMiddleware, never, on_success, until_close

KEY = "sqlalchemy.session"
RULES = pytest.mark.parametrize("commit", [until_close, on_success, never])


@RULES
@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_and_tuples_are_handed_on_as_they_are(kind: Any, commit: Any, Session: Any) -> None:
    """The very object that the application returned is what the server gets."""
    body = kind([b"x"])

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return body

    assert Exchange(SessionMiddleware(app, Session, commit=commit)).result is body


@RULES
@pytest.mark.parametrize("kind", ["class", "function", "attribute"])
def test_file_wrappers_are_handed_on_as_they_are(kind: str, commit: Any, Session: Any, tmp_path: Path) -> None:
    """By class, as most servers have it; by the identity of the file, as uWSGI; whatever the attribute's name."""
    path = tmp_path / "file"
    path.write_bytes(b"x")

    class Wrapper:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.file)

    wrappers = {"class": FileWrapper, "function": lambda file: file, "attribute": Wrapper}
    given: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        given.append(environ["wsgi.file_wrapper"](path.open("rb")))
        return given[0]

    app_ = SessionMiddleware(app, Session, commit=commit)
    exchange = Exchange(app_, **{"wsgi.file_wrapper": wrappers[kind]})

    assert exchange.result is given[0]
    exchange.read().close()
    getattr(given[0], "file", given[0]).close()


@pytest.mark.parametrize("body", ["no wrapper", "closed", "no file"])
def test_what_only_looks_like_a_file_is_stepped(body: str, Session: Any, tmp_path: Path) -> None:
    """A file where the server has no wrapper, a closed one, or one whose ``fileno`` is nonsense has its scope."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    file: Any = path.open("rb")
    if body == "closed":
        file.close()

    class Odd:
        fileno = None
        read = None

        def __iter__(self) -> Iterator[bytes]:
            yield repr(all_words(Session)).encode()

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Odd() if body == "no file" else file

    environ = {} if body == "no wrapper" else {"wsgi.file_wrapper": lambda file: file}
    exchange = Exchange(SessionMiddleware(app, Session), **environ)

    assert exchange.result is not file
    exchange.close()
    file.close()


@RULES
def test_valid_on_both_sides(commit: Any, Session: Any) -> None:
    """A valid application stays valid, seen from the server; a valid server stays valid, seen from the application."""

    def app(environ: Any, start_response: Any) -> Any:
        all_words(Session)
        if environ["PATH_INFO"] == "/write":
            write = start_response("200 OK", [("Content-Type", "text/plain")])
            write(b"x")
            return [b"y"]
        answer(start_response)
        return {"/list": list, "/iterator": iter}[environ["PATH_INFO"]]([b"x", b"y"])

    for wrapped in both_ways(app, Session, commit=commit):
        for path in ("/write", "/list", "/iterator"):
            exchange = request(wrapped, path=path)

            assert exchange.status == "200 OK"
            assert exchange.headers == [("Content-Type", "text/plain")]
            assert exchange.body == b"xy"


@RULES
@pytest.mark.parametrize("is_wrapped", [True, False])
def test_chunks_and_headers_are_as_without(commit: Any, is_wrapped: bool, Session: Any) -> None:
    """Status, the list of headers, chunks and their boundaries are what they are without the middleware."""
    headers = [("Content-Type", "text/plain"), ("X-Two", "1"), ("X-Two", "2")]

    def app(environ: Any, start_response: Any) -> Any:
        start_response("218 This is fine", headers)
        return iter([b"a", b"bb", b"", b"c"])

    exchange = Exchange(SessionMiddleware(app, Session, commit=commit) if is_wrapped else app)
    chunks = [exchange.step() for _ in range(5)]
    exchange.close()

    assert exchange.status == "218 This is fine"
    assert exchange.headers is headers
    assert chunks == [b"a", b"bb", b"", b"c", None]


@RULES
def test_empty_chunks_before_start_response_are_handed_on(commit: Any, Session: Any) -> None:
    """What a server makes of them is not for a middleware to change."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield b""
        yield b""
        answer(start_response)
        yield b"x"

    exchange = Exchange(SessionMiddleware(app, Session, commit=commit))

    assert [exchange.step(), exchange.status] == [b"", None]
    assert [exchange.step(), exchange.status] == [b"", None]
    assert [exchange.step(), exchange.status] == [b"x", "200 OK"]
    exchange.read().close()


@RULES
def test_a_chunk_before_start_response_is_the_servers_to_complain_about(commit: Any, Session: Any) -> None:
    """It is handed on as it is."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield b"x"

    with pytest.raises(AssertionError, match="before start_response"):
        request(SessionMiddleware(app, Session, commit=commit))


@pytest.mark.parametrize("commit", [never, until_close])
def test_without_a_rule_nothing_is_held_back(commit: Any, Session: Any) -> None:
    """The server's ``start_response`` is called when the application calls it; its ``write()`` is the server's, too."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(start_response("200 OK", []))
        seen.append("returned")
        return [b""]

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        seen.append(status)
        return print

    SessionMiddleware(app, Session, commit=commit)(new_environ(), start_response)

    assert seen == ["200 OK", print, "returned"]


@RULES
def test_exc_info_is_passed_on(commit: Any, Session: Any) -> None:
    """Before anything was sent, the server sees the last answer, with the application's ``exc_info``."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        try:
            raise ValueError("handled")
        except ValueError:
            start_response("500 Handled", [], sys.exc_info())
        return [b""]

    def start_response(*args: Any) -> Any:
        seen.append(args)

    SessionMiddleware(app, Session, commit=commit)(new_environ(), start_response)

    [(status, headers, (kind, error, traceback))] = seen
    assert (status, headers, kind, str(error)) == ("500 Handled", [], ValueError, "handled")
    assert traceback is not None


@RULES
def test_the_environ_is_the_servers_own(commit: Any, Session: Any) -> None:
    """The application gets the very dict of the server, with nothing added but the session."""
    environ = new_environ()
    before = set(environ)
    seen: list[Any] = []

    def app(inner: Any, start_response: Any) -> Any:
        seen.append(inner)
        answer(start_response)
        return [b""]

    Exchange(SessionMiddleware(app, Session, commit=commit, environ_key="db"), environ=environ)

    assert seen[0] is environ
    assert set(environ) - before == {"db"}


@RULES
def test_the_exception_is_the_applications_own(commit: Any, Session: Any) -> None:
    """Type, value and cause are what they are without the middleware."""
    error = KeyError("x")

    def app(environ: Any, start_response: Any) -> Any:
        raise error from ValueError("cause")

    with pytest.raises(KeyError) as caught:
        request(SessionMiddleware(app, Session, commit=commit))

    assert caught.value is error
    assert isinstance(error.__cause__, ValueError)
    assert error.__context__ is None


@RULES
def test_iter_may_be_called_more_than_once(commit: Any, Session: Any) -> None:
    """A server may call ``iter()`` several times, or ``next()`` without it."""
    asked: list[int] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            asked.append(1)
            return iter([b"x", b"y"])

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Body()

    app = SessionMiddleware(app, Session, commit=commit)
    result = Exchange(app).result
    assert iter(result) is iter(result)
    assert list(result) == [b"x", b"y"]
    result.close()
    result = Exchange(app).result
    assert next(result) == b"x"
    result.close()

    assert len(asked) == 2


def test_old_iteration(Session: Any) -> None:
    """A body that has only ``__getitem__`` is iterated, as Python does it."""

    class Body:
        def __getitem__(self, index: int) -> bytes:
            return [repr(all_words(Session)).encode()][index]

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Body()

    assert request(SessionMiddleware(app, Session)).body == b"[]"


def test_a_subclass_of_list_is_stepped(Session: Any) -> None:
    """Code of the application's may run in it."""

    class Rows(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            yield repr(all_words(Session)).encode()

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Rows()

    assert request(SessionMiddleware(app, Session)).body == b"[]"


def test_the_response_has_no_length(Session: Any) -> None:
    """Servers iterate a sized body twice, to count it."""
    result = Exchange(SessionMiddleware(lambda environ, start_response: iter([]), Session)).result

    with pytest.raises(TypeError):
        len(result)


@RULES
def test_an_empty_body_that_begins_late(commit: Any, Session: Any) -> None:
    """A generator application that yields nothing is answered as it says."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response, "204 No Content")
        yield from ()

    assert request(SessionMiddleware(app, Session, commit=commit)).status == "204 No Content"
