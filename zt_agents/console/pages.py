"""Templates and static files, read once at start-up.

Every text is escaped by Jinja, and nothing is marked as safe but the picture of a QR code. What strangers wrote goes
through ``show`` as well.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from zt_agents._internal.clock import Clock, as_datetime, rfc3339
from zt_agents._internal.display import visible
from zt_agents.console.showing import show_line

_HERE = Path(__file__).parent
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class Pages:
    """Renders the console's pages."""

    def __init__(self, clock: Clock) -> None:
        self.files = {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in (_HERE / "static").iterdir()}
        """Content and media type of each static file."""
        environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.globals["static"] = self._address
        environment.filters.update(
            duration=duration,
            left=lambda moment: left(moment - clock()),
            line=show_line,
            moment=lambda moment: f"{as_datetime(moment):%Y-%m-%d %H:%M} UTC",
            plain=lambda text: visible(text, limit=80),
            number=lambda number: f"{number:,}",
            utc=rfc3339,
        )
        self._environment = environment

    def render(self, name: str, **values: Any) -> str:
        """Return the template *name* filled in."""
        return self._environment.get_template(name).render(values)

    def _address(self, name: str) -> str:
        content, _ = self.files[name]
        return f"/static/{name}?{hashlib.sha256(content).hexdigest()[:16]}"


def duration(seconds: float) -> str:
    """Return a length of time in words, rounded down."""
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'s' if count != 1 else ''}"
    return f"{max(0, int(seconds))} seconds"


def left(seconds: float) -> str:
    """Return how long something still lasts, in words."""
    return f"{duration(seconds)} left" if seconds > 0 else "expired"
