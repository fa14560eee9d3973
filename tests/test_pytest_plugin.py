"""The pytest plugin: in the project of the documentation, and what it says of tests that are wrong."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent / "examples" / "testing"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a folder with a copy of the project, without its tests."""
    for path in PROJECT.glob("*.py"):
        shutil.copy(path, pytester.path)
    (pytester.path / "test_shop.py").rename(pytester.path / "shop_tests.py")
    return pytester


def run(project: pytest.Pytester, test: str, *options: str) -> pytest.RunResult:
    """Run the body of *test*, in the project."""
    project.makepyfile(test_it=test)
    return project.runpytest_inprocess("-p", "no:cacheprovider", *options)


def says(result: pytest.RunResult, *lines: str) -> None:
    """See that each of *lines* is somewhere in what pytest printed."""
    for line in lines:
        result.stdout.re_match_lines_random([f".*{line}"])


def test_the_project_passes(project: pytest.Pytester) -> None:
    """A POST commits, a GET sees it, and the next test starts empty."""
    result = project.runpytest_inprocess("shop_tests.py", "-p", "no:cacheprovider")

    result.assert_outcomes(passed=5)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_project_passes_in_a_process_of_its_own(project: pytest.Pytester, options: tuple[str, ...]) -> None:
    """So it does where nothing but what is installed can be imported, and in the workers of pytest-xdist."""
    strictly = ("-W", "error", "-W", "ignore:'cgi' is deprecated:DeprecationWarning")  # WebOb imports it
    result = project.run(
        sys.executable, "-P", "-m", "pytest", "shop_tests.py", "-p", "no:cacheprovider", *strictly, *options
    )

    result.assert_outcomes(passed=5)


def test_a_budget_that_is_not_kept_prints_the_list(project: pytest.Pytester) -> None:
    """The statements are numbered, each with the line that it came from."""
    result = run(
        project,
        """
        from shop import Customer, Order

        def test_list(wsgi_client, wsgi_session, wsgi_statements):
            wsgi_session.add_all(Customer(name=name, orders=[Order()]) for name in ("ada", "bob"))
            wsgi_session.commit()
            with wsgi_statements(at_most=1):
                wsgi_client.get("/orders")
        """,
    )

    result.assert_outcomes(failed=1)
    says(
        result,
        "3 statements were sent, and at most 1 expected:",
        r"1\. SELECT .* FROM customer_order  \[shop.py:\d+\]",
        r"2\. SELECT .* FROM customer WHERE customer\.id = \?  \[shop.py:\d+\]",
        r"3\. SELECT .* FROM customer WHERE customer\.id = \?  \[shop.py:\d+\]",
    )


LEAKED_STREAM = """
    import pytest
    from shop import Customer, Order
    from wsgiref.util import setup_testing_defaults

    pytestmark = pytest.mark.wsgi_session(mode="MODE")

    def test_leak(wsgi_app, wsgi_session):
        global body
        wsgi_session.add(Customer(name="ada", orders=[Order()]))
        wsgi_session.commit()
        environ = {"PATH_INFO": "/export"}
        setup_testing_defaults(environ)
        body = wsgi_app(environ, lambda *head: None)
        next(iter(body))

    def test_next(wsgi_client):
        assert wsgi_client.get("/orders").text == ""
"""


@pytest.mark.parametrize("mode", ["savepoint", "commit"])
def test_a_leaked_stream_fails_its_test_and_no_other(project: pytest.Pytester, mode: str) -> None:
    """The test that has left a response open fails, and names it; the next one passes."""
    result = run(project, LEAKED_STREAM.replace("MODE", mode))

    result.assert_outcomes(failed=1, passed=1)
    says(result, r"The response of GET /export was never closed")


def test_a_leaked_connection_fails_its_test(project: pytest.Pytester) -> None:
    """A connection that is still out names the request that has taken it, and its line."""
    result = run(
        project,
        """
        import shop

        kept = []

        def test_leak(wsgi_client, wsgi_session, monkeypatch):
            wsgi_session.close()
            engine = wsgi_session.get_bind().engine
            monkeypatch.setitem(shop.VIEWS, ("GET", "orders"), lambda *args: kept.append(engine.connect()) or [b""])
            wsgi_client.get("/orders")

        def test_clean_up():
            kept.pop().close()
        """,
    )

    result.assert_outcomes(failed=1, passed=1)
    says(result, r"GET /orders has taken a connection at test_it.py:\d+")


def test_a_test_that_fails_by_itself_says_why(project: pytest.Pytester) -> None:
    """Its own error is the one that is shown."""
    result = run(project, "def test_it(wsgi_client, wsgi_session):\n    assert 1 == 2")

    result.assert_outcomes(failed=1)
    says(result, "assert 1 == 2")


