"""A process of its own that appends to a log: ``audit_worker.py PATH NAME COUNT [HOW]``.

Prints the number of each record once it is durable. HOW is ``waited`` (default) or ``mixed``: every other
record is one nobody waits for.
"""

from __future__ import annotations

import sys

from zt_agents.audit import AuditLog, AuditRecord, RecordKind
from zt_agents.stores.sqlite_audit import SqliteAuditSink


def main(path: str, name: str, count: str, how: str = "waited") -> None:
    with AuditLog(SqliteAuditSink(path)) as log:
        print("ready", flush=True)
        for number in range(int(count)):
            record = AuditRecord(
                RecordKind.DECISION,
                1.0,
                decision_id=f"{name}-{number}",
                tool="t",
                outcome="allow",
                agent=name,
            )
            receipt = log.append(record)
            if how == "waited" or number % 2:
                sys.stdout.write(f"{receipt.wait(30)} {record.decision_id}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
