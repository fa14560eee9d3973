"""What is published about the package: the metadata that its users and their tools read."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from email.message import Message
from email.parser import Parser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ADDRESS = "https://forge.example/us/wsgi_session"


@pytest.fixture(scope="module")
def published() -> Callable[[str, str, str], str]:
    """Return the function of setup.py that makes links absolute."""
    spec = spec_from_file_location("setup_py", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[str, str, str], str] = module.published
    return function


def targets(text: str) -> set[str]:
    """Return where the links and pictures of a page lead."""
    return set(re.findall(r"\]\(([^)\s]+)\)", text))


def metadata(folder: Path, address: str) -> Message:
    """Build the metadata, with an address of the repository."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    configuration = folder / "setup.cfg"
    text, found = re.subn(r"^repository =.*$", f"repository = {address}", configuration.read_text(), flags=re.MULTILINE)
    assert found == 1
    configuration.write_text(text)
    build = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('.'))"
    run = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=True)
    return Parser().parsestr((folder / run.stdout.split()[-1] / "METADATA").read_text())


def test_links_lead_into_the_repository(published: Callable[[str, str, str], str]) -> None:
    """On PyPI each relative link and picture of the README is that of the release; the others are as they were."""
    relative = {target for target in targets(README) if not re.match("[a-z]+:|#", target)}
    page = published(README, ADDRESS, "1.2.3")

    assert relative
    assert all(re.match("https?:|#", target) for target in targets(page))
    assert {target.split("/v1.2.3/")[1] for target in targets(page) if ADDRESS in target} == relative
    assert all((ROOT / target.partition("#")[0]).exists() for target in relative)


@pytest.mark.parametrize(
    ("written", "with_address", "without"),
    [
        ("a [page](docs/a.md#b) here", f"a [page]({ADDRESS}/blob/v1/docs/a.md#b) here", "a page here"),
        ("[`code`](a)", f"[`code`]({ADDRESS}/blob/v1/a)", "`code`"),
        ("![A picture](a.svg)", f"![A picture]({ADDRESS}/raw/v1/a.svg)", ""),
        ("[there](https://there.example/) [here](#here)",) * 3,
    ],
)
def test_a_link(published: Callable[[str, str, str], str], written: str, with_address: str, without: str) -> None:
    """A link is made absolute; while the repository has no address, what is left of it is its text."""
    assert published(written, ADDRESS, "1") == with_address
    assert published(written, "", "1") == without


def test_the_metadata_are_complete(tmp_path: Path) -> None:
    """PyPI shows where to go, from one address; tools read which Pythons there are, and that it is typed."""
    found = metadata(tmp_path, ADDRESS)
    urls = dict(line.split(", ") for line in found.get_all("Project-URL", []))
    classifiers = found.get_all("Classifier", [])

    assert urls.keys() == {"Documentation", "Changelog", "Issues", "Source"}
    assert all(url.startswith(ADDRESS) for url in urls.values())
    assert ADDRESS in found.get_payload()
    assert found["Description-Content-Type"].startswith("text/markdown")
    assert all(found[name] for name in ("Summary", "Author", "Keywords", "License-Expression", "Requires-Python"))
    assert "Typing :: Typed" in classifiers
    assert (ROOT / "wsgi_session" / "py.typed").exists()


def test_metadata_without_an_address_lead_nowhere(tmp_path: Path) -> None:
    """While the repository has no address, there is no link that would be dead on PyPI."""
    found = metadata(tmp_path, "")

    assert found.get_all("Project-URL") is None
    assert all(re.match("https?:|#", target) for target in targets(found.get_payload()))


def test_an_editable_install_is_a_path() -> None:
    """Type checkers see the package in an editable install, because it is a path and no import hook."""
    code = "import sys, wsgi_session; print([name for name in sys.modules if name.startswith('__editable__')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
