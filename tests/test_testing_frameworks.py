"""The pytest plugin with the test clients that frameworks bring, their live servers, and their ``async`` views."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.test_pytest_plugin import says

NOTES = Path(__file__).parent.parent / "examples" / "notes.py"

CONFTEST = """
    import pytest
    from sqlalchemy import create_engine

    import shop
    from notes import Base, Session

    @pytest.fixture(scope="session")
    def wsgi_app(tmp_path_factory):
        engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('database')}/notes_test.db")
        Base.metadata.create_all(engine)
        Session.configure(bind=engine)
        yield shop.application
        engine.dispose()
"""

FLASK = """
    import asyncio

    from flask import Flask, Response, redirect
    from sqlalchemy import select

    from notes import Note, Session
    from wsgi_session import SessionMiddleware, on_unsafe_success

    application = Flask(__name__)
    application.wsgi_app = SessionMiddleware(application.wsgi_app, Session, commit=on_unsafe_success)

    @application.get("/")
    def show():
        return ",".join(Session.scalars(select(Note.text).order_by(Note.id)))

    @application.post("/add/<text>")
    def add(text):
        Session.add(Note(text=text))
        return redirect("/")

    @application.post("/async/<text>")
    async def add_later(text):
        Session.add(Note(text=text))
        await asyncio.sleep(0)
        Session.flush()
        return show()

    @application.post("/commit/<text>")
    async def commit(text):
        Session.add(Note(text=text))
        Session.commit()
        return show()

    @application.post("/at-once")
    async def at_once():
        driver = Session.connection().connection.driver_connection
        return "".join(await asyncio.gather(*[asyncio.to_thread(meet, Session, driver) for _ in range(2)]))

    @application.get("/stream")
    def stream():
        return Response(f"{text}\\n" for text in Session.scalars(select(Note.text)))
