"""The checks of what users give: each says what is wrong with it, before a request would find out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Engine

F = TypeVar("F", bound=Callable[..., object])


def checked_bind(bind: Any, choose: object) -> Engine | None:
    """Return what *choose* has returned, or raise a `TypeError` if no session can be bound to it."""
    if bind is None or isinstance(bind, Engine):
        return bind
    raise TypeError(f"{choose!r} has to choose an Engine, or None for that of the sessionmaker; it returned {bind!r}.")


def checked_hook(hook: F, what: str = "An end hook") -> F:
    """Return *hook*, or raise a `TypeError` that says *what* it is if it could never run."""
    if not callable(hook):
        raise TypeError(f"{what} has to be callable; this one is {hook!r}.")
    if never_runs(hook):
        raise TypeError(
            f"{what} has to be a plain function: {_place_of(hook)} is a generator or 'async' function, so it would"
            " never run."
        )
    return hook


def checked_application(app: F, what: str) -> F:
    """Return *app*, or raise a `TypeError` that begins with *what* it has to be if it cannot be called as one."""
    if not callable(app):
        raise TypeError(f"{what}, which is callable; {app!r} is not.")
    if any(map(inspect.iscoroutinefunction, _called(app))):
        raise TypeError(f"{what}; {app!r} is an 'async' function, as ASGI has it.")
    return app


def never_runs(function: Callable[..., object]) -> bool:
    """Say whether a call of *function* does not run its body: it is a generator or ``async`` function."""
    return any(
        inspect.isgeneratorfunction(called) or inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
        for called in _called(function)
    )


def _called(function: Any) -> tuple[Any, Any]:
    """Return what may be called: a function, or the method of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr(type(function), "__call__", None)  # noqa: B004


def _place_of(function: Any) -> str:
    function = getattr(function, "func", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    return f"{function.__qualname__!r} ({code.co_filename}:{code.co_firstlineno})"
