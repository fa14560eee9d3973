"""What the committing block reads in a statement: what it may write to, rather too much than too little."""

from __future__ import annotations

import pytest

from wsgi_session.testing._targets import Purpose, purpose_of, targets_in


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("INSERT INTO word (text) SELECT text FROM other", "word"),
        ("insert into acme.word values ('a;b')", "acme.word"),
        ("INSERT OR REPLACE INTO word DEFAULT VALUES", "word"),
        ("REPLACE INTO `word` VALUES (1)", "`word`"),
        ('UPDATE "Word" AS w SET text = (SELECT text FROM other)', '"Word"'),
        ("UPDATE ONLY word SET text = 'new' FROM other", "word"),
        ("DELETE FROM word WHERE id IN (SELECT id FROM other)", "word"),
        ("DELETE FROM word", "word"),
        ("EXPLAIN ANALYZE DELETE FROM word", "word"),
        ("SET STATEMENT max_statement_time = 1 FOR DELETE FROM word", "word"),
        ("INSERT INTO word (id) SELECT id FROM other FOR UPDATE", "word"),
        ("INSERT INTO word (id) VALUES (1) ON DUPLICATE KEY UPDATE id = 2", "word"),
    ],
)
def test_a_plain_write_has_one_target(statement: str, name: str) -> None:
    """What else it names, it reads."""
    assert set(targets_in(statement)) == {name}
    assert purpose_of(statement, "mysql") is Purpose.WRITE


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE one, other SET other.text = 'new'",
        "UPDATE one JOIN other SET other.text = 'new'",
        "UPDATE IGNORE word SET text = 'new'",
        "DELETE FROM one USING other AS one WHERE true",
        "DELETE one FROM other AS one",
        "INSERT INTO /* a comment ( */ word (text) VALUES ('new')",
        "INSERT INTO `a``b` (text) VALUES ('new')",
        "MERGE INTO word USING other ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_a_write_that_is_not_plain_may_write_to_all_that_it_names(statement: str) -> None:
    """It may have several targets, or its target another name."""
    assert list(targets_in(statement)) == [statement]
    assert purpose_of(statement, "mysql") is Purpose.WRITE


@pytest.mark.parametrize(
    ("statement", "purpose"),
    [
        ("SELECT 'a;b' FROM word", Purpose.READ),
        ("SELECT 1; DELETE FROM word", Purpose.ANY),
        ("BEGIN NOT ATOMIC DELETE FROM word; END", Purpose.ANY),
        ("INSERT INTO word VALUES (1); DROP TABLE word", Purpose.ANY),
        ("DECLARE one CURSOR FOR SELECT id FROM word", Purpose.READ),
        ("SET statement_timeout = 10", Purpose.READ),
        ("EXPLAIN SELECT id FROM word", Purpose.READ),
        ("SELECT id INTO other FROM word", Purpose.SCHEMA),
        ("SELECT id INTO TEMP other FROM word", Purpose.READ),
        ("CREATE TEMP TABLE mine (id INTEGER)", Purpose.READ),
        ("CREATE TEMP VIEW mine AS SELECT id FROM word", Purpose.SCHEMA),
        ("ALTER SEQUENCE numbers RESTART", Purpose.READ),
        ("DROP TABLE mine", Purpose.OWN_SCHEMA),
        ("CALL add_word()", Purpose.ANY),
        ("TRUNCATE word", Purpose.ANY),
    ],
)
def test_a_statement_has_a_purpose(statement: str, purpose: Purpose) -> None:
    """It is known by the first word, where there is one statement."""
    assert purpose_of(statement, "postgresql") is purpose
