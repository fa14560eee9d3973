"""A reading list in Django, whole, in one file: a form, an ``async`` view, a stream, a command, and Django's own admin.

Users and cookies are Django's, in Django's database. Books are SQLAlchemy's. ``commit=on_unsafe_success``: no view
commits. ::

    python django_site.py migrate
    python django_site.py runserver
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.template import engines
from django.urls import path
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from wsgi_session import RequestScopedSession, RetryMiddleware, SessionMiddleware, on_unsafe_success

HERE = Path(__file__).parent
APPS = ["admin", "auth", "contenttypes", "messages", "sessions", "staticfiles"]
CONTEXT = ["django.contrib.auth.context_processors.auth", "django.contrib.messages.context_processors.messages"]

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "django.sqlite3"}},
    INSTALLED_APPS=[f"django.contrib.{name}" for name in APPS],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "for development only"),
    STATIC_URL="/static/",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": ["django.template.context_processors.request", *CONTEXT]},
        }
    ],
    WSGI_APPLICATION=f"{__name__}.application",
)
django_application = get_wsgi_application()

engine = create_engine(os.environ.get("DATABASE_URL", f"sqlite:///{HERE}/books.sqlite3"))
Session = RequestScopedSession(sessionmaker(engine))


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Book(Base):
    """A book."""

    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


Base.metadata.create_all(engine)  # once there are users, Alembic does this


class BookForm(forms.Form):
    """What may be changed of a book."""

    title = forms.CharField(max_length=100)


PAGE = engines["django"].from_string(
    """<h1>Books</h1>{% for book in books %}<p><a href="/books/{{ book.id }}">{{ book.title }}</a>{% endfor %}
{% if form %}<form method="post">{{ form }}<input type="hidden" name="csrfmiddlewaretoken" value="{{ token }}">
<button>Send</button></form>{% else %}<p><a href="/books/new">Add one</a>{% endif %}"""
)


def index(request: HttpRequest) -> HttpResponse:
    """Show all books."""
    return HttpResponse(PAGE.render({"books": Session.scalars(select(Book).order_by(Book.title))}))


def edit(request: HttpRequest, book_id: int | None = None) -> HttpResponse:
    """Add a book or change one; the form is checked first, and only then the book is changed."""
    book = Book(title="") if book_id is None else Session.get(Book, book_id)
    if book is None:
        raise Http404
    form = BookForm(request.POST or None, initial={"title": book.title})
    if form.is_valid():
        book.title = form.cleaned_data["title"]
        Session.add(book)
        return redirect("/")
    page = PAGE.render({"form": form, "token": get_token(request)})
    return HttpResponse(page, status=422 if form.is_bound else 200)


async def count(request: HttpRequest) -> HttpResponse:
    """Count the books; what is awaited may not use the session at the same time."""
    return HttpResponse(str(Session.scalar(select(func.count(Book.id)))))


def export(request: HttpRequest) -> StreamingHttpResponse:
    """Stream the titles, one a line: the session lives until the last of them is sent."""
    titles = Session.scalars(select(Book.title).order_by(Book.title), execution_options={"yield_per": 100})
    return StreamingHttpResponse((f"{title}\n" for title in titles), content_type="text/plain")


urlpatterns = [
    path("", index),
    path("books/new", edit),
    path("books/<int:book_id>", edit),
    path("count", count),
    path("export", export),
    path("admin/", admin.site.urls),
]

with_session = SessionMiddleware(django_application, Session, commit=on_unsafe_success)
application = RetryMiddleware(with_session)

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
