"""The budget of statements."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, insert

from tests.helpers import Word, add_words, all_words, request
from tests.words_application import registry_on, shop
from wsgi_session.testing import StatementBudget, StatementBudgetError, isolated


def test_a_budget_that_is_not_kept_lists_the_statements(Session: Any) -> None:
    """Each statement is numbered, without its values, with the line that it came from."""

    def work(session: Any) -> None:
        all_words(session)
        add_words(session, "secret")

    with isolated(), pytest.raises(StatementBudgetError) as raised, StatementBudget(at_most=2):
        request(shop(Session, work))

    first, *lines = str(raised.value).splitlines()
    assert first == "3 statements were sent, and at most 2 expected:"
    assert lines[0].startswith("  1. SELECT word.text FROM word ORDER BY word.id  [tests/helpers.py:")
    assert lines[1].startswith("  2. INSERT INTO word (text) VALUES (?)")
    assert "secret" not in str(raised.value)


def test_a_statement_of_the_end_of_the_request_says_so(Session: Any) -> None:
    """A flush that the commit rule causes has no line of the application."""
    with isolated(), StatementBudget() as budget:
        request(shop(Session, lambda session: [b""]), "POST", "/ada")

    assert [str(one) for one in budget.statements] == [
        "INSERT INTO word (text) VALUES (?)  [at the end of the request]"
    ]


def test_a_budget_that_is_kept_says_nothing(Session: Any) -> None:
    """Savepoints and what checks constraints are not counted, and an exact number is exact."""
    with isolated(), StatementBudget(exactly=2) as budget, StatementBudget(at_most=3):
        request(shop(Session), "POST", "/ada")

    assert [one.kind for one in budget.statements] == ["insert", "select"]


def test_fewer_than_exactly_are_too_few(Session: Any) -> None:
    """An exact number that is not reached is an error, too."""
    message = r"0 statements were sent, and exactly 1 expected\.$"
    with pytest.raises(StatementBudgetError, match=message), StatementBudget(exactly=1):
        pass


def test_many_rows_are_one_statement(engine: Engine) -> None:
    """A list of rows is sent as one, and counted as one, also without a session."""
    with StatementBudget(exactly=1) as budget, engine.begin() as connection:
        connection.execute(insert(Word), [{"text": "ada"}, {"text": "bob"}])

    assert budget.statements[0].engine == f"sqlite:{engine.url.database}"


def test_an_error_in_the_block_is_the_one_that_is_raised(Session: Any) -> None:
    """A budget that is not kept does not hide why."""
    with pytest.raises(ZeroDivisionError), StatementBudget(exactly=1):
        1 / 0  # noqa: B018


def test_a_budget_is_one_of_the_two() -> None:
    """Both limits at once mean nothing."""
    with pytest.raises(TypeError, match="not both"):
        StatementBudget(at_most=1, exactly=1)


def test_a_budget_without_a_session(engine: Engine) -> None:
    """A session that the registry does not know counts as any other."""
    with StatementBudget(exactly=1), registry_on(engine).session_factory() as session:
        all_words(session)