"""

DJANGO = """
    import asyncio, json

    from asgiref.sync import sync_to_async
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse, HttpResponseRedirect, StreamingHttpResponse
    from django.urls import path
    from sqlalchemy import select

    from notes import Note, Session
    from wsgi_session import SessionMiddleware, on_unsafe_success

    settings.configure(
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["django.contrib.staticfiles"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="for tests",
        STATIC_URL="static/",
    )

    def show(request):
        return HttpResponse(",".join(Session.scalars(select(Note.text).order_by(Note.id))))

    def add(request, text):
        Session.add(Note(text=text))
        return HttpResponseRedirect("/")

    async def add_later(request, text):
        Session.add(Note(text=text))
        await asyncio.sleep(0)
        await sync_to_async(Session.flush)()
        return show(request)

    def stream(request):
        return StreamingHttpResponse(f"{text}\\n" for text in Session.scalars(select(Note.text)))

    async def stream_later(request):
        async def lines():
            for text in Session.scalars(select(Note.text)):
                yield f"{text}\\n"
        return StreamingHttpResponse(lines())

    def fail(request):
        Session.add(Note(text="lost"))
        Session.flush()
        raise ZeroDivisionError

    urlpatterns = [
        path("", show), path("add/<text>", add), path("async/<text>", add_later), path("stream", stream),
        path("fail", fail), path("stream-later", stream_later),
    ]

    application = SessionMiddleware(get_wsgi_application(), Session, commit=on_unsafe_success)

    class Gate:
        def __init__(self, app):
            self.app = app

        def __call__(self, environ, start_response):
            if environ["PATH_INFO"] != "/closed":
                return self.app(environ, start_response)
            start_response("503 Service Unavailable", [("Retry-After", "5")])
            return [b"closed"]

    application = Gate(application)
"""


def run(pytester: pytest.Pytester, app: str, test: str, *options: str) -> pytest.RunResult:
    """Run the body of *test* on *app*, in a process of its own: a framework is configured once."""
    pytester.makepyfile(notes=NOTES.read_text(), shop=app, test_it=test)
    pytester.makeconftest(CONFTEST)
    strictly = ("-W", "error", "-W", "ignore:'cgi' is deprecated:DeprecationWarning")  # WebOb imports it
    return pytester.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *strictly, *options)


def test_the_test_client_of_flask(pytester: pytest.Pytester) -> None:
    """It closes no response by itself, and does not have to: what was read is closed, as a server does."""
    result = run(
        pytester,
        FLASK,
        """
        import pytest
        from notes import Note

        @pytest.fixture
        def client(wsgi_app):
            return wsgi_app.test_client()

        def test_notes(client, wsgi_session):
            wsgi_session.add(Note(text="of the test"))
            wsgi_session.commit()
            assert client.post("/add/ada").status_code == 302
            assert client.get("/").text == "of the test,ada"
            assert client.get("/").status_code == 200
            assert client.post("/add/bob", follow_redirects=True).text == "of the test,ada,bob"
            assert client.get("/stream").data == b"of the test\\nada\\nbob\\n"
            assert client.head("/").status_code == 200
            assert client.get("/nothing").status_code == 404

        def test_the_next(client, wsgi_session):
            assert client.get("/").text == ""

        @pytest.mark.wsgi_session("commit")
        def test_with_commits(client, wsgi_session):
            client.post("/add/ada")
            assert client.get("/").text == "ada"
        """,
    )

    result.assert_outcomes(passed=3)


def test_a_stream_that_was_not_read_is_named(pytester: pytest.Pytester) -> None:
    """It is the test's to read it, or to close it."""
    result = run(
        pytester,
        FLASK,
        """
        from notes import Note

        def test_stream(wsgi_app, wsgi_session):
            wsgi_session.add_all([Note(text="one"), Note(text="two")])
            wsgi_session.commit()
            global left
            left = wsgi_app.test_client().get("/stream")
        """,
    )

    result.assert_outcomes(failed=1)
    says(result, r"The response of GET /stream was never closed, nor read to its end")


def test_async_views_of_flask(pytester: pytest.Pytester) -> None:
    """They run in another thread, in turn: what they write is the test's, and so is what they commit."""
    result = run(
        pytester,
        FLASK,
        """
        import shop
        from notes import Note

        def test_async(wsgi_app, wsgi_session):
            client = wsgi_app.test_client()
            note = Note(text="of the test")
            wsgi_session.add(note)
            wsgi_session.commit()
            assert note.text == "of the test"
            assert client.post("/async/ada").text == "of the test,ada"
            assert client.post("/commit/bob").text == "of the test,ada,bob"
            assert client.get("/").text == "of the test,ada,bob"

        def test_the_next(wsgi_client, wsgi_session):
            assert wsgi_client.get("/").text == ""
        """,
    )

    result.assert_outcomes(passed=2)


def test_async_views_that_use_two_threads_at_once(pytester: pytest.Pytester) -> None:
    """At the same time they cannot: the error says so."""
    result = run(
        pytester,
        FLASK,
        """
        import threading
        import shop
        from sqlalchemy import text
        from wsgi_session.testing import IsolationError

        both, met, tried = threading.Barrier(2, timeout=20), threading.Event(), threading.Event()

        def meet(Session, driver):
            if both.wait() == 0:
                driver.create_function("meet", 0, lambda: met.set() or int(tried.wait(20)))
                return str(Session.scalar(text("SELECT meet()")))
            met.wait(20)
            try:
                return str(Session.scalar(text("SELECT 2")))
            except IsolationError as error:
                return str(error)
            finally:
                tried.set()

        shop.meet = meet

        def test_at_once(wsgi_app, wsgi_session):
            assert "at the same time" in wsgi_app.test_client().post("/at-once").text
        """,
    )

    result.assert_outcomes(failed=1)
    says(result, r"Two threads use sqlite:.*notes_test\.db at the same time")


LIVE_FLASK = """
    import threading
    from urllib.request import urlopen

    import pytest
    from werkzeug.serving import make_server

    @pytest.fixture
    def live(wsgi_app):
        server = make_server("127.0.0.1", 0, wsgi_app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()

    def test_notes(live, wsgi_session):
        for _ in range(20):
            assert urlopen(f"{live}/").read() == b""
            assert urlopen(f"{live}/stream").read() == b""
        assert urlopen(f"{live}/add/ada", b"").read() == b"ada"
        assert urlopen(f"{live}/async/bob", b"").read() == b"ada,bob"
        assert urlopen(f"{live}/stream").read() == b"ada\\nbob\\n"

    def test_the_next(live, wsgi_session):
        assert urlopen(f"{live}/").read() == b""
"""


def test_a_live_server_of_werkzeug(pytester: pytest.Pytester) -> None:
    """Each request has a thread of its own, one after the other: they are in the transaction of the test."""
    result = run(pytester, FLASK, LIVE_FLASK)

    result.assert_outcomes(passed=2)


def test_the_test_client_of_django(pytester: pytest.Pytester) -> None:
    """It calls Django past the application; a fixture sends it through, with all that Django's client shows."""
    result = run(
        pytester,
        DJANGO,
        """
        import pytest
        from django.test import Client

        pytestmark = pytest.mark.usefixtures("wsgi_django")

        def test_notes(wsgi_session, client):
            response = client.post("/add/ada")
            assert (response.status_code, response.url) == (302, "/")
            assert client.get("/").content == b"ada"
            response = client.post("/async/bob")
            assert response.content == b"ada,bob"
            assert response.wsgi_request.path == "/async/bob"
            assert response.resolver_match.route == "async/<text>"
            assert client.get("/stream").getvalue() == b"ada\\nbob\\n"
            assert client.post("/add/eve", follow=True).content == b"ada,bob,eve"

        def test_the_next(wsgi_session, client):
            assert client.get("/").content == b""

        def test_errors(wsgi_session, client):
            with pytest.raises(ZeroDivisionError):
                client.post("/fail")
            client.raise_request_exception = False
            assert client.post("/fail").status_code == 500
            assert client.get("/").content == b""

        def test_csrf(wsgi_session):
            assert Client(enforce_csrf_checks=True).post("/add/ada").status_code == 403

        def test_what_the_middleware_answers(wsgi_session, client):
            response = client.get("/closed")
            assert (response.status_code, response["Retry-After"], response.content) == (503, "5", b"closed")

        def test_another_client(wsgi_session, wsgi_client):
            assert wsgi_client.get("/").text == ""

        @pytest.fixture
        def client():
            return Client()
        """,
    )

    result.assert_outcomes(passed=6)


def test_the_test_client_of_django_without_the_fixture(pytester: pytest.Pytester) -> None:
    """The error names it, and no frame of this package is shown."""
    result = run(
        pytester,
        DJANGO.replace(
            "def show(request):",
            "def show(request):\n        from wsgi_session import session_of; session_of(request.environ, Session)",
        ),
        """
        from django.test import Client

        def test_notes(wsgi_session):
            Client().get("/")
        """,
    )

    result.assert_outcomes(failed=1)
    says(result, r"wsgi_session\.errors\.NoScopeError: .*the fixture 'wsgi_django'")
    result.stdout.no_re_match_line(r".*wsgi_session/\w+\.py:\d+: ")


def test_the_live_server_of_django(pytester: pytest.Pytester) -> None:
    """It, too, calls Django past the application, and is sent through."""
    result = run(
        pytester,
        DJANGO,
        """
        from urllib.request import urlopen

        import pytest
        from django.contrib.staticfiles.handlers import StaticFilesHandler
        from django.test.testcases import LiveServerThread

        @pytest.fixture
        def live(wsgi_django):
            thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
            thread.daemon = True
            thread.start()
            thread.is_ready.wait()
            assert thread.error is None
            yield f"http://127.0.0.1:{thread.port}"
            thread.terminate()

        def test_notes(live, wsgi_session):
            for _ in range(20):
                assert urlopen(f"{live}/").read() == b""
                assert urlopen(f"{live}/stream").read() == b""
            assert wsgi_session.get_bind() is not None
            wsgi_session.add(__import__("notes").Note(text="ada"))
            wsgi_session.commit()
            assert urlopen(f"{live}/").read() == b"ada"
            assert urlopen(f"{live}/stream").read() == b"ada\\n"

        def test_the_next(live, wsgi_session):
            assert urlopen(f"{live}/").read() == b""
        """,
    )

    result.assert_outcomes(passed=2)
