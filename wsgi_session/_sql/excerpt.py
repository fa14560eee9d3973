"""The excerpt: a text that somebody else has chosen, no longer than what is worth keeping of it."""

from __future__ import annotations

ELLIPSIS = "..."
"""Stands for what is not shown: it is too long, or may be what nobody is to see."""


def excerpt(text: str, limit: int) -> str:
    """Return *text*, or its first *limit* characters and an ellipsis."""
    return text if len(text) <= limit else text[:limit] + ELLIPSIS
