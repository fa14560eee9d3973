"""The outcome of a request: one sentence says what the library has decided, and why."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from jinja2 import Environment
from mako.template import Template  # type: ignore[import-untyped]
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import sessionmaker

from tests.helpers import Word, add_words, all_words, answer, new_environ, orphan, request
from tests.test_retry_in_frameworks import django_app, falcon_app, flask_app
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    current_scope,
    from_veto,
    never,
    on_commit,
    on_success,
    on_unsafe_success,
    session_scope,
    until_close,
)
from wsgi_session.observe import FindingKind, OutcomeKind, Recorder

KEY = "sqlalchemy.session"

LEVELS = pytest.mark.parametrize("statements", [False, True], ids=["pool", "statements"])


def read(session: Any) -> None:
    """Read."""
    all_words(session)


def write(session: Any) -> None:
    """Add an object."""
    add_words(session, "secret")


def send(session: Any) -> None:
    """Send an object."""
    add_words(session, "secret")
    session.flush()


def commit(session: Any) -> None:
    """Write, and commit in the view."""
    add_words(session, "secret")
    session.commit()


def commit_a_savepoint(session: Any) -> None:
    """Write in a savepoint, which is no commit where something was written before it."""
    add_words(session, "before")
    session.flush()
    with session.begin_nested():
        add_words(session, "secret")


def remove(session: Any) -> None:
    """Write, and throw it away."""
    add_words(session, "secret")
    session.close()


def roll_back(session: Any) -> None:
    """Write, and take it back."""
    add_words(session, "secret")
    session.rollback()


def doom(session: Any) -> None:
    """Write, and have it rolled back."""
    add_words(session, "secret")
    current_scope().doom()


def fail(session: Any) -> None:
    """Write, and fail."""
    add_words(session, "secret")
    raise RuntimeError("secret")


def commit_and_fail(session: Any) -> None:
    """Write, commit, and fail."""
    commit(session)
    raise RuntimeError("secret")


def break_a_constraint(session: Any) -> None:
    """Have the COMMIT fail, or the flush before it."""
    session.add(orphan())
    session.add(Word(id=None, text=None))


def nothing(session: Any) -> None:
    """Do nothing."""


def refuse(environ: Any, status: int, headers: Any) -> bool:
    """Commit nothing."""
    return False


def fail_to_decide(environ: Any, status: int, headers: Any) -> bool:
    """Fail."""
    raise KeyError("secret")


class Rule:
    """A rule that has no name, and no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, environ: Any, status: int, headers: Any) -> bool:
        """Commit nothing."""
        return False

    def __repr__(self) -> str:
        """Show it."""
        return "Rule" + "!" * 500


HERE = r"tests/test_observe_outcome\.py:\d+"

