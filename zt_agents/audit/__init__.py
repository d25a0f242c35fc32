"""The audit log: what was decided and what came of it, in an order nobody can quietly change.

::

    from zt_agents.audit import AuditLog
    from zt_agents.stores.sqlite_audit import SqliteAuditSink

    with AuditLog(SqliteAuditSink("audit.db")) as log:
        log.append(record)                  # low tier: on disk within 50 ms, costs the caller a microsecond
        seq = log.append(record).wait(5.0)  # medium and high tier: on disk now, or AuditWriteError

What proves it: :mod:`~zt_agents.audit.verify` with the log at hand, :mod:`~zt_agents.audit.checkpoints` and
:mod:`~zt_agents.audit.proofs` to somebody who keeps a few lines and does not have the log.
"""

from zt_agents.audit.chain import Head
from zt_agents.audit.checkpoints import Checkpoint
from zt_agents.audit.log import AuditLog
from zt_agents.audit.proofs import ConsistencyProof, InclusionProof
from zt_agents.audit.receipts import Receipt
from zt_agents.audit.records import AuditRecord, BodyStatus, RecordKind
from zt_agents.audit.sink import AuditSink
from zt_agents.audit.verify import VerifyReport, verify

__all__ = [
    "AuditLog",
    "AuditRecord",
    "AuditSink",
    "BodyStatus",
    "Checkpoint",
    "ConsistencyProof",
    "Head",
    "InclusionProof",
    "Receipt",
    "RecordKind",
    "VerifyReport",
    "verify",
]
