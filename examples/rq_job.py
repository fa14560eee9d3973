"""An RQ job, with the registry of the web application.

Each run of the job is a scope of its own: committed if it returns, rolled back if it raises. A job is given an id,
not an object: it reads with its own session what has been committed. ::

    rq worker
    python -c "from rq_job import queue, shout; queue.enqueue(shout, 1)"
"""

from __future__ import annotations

import os
from functools import partial

from redis import Redis
from rq import Queue

from notes import Note, Session
from wsgi_session import on_commit, session_scope

queue = Queue(connection=Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost")))


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
    on_commit(Session(), partial(queue.enqueue, shout, note.id))
