"""Seal ten records and be killed at a given point: ``seal_and_die.py LOG FOLDER POINT``."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path

from zt_agents.stores import segment_files, sqlite_audit

log, folder, point = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Connection(sqlite3.Connection):
    def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:
        if sql == "COMMIT" and point == "COMMIT":
            die()
        done = super().execute(sql, *arguments)
        if sql == "COMMIT":
            die()
        return done


sink = sqlite_audit.SqliteAuditSink(log)
if point == "_sync_folder":
    segment_files._sync_folder = die
elif point == "replace":
    Path.replace = die
elif point == "fsync":
    os.fsync = die
elif point == "open":
    segment_files.write_segment = die
else:
    sink.close()
    connect = sqlite3.connect
    sqlite3.connect = lambda *given, **named: connect(*given, factory=Connection, **named)
segment_files.SegmentFolder(folder).seal(sink, 10, 2.0)
