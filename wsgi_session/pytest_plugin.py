"""The pytest plugin: fixtures for tests that go through an application.  Does nothing until one is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .testing import Isolation, IsolationError, StatementBudget, committing, isolated, registry_of
from .testing._committing import TEST_AS_A_WORD
from .testing._django import sent_through

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from sqlalchemy.orm import Session, scoped_session
    from webtest import TestApp

_isolation = pytest.StashKey[Isolation]()

_INI = "wsgi_session_database"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that says which databases are for tests."""
    about = "A regular expression: which names of databases mode='commit' may delete from; by default the word test."
    parser.addini(_INI, about, default=TEST_AS_A_WORD)


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker."""
    config.addinivalue_line(
        "markers",
        "wsgi_session(mode): 'savepoint' rolls everything back, and is the default;"
        " 'commit' commits for real and deletes what was written.",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail the test itself, and not its teardown, for what it has left open."""
    error = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        if _isolation in item.stash:
            _check(item.stash[_isolation], error)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show a failure without the frames of this package; pytest's ``--full-trace`` shows them."""
    if call.excinfo is not None:
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == __package__:
                vars(module)["__tracebackhide__"] = True
    return (yield)


@pytest.fixture(scope="session")
def wsgi_app() -> WSGIApplication:
    """Return the application under test.  This is the fixture to override."""
    pytest.fail(
        "The fixture 'wsgi_app' has to be yours: in conftest.py, return from it the WSGI application under test.",
        pytrace=False,
    )


@pytest.fixture
def wsgi_registry(wsgi_app: WSGIApplication) -> scoped_session[Any]:
    """Return the registry of the sessions of `wsgi_app`; to be overridden where its middleware is out of sight."""
    try:
        return registry_of(wsgi_app)
    except (TypeError, LookupError) as error:
        message = f"The fixture 'wsgi_app' is no application with a session. {error}"
    pytest.fail(f"{message} If it has one, return its registry from the fixture 'wsgi_registry'.", pytrace=False)


@pytest.fixture
def wsgi_isolation(request: pytest.FixtureRequest) -> Iterator[Isolation]:
    """Isolate the test, in the mode of its marker ``wsgi_session``, and return its block."""
    with _block(request) as isolation:
        request.node.stash[_isolation] = isolation
        yield isolation


@pytest.fixture
def wsgi_session(wsgi_isolation: Isolation, wsgi_registry: scoped_session[Any]) -> Session:
    """Return a session of the test's own: what it commits, the application sees."""
    session: Session = wsgi_isolation.session(wsgi_registry)
    return session


@pytest.fixture
def wsgi_client(
    wsgi_app: WSGIApplication,
    wsgi_isolation: Isolation,  # noqa: ARG001
    wsgi_registry: scoped_session[Any],  # noqa: ARG001  # to find out whether there is one
) -> TestApp:
    """Return a WebTest client of the application, which closes each response."""
    try:
        from webtest import TestApp  # noqa: PLC0415
    except ImportError:
        pytest.fail("The fixture 'wsgi_client' needs WebTest: pip install 'wsgi-session[testing]'.", pytrace=False)
    return TestApp(wsgi_app)


@pytest.fixture
def wsgi_django(
    wsgi_app: WSGIApplication,
    wsgi_isolation: Isolation,  # noqa: ARG001
    wsgi_registry: scoped_session[Any],
) -> Iterator[None]:
    """Send Django's own test client and live server through `wsgi_app`: by themselves they go past it."""
    with sent_through(wsgi_app, wsgi_registry):
        yield


@pytest.fixture
def wsgi_commits(wsgi_isolation: Isolation) -> list[Callable[[], object]]:
    """Return the callbacks of `on_commit` that have run in the test, in order."""
    return wsgi_isolation.commits


@pytest.fixture
def wsgi_statements() -> type[StatementBudget]:
    """Return what makes a budget of statements, for a block: a `StatementBudget`."""
    return StatementBudget


def _block(request: pytest.FixtureRequest) -> Isolation:
    mark = request.node.get_closest_marker("wsgi_session")
    mode = "savepoint" if mark is None else mark.kwargs.get("mode", *mark.args)
    if mode == "savepoint":
        return isolated()
    if mode == "commit":
        return committing(database=request.config.getini(_INI))
    raise pytest.UsageError(f"wsgi_session(mode={mode!r}) means nothing; it is 'savepoint' or 'commit'.")


def _check(isolation: Isolation, error: BaseException | None) -> None:
    try:
        isolation.check(error)
    except IsolationError as problem:
        message = str(problem)
    else:
        return
    pytest.fail(message, pytrace=False)
