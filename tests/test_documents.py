"""The README and the docs: the code in them runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import scoped_session

from tests.helpers import request

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document: Path) -> list[str]:
    """List the Python in *document*."""
    return BLOCK.findall(document.read_text())


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if blocks(one)], ids=lambda one: one.name)
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


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGES.md"], ids=lambda one: one.name
)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of a document leads to a file of the project."""
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target
