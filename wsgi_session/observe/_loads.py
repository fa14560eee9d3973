"""The load: why the ORM has sent a SELECT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm import RelationshipProperty

from ._record import Load

if TYPE_CHECKING:
    from sqlalchemy.orm import ORMExecuteState


def load_of(state: ORMExecuteState) -> Load | None:
    """Return why a SELECT is sent that the ORM has made for itself; None for one that the application has written."""
    if state.is_column_load:
        return Load("column", _mapped_class(state), is_collection=False, parent=None)
    path = state.loader_strategy_path
    relationship = path.path[-1] if path is not None and path.path else None
    if not isinstance(relationship, RelationshipProperty):
        return None
    parent = state.lazy_loaded_from
    return Load(
        "eager" if parent is None else "lazy",
        f"{relationship.parent.class_.__name__}.{relationship.key}",
        is_collection=bool(relationship.uselist),
        parent=None if parent is None else hash(parent.key or id(parent)),
    )


def _mapped_class(state: ORMExecuteState) -> str:
    return "?" if state.bind_mapper is None else state.bind_mapper.class_.__name__
