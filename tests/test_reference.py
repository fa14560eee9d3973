"""The reference: it has every public name, every line of the log, and links that lead to something."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsgi_session

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
LEVELS = {"exception": "ERROR"}


def documented(page: str) -> set[str]:
    """List the names that *page* documents, each with its module."""
    module, found = "", set()
    for directive, name in re.findall(r"^\.\. (\w+):: (\S+)$", page, re.MULTILINE):
        if directive == "currentmodule":
            module = name
        elif directive == "automodule":
            found |= {f"{name}.{one}" for one in importlib.import_module(name).__all__}
        else:
            found.add(f"{module}.{name}")
    return found


def public() -> set[str]:
    """List the public names of the package: those of itself, and of its modules that say which are."""
    modules = [wsgi_session, *(importlib.import_module(f"wsgi_session.{name}") for name in module_names())]
    return {f"{module.__name__}.{name}" for module in modules for name in getattr(module, "__all__", ())}


def module_names() -> list[str]:
    """List the modules of the package that are not private."""
    return [one.name for one in pkgutil.iter_modules(wsgi_session.__path__) if not one.name.startswith("_")]


def logged() -> Iterator[tuple[str, str, str]]:
    """Yield the logger, the level and the message of each call of a log in the package."""
    for path in sorted((ROOT / "wsgi_session").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(ast.Attribute(ast.Name("log"), name), [ast.Constant(text), *_]):
                    yield "wsgi_session", LEVELS.get(name, name.upper()), re.sub(r"%[.\d]*[a-z]", "...", text)
                case ast.Call(ast.Attribute(ast.Name("requests_log"), "log"), [level, *_]):
                    for one in ast.walk(level):
                        if isinstance(one, ast.Name) and one.id in ("DEBUG", "INFO"):
                            yield "wsgi_session.requests", one.id, "..."


def test_every_public_name_is_in_the_reference() -> None:
    """A name that the package gives out has its place in the reference."""
    pages = [path.read_text() for path in REFERENCE.glob("*.rst")]

    assert set().union(*map(documented, pages)) == public()


def test_the_reference_of_the_log_is_what_is_logged() -> None:
    """Each line that can be in the log is in the reference, with its level, and no other."""
    page = (REFERENCE / "log.md").read_text()
    sections = re.findall(r"^## `(\S+)`: ([A-Z]+)\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
    said = [
        (name, level, text)
        for name, level, section in sections
        for text in re.findall(r"^- `(.+?)`$", section, re.MULTILINE)
    ]

    assert sorted(said) == sorted(logged())


def test_the_keys_of_the_reference_are_those_of_the_package() -> None:
    """Each key in the reference is one that the package uses."""
    source = "".join(path.read_text() for path in (ROOT / "wsgi_session").rglob("*.py"))
    keys = re.findall(r"^\| `(\".+?\")` \|", (REFERENCE / "keys.md").read_text(), re.MULTILINE)

    assert keys
    assert [key for key in keys if key not in source] == []


@pytest.mark.parametrize("inventory", ["python", "sqlalchemy"])
def test_what_is_linked_exists(inventory: str) -> None:
    """Each name that links lead to is a name of Python's or SQLAlchemy's."""
    lines = (ROOT / "docs" / "inventories" / f"{inventory}.txt").read_text().splitlines()[3:]

    for name in (line.split()[0] for line in lines):
        assert resolved(name) is not None, name


def resolved(name: str) -> Any:
    """Return what *name* means, or None."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module or "builtins"), attribute, None)
