"""The promise of stability: no public name is lost by accident."""

from __future__ import annotations

import configparser
import importlib
import re
from pathlib import Path

import pytest

from wsgi_session import WSGISessionError, testing

from . import public_names

ROOT = Path(__file__).parent.parent
FIRST = "0.1"


def test_no_public_name_is_lost() -> None:
    """What a release had is still there, with the same parameters, or was deprecated and taken out of the record."""
    assert sorted(public_names.recorded_names().keys() - public_names.public_names().keys()) == []


def test_every_public_name_has_its_version() -> None:
    """A new name or parameter is in the record: ``python -m tests.public_names`` puts it there."""
    assert sorted(public_names.public_names().keys() - public_names.recorded_names().keys()) == []


def test_what_came_later_says_so() -> None:
    """A docstring says since when, by ``versionadded``, if that is not the first release."""
    recorded = public_names.recorded_names()
    said = {
        line: since
        for line, value in public_names.public_names().items()
        for since in re.findall(r"\.\. versionadded:: (\S+)", value.docstring.value if value.docstring else "")
    }

    assert said == {line: since for line, since in recorded.items() if since != FIRST}


def test_the_record_goes_to_the_parameters() -> None:
    """The record has classes, members, fields and parameters, and what may be left out."""
    names = public_names.public_names()

    assert {
        "wsgi_session.observe.Recorder.watch(*engines)",
        "wsgi_session.Scope.environ",
        "wsgi_session.State.OPEN",
        "wsgi_session.observe.Load(kind, name, is_collection, parent)",
    } <= names.keys()
    assert any(line.startswith("wsgi_session.session_scope(registry, *, commit=") for line in names)


@pytest.mark.parametrize(
    ("new", "has_grown"),
    [
        ("block(registry, *, commit=, name=)", True),
        ("block(registry, *, commit=, name)", False),
        ("block(registry, *, name=)", False),
        ("other(registry, *, commit=, name=)", False),
        ("block(registry, *, commit=)", False),
        ("block(registry, name=, *, commit=)", True),
        ("block(name=, registry=, *, commit=)", False),
        ("block(*, registry, commit=, name=)", False),
    ],
)
def test_a_parameter_that_is_added(new: str, has_grown: bool) -> None:
    """A parameter that may be left out takes no name away: its line takes the place of the one that is recorded."""
    assert public_names.has_grown("block(registry, *, commit=)", new) is has_grown


def test_the_versions_are_those_of_the_metadata() -> None:
    """The supported versions that are promised are the ones that the package declares."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    promise = (ROOT / "docs" / "stability.md").read_text()
    pythons = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    at_least, below = re.findall(r"[\d.]+\d", setup["options"]["install_requires"])

    assert f"Python | {', '.join(pythons)}" in promise
    assert f"SQLAlchemy | {at_least} and later, below {below}" in promise


def test_what_security_promises_has_tests() -> None:
    """Each promise that SECURITY.md makes today leads to the tests that show it."""
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "SECURITY.md").read_text())

    assert sum(target.startswith("tests/") for target in targets) >= 6
    assert [target for target in targets if not (ROOT / target).exists()] == []


def _subclasses(base: type) -> list[type]:
    return [one for child in base.__subclasses__() for one in (child, *_subclasses(child))]


def test_errors_are_shown_by_their_public_names() -> None:
    """What a traceback calls an error can be imported, and caught."""
    assert testing.IsolationError in _subclasses(WSGISessionError)
    for error in _subclasses(WSGISessionError):
        assert "._" not in error.__module__
        assert getattr(importlib.import_module(error.__module__), error.__name__) is error