CASES: list[tuple[Any, Any, str, str, str]] = [
    (on_unsafe_success, write, "POST", "303 See Other", "committed: POST 303, on_unsafe_success"),
    (on_unsafe_success, commit_a_savepoint, "POST", "200 OK", "committed: POST 200, on_unsafe_success"),
    (
        on_unsafe_success,
        nothing,
        "POST",
        "200 OK",
        r"not committed: there was nothing to commit \(on_unsafe_success\)",
    ),
    (on_unsafe_success, read, "GET", "200 OK", "not committed: GET is safe"),
    (on_unsafe_success, commit, "GET", "200 OK", f"committed: by the application in {HERE}"),
    (on_unsafe_success, commit, "POST", "200 OK", f"committed: by the application in {HERE}"),
    (on_unsafe_success, write, "POST", "422 No", "rolled back: POST 422"),
    (on_unsafe_success, doom, "POST", "200 OK", f"rolled back: doomed in {HERE}"),
    (on_unsafe_success, fail, "POST", "200 OK", f"rolled back: RuntimeError in {HERE}"),
    (on_unsafe_success, break_a_constraint, "POST", "200 OK", "rolled back: IntegrityError: .*, before or in COMMIT"),
    (fail_to_decide, write, "POST", "200 OK", f"rolled back: KeyError in {HERE}"),
    (on_success, write, "GET", "200 OK", "committed: GET 200, on_success"),
    (on_success, write, "GET", "oh", "rolled back: ValueError"),
    (refuse, read, "POST", "200 OK", "not committed: refuse says no to POST 200"),
    (from_veto(lambda *_: True), read, "POST", "200 OK", "not committed: rule says no to POST 200"),
    (Rule(), read, "POST", "200 OK", r"not committed: Rule!{196}\.\.\. says no to POST 200"),
    (never, read, "GET", "200 OK", r"not committed: that is left to the views \(never\)"),
    (never, commit, "POST", "200 OK", f"committed: by the application in {HERE}"),
    (never, commit, "POST", "404 No", f"rolled back: POST 404; before, committed by the application in {HERE}"),
    (never, commit_and_fail, "POST", "", f"rolled back: RuntimeError in {HERE}; before, committed by the .* in {HERE}"),
    (never, commit_a_savepoint, "POST", "200 OK", "lost: flushed changes, not committed"),
    (never, write, "POST", "200 OK", "lost: 1 new Word, not committed"),
    (never, send, "POST", "200 OK", "lost: flushed changes, not committed"),
    (never, remove, "POST", "200 OK", r"lost: 1 new Word, thrown away by 'session\.close\(\)'"),
    (never, roll_back, "POST", "200 OK", r"not committed: that is left to the views \(never\)"),
    (until_close, read, "GET", "200 OK", r"not committed: that is left to the application \(until_close\)"),
    (until_close, commit, "POST", "200 OK", f"committed: by the application in {HERE}"),
    (until_close, write, "POST", "500 No", r"not committed: that is left to the application \(until_close\)"),
    (until_close, fail, "POST", "", f"rolled back: RuntimeError in {HERE}"),
]


@LEVELS
@pytest.mark.parametrize(("rule", "work", "method", "status", "sentence"), CASES)
def test_the_outcome_and_why(
    rule: Any, work: Any, method: str, status: str, sentence: str, statements: bool, engine: Engine
) -> None:
    """It says who has committed, in which line, or why nobody has; at both levels of the recorder, without a value."""
    recorder = Recorder(statements=statements)

    def app(environ: Any, start_response: Any) -> Any:
        work(environ[KEY])
        answer(start_response, status)
        return []

    with suppress(Exception):
        request(SessionMiddleware(app, engine, recorder=recorder, commit=rule), method)

    (record,) = recorder.records
    assert re.fullmatch(sentence, str(record.outcome)), str(record.outcome)
    assert record.outcome.kind.value == sentence.partition(":")[0]
    assert f"({record.outcome})" in str(record)
    assert "secret" not in repr(record)


@LEVELS
@pytest.mark.parametrize("work", [write, send, remove, roll_back, commit, read, fail, doom, commit_a_savepoint])
@pytest.mark.parametrize("rule", [never, on_unsafe_success])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_record_and_the_log_agree(
    work: Any, rule: Any, method: str, statements: bool, engine: Engine, caplog: Any
) -> None:
    """What the log says is lost, the record says in the same words, with the same remedy; and nothing else is."""
    recorder = Recorder(statements=statements)

    def app(environ: Any, start_response: Any) -> Any:
        work(environ[KEY])
        answer(start_response)
        return []

    with suppress(RuntimeError):
        request(SessionMiddleware(app, engine, recorder=recorder, commit=rule), method)

    (record,) = recorder.records
    said = [one.getMessage() for one in caplog.records if " has lost what it wrote: " in one.getMessage()]
    told = [f"{method} / has lost what it wrote: {one.subject}. {one.cure}" for one in record.findings]
    assert said == told
    assert (record.outcome.kind is OutcomeKind.LOST) == bool(said)
    if record.loss is not None:
        assert (record.loss.what, record.loss.remedy) == (record.findings[0].subject, record.findings[0].cure)


