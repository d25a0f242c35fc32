"""Lets three processes create a log at the same moment, again and again: ``create_together.py FOLDER LOGS [empty]``.

With ``empty`` there is an empty file already. A program of its own, because forking a small process is quick.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

from zt_agents.audit import AuditRecord, RecordKind
from zt_agents.stores.sqlite_audit import SqliteAuditSink


def create(path: Path) -> list[int]:
    """Return the exit codes of three processes that each open *path* and append a record."""
    start_r, start_w = os.pipe()
    workers = []
    for name in "abc":
        if (pid := os.fork()) == 0:
            os.close(start_w)
            os.read(start_r, 1)  # until the parent closes its end
            code = 1
            try:
                with closing(SqliteAuditSink(path)) as sink:
                    sink.append([AuditRecord(RecordKind.DECISION, 1.0, name, "t", "allow")])
                code = 0
            except Exception as error:
                print(f"{path.name}: {error}", flush=True)
            finally:
                os._exit(code)
        workers.append(pid)
    os.close(start_r)
    os.close(start_w)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers]


def main(folder: Path, logs: int, empty: bool) -> None:
    for number in range(logs):
        path = folder / f"log-{number}.db"
        if empty:
            path.touch(mode=0o600)
        if any(create(path)):
            sys.exit(1)
    print(f"{logs} logs")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "empty")
