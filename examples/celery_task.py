"""A Celery task, with the registry of the web application.

Each run of the task is a scope of its own: committed if it returns, rolled back if it raises. A retry is another run,
in another scope. A task is given an id, not an object: it reads with its own session what has been committed. ::

    celery --app celery_task worker
    python -c "from celery_task import shout; shout.delay(1)"
"""

from __future__ import annotations

import os
from functools import partial

from celery import Celery
from sqlalchemy.exc import OperationalError

from notes import Note, Session
from wsgi_session import on_commit, session_scope

app = Celery("notes", broker=os.environ.get("BROKER_URL", "redis://localhost"))


@app.task(autoretry_for=(OperationalError,), retry_backoff=True)
@session_scope(Session)
def shout(note_id: int) -> None:
    """Put a note into capitals."""
    note = Session.get_one(Note, note_id)
    note.text = note.text.upper()


def add(text: str) -> None:
    """Add a note, for a view to call, and have it put into capitals later."""
    note = Note(text=text)
    Session.add(note)
    Session.flush()  # gives it its id
    # not before: the worker may be faster than the COMMIT
    on_commit(Session(), partial(shout.delay, note.id))