def test_a_body_that_fails_after_commit(engine: Engine, recorder: Recorder) -> None:
    """What was committed before the first byte stays so; the error comes behind it."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        write(environ[KEY])
        answer(start_response)
        yield b"x"
        raise RuntimeError("secret")

    with pytest.raises(RuntimeError):
        request(SessionMiddleware(app, engine, recorder=recorder, commit=on_success))

    (record,) = recorder.records
    assert re.fullmatch(f"committed: GET 200, on_success; then failed: RuntimeError in {HERE}", str(record.outcome))


def test_a_body_that_writes_after_commit(engine: Engine, recorder: Recorder) -> None:
    """What the body has written after the COMMIT of a rule is lost, though that was committed."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        write(environ[KEY])
        answer(start_response)
        yield b"x"
        write(environ[KEY])

    request(SessionMiddleware(app, engine, recorder=recorder, commit=on_success))

    (record,) = recorder.records
    assert str(record.outcome) == "lost: 1 new Word, not committed; before, committed: GET 200, on_success"


def test_the_application_may_not_answer(engine: Engine, recorder: Recorder) -> None:
    """Who returns without a call of ``start_response`` has committed nothing."""
    app = SessionMiddleware(
        lambda environ, start: write(environ[KEY]) or [], engine, recorder=recorder, commit=on_success
    )
    app(new_environ(), lambda *_: lambda data: None)

    assert str(recorder.records[0].outcome) == "rolled back: start_response was not called"


@pytest.mark.parametrize("rule", [never, on_success])
@pytest.mark.parametrize("is_late", [False, True])
def test_an_error_that_comes_with_exc_info(rule: Any, is_late: bool, engine: Engine, recorder: Recorder) -> None:
    """An error that the application hands on to the server is named, and where it was raised."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        if is_late:
            answer(start_response)
            yield b"x"
        try:
            fail(environ[KEY])
        except RuntimeError:
            with suppress(RuntimeError):
                start_response("500 Oh", [], sys.exc_info())
        yield b""

    request(SessionMiddleware(app, engine, recorder=recorder, commit=rule))

    (record,) = recorder.records
    too_late = "not committed: there was nothing to commit (on_success); then failed"
    begin = too_late if is_late and rule is on_success else "rolled back"
    assert re.fullmatch(f"{re.escape(begin)}: RuntimeError in {HERE}", str(record.outcome))


def bottle_app(view: Any, registry: Any) -> Any:
    """Make a Bottle application with one view."""
    import bottle  # type: ignore[import-untyped]

    app = bottle.Bottle()
    app.route("/<path:path>", "POST", lambda path: view(registry()))
    return app


@pytest.mark.parametrize("in_framework", [flask_app, django_app, falcon_app, bottle_app])
def test_an_error_that_a_framework_makes_a_page_of(in_framework: Any, engine: Engine, recorder: Recorder) -> None:
    """A 500 names the class of its error, and the line of the application that has raised it."""
    registry = RequestScopedSession(sessionmaker(engine))
    app = SessionMiddleware(in_framework(fail, registry), registry, recorder=recorder, commit=on_unsafe_success)

    exchange = request(app, "POST", "/view")

    (record,) = recorder.records
    assert exchange.status[:3] == "500"
    assert re.fullmatch(f"rolled back: RuntimeError in {HERE}(, answered with 500)?", str(record.outcome))
    assert "secret" not in repr(record)


def test_an_error_that_was_handled_is_not_the_reason(engine: Engine, recorder: Recorder) -> None:
    """An error that was logged is not named where the answer is none of the server's own errors."""

    def app(environ: Any, start_response: Any) -> Any:
        try:
            fail(environ[KEY])
        except RuntimeError:
            logging.getLogger("shop").exception("So what")
            logging.getLogger("shop").error("Without", exc_info=(None, None, None))
            environ["wsgi.errors"].writelines(["lines"])
        environ["wsgi.errors"].write("a line")
        environ["wsgi.errors"].flush()
        answer(start_response, "404 No")
        return []

    request(SessionMiddleware(app, engine, recorder=recorder))

    assert str(recorder.records[0].outcome) == "rolled back: GET 404"


