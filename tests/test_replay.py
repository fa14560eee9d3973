"""A request body that can be read again."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsgi_session.retry._replay import Reader, RequestBody

BODY = b"first line\nsecond\n\nlast, without an end"


class Source(io.BytesIO):
    """An input as a server makes it: it says how much it was asked for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked: list[int] = []

    def read(self, size: Any = None, /) -> bytes:
        self.asked.append(-1 if size is None else size)
        return super().read(size)


def body_of(content: bytes, *, max_body: int = 1000, max_in_memory: int = 1000, **environ: Any) -> RequestBody:
    """Make the body of a request that declares its length, if nothing else is said."""
    environ = {"wsgi.input": Source(content), "CONTENT_LENGTH": str(len(content)), **environ}
    return RequestBody(environ, max_body=max_body, max_in_memory=max_in_memory)


def source_of(body: RequestBody) -> Any:
    """Return the server's input."""
    return body._source


sizes = st.integers(0, 50)
reads = st.one_of(
    st.tuples(st.just("read"), sizes),
    st.tuples(st.just("readline"), sizes),
    st.just(("readline",)),
    st.tuples(st.just("readlines"), sizes),
    st.just(("read",)),
    st.just(("readlines",)),
)


def read_by(reader: Any, how: list[Any]) -> list[Any]:
    """Read in the ways that *how* names, and what is left after them."""
    return [getattr(reader, name)(*arguments) for name, *arguments in [*how, ("read",), ("read", 1)]]


@example(BODY, [[("readlines", 2)]], 50)
@given(st.binary(max_size=60) | st.just(BODY), st.lists(st.lists(reads, max_size=6), min_size=1, max_size=4), sizes)
def test_each_attempt_reads_the_same(content: bytes, attempts: Any, max_in_memory: int) -> None:
    """In whatever pieces, after whatever others have read before: as from a file."""
    body = body_of(content, max_in_memory=max_in_memory)

    for how in attempts:
        reader = body.reader()
        for name, *arguments in how:
            expected = io.BytesIO(content)
            expected.seek(reader._position)
            assert getattr(reader, name)(*arguments) == getattr(expected, name)(*arguments)
    assert read_by(body.reader(), []) == [content, b""]
    body.close()


def test_its_lines(tmp_path: Any) -> None:
    """It is iterated by lines, again and again."""
    body = body_of(BODY)

    assert list(body.reader()) == list(io.BytesIO(BODY))
    assert list(body.reader()) == list(io.BytesIO(BODY))
    body.close()


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """The client may not have sent more: the server is asked for just what the application asks for."""
    body = body_of(BODY)

    assert body.reader().read(5) == b"first"
    assert source_of(body).asked == [5]
    assert body.reader().read(7) == b"first l"
    assert source_of(body).asked == [5, 2]
    body.close()


def test_no_more_than_the_declared_length_is_asked_for() -> None:
    """Behind it is the client's next request, or nothing at all."""
    body = body_of(BODY + b"GET / HTTP/1.1", CONTENT_LENGTH=str(len(BODY)))

    assert body.reader().read() == BODY
    assert body.reader().read(1000) == BODY
    assert [*body.reader()][-1] == b"last, without an end"
    assert source_of(body).asked == [len(BODY)]
    body.close()


@pytest.mark.parametrize("declared", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "many"}, {"CONTENT_LENGTH": "-1"}])
def test_without_a_length_there_is_no_body(declared: Any) -> None:
    """PEP 3333: what is not declared is not there, and a server that was asked for it would wait for ever."""
    environ = {"wsgi.input": Source(BODY), **declared}
    body = RequestBody(environ, max_body=1000, max_in_memory=1000)

    assert body.reader().read() == b""
    assert body.reader().read(10) == b""
    assert body.reader().readline() == b""
    assert source_of(body).asked == []
    body.close()


@pytest.mark.parametrize("mark", [{"wsgi.input_terminated": True}, {"HTTP_TRANSFER_ENCODING": "chunked"}])
def test_a_server_that_marks_the_end(mark: Any) -> None:
    """With ``wsgi.input_terminated``, and where the server has decoded chunks, it ends where it ends."""
    environ = {"wsgi.input": Source(BODY), **mark}
    body = RequestBody(environ, max_body=1000, max_in_memory=1000)

    assert body.reader().read() == BODY
    assert body.reader().read() == BODY
    body.close()


def test_what_is_too_long_is_not_kept() -> None:
    """It is read all the same, once; that it cannot be read again is known before it is, if its length is declared."""
    declared = body_of(BODY, max_body=10)
    chunked = RequestBody({"wsgi.input": Source(BODY), "wsgi.input_terminated": 1}, max_body=10, max_in_memory=5)

    assert not declared.is_whole
    reader: Reader = chunked.reader()
    assert reader.read(8) == BODY[:8]
    assert chunked.is_whole
    assert reader.read(8) == BODY[8:16]
    assert not chunked.is_whole
    assert reader.read() == BODY[16:]
    assert declared.reader().read() == BODY
    declared.close()
    chunked.close()


def test_what_is_long_is_on_disk() -> None:
    """Beyond a threshold it takes no memory."""
    body = body_of(BODY, max_in_memory=10)

    body.reader().read(10)
    assert not body._read._rolled  # type: ignore[attr-defined]
    body.reader().read(11)
    assert body._read._rolled  # type: ignore[attr-defined]
    assert body.reader().read() == BODY
    body.close()


def test_nothing_is_kept_in_memory() -> None:
    """With ``max_in_memory=0`` the first byte is on disk."""
    body = body_of(BODY, max_in_memory=0)

    body.reader().read()

    assert body._read is not None
    assert body._read.fileno() > 0
    assert body.reader().read() == BODY
    body.close()


def test_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An upload that no temporary file can be made for is served all the same, and not read again."""

    def no_space(*of_the_call: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wsgi_session.retry._replay.TemporaryFile", no_space)
    body = body_of(BODY, max_in_memory=0)
    reader = body.reader()

    assert reader.read(5) + reader.read() == BODY
    assert not body.is_whole
    assert "its request is not repeated" in caplog.text
