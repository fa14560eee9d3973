"""The holdings of a transaction: what it holds beside its changes, and would lose with its connection.

In doubt something is held: a `Scope.release` that is refused harms nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import drivers, traces

if TYPE_CHECKING:
    from sqlalchemy import Connection

TRANSLATED = "schema_translate_map"
"""The execution option of a tenant's schema."""


def of(connection: Connection) -> str | None:
    """Say what the transaction on *connection* holds that does not come back with another one; None for nothing."""
    if not traces.is_usable(connection):
        return None
    if connection.dialect.driver not in drivers.KNOWN:
        return f"nobody knows whether the driver {connection.dialect.driver!r} has its rows already"
    return cursor_of(connection) or _option_of(connection) or _text_of(connection)


def may_be_on(connection: Connection) -> bool:
    """Say whether `of` may have anything to say, in one function: each request asks this that has read in its body."""
    taken = connection._dbapi_connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    driver = drivers.KNOWN.get(connection.dialect.driver)
    return (
        taken is None
        or driver is None
        or traces.KEY in taken.__dict__
        or has_own_options(connection)
        or driver.has_open_statement(taken)
    )


def cursor_of(connection: Connection) -> str | None:
    """Say which cursor on *connection* is known to be open whose rows are still to come, or None."""
    driver = drivers.KNOWN.get(connection.dialect.driver)
    if driver is None or not traces.is_usable(connection):
        return None
    left = traces.look_at(connection.connection)
    if left is not None and left.open_cursors():
        return "a cursor of the server's is open ('yield_per', 'stream_results'); read it to its end, or close it"
    if driver.has_open_statement(connection.connection):
        return "rows of a statement have not been read yet; read them to their end, or close the result"
    return None


def has_changed(connection: Connection) -> bool:
    """Say whether a statement has changed something that is not committed, as far as that is known."""
    left = traces.look_at(connection.connection) if traces.is_usable(connection) else None
    if left is None or not left.has_written:
        return False
    driver = drivers.KNOWN.get(connection.dialect.driver)
    return driver is not None and may_have_more(connection)


def may_have_more(connection: Connection) -> bool:
    """Say whether there may be something on *connection* that is not committed: not in AUTOCOMMIT, nor after a COMMIT.

    Of one that is gone it is not known, nor is it of a driver that is not.
    """
    if not traces.is_usable(connection):
        return True
    left = traces.look_at(connection.connection)
    driver = drivers.KNOWN.get(connection.dialect.driver)
    if driver is None or (left is not None and left.is_lost):
        return True
    return driver.is_in_transaction(connection.connection.dbapi_connection)


def has_own_options(connection: Connection) -> bool:
    """Say whether *connection* was given execution options that its engine does not have.

    SQLAlchemy's public methods copy them, and one look at each would cost more than all else that is asked here.
    """
    own = connection._execution_options  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    of_engine = connection.engine._execution_options  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return own is not of_engine


def is_translated(connection: Connection) -> bool:
    """Say whether *connection* was given a tenant's schema that its engine does not have."""
    if not has_own_options(connection):
        return False
    own, of_engine = connection.get_execution_options(), connection.engine.get_execution_options()
    return own.get(TRANSLATED) != of_engine.get(TRANSLATED)


def _option_of(connection: Connection) -> str | None:
    if not has_own_options(connection):
        return None
    names = sorted(set(connection.get_execution_options()) - set(connection.engine.get_execution_options()))
    given = f" ({', '.join(names)})" if names else ""
    return f"'session.connection()' was given options{given}; give them to the engine: 'engine.execution_options(...)'"


def _text_of(connection: Connection) -> str | None:
    left = traces.look_at(connection.connection)
    word = None if left is None else left.held
    return None if word is None else f"{word!r} was sent as text, and what it has set up would be gone"
