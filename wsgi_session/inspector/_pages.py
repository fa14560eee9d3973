"""The pages: a view as HTML that loads nothing but itself, and escapes whatever it shows."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ._groups import cause
from ._sql import lines, pieces
from ._views import ORDERS
from ._waterfall import bar_of, lanes, strip, ticks

if TYPE_CHECKING:
    from ._views import View


def rendered(view: View, base: str, path: str, *, is_one_of_many: bool) -> str:
    """Return the page of a *view*.

    Args:
        view: What it shows.
        base: The path that the inspector is mounted at, quoted; every link begins with it.
        path: The path of the page, below that.
        is_one_of_many: Whether there are other processes, of which it knows nothing.
    """
    template = _templates.get_template(f"{view.name}.html")
    return template.render(view.values, page=view.name, base=base, path=path, is_one_of_many=is_one_of_many)


def duration(seconds: float) -> str:
    """Say how long something took, in three digits or so."""
    if seconds >= 0.9995:
        return f"{seconds:.2f} s"
    digits = 2 if seconds < 0.000995 else 1 if seconds < 0.09995 else 0
    return f"{1000 * seconds:.{digits}f} ms"


def tick(seconds: float) -> str:
    """Say a round moment."""
    return f"{seconds:g} s" if seconds >= 1 else f"{1000 * seconds:g} ms"


def clock(moment: float) -> str:
    """Say the time of day, in this computer's zone."""
    return time.strftime("%H:%M:%S", time.localtime(moment))


def percent(seconds: float, whole: float) -> str:
    """Say where in a *whole* a moment is, as SVG says it; never outside of it."""
    return f"{100 * min(max(seconds / whole, 0.0), 1.0):.4f}%" if whole > 0 else "0%"


_TITLES = {
    "in_database": "in the database",
    "waited": "waiting",
    "held": "holding",
}
"""What orders are called, where that is not their name."""

_templates = Environment(
    loader=PackageLoader("wsgi_session.inspector"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_script = _templates.get_template("script.js").render()
_style = _templates.get_template("style.css").render()
_badge_style = _templates.get_template("badge.css").render()
FRAME_STYLE = _templates.get_template("frame.css").render()
"""The style of a badge in the pages of the application."""

_filters: dict[str, Any] = _templates.filters
_filters |= {"clock": clock, "duration": duration, "lines": lines, "percent": percent, "pieces": pieces, "tick": tick}
_globals: dict[str, Any] = _templates.globals
_globals |= {
    "badge_style": _badge_style,
    "bar_of": bar_of,
    "cause": cause,
    "lanes": lanes,
    "orders": [(order, _TITLES.get(order, order)) for order in ORDERS],
    "pid": os.getpid,
    "strip": strip,
    "script": _script,
    "style": _style,
    "ticks": ticks,
}


def _hash(text: str) -> str:
    """Name a text that is in the pages as their policy does."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none';"
    f" frame-ancestors 'none'; script-src {_hash(_script)}; style-src {_hash(_style)}"
)
"""The Content-Security-Policy of every page: its own script and style alone, known by their hashes."""

BADGE_POLICY = f"default-src 'none'; base-uri 'none'; frame-ancestors 'self'; style-src {_hash(_badge_style)}"
"""That of a badge, which is in a frame of the application's own pages."""
