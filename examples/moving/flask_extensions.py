"""What is used with Flask-SQLAlchemy, and takes the registry in its place: migrations, logins, an admin, schemas.

::

    flask --app flask_extensions db upgrade
    flask --app flask_extensions run
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flask import Flask, abort, request
from flask_admin import Admin
from flask_admin.contrib.sqla import ModelView
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_migrate import Migrate
from marshmallow_sqlalchemy import SQLAlchemyAutoSchema
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_sqlalchemy_after import Base, Note, Session
from wsgi_session import SessionMiddleware, never


class User(UserMixin, Base):
    """Somebody who may log in."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class NoteSchema(SQLAlchemyAutoSchema):  # type: ignore[type-arg]
    """A note as JSON."""

    class Meta:
        """Which table, and whose session."""

        model = Note
        sqla_session = Session
        load_instance = True


app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY", "for development only")
Path(app.instance_path).mkdir(parents=True, exist_ok=True)
engine = create_engine(os.environ.get("DATABASE_URL", f"sqlite:///{app.instance_path}/notes.db"))
Session.configure(bind=engine)
app.wsgi_app = SessionMiddleware(app.wsgi_app, Session, commit=never)  # type: ignore[method-assign]

Migrate(app, SimpleNamespace(engine=engine, metadata=Base.metadata))

admin = Admin(app)
admin.add_view(ModelView(Note, Session))

logins = LoginManager(app)


@logins.user_loader
def load_user(user_id: str) -> User | None:
    """Find who is logged in, in the request's session."""
    return Session.get(User, int(user_id))


@app.post("/login/<name>")
def login(name: str) -> tuple[str, int]:
    """Log in, without a password."""
    login_user(Session.scalars(select(User).filter_by(name=name)).first() or abort(404))
    return "", 204


@app.get("/me")
@login_required
def me() -> str:
    """Say who is logged in."""
    return str(current_user.name)


@app.put("/api/notes/<int:note_id>")
def change(note_id: int) -> Any:
    """Change a note, and show it."""
    schema = NoteSchema()
    note = schema.load(request.get_json(), instance=Session.get(Note, note_id) or abort(404))
    Session.commit()
    return schema.dump(note)
