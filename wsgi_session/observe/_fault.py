"""A fault of this package in code that only watches: it is logged once, and harms nobody."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .._log import log

P = ParamSpec("P")
R = TypeVar("R")


def contained(function: Callable[P, R]) -> Callable[P, R | None]:
    """Make of *function* one that never raises an `Exception`: it returns None then, and the first one is logged."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except Exception:
            log_once(function)
            return None

    return run


_faulty: set[str] = set()


def log_once(function: Callable[..., object]) -> None:
    """Log the error that is handled, which *function* has raised; for what runs too often to be `contained`."""
    name = function.__qualname__
    if name not in _faulty:
        _faulty.add(name)
        log.exception("The recorder has failed in %s(); what it says is not whole.", name)
