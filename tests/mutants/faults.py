"""The faults: each a line of the package that is changed, and the guarantee whose tests notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One line that is changed for the worse."""

    name: str
    guarantee: int
    module: str
    right: str
    wrong: str


FAULTS = [
    Fault("no rollback after a failed COMMIT", 4, "_transaction", "        connection.rollback()", "        pass"),
    Fault(
        "the connection is used again after a BaseException",
        4,
        "_transaction",
        "                connection.invalidate()\n    roll_back(session)",
        "                pass\n    roll_back(session)",
    ),
    Fault(
        "an in-memory database is thrown away",
        4,
        "_transaction",
        "if not isinstance(connection.engine.pool, StaticPool | SingletonThreadPool):\n            with",
        "if True:\n            with",
    ),
    Fault("a user's connection is thrown away", 4, "_transaction", "entries if is_own]", "entries]"),
    Fault(
        "the previous scope is not put back",
        2,
        "middleware",
        "            innermost.reset(token)\n",
        "",
    ),
    Fault(
        "the previous scope is not put back after a step",
        2,
        "_response",
        "            innermost.reset(token)\n            if scope.shadowed is not None:\n                scope.hide()\n            if self._closing:",
        "            if self._closing:",
    ),
    Fault(
        "what was current in a step is forgotten",
        2,
        "_response",
        "self._resting.append(innermost.get())",
        "self._resting.append(scope)",
    ),
    Fault(
        "the environ is not put back",
        2,
        "_lifetime",
        "        self.environ[self.terms.key] = self.shadowed",
        "        pass",
    ),
    Fault(
        "a registry always means the innermost scope",
        2,
        "current",
        "while scope is not None and scope.terms.source is not source:",
        "while scope is not None and scope.environ is None and scope.terms.source is not source:",
    ),
    Fault(
        "the environ is touched by a collection",
        2,
        "_response",
        "        token = innermost.set(self._resting.pop())\n        try:\n            self._drop_body()",
        "        token = innermost.set(self._resting.pop())\n        try:\n            self._scope.show()\n            self._drop_body()",
    ),
    Fault(
        "a dropped body cleans up in a stranger's scope",
        2,
        "_response",
        "        token = innermost.set(self._resting.pop())\n        try:\n            self._drop_body()",
        "        self._resting.pop()\n        token = innermost.set(innermost.get())\n        try:\n            self._drop_body()",
    ),
    Fault(
        "commit in close()",
        5,
        "_response",
        "        self._end()\n\n    def __del__",
        "        self._scope.commit(); self._end()\n\n    def __del__",
    ),
    Fault(
        "a response is closed twice",
        3,
        "_response",
        "        except IndexError:  # somebody else ends it, or has\n            return",
        "        except IndexError:\n            token = innermost.set(scope)",
    ),
    Fault(
        "a close() during a step is not waited for",
        3,
        "_response",
        "        self._closing = True\n        self._end()",
        "        self._closing = True\n        self._resting[:] = [self._scope]\n        self._end()",
    ),
    Fault(
        "a step does not look at the mark",
        3,
        "_response",
        "            if self._closing:\n",
        "            if False:\n",
    ),
    Fault(
        "a dropped response never ends",
        3,
        "_response",
        "            self._scope.drop()\n        if held_connection",
        "            pass\n        if held_connection",
    ),
    Fault(
        "an error in a step keeps the connection",
        3,
        "_response",
        "            scope.roll_back(error)\n            raise",
        "            raise",
    ),
    Fault(
        "the response keeps start_response",
        3,
        "_start",
        "    del start\n    yield from",
        "    yield from",
    ),
    Fault(
        "settle after the first byte",
        5,
        "_start",
        "        self._carry_out(call, has_failed=exc_info is not None)\n        if call is None:\n            return\n        self._write = self._start_response(*call) if exc_info is None else self._start_response(*call, exc_info)",
        "        if call is not None:\n            self._write = self._start_response(*call)\n        self._carry_out(call, has_failed=exc_info is not None)",
    ),
    Fault(
        "a rule is asked for a doomed scope",
        5,
        "_lifetime",
        "        if self._is_doomed():\n            self.roll_back()\n            return\n",
        "",
    ),
    Fault("exc_info is no failure", 5, "_start", "if call is None or has_failed:", "if call is None:"),
    Fault(
        "an open begin() block is committed",
        5,
        "_lifetime",
        "                _transaction.refuse_open_block(session)",
        "                pass",
    ),
    Fault(
        "a body that is thrown away is not closed",
        5,
        "_start",
        "            _wsgi.close_quietly(body)\n            raise",
        "            raise",
    ),
    Fault(
        "own session first",
        5,
        "_lifetime",
        "        yield from self._others\n        yield self.terms.source, self.session",
        "        yield self.terms.source, self.session\n        yield from self._others",
    ),
    Fault(
        "losses are not mentioned",
        5,
        "_lifetime",
        '            log.warning("%r leaves uncommitted',
        '            log.debug("%r leaves uncommitted',
    ),
    Fault(
        "a complete Content-Length gives nothing back",
        6,
        "_start",
        "            scope.finish_transactions()\n            yield chunk",
        "            yield chunk",
    ),
    Fault(
        "a doubled Content-Length is believed", 6, "_wsgi", "if len(declared) == 1 else None", "if declared else None"
    ),
    Fault(
        "a list holds its connection until it is closed",
        6,
        "middleware",
        "if type(body) is list or _wsgi.is_finished(body, file_wrapper):",
        "if _wsgi.is_file(body, file_wrapper):",
    ),
    Fault(
        "release() loses what was flushed",
        6,
        "_transaction",
        "if _has_flushed(session) else seen)",
        "if False else seen)",
    ),
    Fault(
        "release() is not all or nothing",
        6,
        "_lifetime",
        "            reason = _transaction.why_not_release(session)\n            if not reason",
        "            if not (reason := _transaction.why_not_release(session)):\n                _transaction.release(session)\n            if not reason",
    ),
    Fault(
        "sessions are built when the scope opens",
        6,
        "_lazy",
        "        if lazy is None:\n            return self.make_now(owner)",
        "        if True:\n            return self.make_now(owner)",
    ),
    Fault(
        "a file wrapper is wrapped",
        7,
        "_wsgi",
        "    if file_wrapper is None:\n        return False",
        "    return False",
    ),
    Fault(
        "an ended session can be used",
        8,
        "_lazy",
        '        object.__setattr__(session, "__class__", shape.ended)',
        "        pass",
    ),
    Fault(
        "an ended scope is skipped", 8, "current", "        found.require_open()", "        found = nearest_open(found)"
    ),
    Fault(
        "no error outside", 9, "registry", "            raise current.no_scope()", "            return ThreadSession()"
    ),
    Fault(
        "one failing hook keeps the others from running",
        10,
        "_lifetime",
        '        except Exception:\n            log.exception("End hook',
        '        except ZeroDivisionError:\n            log.exception("End hook',
    ),
    Fault(
        "a connection that cannot be rolled back stays out",
        10,
        "_transaction",
        "        for connection in _own_connections(transaction):\n            with suppress(Exception):\n                connection.invalidate()",
        "        pass",
    ),
    Fault(
        "what was sent is sent again",
        11,
        "retry",
        "        if start.is_settled:\n            return",
        "        if False:\n            return",
    ),
    Fault(
        "what was committed is committed again",
        11,
        "_attempt",
        'return "something was committed, or may have been" if self.is_committed else None',
        "return None",
    ),
    Fault(
        "a refused COMMIT counts",
        11,
        "_attempt",
        "            self.is_committed = self._committing[1]",
        "            pass",
    ),
    Fault(
        "any failure undoes a COMMIT",
        11,
        "_attempt",
        "if self._committing is None or self._committing[0] is not context.connection:",
        "if self._committing is None:",
    ),
    Fault(
        "a savepoint that SQLite commits is not seen",
        11,
        "_attempt",
        "        if connection in self._saved:\n            self.commits(connection)",
        "        pass",
    ),
    Fault("AUTOCOMMIT is not seen", 11, "_attempt", "if _transaction.is_autocommit(connection):", "if False:"),
    Fault(
        "the environ of an attempt is the next one's",
        11,
        "retry",
        "environ = self._environ | {",
        "environ = self._environ\n        environ |= {",
    ),
    Fault("the request body is not read again", 11, "retry", '            "wsgi.input": self.body.reader(),\n', ""),
    Fault("a long request body is cut", 11, "retry", "if not self.body.is_whole:", "if False:"),
    Fault(
        "a body that is thrown away stays open",
        11,
        "retry",
        "            _wsgi.close_quietly(body)  # first, for it may commit\n",
        "",
    ),
    Fault(
        "a commit inside of an inner attempt is not the outer one's",
        11,
        "_attempt",
        "    for attempt in _attempts():\n        attempt.commits(connection)",
        "    if attempt := _current.get():\n        attempt.commits(connection)",
    ),
    Fault(
        "a statement after the conflict does not count",
        11,
        "_attempt",
        "        self.last_error = None\n\n\n_current",
        "        pass\n\n\n_current",
    ),
    Fault(
        "another try is offered for what is committed",
        11,
        "retry",
        " or start.is_settled or attempt.is_committed:",
        ":",
    ),
    Fault(
        "it repeats inside of a scope",
        11,
        "retry",
        "if (scope := nearest_open(innermost.get())) is not None:",
        "if scope := None:",
    ),
    Fault(
        "what is not committed drops nothing",
        12,
        "hooks",
        "        callbacks.drop(transaction)\n    callbacks",
        "        pass\n    callbacks",
    ),
    Fault(
        "a callback's error keeps the others from running",
        12,
        "hooks",
        "            self.errors.append(error)",
        "            raise",
    ),
    Fault(
        "a callback leaves its transaction open",
        12,
        "hooks",
        "                _transaction.give_back(session)",
        "                pass",
    ),
    Fault(
        "the client is told of a callback's error",
        12,
        "_lifetime",
        "            hooks.log_errors(self.commit())",
        "            for error in self.commit():\n                raise error",
    ),
    Fault(
        "release() drops callbacks",
        12,
        "_lifetime",
        "if not reason and (awaited := hooks.awaited(session)):",
        "if False:",
    ),
    Fault(
        "a rule does not commit for a callback alone",
        12,
        "_lifetime",
        "if session.in_transaction() or hooks.awaited(session))",
        "if session.in_transaction())",
    ),
    Fault("a child uses its parent's pool", 13, "_transaction", "        engine.dispose(close=False)", "        pass"),
    Fault("a child collects its parent's sessions", 13, "registry", "_fork.kept.append(self._session)", "pass"),
    Fault(
        "sessions of other threads die in the fork",
        13,
        "_fork",
        "self._held = list(self._members())",
        "self._held = []",
    ),
    Fault(
        "inherited scopes live on",
        13,
        "_lifetime",
        "return self._state is State.ENDED or self._generation != _fork.generation",
        "return self._state is State.ENDED",
    ),
]
"""In the order of the guarantees' files."""
