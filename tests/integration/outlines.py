"""A trace as indented text, so that a test can be read as the story it tells."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable

from backends import LOOKS_ALIKE, Backend, Span

OUTCOME = "zt_agents.decision.outcome"


def outline(spans: Iterable[Span], *, parallel: bool = False) -> str:
    """Return the trees of *spans*, one line a span: ``name [outcome] !``, with ``!`` for an error.

    A span of another service than its root's is ``service: name``. Children stand in order of their start, and, where
    they run in *parallel*, in order of their names. A span whose parent is nowhere is marked: there should be none.
    """
    known = sorted(spans, key=lambda span: (span.name, span.start) if parallel else (span.start, span.name))
    ids = {span.id for span in known}
    lines: list[str] = []

    def draw(span: Span, depth: int, home: str) -> None:
        parts = [span.name if span.service == home else f"{span.service}: {span.name}"]
        if OUTCOME in span.tags:
            parts.append(f"[{span.tags[OUTCOME]}]")
        if span.error:
            parts.append("!")
        if not depth and span.parent:
            parts.append("(its parent is missing)")
        lines.append("  " * depth + " ".join(parts))
        for child in known:
            if child.parent == span.id and child.trace == span.trace:
                draw(child, depth + 1, home)

    for root in known:
        if root.parent not in ids:
            draw(root, 0, root.service)
    return "\n".join(lines)


def told(backend: Backend, story: str, expected: str, *, parallel: bool = False) -> None:
    """Assert that the traces of *story* come to look exactly like *expected*, and stay so for another look."""
    expected = textwrap.dedent(expected).strip()
    end = time.monotonic() + 10
    before = ""
    while True:
        seen = outline(backend.spans(story), parallel=parallel)
        if seen == before == expected:
            return
        if time.monotonic() > end:
            assert seen == expected
        before = seen
        time.sleep(LOOKS_ALIKE)
