"""The pools: what is told when one has no connection left, at no price while it has."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import Pool, QueuePool, SingletonThreadPool, StaticPool

on_dry: list[Callable[[PoolTimeoutError], object]] = []
"""Are called when a pool has no connection left, with an error as it is about to raise one."""


def is_database(pool: Pool) -> bool:
    """Say whether *pool* is the database itself, as of one in memory, which is gone with its connection."""
    return isinstance(pool, StaticPool | SingletonThreadPool)


def watch(pool: Pool) -> None:
    """Have `on_dry` told of *pool*, and of those that come after it when it is disposed of.

    There is no event for it. What a `QueuePool` calls for the text of its error and for nothing else on the way to a
    connection is its ``overflow()``.
    """
    if isinstance(pool, QueuePool):
        weakly, known = weakref.ref(pool), vars(pool)
        pool.overflow = partial(_overflow, weakly)  # type: ignore[method-assign]
        pool.recreate = partial(_recreate, known.get("recreate"), weakly)  # type: ignore[method-assign, assignment]


def _overflow(weakly: Callable[[], Any]) -> int:
    pool = weakly()
    if sys._getframe(1).f_code is QueuePool._do_get.__code__:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        error = PoolTimeoutError(f"No connection was left in time. {pool.status()}")
        for tell in on_dry:
            tell(error)
    overflow: int = type(pool).overflow(pool)
    return overflow


def _recreate(recreate: Callable[[], Pool] | None, weakly: Callable[[], Any]) -> Pool:
    pool = weakly()
    made: Pool = recreate() if recreate else type(pool).recreate(pool)
    watch(made)
    return made
