"""The label: how an engine is named to its readers, without what would open it to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._excerpt import ELLIPSIS, excerpt

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

_MAX_LABEL = 200


def label_of(engine: Engine) -> str:
    """Name *engine* by its ``logging_name``, or by the kind and the name of its database: ``"sqlite:shop.db"``."""
    return excerpt(engine.logging_name or f"{engine.url.get_backend_name()}:{_database(engine.url)}", _MAX_LABEL)


def _database(url: URL) -> str:
    """Return the name of a database; drivers take options where a name should be, and a password is one of them."""
    name = (url.database or "").partition("?")[0]
    if url.get_backend_name() == "sqlite" or not any(mark in name for mark in "=;@"):
        return name
    return ELLIPSIS
