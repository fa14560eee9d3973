"""A script, with the registry of the web application: adds the lines of a text as notes, all of them or none.

::

    python script.py < notes.txt
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from notes import Note, Session
from wsgi_session import session_scope


def add(lines: Iterable[str]) -> int:
    """Add notes and count them; a request may call it, too, for it asks the registry."""
    notes = [Note(text=line.strip()) for line in lines]
    Session.add_all(notes)
    return len(notes)


if __name__ == "__main__":
    with session_scope(Session):  # commits at its end, or rolls back; closes in any case
        count = add(sys.stdin)
    sys.stderr.write(f"{count} notes were added.\n")
