"""The ``Server-Timing`` header, and the hook that is asked when a request begins."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from sqlalchemy import text

from tests.helpers import App, Exchange, answer, both_ways, request
from wsgi_session import SessionMiddleware, on_success
from wsgi_session.observe import Recorder, RequestRecord

SELECT = text("SELECT 1")


def timings(exchange: Exchange) -> list[str]:
    """List the Server-Timing headers of a response."""
    return [value for name, value in exchange.headers if name == "Server-Timing"]


def milliseconds(exchange: Exchange, name: str) -> float:
    """Read a number of the only Server-Timing header of a response."""
    found = re.search(rf"\b{name};dur=([\d.]+)", timings(exchange)[0])
    assert found
    return float(found[1])


def asking(*headers: tuple[str, str], pause: float = 0) -> App:
    """Return an application that sends two statements, and holds its connection for *pause* seconds."""

    def app(environ: Any, start_response: Any) -> Any:
        for _ in range(2):
            environ["sqlalchemy.session"].execute(SELECT)
        time.sleep(pause)
        answer(start_response, "200 OK", *headers)
        return [b"."]

    return app


def test_a_response_says_nothing_of_its_time(engine: Any) -> None:
    """Without being asked for it, a recorder adds no header."""
    response = request(SessionMiddleware(asking(), engine, recorder=Recorder(statements=True)))  # type: ignore[arg-type]

    assert timings(response) == []


def test_a_response_says_where_its_time_went(engine: Any) -> None:
    """With ``server_timing=True`` it says what was spent in databases, waiting for connections and holding them."""
    recorder = Recorder(statements=True, server_timing=True)
    for app in both_ways(asking(pause=0.02), engine, recorder=recorder, commit=on_success):
        response = request(app)

        form = r'db;dur=\d+\.\d;desc="2 statements", dbwait;dur=\d+\.\d, dbheld;dur=\d+\.\d'
        assert re.fullmatch(form, timings(response)[0])
        assert 20 <= milliseconds(response, "dbheld") <= 1000 * recorder.records[-1].held
        assert milliseconds(response, "dbwait") == pytest.approx(1000 * recorder.records[-1].waited, abs=0.06)


def test_without_statements_it_says_less(engine: Any) -> None:
    """A recorder that records no statements says nothing of the time in databases."""
    response = request(SessionMiddleware(asking(), engine, recorder=Recorder(server_timing=True)))  # type: ignore[arg-type]

    assert re.fullmatch(r"dbwait;dur=\d+\.\d, dbheld;dur=\d+\.\d", timings(response)[0])


def test_the_application_keeps_its_own(engine: Any) -> None:
    """A header of the application's own comes first, and its list stays as it was."""
    headers = [("Content-Type", "text/plain"), ("Server-Timing", "cache;desc=hit")]

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", headers)
        return []

    response = request(SessionMiddleware(app, engine, recorder=Recorder(server_timing=True)))

    assert timings(response) == ["cache;desc=hit", "dbwait;dur=0.0, dbheld;dur=0.0"]
    assert headers == [("Content-Type", "text/plain"), ("Server-Timing", "cache;desc=hit")]


def test_a_later_error_has_its_own_time(engine: Any) -> None:
    """A second ``start_response`` with ``exc_info`` is passed on with it, and has the numbers of then."""
    calls: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        environ["sqlalchemy.session"].execute(SELECT)
        try:
            raise LookupError
        except LookupError as error:
            start_response("500 Oh", [], (LookupError, error, None))
        return []

    app = SessionMiddleware(app, engine, recorder=Recorder(statements=True, server_timing=True))  # type: ignore[assignment]
    list(app({"REQUEST_METHOD": "GET"}, lambda *call: calls.append(call) or print))

    assert 'desc="0 statements"' in calls[0][1][-1][1]
    assert 'desc="1 statements"' in calls[1][1][-1][1]
    assert calls[1][2][0] is LookupError


def test_some_may_see_it(engine: Any) -> None:
    """A function of the environ decides who is told; one that fails tells nobody, and harms no request."""
    recorder = Recorder(server_timing=lambda environ: environ["HTTP_X_STAFF"] == "yes")
    app = SessionMiddleware(asking(), engine, recorder=recorder)  # type: ignore[arg-type]

    assert timings(request(app, HTTP_X_STAFF="yes"))
    assert timings(request(app, HTTP_X_STAFF="no")) == []
    assert timings(request(app)) == []


@pytest.mark.parametrize("name", ["server_timing", "on_begin"])
def test_what_could_never_run_is_refused(name: str) -> None:
    """Something else than a function is a `TypeError` when the recorder is made."""
    with pytest.raises(TypeError, match=f"{name} has to be callable"):
        Recorder(**{name: "yes"})  # type: ignore[arg-type]


def test_the_beginning_says_who_is_told_at_the_end(engine: Any) -> None:
    """The hook at the beginning sees the environ, and what it returns is told of that request alone."""
    told: list[tuple[str, RequestRecord]] = []

    def beginning(environ: Any) -> Any:
        path = environ["PATH_INFO"]
        return None if path == "/b" else lambda record: told.append((path, record))

    app = SessionMiddleware(asking(), engine, recorder=(recorder := Recorder(on_begin=beginning)))  # type: ignore[arg-type]
    for path in ("/a", "/b", "/c"):
        request(app, path=path)

    first, _, last = recorder.records
    assert told == [("/a", first), ("/c", last)]


def test_a_failing_hook_at_the_beginning_is_logged(engine: Any, caplog: Any) -> None:
    """A hook that fails at the beginning is logged; the request is answered, and recorded."""

    def beginning(environ: Any) -> Any:
        raise LookupError

    recorder = Recorder(on_begin=beginning)

    assert request(SessionMiddleware(asking(), engine, recorder=recorder)).status == "200 OK"  # type: ignore[arg-type]
    assert len(recorder.records) == 1
    assert "beginning" in caplog.text


def test_records_are_numbered(engine: Any) -> None:
    """Requests are numbered by their beginnings, and a live one has the number that its record will have."""
    recorder = Recorder()
    live = []

    def app(environ: Any, start_response: Any) -> Any:
        live.extend(one.number for one in recorder.live())
        answer(start_response)
        return []

    app = SessionMiddleware(app, engine, recorder=recorder)  # type: ignore[assignment]
    for _ in range(3):
        request(app)

    assert live == [record.number for record in recorder.records] == [1, 2, 3]


def test_records_are_forgotten(engine: Any) -> None:
    """A recorder that is cleared has no records, and counts on."""
    recorder = Recorder()
    app = SessionMiddleware(asking(), engine, recorder=recorder)  # type: ignore[arg-type]
    request(app)

    recorder.clear()
    request(app)

    assert [record.number for record in recorder.records] == [2]
    assert recorder.gauges().finished == 2
