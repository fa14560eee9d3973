"""The public names: what ``__all__`` has, with the members and the parameters, and the version that each came with.

They are recorded in ``public_names.txt``, a line each. ``python -m tests.public_names`` adds those that are new, and
those parameters that are new and may be left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from pkgutil import walk_packages
from types import FunctionType, ModuleType
from typing import Any

import wsgi_session

RECORD = Path(__file__).with_suffix(".txt")


def public_names() -> dict[str, Any]:
    """Return each public name, as it is recorded, and what it means."""
    return {line: value for module in _modules() for name in module.__all__ for line, value in _lines(module, name)}


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
    (name, before), (same, after) = (_parts(line) for line in (old, new))
    return name == same and len(before) < len(after) and _is_kept(before, after)


def _parts(line: str) -> tuple[str, list[str]]:
    name, _, parameters = line.rstrip(")").partition("(")
    return name, [one for one in parameters.split(", ") if one not in ("", "*")]


def _is_kept(before: list[str], after: list[str]) -> bool:
    added = [one for one in after if one not in before]
    return [one for one in after if one in before] == before and all(one.endswith("=") for one in added)


def _modules() -> Iterator[ModuleType]:
    """Find the modules that are public by an ``__all__``."""
    yield wsgi_session
    for found in walk_packages(wsgi_session.__path__, "wsgi_session."):
        if "._" not in found.name and hasattr(module := import_module(found.name), "__all__"):
            yield module


def _lines(module: ModuleType, name: str) -> Iterator[tuple[str, Any]]:
    """Give *name* its line, and one to each public member of a class."""
    value = getattr(module, name)
    path = f"{module.__name__}.{name}"
    if not inspect.isclass(value):
        yield path + _parameters(value), value
        return
    members = _own_members(value)
    yield path + ("" if issubclass(value, Enum) else _parameters(members.get("__init__"))), value
    for member, function in sorted(members.items()):
        if member == "__call__" or not member.startswith("_"):
            yield f"{path}.{member}{_parameters(function)}", function


def _own_members(cls: type) -> dict[str, Any]:
    """Collect the members that this package gives a class, itself or by a base."""
    ours = [base for base in reversed(cls.__mro__) if base.__module__.startswith("wsgi_session")]
    declared = {name: None for base in ours for name in inspect.get_annotations(base)}
    return declared | {name: value for base in ours for name, value in vars(base).items()}


def _parameters(value: Any) -> str:
    """Write the parameters of a function, without types; those with a default have a ``=``."""
    function = inspect.unwrap(value) if callable(value) else getattr(value, "__func__", None)
    if not isinstance(function, FunctionType) or not function.__module__.startswith("wsgi_session"):
        return ""
    signature = inspect.signature(function)
    bare = [
        one.replace(annotation=one.empty, default=one.empty if one.default is one.empty else _Default())
        for one in signature.parameters.values()
        if one.name not in ("self", "cls")
    ]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


class _Default:
    """Stands for any default."""

    def __repr__(self) -> str:
        return ""


if __name__ == "__main__":
    record()
