"""The holders of an object: how many refer to it, where Python counts that."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any


def number(holder: Any, name: str) -> int | None:
    """Count who refers to the object that *holder* has as its attribute *name*: itself, and all others.

    Returns:
        The number, or None where nobody counts (PyPy).
    """
    return None if _OWN is None else _references(holder, name) - _OWN


def _references(holder: Any, name: str) -> int:
    return sys.getrefcount(getattr(holder, name))


_OWN = _references(SimpleNamespace(held=object()), "held") - 1 if hasattr(sys, "getrefcount") else None
"""Those of the counting itself, which are another number in other versions of Python."""
