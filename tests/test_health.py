"""The health check: whether each engine can be used now, said in time, and to nobody more than he is to know."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from tests.helpers import Exchange, is_clean, request
from wsgi_session.health import EngineHealth, HealthCheck


def threads() -> list[threading.Thread]:
    """List the threads of health checks."""
    return [one for one in threading.enumerate() if one.name == "wsgi_session health check"]


def test_all_is_well(engine: Engine) -> None:
    """Where every engine answers it is 200, and nothing is held afterwards."""
    exchange = request(HealthCheck(engine, timeout=10))

    assert (exchange.status, exchange.body) == ("200 OK", b'{"is_ready": true}')
    assert ("Cache-Control", "no-store") in exchange.headers
    assert is_clean(engine)


def test_a_head_has_no_body(engine: Engine) -> None:
    """HEAD is answered without a body."""
    exchange = Exchange(HealthCheck(engine, timeout=10), "HEAD")

    assert (exchange.status, exchange.result) == ("200 OK", [])


def test_a_database_that_is_not_there(engine: Engine, tmp_path: Any) -> None:
    """One engine that fails is a 503, and who may know is told which, and the name of the error, without its text."""
    gone = create_engine(f"sqlite:///{tmp_path / 'secret' / 'no.db'}", logging_name="gone")
    check = HealthCheck(engine, gone, timeout=10, details=lambda environ: environ["PATH_INFO"] == "/details")

    plain, detailed = request(check), request(check, path="/details")

    assert (plain.status, plain.body) == ("503 Service Unavailable", b'{"is_ready": false}')
    assert b'"engine": "gone", "is_ready": false' in detailed.body
    assert b'"error": "OperationalError: OperationalError SQLITE_CANTOPEN"' in detailed.body
    assert b"secret" not in detailed.body


def test_a_pool_that_is_used_up(new_engine: Any) -> None:
    """A pool that gives nothing in time is not ready, and checks that wait for it share one thread."""
    engine = new_engine(pool_size=1, pool_timeout=60)
    check = HealthCheck(engine, timeout=0.05)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        with ThreadPoolExecutor() as pool:
            found = [one for (one,) in pool.map(lambda _: check.check(), range(4))]
        waiting = threads()

    assert len(waiting) == 1
    waiting[0].join(30)
    assert {one.is_ready for one in found} == {False}
    assert {str(one.error).split("0.")[0] for one in found} == {"no answer for "}
    assert HealthCheck(engine, timeout=30).check()[0].is_ready
    assert is_clean(engine)


@pytest.mark.parametrize(
    ("seconds", "max_behind", "is_ready"), [(3.0, None, True), (3.0, 5, True), (3.0, 1, False), (None, 1, True)]
)
def test_how_far_a_replica_is_behind(seconds: Any, max_behind: Any, is_ready: bool, engine: Engine) -> None:
    """What tells how far a replica is behind is asked on its connection; from a limit on it is not ready."""

    def behind(connection: Any) -> float | None:
        return connection.scalar(text("SELECT :seconds"), {"seconds": seconds})  # type: ignore[no-any-return]

    (found,) = HealthCheck(engine, timeout=10, behind=behind, max_behind=max_behind).check()

    assert (found.is_ready, found.behind) == (is_ready, seconds)
    assert found.error == (None if is_ready else "3.000 s behind")
    assert isinstance(found, EngineHealth)


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((), {}, "takes one Engine or more"),
        (("sqlite://",), {}, "takes one Engine or more"),
        (None, {"behind": 1}, "behind has to be callable"),
        (None, {"details": 1}, "details has to be callable"),
    ],
)
def test_what_is_no_check(arguments: Any, options: Any, error: str, engine: Engine) -> None:
    """An argument of another kind is refused."""
    with pytest.raises(TypeError, match=error):
        HealthCheck(*((engine,) if arguments is None else arguments), **options)


@pytest.mark.parametrize("options", [{"timeout": -1}, {"timeout": "1"}, {"max_behind": -1}])
def test_no_number_of_seconds(options: Any, engine: Engine) -> None:
    """A number that is no number of seconds is refused."""
    with pytest.raises(ValueError, match="has to be a number of seconds"):
        HealthCheck(engine, **options)
