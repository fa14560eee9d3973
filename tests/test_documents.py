"""The README and the docs: the code in them runs."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import scoped_session

from tests.helpers import request

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
EXAMPLES = ROOT / "examples"
BLOCK = re.compile(r"^(?:<!-- examples/(\S+) -->\n)?```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(document: Path) -> str:
    """Return the path of *document* in the project."""
    return document.relative_to(ROOT).as_posix()


def blocks(document: Path) -> list[str]:
    """List the Python in *document*, but for what it quotes of the examples."""
    return [code for name, code in BLOCK.findall(document.read_text()) if not name]


def quotations(document: Path) -> list[tuple[str, str]]:
    """List what *document* quotes of the examples, each with the name of its file."""
    return [(name, code) for name, code in BLOCK.findall(document.read_text()) if name]


def is_part(code: str, whole: str) -> bool:
    """Say whether *code* is in *whole*, line by line, but for its indentation."""
    return any("\n" + textwrap.indent(code, " " * depth) in "\n" + whole for depth in (0, 4))


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if blocks(one)], ids=name_of)
def test_the_code_of_a_document_runs(document: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The blocks of one document are one program, and the application that it defines answers."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}

    for block in blocks(document):
        exec(compile(block, str(document), "exec"), names)

    if "application" in names:
        assert request(names["application"]).status in ("200 OK", "204 No Content")
    for value in list(names.values()):
        if isinstance(value, scoped_session):
            value.session_factory.kw["bind"].dispose()


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGES.md"], ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of a document leads to a file of the project."""
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if quotations(one)], ids=name_of)
def test_what_a_document_quotes_is_in_the_example(document: Path) -> None:
    """What a document shows of an example is what the example says."""
    for name, code in quotations(document):
        assert is_part(code, (EXAMPLES / name).read_text()), f"{name}:\n{code}"


def test_every_example_has_its_page() -> None:
    """No example is left without a document that quotes it."""
    quoted = {name for document in DOCUMENTS for name, _ in quotations(document)}

    assert quoted == {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.glob("**/*.py")}
