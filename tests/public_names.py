"""The public names: what ``__all__`` has, with the members and the parameters, and the version that each came with.

They are recorded in ``public_names.txt``, a line each. ``python -m tests.public_names`` adds those that are new, and
those parameters that are new and may be left out.  griffe reads the names out of the source, and says what breaks a
caller; which release a name came with, it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import griffe

RECORD = Path(__file__).with_suffix(".txt")

Named: TypeAlias = griffe.Object | griffe.Alias


def public_names() -> dict[str, Named]:
    """Return each public name, as it is recorded, and what it means."""
    package = griffe.load("wsgi_session")
    modules = [package, *(one for one in package.modules.values() if one.is_public)]
    return {line: one for module in modules for name in module.exports or () for line, one in _lines(module, str(name))}


def recorded_names() -> dict[str, str]:
    """Return each name that is recorded, and the version that it came with."""
    return {line: since for since, _, line in (row.partition(" ") for row in RECORD.read_text().splitlines())}


def record() -> None:
    """Add what is new, as the next release's; names that are gone are for a person to take out."""
    now = ".".join(version("wsgi-session").split(".")[:2])
    public, recorded = public_names(), recorded_names()
    kept = {line: since for line, since in recorded.items() if not any(has_grown(line, new) for new in public)}
    names = dict.fromkeys(public, now) | kept
    RECORD.write_text("".join(f"{names[line]} {line}\n" for line in sorted(names)))


def has_grown(old: str, new: str) -> bool:
    """Say whether *new* is the name *old*, with parameters besides that may be left out."""
    (name, bracket, before), (same, _, after) = old.partition("("), new.partition("(")
    if name != same or not bracket or before == after:
        return False
    return not any(griffe.find_breaking_changes(_function(before), _function(after)))


def _function(parameters: str) -> griffe.Module:
    """Make a module of one function."""
    return griffe.visit("module", Path("module.py"), f"def function({parameters.replace('=', '=0')}: ...")


def _lines(parent: Named, name: str) -> Iterator[tuple[str, Named]]:
    """Give *name* its line, and one to each public member of a class."""
    named = parent.all_members[name]
    yield named.path + _parameters(named), named
    if named.is_class:
        for member in sorted(named.all_members):
            if member == "__call__" or not member.startswith("_"):
                yield from _lines(named, member)


def _parameters(named: Named) -> str:
    """Write the parameters of a function or class, without types; those with a default have a ``=``."""
    function = named.all_members.get("__init__") if named.is_class else named
    if function is None or not function.is_function:
        return ""
    bare = [
        griffe.Parameter(one.name, kind=one.kind, default=None if one.default is None else "")
        for one in function.parameters
        if one.name not in ("self", "cls")
    ]
    return griffe.Function("", parameters=griffe.Parameters(*bare)).signature()


if __name__ == "__main__":
    record()
