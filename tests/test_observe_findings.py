"""The findings: what is one and what is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import StaticPool

from tests.helpers import answer, request
from tests.n_plus_one import FOOLING, KNOWN, Base, Scenario, fill
from wsgi_session import SessionMiddleware, never
from wsgi_session.observe import FindingKind, Recorder, RequestRecord

IN_LOOPS = {FindingKind.LAZY_LOADS, FindingKind.COLUMN_LOADS, FindingKind.QUERIES, FindingKind.WRITES}


@pytest.fixture
def factory() -> Iterator[sessionmaker[SQLAlchemySession]]:
    """Return a factory of sessions on a small shop."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with SQLAlchemySession(engine) as session:
        fill(session)
    yield sessionmaker(engine)
    engine.dispose()


def record_of(scenario: Scenario, factory: sessionmaker[SQLAlchemySession]) -> RequestRecord:
    """Run *scenario* in a request, and return what was recorded of it."""
    recorder = Recorder(statements=True, max_statements=10_000)

    def app(environ: Any, start_response: Any) -> Any:
        scenario(environ["sqlalchemy.session"])
        answer(start_response)
        return []

    request(SessionMiddleware(app, factory, commit=never, recorder=recorder))
    (record,) = recorder.records
    return record


def is_found(record: RequestRecord) -> bool:
    """Say whether there is a finding of a loop."""
    return any(finding.kind in IN_LOOPS for finding in record.findings)


@pytest.mark.parametrize("name", [name for name, (_, is_real) in KNOWN.items() if is_real])
def test_an_n_plus_one_is_found(name: str, factory: sessionmaker[SQLAlchemySession]) -> None:
    """Every N+1 that the rules were made for is found, with the line that causes it."""
    record = record_of(KNOWN[name][0], factory)

    assert is_found(record), record
    assert all("tests/n_plus_one.py:" in str(finding.line) for finding in record.findings)


@pytest.mark.parametrize("name", [name for name, (_, is_real) in KNOWN.items() if not is_real])
def test_an_innocent_is_not_accused(name: str, factory: sessionmaker[SQLAlchemySession]) -> None:
    """What only looks like an N+1 is not taken for one."""
    record = record_of(KNOWN[name][0], factory)

    assert not is_found(record), record
    assert record.statement_count > 0


def test_there_are_thirteen_and_fifteen() -> None:
    """The rules are held to 13 real N+1s and 15 innocents."""
    assert [is_real for _, is_real in KNOWN.values()].count(True) == 13
    assert [is_real for _, is_real in KNOWN.values()].count(False) == 15


def test_what_fools_the_rules(factory: sessionmaker[SQLAlchemySession]) -> None:
    """Of ten scenarios that were written to fool the rules, this many do."""
    fooled = [
        name for name, (scenario, is_real) in FOOLING.items() if is_found(record_of(scenario, factory)) != is_real
    ]

    print(f"\n{len(fooled)} of {len(FOOLING)} fool the rules: {', '.join(fooled)}")
    assert len(FOOLING) == 10
    assert len(fooled) == 6
