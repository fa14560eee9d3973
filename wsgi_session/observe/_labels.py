"""The labels: how an engine and an error are named to readers, without what would open an engine to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._session.codes import code_of
from .._sql.excerpt import ELLIPSIS, excerpt

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

_MAX_LABEL = 200
_MAX_NAME = 200


def label_of(engine: Engine) -> str:
    """Name *engine* by its ``logging_name``, or by its database, and where that is.

    Such as ``"sqlite:shop.db"`` and ``"postgresql:shop at db1:5432"``, which tells a primary from its replicas.
    """
    url = engine.url
    return excerpt(engine.logging_name or f"{url.get_backend_name()}:{_database(url)}{_place(url)}", _MAX_LABEL)


def error_name(error: BaseException) -> str:
    """Name an error by its class, its driver's, and its code; the text may have values in it."""
    cause: Any = getattr(error, "orig", None)
    name = type(error).__name__
    if cause is None:
        return excerpt(name, _MAX_NAME)
    code = code_of(cause)
    known = f" {code}" if code else ""
    return excerpt(f"{name}: {type(cause).__name__}", _MAX_NAME) + known


def _database(url: URL) -> str:
    """Return the name of a database; drivers take options where a name should be, and a password is one of them."""
    name = (url.database or "").partition("?")[0]
    if url.get_backend_name() == "sqlite" or not any(mark in name for mark in "=;@"):
        return name
    return ELLIPSIS


def _place(url: URL) -> str:
    """Say at which hosts a server is; those in the query are an argument of PostgreSQL's drivers."""
    hosts = url.normalized_query.get("host", ()) if url.host is None else (url.host,)
    port = "" if url.port is None else f":{url.port}"
    return f" at {', '.join(hosts)}{port}" if hosts else ""
