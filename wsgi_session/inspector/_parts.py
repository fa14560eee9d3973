"""The parts: a long list, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A part of a long list."""

    items: Sequence[T]
    number: int
    """Which one it is, from 1."""

    parts: int
    """How many there are, 1 at least."""

    first: int
    """Where in the list its first item is, from 1."""

    total: int
    """The length of the list."""


def cut(items: Sequence[T], number: int, size: int) -> Part[T]:
    """Return the part of *items* of that *number*, or the nearest that there is."""
    parts = max(1, -(-len(items) // size))
    number = min(max(1, number), parts)
    first = (number - 1) * size
    return Part(items[first : first + size], number, parts, first + 1, len(items))
