"""The documentation site: how Sphinx builds it, by ``make docs``."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version as version_of
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.ext import intersphinx

if TYPE_CHECKING:
    from docutils.nodes import Element, TextElement, reference
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parent.parent

project = "wsgi_session"
release = version = version_of("wsgi-session")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
]

nitpicky = True
nitpick_ignore_regex = [("py:(class|obj)", r"(.*\.)?[A-Z]")]  # variables of types
nitpick_ignore = [("py:class", "Meter"), ("py:class", "prometheus_client.metrics_core.Metric")]  # no inventory has them

myst_enable_extensions = ["colon_fence", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {"release": release}

default_role = "py:obj"
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "special-members": "__call__",
    "undoc-members": True,
}
autoclass_content = "both"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

intersphinx_mapping = {  # the same everywhere: nothing is fetched
    "python": ("https://docs.python.org/3/", "inventories/python.txt"),
    "sqlalchemy": ("https://docs.sqlalchemy.org/en/21/", "inventories/sqlalchemy.txt"),
}

html_theme = "furo"
pygments_dark_style = "github-dark"  # furo's own underlines names, as if they were links
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "static/favicon.svg"
html_copy_source = html_show_copyright = False
maximum_signature_line_length = 88
copybutton_prompt_text = "$ "


def setup(app: Sphinx) -> None:
    """Have names found as docstrings and annotations write them, and sources changed into what a site needs."""
    app.connect("missing-reference", find_by_last_part)
    app.connect("source-read", add_changes)
    app.connect("source-read", unlink_project_files)


def add_changes(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the changes on their page: what the next release would say, and what ``CHANGES.md`` says of the others."""
    if docname == "changes":
        command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "next", "--date", "next"]
        draft = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        coming = draft.replace("## next (next)", "## Not released yet")
        released = (ROOT / "CHANGES.md").read_text().partition("<!-- towncrier release notes start -->\n")[2]
        source[0] += f"\n{coming}\n{released}".replace("](docs/", "](")


def unlink_project_files(_app: Sphinx, _docname: str, source: list[str]) -> None:
    """Leave the text alone of a link to a file that is no page: it is for readers of the project's own files."""
    source[0] = re.sub(r"\[([^]]+)\]\((?:\.\./)+[A-Z]+\.md\)", r"\1", source[0])


def find_by_last_part(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement
) -> reference | Element | None:
    """Find a public name: a docstring says ``Session``, an annotation ``sqlalchemy.orm.session.Session``."""
    target = node["reftarget"]
    last = target.rpartition(".")[2] if target.startswith(("sqlalchemy.", "wsgi_session.")) else target
    name = next((name for name in known_names(env) if f".{name}".endswith(f".{last}")), None)
    if node.get("refdomain") != "py" or name is None:
        return None
    node["reftarget"] = name
    ours = env.domains.python_domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, content)
    return ours or intersphinx.missing_reference(app, env, node, content)


def known_names(env: BuildEnvironment) -> list[str]:
    """List the names of the reference and of the inventories."""
    inventories = intersphinx.InventoryAdapter(env).main_inventory.values()
    return [*env.domains.python_domain.objects, *chain.from_iterable(inventories)]
