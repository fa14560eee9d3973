"""What setup.cfg cannot say: the README's links, and that an editable install is a path.

PyPI does not resolve links while they are relative.  The repository's address is in setup.cfg, in the section
``wsgi_session``, and nowhere else.  While there is none, the README is published without the links and pictures that
would lead nowhere.

Type checkers follow a path and no import hook, and setuptools makes a path where it is told the root of the packages.
A wheel would lose the data of the package by that.
"""

import re
import sys
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:[^][]|\[[^][]*\])*)\]\((?P<target>(?![a-z]+:|#)[^()\s]+)\)")


def published(readme: str, repository: str, version: str) -> str:
    """Return a README whose links lead into *repository*, as it was when *version* was released."""

    def link(found: re.Match[str]) -> str:
        if not repository:
            return "" if found["picture"] else found["text"]
        view = "raw" if found["picture"] else "blob"
        return f"{found['picture']}[{found['text']}]({repository}/{view}/v{version}/{found['target']})"

    return LINK.sub(link, readme)


def urls(repository: str) -> dict[str, str]:
    """Return the addresses that PyPI shows beside the README."""
    pages = {
        "Documentation": "/blob/HEAD/docs/index.md",
        "Changelog": "/blob/HEAD/CHANGES.md",
        "Issues": "/issues",
        "Source": "",
    }
    return {name: f"{repository}{page}" for name, page in pages.items()} if repository else {}


if __name__ == "__main__":
    folder = Path(__file__).parent
    configuration = ConfigParser(interpolation=None)
    configuration.read(folder / "setup.cfg", encoding="utf-8")
    address = configuration["wsgi_session"]["repository"].rstrip("/")
    setup(
        long_description=published(
            (folder / "README.md").read_text(encoding="utf-8"), address, configuration["metadata"]["version"]
        ),
        long_description_content_type="text/markdown",
        project_urls=urls(address),
        package_dir={"": "."} if "editable_wheel" in sys.argv else {},
    )
