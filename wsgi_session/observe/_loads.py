"""The load: why the ORM has sent a SELECT."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import RelationshipProperty

from ._record import Load


def load_of(context: Any) -> Load | None:
    """Return why a SELECT was sent that the ORM has made for itself; None for one that the application has written.

    A listener to ``do_orm_execute`` would be told the same by `ORMExecuteState`, with public names, but has SQLAlchemy
    prepare each statement twice.

    Args:
        context: The execution context of a statement.
    """
    statement = context.invoked_statement
    options: Any = getattr(statement, "_compile_options", None)
    path = getattr(options, "_current_path", None)  # None for a SELECT of Core
    if path is None or not statement.is_select:
        return None
    if options._for_refresh_state:  # noqa: SLF001
        return Load("column", _mapped_class(statement), is_collection=False, parent=None)
    relationship = path.path[-1] if path.path else None
    if not isinstance(relationship, RelationshipProperty):
        return None
    load_options = context.execution_options.get("_sa_orm_load_options")
    parent = getattr(load_options, "_lazy_loaded_from", None)
    return Load(
        "eager" if parent is None else "lazy",
        f"{relationship.parent.class_.__name__}.{relationship.key}",
        is_collection=bool(relationship.uselist),
        parent=None if parent is None else hash(parent.key or id(parent)),
    )


def _mapped_class(statement: Any) -> str:
    entity = statement.column_descriptions[0]["entity"]
    return "?" if entity is None else entity.__name__