def test_nothing_happens_until_a_fixture_is_asked_for(pytester: pytest.Pytester) -> None:
    """A project that knows nothing of the plugin runs as it did."""
    pytester.makepyfile("def test_it(request):\n    assert not [one for one in request.fixturenames if 'wsgi' in one]")

    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(passed=1)


def test_an_application_that_is_not_given_is_asked_for(pytester: pytest.Pytester) -> None:
    """The error says which fixture to write, and where."""
    pytester.makepyfile("def test_it(wsgi_client): pass")

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(errors=1)
    says(result, r"The fixture 'wsgi_app' has to be yours: in conftest\.py")


@pytest.mark.parametrize(
    ("app", "complaint"),
    [("None", "None is not"), ("lambda environ, start_response: []", "No SessionMiddleware was found")],
)
def test_an_application_that_is_wrong_is_named(project: pytest.Pytester, app: str, complaint: str) -> None:
    """It says what is wrong, and what to do where the middleware is out of sight."""
    project.makeconftest(f"import pytest\n\n@pytest.fixture\ndef wsgi_app():\n    return {app}")

    result = run(project, "def test_it(wsgi_client): pass")

    result.assert_outcomes(errors=1)
    says(result, complaint, "return its registry from the fixture 'wsgi_registry'")


def test_a_registry_can_be_given(project: pytest.Pytester) -> None:
    """Where the middleware is out of sight, the registry is named."""
    result = run(
        project,
        """
        import pytest, shop

        @pytest.fixture
        def wsgi_app(wsgi_app):
            return lambda environ, start_response: wsgi_app(environ, start_response)

        @pytest.fixture
        def wsgi_registry():
            return shop.Shop

        def test_it(wsgi_client, wsgi_session):
            assert wsgi_client.get("/orders").text == ""
        """,
    )

    result.assert_outcomes(passed=1)


def test_a_mode_that_is_none_is_refused(project: pytest.Pytester) -> None:
    """The error says which there are."""
    result = run(project, "import pytest\n@pytest.mark.wsgi_session('rollback')\ndef test_it(wsgi_session): pass")

    result.assert_outcomes(errors=1)
    says(result, r"wsgi_session\(mode='rollback'\) means nothing")


def test_a_database_that_is_not_marked_is_refused(project: pytest.Pytester) -> None:
    """What is a test's database is a setting, and without the mark nothing is written."""
    project.makeini("[pytest]\nwsgi_session_database = ^spare_")

    result = run(
        project,
        """
        import pytest
        from factories import CustomerFactory

        @pytest.mark.wsgi_session(mode="commit")
        def test_it(wsgi_session):
            CustomerFactory()
        """,
    )

    result.assert_outcomes(failed=1)
    says(result, "is not marked as a test's database")


def test_webtest_is_asked_for(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without WebTest, its client says what to install."""
    monkeypatch.setitem(sys.modules, "webtest", None)

    result = run(project, "def test_it(wsgi_client): pass")

    result.assert_outcomes(errors=1)
    says(result, r"pip install 'wsgi-session\[testing\]'")


OUR_FRAME = r".*wsgi_session/(\w+/)*\w+\.py:\d+: "


def test_a_session_in_no_request_names_the_fixture(project: pytest.Pytester) -> None:
    """The error says which fixture to ask for, by its public name, and shows the line of the test alone."""
    result = run(project, "from shop import Shop\n\ndef test_it(wsgi_client):\n    Shop.execute(None)")

    result.assert_outcomes(failed=1)
    says(result, r"wsgi_session\.errors\.NoScopeError: .*ask for the fixture 'wsgi_session'")
    result.stdout.no_re_match_line(OUR_FRAME)


FAILING = """
    from shop import Customer

    def test_it(wsgi_client, wsgi_session, wsgi_statements):
        wsgi_session.add(Customer(name="ada"))
        CALL
"""


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("wsgi_client.get('/orders')", r"wsgi_session\.testing\.IsolationError: A session of the test's has changes"),
        ("with wsgi_statements(at_most=0): wsgi_session.flush()", r"wsgi_session\.testing\.StatementBudgetError"),
    ],
)
def test_a_failure_shows_no_frames_of_the_package(project: pytest.Pytester, call: str, error: str) -> None:
    """What a reader of a failure sees is their own, unless they ask for all of it."""
    test = FAILING.replace("CALL", call)

    result = run(project, test)
    result.assert_outcomes(failed=1)
    says(result, error)
    result.stdout.no_re_match_line(OUR_FRAME)

    whole = run(project, test, "--full-trace")
    assert any(re.match(OUR_FRAME, line) for line in whole.outlines)


def test_the_words_of_an_uncommitted_change(project: pytest.Pytester) -> None:
    """The sentence reads as one."""
    result = run(project, FAILING.replace("CALL", "wsgi_client.get('/orders')"))

    says(
        result,
        r"A session of the test's has changes that are not committed \(1 new Customer\)\. In production"
        r" the session of <Scope of GET /orders, open> would not see them: commit or roll back before\.",
    )
