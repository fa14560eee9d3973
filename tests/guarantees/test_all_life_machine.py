"""All guarantees at once: requests in any order, with a model beside them."""

from __future__ import annotations

import gc
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from tests.helpers import Base, Exchange, Word, all_words, answer, words
from tests.strategies import commit_rules, steps
from wsgi_session import (
    NoScopeError,
    PendingChangesError,
    RequestScopedSession,
    ScopeEndedError,
    SessionMiddleware,
    current_environ,
    current_scope,
    never,
    on_success,
    session_scope,
    until_close,
)

KEY = "sqlalchemy.session"


class Stop(Exception):  # noqa: N818
    """What an application raises."""


class Request:
    """A request that is under way, and what the model knows of it."""

    def __init__(self, exchange: Exchange, environ: dict[str, Any], commit: Any) -> None:
        self.exchange: Exchange | None = exchange
        self.environ = environ
        self.pending: list[str] = []
        self.in_block: list[str] | None = None
        self.warns = commit is not None


class Life(RuleBasedStateMachine):
    """Opens, steps, nests, fails, abandons and closes requests in any order."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="wsgi_session_")
        self.engine = create_engine(f"sqlite:///{Path(self.folder.name)}/life.db", pool_size=50)
        Base.metadata.create_all(self.engine)
        # A flush would hold SQLite's only lock for writing until its request commits: the others would wait in vain.
        self.Session = RequestScopedSession(sessionmaker(self.engine, autoflush=False))
        self.committed: list[str] = []
        self.ended: list[Any] = []
        self.sessions: list[Any] = []
        self.finished = 0
        self.number = 0
        self.under_way: list[Request] = []
        self.apps = {}
        for commit in (until_close, on_success, never):
            self.apps[commit] = SessionMiddleware(self.app, self.Session, commit=commit)
            self.apps[commit].on_request_end(self.ended.append)

    def app(self, environ: Any, start_response: Any) -> Any:
        """Take its steps from the environ."""
        session = environ[KEY]
        assert all(session is not other for other in self.sessions)
        self.sessions.append(session)
        self.take(environ, environ["test.first"])
        answer(start_response)
        return self.body(environ)

    def body(self, environ: Any) -> Iterator[bytes]:
        """Take a step before each chunk."""
        while True:
            assert self.Session() is environ[KEY]
            assert current_environ() is environ
            if environ["test.next"] == "block":
                with session_scope(self.Session) as session:
                    assert self.Session() is session is not environ[KEY]
                    session.add(Word(text=environ["test.word"]))
                    yield b"in a block"
                    assert self.Session() is session
            elif environ["test.next"] == "end":
                return
            else:
                self.take(environ, environ["test.next"])
            yield b"x"

    def take(self, environ: Any, step: str) -> None:
        """Do what a step says."""
        session = environ[KEY]
        if step == "read":
            all_words(self.Session)
        elif step == "add":
            session.add(Word(text=environ["test.word"]))
        elif step == "commit":
            session.commit()
        elif step == "remove":
            self.Session.remove()
        elif step == "release":
            try:
                current_scope().release()
            except PendingChangesError:
                assert session.new
        elif step == "inner":
            inner = Exchange(self.apps[on_success], environ={**environ, "test.first": "add", "test.next": "end"})
            inner.read().close()
            assert self.Session() is environ[KEY] is session
        elif step == "fail":
            raise Stop

    def word(self) -> str:
        """Make a word that was not used yet."""
        self.number += 1
        return str(self.number)

    def account(self, request: Request, step: str, word: str) -> None:
        """Do in the model what `take` does in the application."""
        if step == "add":
            request.pending.append(word)
        elif step == "commit":
            self.committed += request.pending
            request.pending = []
        elif step in ("remove", "fail"):
            request.pending = []
        elif step == "inner":
            self.committed.append(word)
            self.finished += 1

    @rule(target=requests, commit=commit_rules, step=steps.filter(lambda step: step not in ("fail", "block", "end")))
    def open(self, commit: Any, step: str) -> Request:
        """Call the application."""
        word = self.word()
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "test.first": step,
            "test.next": "read",
            "test.word": word,
        }
        request = Request(Exchange(self.apps[commit], environ=environ), environ, commit)
        self.under_way.append(request)
        self.account(request, step, word)
        if commit is on_success:
            self.account(request, "commit", word)
        return request

    @rule(commit=commit_rules)
    def fail_in_the_call(self, commit: Any) -> None:
        """Call an application that raises."""
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "test.first": "fail"}
        with pytest.raises(Stop):
            Exchange(self.apps[commit], environ=environ)
        self.finished += 1

    @rule(request=requests, step=steps)
    def step(self, request: Request, step: str) -> None:
        """Take the next chunk."""
        if request.exchange is None:
            return
        if request.in_block is not None:
            self.committed += request.in_block
            request.in_block = None
            assert request.exchange.step() == b"x"
            return
        word = self.word()
        request.environ.update({"test.next": step, "test.word": word})
        if step == "fail":
            with pytest.raises(Stop):
                request.exchange.step()
            self.account(request, step, word)
            self.close(request)
        else:
            chunk = request.exchange.step()
            self.account(request, step, word)
            if step == "block":
                request.in_block = [word]
            if chunk is None:
                self.close(request)

    @rule(request=consumes(requests))
    def close(self, request: Request) -> None:
        """Close the response, perhaps half-way, perhaps again."""
        if request.exchange is not None:
            request.exchange.close()
            request.exchange.close()
            request.exchange = None
            self.finished += 1

    @rule(request=consumes(requests))
    def drop(self, request: Request) -> None:
        """Forget the response."""
        if request.exchange is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                request.exchange = None
            self.finished += 1

    @rule()
    def collect(self) -> None:
        """Run the cyclic collector in the middle of it all."""
        gc.collect()

    @invariant()
    def nothing_is_current(self) -> None:
        """Between the steps, no scope is."""
        with pytest.raises(NoScopeError):
            self.Session()

    @invariant()
    def every_end_is_counted_once(self) -> None:
        """A request that is over has ended, one that is not has not."""
        assert len(self.ended) == self.finished

    @invariant()
    def what_was_committed_is_there(self) -> None:
        """And nothing else."""
        assert sorted(words(self.engine)) == sorted(self.committed)

    def teardown(self) -> None:
        """When all are closed, no connection is out, and every session has ended."""
        for request in self.under_way:
            self.close(request)
        self.every_end_is_counted_once()
        assert self.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        for session in self.sessions:
            with pytest.raises(ScopeEndedError):
                session.in_transaction()
        self.engine.dispose()
        self.folder.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(parent=settings(), stateful_step_count=30)
