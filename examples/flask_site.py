"""A reading list in Flask, whole, in one file: a factory, a blueprint, forms, logins, commands, migrations.

``commit=on_unsafe_success``: no view commits. A POST that answers below 400 is committed before its first byte is sent.
Any other is rolled back: an error page, an exception, and a form that is shown again with status 422.

::

    flask --app flask_site db init
    flask --app flask_site db migrate
    flask --app flask_site db upgrade
    flask --app flask_site run
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from flask import Blueprint, Flask, abort, redirect, render_template_string, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, UserMixin, login_required, login_user
from flask_migrate import Migrate
from sqlalchemy import create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from werkzeug.security import check_password_hash, generate_password_hash

from wsgi_session import RequestScopedSession, RetryMiddleware, SessionMiddleware, on_unsafe_success, session_scope

Session = RequestScopedSession(sessionmaker())


class Base(DeclarativeBase):
    """What the tables are declared on."""


class User(UserMixin, Base):
    """Somebody who may change the list."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]


class Book(Base):
    """A book; the database refuses to have two of one title."""

    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)


books = Blueprint("books", __name__)
logins = LoginManager()
logins.login_view = "books.login"


@logins.user_loader
def load_user(user_id: str) -> User | None:
    """Find who is logged in."""
    return Session.get(User, int(user_id))


LIST = """<h1>Books{% if current_user.is_authenticated %} of {{ current_user.name }}{% endif %}</h1>
{% for book in books %}<p><a href="{{ url_for('books.edit', book_id=book.id) }}">{{ book.title }}</a>{% endfor %}
<p><a href="{{ url_for('books.edit') }}">Add one</a>"""

FORM = """<h1>{{ heading }}</h1><p>{{ error }}<form method="post">
{% for name, value in fields.items() %}
<label>{{ name }}
<input name="{{ name }}" value="{{ value }}" type="{{ 'password' if name == 'password' else 'text' }}"></label>
{% endfor %}
<button>Send</button></form>"""


@books.get("/")
def index() -> ResponseReturnValue:
    """Show all books."""
    return render_template_string(LIST, books=Session.scalars(select(Book).order_by(Book.title)))


@books.route("/books/new", methods=["GET", "POST"], defaults={"book_id": None})
@books.route("/books/<int:book_id>", methods=["GET", "POST"])
@login_required
def edit(book_id: int | None) -> ResponseReturnValue:
    """Add a book or change one; a form that is not right is shown again, with status 422."""
    book = Book(title="") if book_id is None else Session.get(Book, book_id) or abort(404)
    error = ""
    if request.method == "POST":
        book.title = request.form["title"].strip()
        if book.title:
            Session.add(book)
            Session.flush()  # an error of the database comes here, where the error handler sees it
            return redirect(url_for("books.index"))
        error = "A book needs a title."
    page = render_template_string(FORM, heading="Book", fields={"title": book.title}, error=error)
    return page, 422 if error else 200


@books.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Log in."""
    if request.method == "GET":
        return render_template_string(FORM, heading="Log in", fields={"name": "", "password": ""})
    user = Session.scalars(select(User).filter_by(name=request.form["name"])).first()
    if user is None or not check_password_hash(user.password, request.form["password"]):
        abort(403, "There is no such user, or the password is another.")
    login_user(user)
    return redirect(url_for("books.index"))


@books.app_errorhandler(IntegrityError)
def refuse(error: IntegrityError) -> ResponseReturnValue:
    """Say that the database has refused something; a status from 400 on is rolled back."""
    return "There is one of that name already.", 409


@books.cli.command()
@click.argument("name")
@click.password_option()
@session_scope(Session)
def add_user(name: str, password: str) -> None:
    """Add a user, by ``flask books add-user ada``."""
    Session.add(User(name=name, password=generate_password_hash(password)))


def shell_context() -> dict[str, Any]:
    """Say what there is in ``flask shell``: a session, which commits when you call ``session.commit()``."""
    return {"session": session_scope(Session, commit=False).__enter__(), "Book": Book, "User": User}


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the application."""
    app = Flask(__name__)
    app.config["SECRET_KEY"] = os.environ.get("SECRET_KEY", "for development only")
    app.config["DATABASE_URL"] = os.environ.get("DATABASE_URL", f"sqlite:///{app.instance_path}/books.db")
    app.config.update(config or {})
    Path(app.instance_path).mkdir(parents=True, exist_ok=True)
    engine = create_engine(app.config["DATABASE_URL"])
    Session.configure(bind=engine)

    app.register_blueprint(books)
    app.shell_context_processor(shell_context)
    logins.init_app(app)
    Migrate(app, SimpleNamespace(engine=engine, metadata=Base.metadata))

    application = SessionMiddleware(app.wsgi_app, Session, commit=on_unsafe_success)
    app.wsgi_app = RetryMiddleware(application)  # type: ignore[method-assign]
    return app
