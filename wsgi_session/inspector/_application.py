"""The application: which page a visitor gets, if he is let in."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from .._checks import checked_application, checked_hook
from ..observe import Recorder
from ..observe._visitors import is_from_same_origin
from ._address import base_of, without_key
from ._editor import Editor
from ._entry import AllowedEntry, LocalEntry, Refusals
from ._key import Key
from ._mount import PLACE_OF_APPLICATION, Mount
from ._pages import BADGE_POLICY, FRAME_STYLE, POLICY, rendered
from ._plain import plain
from ._plan import plan_of, why_not
from ._sight import Shown, Sight
from ._views import Given, View, given_in, view_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class Answer(NamedTuple):
    """What is sent."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Inspector:
    """Shows what a recorder has seen: a WSGI application.  Lives as long as the recorder.

    You mount it yourself, with `mounted`, or as your framework mounts applications. Mount it outside of the
    `SessionMiddleware`; otherwise it shows its own requests, too. Its pages work without scripts; one script of its own
    brings in new requests. It loads nothing from elsewhere, asks no database, and shows no values, because the recorder
    keeps none.

    The first visit from this computer logs a link that has a key in it. Open the link, and you get a cookie for the
    key.

    It answers GET, and POST at ``/clear``, from a page of its own alone; ``?format=json`` has each page as JSON.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        key: str | None = None,
        allow: Callable[[WSGIEnvironment], bool] | None = None,
        editor: str | None = None,
        explain: bool = False,
    ) -> None:
        """Show what *recorder* has seen to visitors that seem to be at this computer and have the key.

        Args:
            recorder: That of the middleware.
            key: A key of your own: 16 characters or more that a URL shows as they are. By default a new key is
                made. Pass one if several processes make an inspector each.
            allow: A function of the environ that says who may see it. It replaces both conditions. Everybody else gets
                a 404, as if there were no inspector.
            editor: Which editor opens a line that is clicked on: ``"vscode"``, ``"pycharm"`` or another of those that
                are known, or the link of another one, with ``{path}`` and ``{line}`` in it.
            explain: Whether a SELECT has a button that asks the database for its plan, by EXPLAIN.

        Raises:
            TypeError: If an argument is of another kind, or *key* and *allow* are both given, or *allow* and *explain*.
            ValueError: If *key* is too short, or has another character, or *editor* is none, or *recorder* does not
                keep the values that *explain* needs.
        """
        if not isinstance(recorder, Recorder):
            raise TypeError(f"Inspector takes a wsgi_session.observe.Recorder, not {recorder!r}.")
        if key is not None and allow is not None:
            raise TypeError(
                "Inspector takes a 'key' or an 'allow', not both: 'allow' decides alone, and asks for no key."
            )
        self._entry = (
            LocalEntry(Key(key))
            if allow is None
            else AllowedEntry(checked_hook(allow, "allow, a function of the environ such as is_local,"))
        )
        if explain and allow is not None:
            raise TypeError("Inspector(explain=True) is for this computer and its key alone, not for an 'allow'.")
        if explain and not recorder.keeps_values:
            raise ValueError(
                "Inspector(explain=True) needs what was given to statements: 'Recorder(statements=True, values=True)'."
            )
        self._editor = Editor(editor)
        self._explains = explain
        self._shows_values = allow is None and recorder.keeps_values
        self._recorder = recorder
        self._refusals = Refusals()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        refusal = self._entry.refusal_of(environ)
        if refusal is not None:
            self._refusals.tell(refusal, environ)
        answer = self._answer(environ) if refusal is None else _NOT_FOUND
        length = ("Content-Length", str(len(answer.body)))
        start_response(answer.status, [*answer.headers, length])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def mounted(
        self, application: WSGIApplication, *, path: str = "/-/inspector", header: bool = False, badge: bool = False
    ) -> WSGIApplication:
        """Return *application* with this inspector in place of its pages at *path* and below.

        ::

            application = SessionMiddleware(application, Session, recorder=recorder)
            application = Inspector(recorder).mounted(application)

        Args:
            application: The whole application, its `SessionMiddleware` included.
            path: Where the inspector is, from where the application is.
            header: Whether a response has a header ``Wsgi-Session-Request`` with the address of the page of its
                request, for who may see the inspector.
            badge: Whether a page of HTML shows them what its request did, and leads to it, at its end.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: If *path* is no path, or that of the whole site.
        """
        for name, value in (("header", header), ("badge", badge)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} has to be True or False, not {value!r}.")
        checked = checked_application(application, "Inspector.mounted takes a WSGI application")
        shown = Shown(header, badge)
        return Mount(self, checked, path, partial(self._sight_of, shown) if any(shown) else None)

    def _sight_of(self, shown: Shown, environ: WSGIEnvironment, base: str) -> Sight | None:
        """Return what shows a request on its response; None for who may not see it."""
        return Sight(self._recorder, shown, base, environ) if self._entry.sees(environ) else None

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        cookies = self._entry.cookies_for(environ, environ.get(PLACE_OF_APPLICATION))
        if cookies:
            return _exchanged(cookies, without_key(environ))
        path, query = environ.get("PATH_INFO", ""), dict(parse_qsl(environ.get("QUERY_STRING", "")))
        if path == "/clear":
            return self._clear(environ)
        if path == "/badge.css":
            return _shown("text/css", FRAME_STYLE)
        if self._explains and (asked := _plan.fullmatch(path)):
            return self._explain(environ, int(asked[1]), int(asked[2]))
        view = view_of(path, query, self._recorder)
        if view is None:
            return _NOT_FOUND
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _told("405 Method Not Allowed", ("Allow", "GET, HEAD"))
        if query.get("format") == "json":
            return _shown("application/json", json.dumps(plain(view.values), indent=1))
        given: dict[int, Given] = {}
        if self._shows_values and view.name == "request":
            given = given_in(view.values["request"], self._recorder, has_plans=self._explains)
        page = self._page(view._replace(values=view.values | {"given": given}), environ)
        return _shown("text/html", page, BADGE_POLICY if view.name == "badge" else POLICY)

    def _page(self, view: View, environ: WSGIEnvironment) -> str:
        values = view.values | {
            "editor": self._editor,
            "shows_values": self._shows_values,
            "keeps_values": self._recorder.keeps_values,
        }
        is_one_of_many = bool(environ.get("wsgi.multiprocess"))
        path = environ.get("PATH_INFO", "")
        return rendered(view._replace(values=values), base_of(environ), path, is_one_of_many=is_one_of_many)

    def _explain(self, environ: WSGIEnvironment, request: int, statement: int) -> Answer:
        """Ask a database for the plan of a statement, by its number in its request."""
        if environ["REQUEST_METHOD"] != "POST":
            return _told("405 Method Not Allowed", ("Allow", "POST"))
        if not is_from_same_origin(environ):
            return _told("403 Forbidden")
        record = next((one for one in self._recorder.records if one.number == request), None)
        values = self._recorder.values_of(request).get(statement - 1)
        if record is None or values is None:
            return _NOT_FOUND
        reason = why_not(values)
        plan = plan_of(values) if reason is None else [f"There is no plan: {reason}."]
        shown = {"request": record, "number": statement, "statement": record.statements[statement - 1], "plan": plan}
        return _shown("text/html", self._page(View("plan", shown), environ))

    def _clear(self, environ: WSGIEnvironment) -> Answer:
        """Forget what is over, and show the list that has nothing in it."""
        if environ["REQUEST_METHOD"] != "POST":
            return _told("405 Method Not Allowed", ("Allow", "POST"))
        if not is_from_same_origin(environ):
            return _told("403 Forbidden")
        self._recorder.clear()
        return _told("303 See Other", ("Location", base_of(environ) + "/"))


def _exchanged(cookies: list[str], location: str) -> Answer:
    """Send a browser on with its cookies, so that the key is in no history and no ``Referer``."""
    status = "303 See Other"
    given = [("Set-Cookie", cookie) for cookie in cookies]
    headers = [("Location", location), *given, ("Referrer-Policy", "no-referrer"), _POLICY, *_HEADERS]
    return Answer(status, [_PLAIN, *headers], status.encode())


def _shown(kind: str, text: str, policy: str = POLICY) -> Answer:
    headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Security-Policy", policy), _REFERRER, *_HEADERS]
    return Answer("200 OK", headers, text.encode())


def _told(status: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, [_PLAIN, *headers, _POLICY, _REFERRER, *_HEADERS], status.encode())


_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
)
_plan = re.compile(r"/requests/(\d{1,12})/plan/(\d{1,6})")
_POLICY = ("Content-Security-Policy", POLICY)
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")
# Not "no-referrer", under which a form of a page of its own has "Origin: null".
_REFERRER = ("Referrer-Policy", "same-origin")
_NOT_FOUND = Answer("404 Not Found", [_PLAIN], b"Not Found")
