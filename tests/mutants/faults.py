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
    Fault("no rollback after a failed COMMIT", 4, "_transaction", "context.connection.connection.rollback()", "pass"),
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
    Fault("the previous scope is not put back", 2, "current", "    return swap(previous)", "    return _current.get()"),
    Fault(
        "what was current in a step is forgotten",
        2,
        "_response",
        "self._inside = current.leave(self._scope, previous)",
        "current.leave(self._scope, previous)",
    ),
    Fault(
        "the environ is not put back",
        2,
        "_lifetime",
        "            self.environ[self._key] = self._shadowed",
        "            pass",
    ),
    Fault(
        "a registry always means the innermost scope",
        2,
        "current",
        "while scope is not None and scope.source is not source:",
        "while scope is not None and scope.environ is None and scope.source is not source:",
    ),
    Fault(
        "the environ is touched by a collection",
        2,
        "_response",
        "previous = current.swap(self._inside)",
        "previous = current.enter(self._scope, self._inside)",
    ),
    Fault(
        "a dropped body cleans up in a stranger's scope",
        2,
        "_response",
        "previous = current.swap(self._inside)",
        "previous = current._current.get()",
    ),
    Fault(
        "commit in close()",
        5,
        "_response",
        "            self._end()\n\n    def __del__",
        "            self._scope.commit(); self._end()\n\n    def __del__",
    ),
    Fault("a response is closed twice", 3, "_response", "return self._idle.pop()", "return bool(self._idle)"),
    Fault(
        "a close() during a step is not waited for",
        3,
        "_response",
        "        if self._takes_token():\n            self._end()",
        "        self._takes_token()\n        self._end()",
    ),
    Fault(
        "a step does not look at the mark",
        3,
        "_response",
        "if self._closing and self._takes_token():",
        "if False:",
    ),
    Fault(
        "a dropped response never ends",
        3,
        "_response",
        "            current.end(self._scope)\n        if held_connection",
        "            pass\n        if held_connection",
    ),
    Fault(
        "an error in a step keeps the connection",
        3,
        "_response",
        "            self._scope.roll_back(error)\n            raise",
        "            raise",
    ),
    Fault(
        "the response keeps start_response",
        3,
        "_response",
        "        self._start = None\n        self._missing = start.missing",
        "        self._missing = start.missing",
    ),
    Fault(
        "settle after the first byte",
        5,
        "_start",
        "        self._carry_out()\n        if self._call is not None:\n            exc_info, self._exc_info = self._exc_info, None  # a traceback keeps frames alive\n            self._write = self._send(*self._call, exc_info)",
        "        if self._call is not None:\n            self._write = self._send(*self._call, self._exc_info)\n        self._carry_out()",
    ),
    Fault("a rule is asked for a doomed scope", 5, "_start", " or self._scope.state is State.DOOMED", ""),
    Fault("exc_info is no failure", 5, "_start", " or self._exc_info is not None", ""),
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
        "            _close_quietly(body)\n            raise",
        "            raise",
    ),
    Fault(
        "own session first",
        5,
        "_lifetime",
        "        yield from self._others\n        yield self.source, self.session",
        "        yield self.source, self.session\n        yield from self._others",
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
        "_response",
        "            self._scope.finish_transactions()",
        "            pass",
    ),
    Fault(
        "a doubled Content-Length is believed",
        6,
        "_wsgi",
        "if len(declared) == 1 and",
        "if declared and",
    ),
    Fault(
        "a list holds its connection until it is closed",
        6,
        "middleware",
        "is_done = type(body) in (list, tuple) or",
        "is_done =",
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
        "            if reason := _transaction.why_not_release(session):\n                raise",
        "            _transaction.release(session)\n            if reason := _transaction.why_not_release(session):\n                raise",
    ),
    Fault(
        "sessions are built when the scope opens",
        6,
        "_lazy",
        "        if self._lazy is None:\n            return self.make_now(owner)",
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
        "        for connection in connections:\n            with suppress(Exception):\n                connection.invalidate()",
        "        pass",
    ),
    Fault("a child uses its parent's pool", 13, "_transaction", "        engine.dispose(close=False)", "        pass"),
    Fault("a child collects its parent's sessions", 13, "registry", "_fork.kept.append(self._session)", "pass"),
    Fault(
        "sessions of other threads die in the fork", 13, "_fork", "self._held = list(self._members)", "self._held = []"
    ),
    Fault("inherited scopes live on", 13, "_lifetime", " or self._generation != _fork.generation", ""),
]
"""In the order of the guarantees' files."""
