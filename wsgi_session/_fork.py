"""The process, and what a child of it inherits but may not use."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

T = TypeVar("T")

generation: int = 0
"""How many forks that Python was told of lie between the process that imported this package and this one."""

kept: list[Any] = []
"""What belongs to a parent's connections, and so must neither be closed nor collected here."""

pid: int = os.getpid()
"""This process, as far as this package knows."""

_checking = threading.Lock()
_inheritances: list[Inheritance[Any]] = []


class Inheritance(Generic[T]):
    """Objects that hold on to connections, held weakly.  Lives as long as the process.

    In a child process each of them is disowned: what it holds is put into `kept`, for to collect it would speak to the
    database on a connection that is still the parent's.
    """

    def __init__(self, disown: Callable[[T], None], members: Callable[[], Iterable[T]] | None = None) -> None:
        """Have *disown* called with each member in every child process.

        Args:
            disown: Puts what a member holds into `kept`.
            members: Lists them; without it, they are those that were added.
        """
        self._disown = disown
        self._added: WeakSet[T] = WeakSet()
        self._members = members or (lambda: self._added)
        self._held: list[T] = []
        _inheritances.append(self)

    def add(self, member: T) -> None:
        """Let *member* be inherited."""
        self._added.add(member)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the members of now."""
        return iter(list(self._members()))

    def hold(self) -> None:
        """Hold on to the members during a fork: in the child, those of other threads would be collected."""
        while True:
            try:
                self._held = list(self._members())
            except RuntimeError:  # another thread has added a member meanwhile
                continue
            return

    def let_go(self) -> None:
        """Hold the members weakly again."""
        self._held = []

    def pass_on(self) -> None:
        """Disown what the child has inherited."""
        for member in self:
            self._disown(member)
        self.let_go()


def check() -> None:
    """Disown what was inherited, if this process is a new one that Python was not told of.

    Asked when a session is built and `pid` is another's, for some servers fork without running Python's hooks (uWSGI).
    They do so between requests, so no open scope is taken for an inherited one.
    """
    with _checking:
        if os.getpid() != pid:
            _pass_on()


def checking(app: WSGIApplication) -> WSGIApplication:
    """Return *app*; under uWSGI one that does `check` at each call, for what uses an engine without a session."""
    if "uwsgi" not in sys.modules:
        return app

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if os.getpid() != pid:
            check()
        return app(environ, start_response)

    return checked


def _pass_on() -> None:
    global pid
    for inheritance in _inheritances:
        inheritance.pass_on()
    pid = os.getpid()


def _before() -> None:
    for inheritance in _inheritances:
        inheritance.hold()


def _in_child() -> None:
    global _checking, generation
    _checking = threading.Lock()  # a thread that is not in this process may hold the other
    generation += 1
    _pass_on()


def _in_parent() -> None:
    for inheritance in _inheritances:
        inheritance.let_go()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
