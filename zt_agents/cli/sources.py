"""Where a command reads a log from: the log alone, or together with its segments."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from zt_agents.audit.segments import WholeLog
from zt_agents.audit.sink import AuditSource
from zt_agents.cli.display import say
from zt_agents.stores.segment_files import SegmentFolder
from zt_agents.stores.sqlite_audit import SqliteAuditSink

SegmentsOption = Annotated[
    Path | None, typer.Option("--segments", metavar="FOLDER", help="Where the sealed records of the log are.")
]


def whole(log: Path, segments: Path | None) -> AuditSource:
    """Return the log for proving, together with the folder *segments*."""
    sink = SqliteAuditSink(log, create=False)
    return sink if segments is None else WholeLog(sink, SegmentFolder(segments))


@contextmanager
def searchable(log: Path, segments: Path | None) -> Iterator[SqliteAuditSink]:
    """Open the log for searching; with *segments*, a temporary copy that has their records as well.

    Without them, a warning says which records are not there.
    """
    sink = SqliteAuditSink(log, create=False)
    if segments is None:
        with sink.snapshot() as snapshot:
            sealed = snapshot.begin.seq
        if sealed:
            text = f"Records 1 to {sealed} lie in segments: --segments FOLDER reads them too."
            say(text, style="yellow", stderr=True)
        yield sink
        return
    with tempfile.TemporaryDirectory(prefix="zt-agents-") as folder:
        yield SqliteAuditSink.copy_of(WholeLog(sink, SegmentFolder(segments)), Path(folder) / log.name)
