"""What a child process inherits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

from wsgi_session import _fork


def test_a_member_that_is_added_during_the_look_is_no_trouble(monkeypatch: Any) -> None:
    """Another thread may add a member while a fork looks at them: it looks again."""

    class Member:
        pass

    class Busy(WeakSet[Member]):
        looks = 0

        def __iter__(self) -> Iterator[Member]:
            Busy.looks += 1
            if Busy.looks == 1:
                raise RuntimeError("Set changed size during iteration")
            return super().__iter__()

    monkeypatch.setattr(_fork, "_inheritances", [])
    disowned: list[Member] = []
    inheritance: _fork.Inheritance[Member] = _fork.Inheritance(disowned.append)
    member = Member()
    inheritance._added = Busy([member])

    inheritance.hold()
    inheritance.pass_on()

    assert disowned == [member]
    assert Busy.looks == 3


def test_it_is_asked_by_two_threads(monkeypatch: Any) -> None:
    """The second one of a new process finds that all has been done."""
    monkeypatch.setattr(_fork, "_inheritances", [])
    disowned: list[Any] = []
    monkeypatch.setattr(_fork, "pid", -1)
    member = _fork.Inheritance(disowned.append, lambda: [1])

    _fork.check()
    _fork.check()

    assert disowned == [1]
    assert member
