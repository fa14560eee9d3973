"""The values: what was given to a statement, kept where that was asked for.

They are in no record, and so in no log and in no error: a recorder has them beside its records, and gives them to who
asks for those of a request. They cannot be pickled, and show nothing when they are printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID
from weakref import ref

if TYPE_CHECKING:
    from sqlalchemy import Engine

KEPT_TYPES = frozenset(
    {type(None), bool, int, float, Decimal, str, bytes, date, datetime, time, timedelta, UUID},
)
"""The types of values that are kept; of another one its name is."""

MAX_STATEMENT = 20_000
"""The characters of a statement whose values are kept."""

MAX_VALUES = 200
"""How many values are kept of a statement."""

MAX_VALUE = 1000
"""The characters, or bytes, that are kept of a value."""


class Unknown(str):
    """Stands for a value of another type, by the name of that."""

    __slots__ = ()


class Values:
    """What was given to one statement.  Lives as long as the record of its request is kept."""

    __slots__ = ("_engine", "dialect", "is_many", "is_whole", "parameters", "paramstyle", "statement")

    dialect: str
    """The name of the dialect that the statement was written for."""

    is_many: bool
    """Whether there were several rows of them, of which the first is kept."""

    is_whole: bool
    """Whether all was kept as it was."""

    paramstyle: str
    """How the driver marks parameters (PEP 249)."""

    parameters: tuple[tuple[str, object], ...]
    """The values, each with the name of its parameter, which is empty where parameters have a place alone."""

    statement: str
    """The text, as it was sent."""

    def __init__(self, statement: str, parameters: Any, engine: Engine) -> None:
        """Keep what may be kept of *parameters*.

        Args:
            statement: What was sent.
            parameters: A mapping or sequence of values, or a list of those.
            engine: On which it was sent; referred to weakly.
        """
        self._engine = ref(engine)
        self.dialect = engine.dialect.name
        self.paramstyle = engine.dialect.paramstyle
        self.is_many = isinstance(parameters, list)
        given = (parameters[0] if parameters else ()) if isinstance(parameters, list) else parameters
        items = _items(given)
        kept = [(name, _kept(value)) for name, value in items[:MAX_VALUES]]
        same = all(one is value for (_, one), (_, value) in zip(kept, items, strict=False))
        self.is_whole = len(statement) <= MAX_STATEMENT and len(items) <= MAX_VALUES and same and not self.is_many
        self.parameters = tuple(kept)
        self.statement = statement if len(statement) <= MAX_STATEMENT else ""

    @property
    def engine(self) -> Engine | None:
        """The engine, if it is still there."""
        return self._engine()

    @property
    def given(self) -> Any:
        """The parameters of a statement that `is_whole`, as a driver takes them."""
        if any(name for name, _ in self.parameters):
            return dict(self.parameters)
        return tuple(value for _, value in self.parameters)

    def __repr__(self) -> str:
        """Show none of it."""
        return "<Values, not shown>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, or copied.

        Raises:
            TypeError: Always.
        """
        raise TypeError("The values of a statement stay in the process that has sent it: they are not pickled.")


def _items(given: Any) -> list[tuple[str, Any]]:
    if isinstance(given, Mapping):
        return [(str(name), value) for name, value in given.items()]
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return [("", value) for value in given]
    return []


def _kept(value: Any) -> object:
    if type(value) not in KEPT_TYPES:
        return Unknown(type(value).__name__)
    if isinstance(value, str | bytes) and len(value) > MAX_VALUE:
        return value[:MAX_VALUE]
    return value