def test_what_a_server_uses_again_is_not_wrapped_again(engine: Engine, recorder: Recorder) -> None:
    """A server that uses its environ again has its ``wsgi.errors`` wrapped once."""
    environ = new_environ()
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ["wsgi.errors"])
        answer(start_response)
        return []

    app = SessionMiddleware(app, engine, recorder=recorder)  # type: ignore[assignment]
    for _ in range(2):
        app(environ, lambda *_: lambda data: None)

    assert seen[0] is seen[1]


@pytest.mark.parametrize("kind", ["jinja2", "mako"])
def test_an_error_in_a_template(kind: str, engine: Engine, recorder: Recorder, tmp_path: Any) -> None:
    """It has the line of the template."""
    file = tmp_path / "page.html"
    file.write_text("<p>\n{{ 1 // 0 }}" if kind == "jinja2" else "<p>\n${1 // 0}")

    def app(environ: Any, start_response: Any) -> Any:
        if kind == "jinja2":
            from jinja2 import FileSystemLoader

            Environment(loader=FileSystemLoader(tmp_path)).get_template("page.html").render()
        Template(filename=str(file)).render()

    with pytest.raises(ZeroDivisionError):
        request(SessionMiddleware(app, engine, recorder=recorder))

    assert str(recorder.records[0].outcome) == f"rolled back: ZeroDivisionError in {file}:2"


def test_a_block_has_an_outcome_of_its_own(engine: Engine, recorder: Recorder, tmp_path: Any) -> None:
    """What a block in a request commits, or fails with, is not what became of the request's own session."""
    other = RequestScopedSession(sessionmaker(create_engine(f"sqlite:///{tmp_path / 'other.db'}")))

    def app(environ: Any, start_response: Any) -> Any:
        with suppress(RuntimeError), session_scope(other) as session:
            session.execute(text("SELECT 1"))
            raise RuntimeError
        answer(start_response)
        return []

    request(SessionMiddleware(app, engine, recorder=recorder, commit=on_unsafe_success))

    assert str(recorder.records[0].outcome) == "not committed: GET is safe"


def test_the_engine_that_was_chosen_is_named(engine: Engine, recorder: Recorder, tmp_path: Any) -> None:
    """Where each request chooses its engine, the outcome says which it was, by its label."""
    replica = create_engine(f"sqlite:///{tmp_path / 'replica.db'}", logging_name="replica 2")

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        answer(start_response)
        return []

    app = SessionMiddleware(app, engine, recorder=recorder, commit=on_unsafe_success, bind=lambda environ: replica)  # type: ignore[assignment]
    request(app)
    replica.dispose()

    assert str(recorder.records[0].outcome) == "not committed: GET is safe; on replica 2"


@pytest.mark.system("postgresql")
@pytest.mark.parametrize("conflicts", [1, 2, 3])
def test_an_attempt_knows_why_it_is_one(conflicts: int, postgresql_engine: Engine, recorder: Recorder) -> None:
    """Each attempt is a record, which says how often the request was repeated, and for which SQLSTATEs."""

    def app(environ: Any, start_response: Any) -> Any:
        write(environ[KEY])
        if environ["retry.attempt"] < conflicts:
            code = ("40001", "40P01")[environ["retry.attempt"] % 2]
            environ[KEY].execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'secret' USING ERRCODE = '{code}'; END $$"))
        answer(start_response)
        return []

    app = SessionMiddleware(app, postgresql_engine, recorder=recorder, commit=on_success)  # type: ignore[assignment]
    request(RetryMiddleware(app, attempts=5, wait=0), "POST")

    *failed, last = recorder.records
    assert re.fullmatch(rf"rolled back: OperationalError: SerializationFailure 40001 in {HERE}", str(failed[0].outcome))
    assert (
        str(last.outcome)
        == {
            1: "committed: POST 200, on_success; repeated once: 40001",
            2: "committed: POST 200, on_success; repeated twice: 40001, 40P01",
            3: "committed: POST 200, on_success; repeated 3 times: 40001, 40P01",
        }[conflicts]
    )
    assert [record.attempt for record in recorder.records] == list(range(conflicts + 1))
    assert "secret" not in repr(recorder.records)


