"""Django: the session is ``request.db``.

``commit=on_unsafe_success``: views add and change, none commits. What a POST, PUT, PATCH or DELETE has done is
committed before the first byte of its answer is sent. The pages that Django makes of ``BadRequest``,
``Http404`` and all other exceptions are no successes: they are rolled back. It is what ``ATOMIC_REQUESTS`` is
for Django's own ORM.

``CommonMiddleware`` declares the length of a response; so the connection to the database is given back before a
slow client has read it. ::

    gunicorn django_app:application
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import BadRequest
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views import View
from sqlalchemy import orm, select

from notes import Note, Session
from wsgi_session import SessionMiddleware, on_unsafe_success, session_of

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        f"{__name__}.put_session_into_request",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "for development only"),
)


class Request(HttpRequest):
    """A request as views see it."""

    db: orm.Session


def put_session_into_request(
    get_response: Callable[[Request], HttpResponse],
) -> Callable[[Request], HttpResponse]:
    """Let views write ``request.db``; ``request.session`` is the one with the cookie."""

    def middleware(request: Request) -> HttpResponse:
        request.db = session_of(request.environ, Session)
        return get_response(request)

    return middleware


class Notes(View):
    """All notes."""

    def get(self, request: Request, *, status: int = 200) -> HttpResponse:
        """Show them."""
        texts = request.db.scalars(select(Note.text).order_by(Note.id))
        return JsonResponse({"notes": list(texts)}, status=status)

    def post(self, request: Request) -> HttpResponse:
        """Add some, all of them or none."""
        for text in json.loads(request.body)["notes"]:
            if not text:
                raise BadRequest("A note needs a text.")
            request.db.add(Note(text=text))
        return self.get(request, status=201)


def export(request: Request) -> StreamingHttpResponse:
    """Stream the notes, one a line: the session lives until the last of them is sent."""
    in_order = select(Note.text).order_by(Note.id)
    texts = request.db.scalars(in_order, execution_options={"yield_per": 100})
    lines = (f"{text}\n" for text in texts)
    return StreamingHttpResponse(lines, content_type="text/plain")


urlpatterns = [path("notes", Notes.as_view()), path("notes/export", export)]

application = SessionMiddleware(get_wsgi_application(), Session, commit=on_unsafe_success)
