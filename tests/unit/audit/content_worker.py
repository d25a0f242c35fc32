"""A process of its own that keeps or erases content: ``content_worker.py LOG {keep,erase} USER COUNT``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from typer.testing import CliRunner

from zt_agents.audit import AuditLog, AuditRecord, RecordKind
from zt_agents.audit.content import ContentKeeper
from zt_agents.cli import app
from zt_agents.provenance.labels import DataClass
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_content import SqliteContentStore


def keep(path: Path, user: str, count: int) -> None:
    keeper = ContentKeeper(DataClass.INTERNAL)
    with AuditLog(SqliteAuditSink(path), contents=SqliteContentStore.beside(path, create=True)) as log:
        for number in range(count):
            record = AuditRecord(
                RecordKind.DECISION, time.time(), f"{user}-{number}", "look", "allow", agent="helpdesk", user_id=user
            )
            content = keeper.of(record, f'{{"what":"canary of {user}"}}'.encode())
            record = record._replace(content_hash=content.hash.hex())
            log.append(record, content, awaited=True).wait(30)
            if number == 0:
                print("ready", flush=True)  # only now: before that, there may be nothing to erase from
            print(f"{user}-{number}", flush=True)


def erase(path: Path, user: str, count: int) -> None:
    print("ready", flush=True)
    for _ in range(count):
        done = CliRunner().invoke(app, ["audit", "erase", "--log", str(path), "--user", user, "--yes"])
        # 2: another process is reading what the write-ahead log has; the next erasure goes on where this one stopped
        if done.exit_code not in {0, 2, 3}:
            sys.exit(done.output)


if __name__ == "__main__":
    _, log, action, user, count = sys.argv
    {"keep": keep, "erase": erase}[action](Path(log), user, int(count))
