"""The README and the docs: the code in them runs."""

from __future__ import annotations

import re
import sys
import textwrap
import tomllib
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import scoped_session

from tests.documents import Program, Reader, environment_of, steps
from tests.helpers import request
from wsgi_session import RetryMiddleware, SessionMiddleware
from wsgi_session.registry import engines_of

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
EXAMPLES = ROOT / "examples"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
BEFORE_A_FILE = re.compile(r"(?:\A|^```\n)((?:(?!^```).)*?)^<!-- file: (\S+) -->", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^(?:<!-- (\w+)[/:] ?(\S+) -->\n)?```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(document: Path) -> str:
    """Return the path of *document* in the project."""
    return document.relative_to(ROOT).as_posix()


def blocks(document: Path) -> list[str]:
    """List the Python in *document* that is not a file: neither one of the examples, nor one to be written."""
    return [code for kind, _, code in BLOCK.findall(document.read_text()) if not kind]


def quotations(document: Path) -> list[tuple[str, str]]:
    """List what *document* quotes of the examples, each with the name of its file."""
    return [(name, code) for kind, name, code in BLOCK.findall(document.read_text()) if kind == "examples"]


def is_part(code: str, whole: str) -> bool:
    """Say whether *code* is in *whole*, line by line, but for its indentation."""
    return any("\n" + textwrap.indent(code, " " * depth) in "\n" + whole for depth in (0, 4))


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if blocks(one)], ids=name_of)
def test_the_code_of_a_document_runs(document: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The blocks of one document are one program, and each application that it wraps answers."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}

    for block in blocks(document):
        before = names.get("application")
        exec(compile(block, str(document), "exec", dont_inherit=True), names)
        application = names.get("application")

        if application is not before and isinstance(application, SessionMiddleware | RetryMiddleware):
            assert request(application).status in ("200 OK", "204 No Content")
    for value in list(names.values()):
        if isinstance(value, scoped_session):
            for engine in engines_of(value.session_factory):
                engine.dispose()


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if blocks(one)], ids=name_of)
def test_the_code_of_a_document_runs_as_printed(document: Path, tmp_path: Path) -> None:
    """Who copies the blocks of one document into a file has a program that needs no request to run."""
    with Reader(tmp_path, environment_of(Path(sys.executable).parent)) as reader:
        for step in steps(document.read_text()):
            if isinstance(step, Program):
                reader.follow(step)


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if "<!-- file: " in one.read_text()], ids=name_of)
def test_the_text_before_a_file_names_it(document: Path) -> None:
    """Who reads the page as it is shown learns what a block is to be saved as."""
    for before, name in BEFORE_A_FILE.findall(document.read_text()):
        assert f"`{name}`" in before, name


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGES.md"], ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of a document leads to a file of the project."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_contributing_has_the_layers_of_the_contract() -> None:
    """The table of the layers is what the imports are held to, line by line."""
    rows = re.findall(
        r"^\| (`[^|]*) \|.* \|$", CONTRIBUTING.partition("| rooms |")[2].partition("\n\n")[0], re.MULTILINE
    )
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one.get("containers") == ["wsgi_session"])

    assert [{name.strip("`/") for name in row.split(", ")} for row in rows] == [set(one.split(" | ")) for one in layers]


@pytest.mark.parametrize("wing", [path.parent.name for path in ROOT.glob("wsgi_session/*/__init__.py")])
def test_contributing_says_what_each_room_of_a_wing_is_for(wing: str) -> None:
    """A newcomer finds every module of a wing in its paragraph, and no other."""
    (paragraph,) = re.findall(rf"^`{wing}`: (.*?)\n\n", CONTRIBUTING, re.MULTILINE | re.DOTALL)

    assert {*re.findall(r"`(\w+)`", paragraph)} == {
        path.stem for path in (ROOT / "wsgi_session" / wing).glob("*.py") if path.stem != "__init__"
    }


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if quotations(one)], ids=name_of)
def test_what_a_document_quotes_is_in_the_example(document: Path) -> None:
    """What a document shows of an example is what the example says."""
    for name, code in quotations(document):
        assert is_part(code, (EXAMPLES / name).read_text()), f"{name}:\n{code}"


def test_every_example_has_its_page() -> None:
    """No example is left without a document that quotes it."""
    quoted = {name for document in DOCUMENTS for name, _ in quotations(document)}

    assert quoted == {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.glob("**/*.py")}


def test_the_figures_of_the_comparison_are_those_that_were_measured() -> None:
    """What the comparison says of costs is what docs/costs.md says, of each of the subjects that it names."""
    _, *said = costs_compared()

    assert [(row[0], row[1], row[4], row[5]) for row in said] == [
        (row[0], row[1], row[3], row[5]) for row in costs_measured()
    ]


def test_the_figures_of_the_readme_are_those_that_were_measured() -> None:
    """What the README says of costs is what docs/costs.md says of the rule that it recommends, alone and in Flask."""
    said = (ROOT / "README.md").read_text().partition("## What it costs")[2].partition("\n## ")[0]
    ours = {row[1]: row for row in costs_measured() if row[0] == "wsgi_session, `on_unsafe_success`"}

    untouched = re.findall(r"[\d.]+ µs", said)
    selects = re.findall(r"([\d.]+) times", said)
    assert untouched == [ours[where][3].lstrip("+") for where in ("plain WSGI", "Flask")]
    assert selects == [ours[where][5].lstrip("x") for where in ("plain WSGI", "Flask")]


def test_the_comparison_is_of_what_is_alike() -> None:
    """The costs stand by framework, and in each our own before those of its peers; Django has none."""
    _, *said = costs_compared()

    groups = [(framework, [row[0] for row in group]) for framework, group in groupby(said, key=itemgetter(1))]
    assert len({framework for framework, _ in groups}) == len(groups) == 6
    for framework, (first, *others) in groups:
        assert first.startswith("wsgi_session"), framework
        assert any(not name.startswith("wsgi_session") for name in others) is (framework != "Django"), framework


def costs_compared() -> list[list[str]]:
    """List the rows of the comparison's table of costs, with its heads."""
    return [row for row in rows(ROOT / "docs" / "comparison.md") if len(row) == 6]


def costs_measured() -> list[list[str]]:
    """List the rows of what was measured of this project and its peers, without the heads."""
    return [row for row in rows(ROOT / "docs" / "costs.md") if len(row) == 11][1:]


def rows(document: Path) -> list[list[str]]:
    """List the rows of all tables of *document*, with their heads."""
    lines = re.findall(r"^\|([^-].*)\|$", document.read_text(), re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines if "---" not in line]
