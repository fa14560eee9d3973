"""The plain form of what is shown: what JSON can say."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from ..observe import RequestRecord

_LEFT_OUT = ("values", "parent", "statements")
"""Hashes of values, which might be guessed from them; and what a page has in parts of its own."""


def plain(value: Any) -> Any:
    """Return *value* as dictionaries, lists, strings and numbers; hashes of values are left out."""
    if is_dataclass(value):
        return _fields(value) | _of_record(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.name not in _LEFT_OUT}


def _of_record(value: object) -> dict[str, Any]:
    return {"idle": value.idle, "is_truncated": value.is_truncated} if isinstance(value, RequestRecord) else {}
