"""The editor: the link that opens a line of the application where it is written."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

EDITORS = {
    "cursor": "cursor://file{path}:{line}",
    "emacs": "emacs://open?url=file://{path}&line={line}",
    "idea": "idea://open?file={path}&line={line}",
    "pycharm": "pycharm://open?file={path}&line={line}",
    "sublime": "subl://open?url=file://{path}&line={line}",
    "textmate": "txmt://open?url=file://{path}&line={line}",
    "vscode": "vscode://file{path}:{line}",
    "vscodium": "vscodium://file{path}:{line}",
    "zed": "zed://file{path}:{line}",
}
"""The templates of editors that are known by name."""

_REFUSED = ("data", "javascript", "vbscript")
"""What a browser would run, and not hand to an editor."""

_template = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):[^\s{}]*\{path\}[^\s{}]*\{line\}[^\s{}]*")


class Editor:
    """Opens a line in an editor.  Lives as long as the inspector."""

    def __init__(self, given: str | None) -> None:
        """Take an editor by its name, or by a template with ``{path}`` and ``{line}``; None opens nothing.

        Raises:
            TypeError: If it is no string.
            ValueError: If it is neither of both.
        """
        if given is not None and not isinstance(given, str):
            raise TypeError(f"editor has to be a string, not {given!r}.")
        template = None if given is None else EDITORS.get(given, given)
        if template is not None:
            found = _template.fullmatch(template)
            if found is None or found[1].lower() in _REFUSED:
                raise ValueError(
                    f"editor={given!r} is neither one of {', '.join(map(repr, EDITORS))} nor a link with the path"
                    " before the line, such as 'vscode://file{path}:{line}'."
                )
        self._here = _here()
        self._template = template

    def link(self, line: str | None) -> str | None:
        """Return what opens a *line*, such as ``"shop/views.py:29"``; None for one that is in no file here."""
        path, _, number = (line or "").rpartition(":")
        if self._template is None or not path or not number.isdigit():
            return None
        whole = os.path.join(self._here, path)
        if not os.path.isfile(whole):
            return None
        return self._template.replace("{path}", _quoted(whole)).replace("{line}", number)


def _here() -> str:
    """Return the working directory, which lines are relative to; nothing for one that is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _quoted(path: str) -> str:
    """Return a *path* as a link has it, with one slash before it on every system."""
    return "/" + quote(path.replace(os.sep, "/").lstrip("/"))