def test_what_has_no_code_is_named_by_its_class(engine: Engine, recorder: Recorder) -> None:
    """An error that the application has declared worth another attempt may have no code."""

    def app(environ: Any, start_response: Any) -> Any:
        if environ["retry.attempt"] == 0:
            raise KeyError("secret")
        answer(start_response)
        return []

    app = SessionMiddleware(app, engine, recorder=recorder)  # type: ignore[assignment]
    request(RetryMiddleware(app, wait=0, is_retryable=lambda error: isinstance(error, KeyError)))

    assert "; repeated once: KeyError" in str(recorder.records[1].outcome)
    assert "secret" not in repr(recorder.records)


def test_a_commit_of_which_only_a_callback_is_told(engine: Engine, recorder: Recorder) -> None:
    """Where nothing has begun but a callback waits for the commit, the rule has committed."""

    def app(environ: Any, start_response: Any) -> Any:
        on_commit(environ[KEY], lambda: None)
        answer(start_response)
        return []

    request(SessionMiddleware(app, engine, recorder=recorder, commit=on_success))

    assert str(recorder.records[0].outcome) == "committed: GET 200, on_success"


@pytest.fixture
def recorder() -> Recorder:
    """Return a recorder of statements."""
    return Recorder(statements=True)


# What a record says of its ends, and what it advises


@pytest.mark.parametrize(
    ("work", "method", "ends"),
    [
        (read, "GET", (0, 0, 1)),
        (send, "GET", (0, 1, 0)),
        (roll_back, "GET", (0, 0, 0)),
        (send, "POST", (1, 0, 0)),
        (lambda session: [read(session), session.rollback()], "GET", (0, 0, 1)),
        (lambda session: session.execute(text("CREATE TABLE one (id INTEGER)")), "GET", (0, 1, 0)),
    ],
)
def test_the_end_of_a_read_is_no_rollback(
    work: Any, method: str, ends: Any, engine: Engine, recorder: Recorder
) -> None:
    """A ROLLBACK is told apart if nothing is undone by it."""

    def app(environ: Any, start_response: Any) -> Any:
        work(environ[KEY])
        answer(start_response)
        return []

    request(SessionMiddleware(app, engine, recorder=recorder, commit=on_unsafe_success), method)

    (record,) = recorder.records
    assert (record.commits, record.rollbacks, record.ends) == ends
    assert [one.sql for one in record.statements if one.kind == "end"] == ["ROLLBACK (nothing was written)"] * ends[2]
    assert not record.is_truncated


@pytest.mark.parametrize("release_reads", [False, True])
def test_a_cure_is_none_that_is_taken_already(release_reads: bool, engine: Engine, recorder: Recorder) -> None:
    """Who has ``release_reads=True`` is not told to write it."""

    def app(environ: Any, start_response: Any) -> Any:
        read(environ[KEY])
        time.sleep(0.12)
        answer(start_response)
        return []

    request(SessionMiddleware(app, engine, recorder=recorder, release_reads=release_reads))

    (finding,) = recorder.records[0].findings
    assert finding.kind is FindingKind.IDLE
    assert ("release_reads=True" in finding.cure) == (not release_reads)
