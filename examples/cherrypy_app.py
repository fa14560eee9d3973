"""CherryPy: the session is ``cherrypy.request.db``.

``commit=on_unsafe_success``: handlers add and change, none commits. What a POST, PUT, PATCH or DELETE has done
is committed before the first byte of its answer is sent. The pages that CherryPy makes of ``HTTPError`` and all
other exceptions are no successes: they are rolled back.

The middleware stands in CherryPy's own pipeline, inside of what answers 500 to an exception: so a COMMIT that
fails is answered by CherryPy, too, with a 500. ::

    gunicorn cherrypy_app:application
"""

from __future__ import annotations

from collections.abc import Iterator

import cherrypy
from sqlalchemy import select

from notes import Note, Session
from wsgi_session import SessionMiddleware, on_unsafe_success


@cherrypy.tools.register("before_handler")
def db() -> None:
    """Let handlers write ``cherrypy.request.db``; CherryPy's "sessions" are about cookies."""
    cherrypy.request.db = cherrypy.request.wsgi_environ["sqlalchemy.session"]


def show() -> dict[str, list[str]]:
    """Return all notes."""
    return {"notes": list(cherrypy.request.db.scalars(select(Note.text).order_by(Note.id)))}


@cherrypy.expose
class Export:
    """All notes as text."""

    @cherrypy.config(**{"response.stream": True})
    def GET(self) -> Iterator[bytes]:  # noqa: N802
        """Stream them, one a line: the session lives until the last of them is sent."""
        cherrypy.response.headers["Content-Type"] = "text/plain; charset=utf-8"
        in_order = select(Note.text).order_by(Note.id)
        texts = cherrypy.request.db.scalars(in_order, execution_options={"yield_per": 100})
        return (f"{text}\n".encode() for text in texts)


@cherrypy.expose
class Notes:
    """All notes."""

    export = Export()

    @cherrypy.tools.json_out()
    def GET(self) -> dict[str, list[str]]:  # noqa: N802
        """Show them."""
        return show()

    @cherrypy.tools.json_in()
    @cherrypy.tools.json_out()
    def POST(self) -> dict[str, list[str]]:  # noqa: N802
        """Add some, all of them or none."""
        for text in cherrypy.request.json["notes"]:
            if not text:
                raise cherrypy.HTTPError(400, "A note needs a text.")
            cherrypy.request.db.add(Note(text=text))
        cherrypy.response.status = 201
        return show()


class Root:
    """The application."""

    notes = Notes()


cherrypy.config.update({"environment": "embedded"})  # for a server that is not CherryPy's
application = cherrypy.Application(
    Root(),
    config={
        "/": {
            "request.dispatch": cherrypy.dispatch.MethodDispatcher(),
            "tools.db.on": True,
            "wsgi.pipeline": [("sqlalchemy", SessionMiddleware)],
            "wsgi.sqlalchemy.registry": Session,
            "wsgi.sqlalchemy.commit": on_unsafe_success,
        }
    },
)
