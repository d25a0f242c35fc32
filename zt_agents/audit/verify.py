"""Prove an audit log, from nothing but its bodies and the hash that ties them together.

Rules:

1. Every hash is computed again from the body. What searches go by, indexes and the head row are claims, and are
   checked.
2. A log without records proves nothing, and is not verified.
3. Every fault names the record. After a fault the walk goes on, so that one change is not reported as a
   thousand.
4. Memory does not grow with the log.

Found without help: a record changed, removed, inserted, moved or repeated; a tail cut off or a log emptied
without adjusting the head row; columns changed to hide a record from a search. Found only with *expect* or
*checkpoints*, a head that was noted or a checkpoint that was kept where the log's writer cannot reach: a log
cut, emptied, rewritten or replaced by someone who knew how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from zt_agents.audit.chain import COMMITS_TO_CONTENT, Head, genesis, link
from zt_agents.audit.checkpoints import Checkpoint, origin
from zt_agents.audit.sink import AuditSource, Filed, Snapshot, StoredRecord
from zt_agents.audit.tree import Tree, leaf_hash
from zt_agents.errors import AuditIntegrityError

_MAX_FINDINGS = 100

Progress = Callable[[int, int], object]
"""Called now and then with the number of records proven and to be proven."""


class VerifyStatus(StrEnum):
    VERIFIED = "verified"
    BROKEN = "broken"
    NOTHING = "nothing to verify"
    NOT_VERIFIED = "not verified"
    """Nothing is wrong with what was looked at, and what was asked about lies in segments that were not."""


class Fault(StrEnum):
    CHANGED = "changed"
    """A record does not follow from the one before it: changed, inserted, moved or repeated."""
    MISSING = "missing"
    FILED = "filed"
    """What searches see differs from the record."""
    HEAD = "head"
    """The log contradicts its own head row."""
    EXPECTED = "expected"
    """The log contradicts the head that was noted elsewhere."""
    CHECKPOINT = "checkpoint"
    """The log does not continue a checkpoint that was signed for it."""
    SEGMENT = "segment"
    """What is noted of sealed records contradicts itself, or the record that says so."""
    DAMAGED = "damaged"
    """The store itself is damaged or was rebuilt."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    fault: Fault
    seq: int | None
    """Number of the record, or of the first of several; None where no record can be named."""
    text: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What came of it. Look at :attr:`status`: a report has no truth value of its own."""

    status: VerifyStatus
    log_id: str
    """Hex, empty when it is gone."""
    records: int
    """All there are since the first, those in segments included."""
    head: Head | None
    """The last record as found: note it elsewhere, and expect it next time."""
    findings: tuple[Finding, ...]
    """The first 100."""
    findings_left_out: int = 0
    root: bytes | None = None
    """Root of the Merkle tree over the records; None where there are none."""
    not_looked_at: int = 0
    """So many of the records, the oldest ones, lie in segments that were not at hand."""
    not_compared: tuple[str, ...] = ()
    """What could not be compared because of that, one sentence each."""
    commits_to_content: bool = False
    """Whether a record was met that commits to content (:mod:`zt_agents.audit.content`)."""

    def __bool__(self) -> bool:
        raise TypeError("compare the status of a VerifyReport; 'nothing to verify' is neither true nor false")


def verify(
    source: AuditSource,
    *,
    expect: Head | None = None,
    checkpoints: Sequence[Checkpoint] = (),
    progress: Progress | None = None,
) -> VerifyReport:
    """Prove the log behind *source*, that it still contains the head *expect* and continues *checkpoints*.

    Checkpoints are believed: open them with :func:`zt_agents.audit.checkpoints.open_checkpoint`.

    Raises:
        StoreError: the log could not be opened.
    """
    try:
        with source.snapshot() as snapshot:
            return _verify(snapshot, expect, checkpoints, progress)
    except AuditIntegrityError as error:
        return VerifyReport(VerifyStatus.BROKEN, "", 0, None, (Finding(Fault.DAMAGED, None, error.message),))


def _verify(
    snapshot: Snapshot,
    expect: Head | None,
    checkpoints: Sequence[Checkpoint],
    progress: Progress | None,
) -> VerifyReport:
    walk = _Walk(snapshot, expect, checkpoints)
    with ThreadPoolExecutor(1) as beside:
        faults: list[str] = []
        checked = beside.submit(lambda: faults.extend(snapshot.faults()))
        try:
            walk.over(snapshot.stored(), progress, snapshot.head.seq if snapshot.head else 0)
        except AuditIntegrityError as error:
            walk.stop(error)
        try:
            checked.result()
        except AuditIntegrityError as error:
            faults.append(error.message)
        for text in dict.fromkeys(faults):
            walk.find(Fault.DAMAGED, None, text)
    with suppress(AuditIntegrityError):  # what keeps it from being read was found above
        for seq, text in _segment_faults(snapshot):
            walk.find(Fault.SEGMENT, seq, text)
    return walk.report()


def _segment_faults(snapshot: Snapshot) -> Iterator[tuple[int, str]]:
    """Yield what contradicts the notes of what was sealed: the notes themselves, and the records that confirm them."""
    due = 1
    for number, sealing in enumerate(snapshot.sealed, 1):
        last = number == len(snapshot.sealed)
        if sealing.first != due or not sealing.end.sound or sealing.end.seq < due:
            yield due, f"Records from {due} on should be in the next segment: {sealing.name} has {sealing.span}."
        due = sealing.end.seq + 1
        if sealing.noted >= snapshot.sealed[-1].end.seq + 1 or last:
            record = next(snapshot.read(after=max(sealing.noted, 1) - 1, limit=1), {})
            if record.get("seq") != sealing.noted or not sealing.confirmed_by(record):
                yield sealing.first, f"No record confirms that {sealing.span} were sealed into {sealing.name}."


class _Walk:
    def __init__(self, snapshot: Snapshot, expect: Head | None, checkpoints: Sequence[Checkpoint]) -> None:
        self._log_id = snapshot.log_id if isinstance(snapshot.log_id, bytes) else b""
        self._claim = snapshot.head
        self._expect = expect
        self._not_compared: list[str] = []
        self.stopped = False
        """Reading came to no end: what comes later is not missing, but unknown."""
        self._checkpoints = sorted(checkpoints, key=lambda checkpoint: checkpoint.size, reverse=True)
        """Those still ahead, the nearest last."""
        self._findings: list[Finding] = []
        self._left_out = 0
        begin, at_hand = snapshot.begin, snapshot.begin.sound and bool(self._log_id)
        self._tree = begin.tree() if at_hand else Tree()
        self.commits_to_content = False
        self.not_looked_at = begin.seq if at_hand else 0
        self.records = self.not_looked_at
        self.due = self.records + 1
        self._previous: bytes | None = begin.hash if at_hand else None
        """Hash of the record before, or None when there is none to go by."""
        if self._log_id and not begin.sound:
            self.find(Fault.SEGMENT, None, "What is noted of the last segment is damaged: nothing can follow from it.")
        if expect is not None and expect.seq == 0 and (not self._log_id or expect.hash != genesis(self._log_id)):
            self.find(Fault.EXPECTED, None, "This is another log than the expected one.")
        elif expect is not None and 0 < expect.seq < self.not_looked_at:
            self._not_compared.append(f"Record {expect.seq}, which is expected, lies in a segment.")
        elif expect is not None and expect.seq == self.not_looked_at > 0 and expect.hash != self._previous:
            text = f"Record {expect.seq} is not the expected one: the log was rewritten or replaced."
            self.find(Fault.EXPECTED, expect.seq, text)
        for checkpoint in self._checkpoints:
            if self._log_id and checkpoint.origin != (name := origin(self._log_id)):
                text = f"The checkpoint is of the log {checkpoint.origin}; this is {name}."
                self.find(Fault.CHECKPOINT, None, text)
        while self._checkpoints and self._checkpoints[-1].size < self.not_looked_at:
            size = self._checkpoints.pop().size
            self._not_compared.append(f"The checkpoint of {size} records ends within a segment.")
        self._compare_checkpoints()

    def find(self, fault: Fault, seq: int | None, text: str) -> None:
        if len(self._findings) < _MAX_FINDINGS:
            self._findings.append(Finding(fault, seq, text))
        else:
            self._left_out += 1

    def over(self, records: Iterator[StoredRecord], progress: Progress | None, of: int) -> None:
        """Walk over *records*. One that is as it should be is dealt with here, any other by :meth:`_examine`."""
        right, leaves, commits = Filed.RIGHT, list[bytes](), False
        due, previous, stop = self.due, self._previous, self._next_stop()
        try:
            for record in records:
                seq, body, digest, filed = record
                if due == seq != stop and filed is right and previous is not None:
                    leaf = leaf_hash(body)
                    if link(previous, leaf) == digest:
                        leaves.append(leaf)
                        due, previous = seq + 1, digest
                        commits = commits or COMMITS_TO_CONTENT in body
                        continue
                self._tree.extend(leaves)
                leaves.clear()
                self._go_on(due, previous)
                self._examine(record)
                due, previous, stop = self.due, self._previous, self._next_stop()
                if progress is not None:
                    progress(self.records, of)
        finally:
            self._tree.extend(leaves)
            self._go_on(due, previous)
            self.commits_to_content |= commits

    def stop(self, error: AuditIntegrityError) -> None:
        """Note that the log cannot be read any further, and which records that leaves out."""
        self.stopped = True
        ends = [end.seq for end in (self._claim, self._expect) if end is not None]
        last = max([*ends, *(checkpoint.size for checkpoint in self._checkpoints)], default=0)
        gone = f" {_span(self.due, last)} out of reach." if last >= self.due else ""
        self.find(Fault.DAMAGED, self.due, f"Reading stops before record {self.due}. {error.message}{gone}")

    def _go_on(self, due: int, previous: bytes | None) -> None:
        self.records += due - self.due
        self.due, self._previous = due, previous

    def _next_stop(self) -> int:
        """Return the number of the next record at which there is more to do than to go on."""
        stops = [self.due + -self.due % 1000]
        if self._expect is not None and self._expect.seq >= self.due:
            stops.append(self._expect.seq)
        if self._checkpoints:
            stops.append(self.due + self._checkpoints[-1].size - self._tree.size - 1)
        return min(stop for stop in stops if stop >= self.due)

    def _examine(self, record: StoredRecord) -> None:
        seq, body, digest, filed = record
        self.records += 1
        leaf = leaf_hash(body if isinstance(body, bytes) else b"")
        self._grow(leaf)
        if not (isinstance(seq, int) and isinstance(body, bytes) and isinstance(digest, bytes)):
            self.find(Fault.CHANGED, self.due, f"Record {self.due} holds values of the wrong kind.")
            self.due, self._previous = self.due + 1, None
            return
        self.commits_to_content |= COMMITS_TO_CONTENT in body
        if seq > self.due:
            self.find(Fault.MISSING, self.due, f"{_span(self.due, seq - 1)} missing.")
            self._previous = None
        elif seq < self.due:
            self.find(Fault.CHANGED, seq, f"Record {seq} is out of place: {self.due} was due.")
        if self._previous is not None and link(self._previous, leaf) != digest:
            before = f"record {seq - 1}" if seq > 1 else "the start of this log"
            self.find(Fault.CHANGED, seq, f"Record {seq} does not follow from {before}: changed, inserted or moved.")
        if filed is Filed.NO_RECORD:
            self.find(Fault.CHANGED, seq, f"Record {seq} is not a record.")
        elif filed is Filed.WRONG:
            self.find(Fault.FILED, seq, f"Record {seq} is filed under values that it does not have.")
        if self._expect is not None and self._expect.seq == seq and self._expect.hash != digest:
            self.find(
                Fault.EXPECTED,
                seq,
                f"Record {seq} is not the expected one: the log was rewritten or replaced.",
            )
        self.due, self._previous = seq + 1, digest

    def _grow(self, leaf: bytes) -> None:
        self._tree.append(leaf)
        self._compare_checkpoints()

    def _compare_checkpoints(self) -> None:
        while self._checkpoints and self._checkpoints[-1].size <= self._tree.size:
            if self._checkpoints.pop().root != self._tree.root():
                text = f"{_span(1, self._tree.size)} not what the checkpoint says: changed, rewritten or replaced."
                self.find(Fault.CHECKPOINT, None, text)

    def report(self) -> VerifyReport:
        last = self.due - 1
        if not self.stopped:
            self._compare_end(last)
        if self._findings:
            status = VerifyStatus.BROKEN
        elif self._not_compared:
            status = VerifyStatus.NOT_VERIFIED
        else:
            status = VerifyStatus.VERIFIED if self.records else VerifyStatus.NOTHING
        return VerifyReport(
            status,
            self._log_id.hex(),
            self.records,
            Head(last, self._previous) if self._previous is not None else None,
            tuple(self._findings),
            self._left_out,
            self._tree.root() if self.records else None,
            self.not_looked_at,
            tuple(self._not_compared),
            self.commits_to_content,
        )

    def _compare_end(self, last: int) -> None:
        self._compare_claim(last)
        if self._expect is not None and self._expect.seq > last:
            what = f"ends at record {last}" if self.records else "has no records"
            text = f"Record {self._expect.seq} was expected and the log {what}: cut, emptied or replaced."
            self.find(Fault.EXPECTED, self._expect.seq, text)
        for checkpoint in reversed(self._checkpoints):
            had = f"{checkpoint.size} record{'s' if checkpoint.size != 1 else ''}"
            gone = _span(self.records + 1, checkpoint.size).lower()
            text = f"The checkpoint has {had}, the log has {self.records or 'none'}: {gone} gone."
            self.find(Fault.CHECKPOINT, self.records + 1, text)

    def _compare_claim(self, last: int) -> None:
        claim = self._claim
        if claim is None or not self._log_id:
            self.find(Fault.HEAD, None, "The log's head row is missing or unreadable.")
        elif claim.seq > last:
            self.find(Fault.HEAD, last + 1, f"{_span(last + 1, claim.seq)} missing: the tail was cut off.")
        elif claim.seq < last:
            self.find(
                Fault.HEAD,
                claim.seq + 1,
                f"{_span(claim.seq + 1, last)} beyond the end of the log: inserted.",
            )
        elif self._previous is not None and claim.hash != self._previous:
            self.find(Fault.HEAD, last, f"The hash of record {last} is not the one in the head row.")


def _span(first: int, last: int) -> str:
    return f"Record {first} is" if first == last else f"Records {first} to {last} are"
