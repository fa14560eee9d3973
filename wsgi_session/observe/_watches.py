"""The watches: which pools are watched."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING
from weakref import ref

from .. import _fork
from ._pools import WATCH, PoolWatch

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ._gauges import PoolGauges


def watch_of(engine: Engine) -> PoolWatch:
    """Watch the pool of *engine* from now on, and return what does."""
    found: PoolWatch | None = getattr(engine.pool, WATCH, None)
    return _begin(engine) if found is None else found


def all_gauges() -> tuple[PoolGauges, ...]:
    """Read the gauges of every pool that is watched."""
    return tuple(found.gauges() for found in _all())


def all_holders() -> tuple[str, ...]:
    """Say who has the connections of every pool that is watched."""
    return tuple(f"{found.engine}: {holder}" for found in _all() for holder in found.holders())


def _all() -> list[PoolWatch]:
    return [found for known in list(_known) if (found := known()) is not None]


def _begin(engine: Engine) -> PoolWatch:
    with _beginning:
        found: PoolWatch | None = getattr(engine.pool, WATCH, None)
        if found is None:  # no other thread was faster
            found = PoolWatch(engine)
            _known[:] = [known for known in _known if known() is not None] + [ref(found)]
        return found


_beginning = threading.RLock()
# A child must not inherit it from a thread that is not in it.
os.register_at_fork(before=_beginning.acquire, after_in_child=_beginning.release, after_in_parent=_beginning.release)

_known: list[ref[PoolWatch]] = []
"""All watches, the oldest first; each lives as long as one of its pools."""

_inherited: _fork.Inheritance[PoolWatch] = _fork.Inheritance(PoolWatch.disown, _all)
