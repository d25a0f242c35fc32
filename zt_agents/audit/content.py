"""What calls were made with and returned, kept beside the log: it can be erased, and the proofs of the log stay.

::

    content_hash = SHA-256(salt || body)

The record of a decision holds the hash of the call's arguments, the record of an outcome the hash of its result. The
salt lies with the body and is erased with it: from the hash that remains nothing can be guessed. (From the keyed
hashes that every record has, it can, by whoever has the key beside the log: it is what they are for.)

Rules:

1. Nothing is kept unless the policy says of which data classes, and then less what it redacts, and less secrets
   (:mod:`zt_agents.audit.redaction`). What cannot be redacted, or is too large, is not kept, and says so.
2. Content is durable before the record that commits to it, or the record is not written either.
3. An erasure is noted by a record of its own, after it was done: the log never claims one that did not happen. The
   record says who, why, what and how many, and a hash over which; what is gone without such a record is missing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson

from zt_agents._internal.json_paths import Path
from zt_agents.audit.chain import COMMITS_TO_CONTENT, decode
from zt_agents.audit.records import AuditRecord, RecordKind
from zt_agents.audit.redaction import Redaction
from zt_agents.audit.sink import AuditSource
from zt_agents.provenance.labels import DataClass

MAX_BYTES = 65_536
"""Of one part of a call, as JSON."""
_SALT = 32
_AT_ONCE = 500
_MOST_FAULTS = 100


class Content(NamedTuple):
    """The arguments or the result of one call, as they are kept."""

    hash: bytes
    """SHA-256 over salt and body: what the record says."""
    decision_id: str
    user_id: str
    time: float
    """Of the record, seconds since the epoch."""
    salt: bytes
    body: bytes
    """JSON."""

    @property
    def sound(self) -> bool:
        """Whether it is what its record commits to."""
        known = isinstance(self.salt, bytes) and isinstance(self.body, bytes)  # whatever a store may hold
        return known and content_hash(self.salt, self.body) == self.hash


def content_hash(salt: bytes, body: bytes) -> bytes:
    return hashlib.sha256(salt + body).digest()


class ContentKeeper:
    """Makes the content of calls, as a policy wants it. Safe to use from any thread."""

    def __init__(self, keep: DataClass, paths: Iterable[tuple[str, Path]] = ()) -> None:
        """Keep data of the class *keep* and milder ones, less what *paths* name; see :class:`Redaction`."""
        self._keep = keep
        self._redaction = Redaction(paths)

    def keeps(self, *classes: DataClass) -> bool:
        """Return whether content that holds data of *classes* is kept."""
        return all(each.rank <= self._keep.rank for each in classes)

    def of(self, record: AuditRecord, encoded: bytes | None) -> Content:
        """Return what is kept with *record*: of the arguments for a decision, of the result for an outcome.

        Args:
            record: What will commit to it.
            encoded: The JSON of the arguments or the result; None where there is none. Never raises because of it.
        """
        part = "result" if record.kind == RecordKind.OUTCOME else "arguments"
        body = orjson.dumps(self._kept(record.tool, part, encoded))
        salt = secrets.token_bytes(_SALT)
        return Content(content_hash(salt, body), record.decision_id, record.user_id, record.time, salt, body)

    def _kept(self, tool: str, part: str, encoded: bytes | None) -> Any:
        if encoded is None:
            return {"not kept": "it was streamed, has no JSON form, or too large a one"}
        if len(encoded) > MAX_BYTES:
            return {"not kept": f"it takes {len(encoded)} bytes, and at most {MAX_BYTES} are kept"}
        try:
            kept = self._redaction(tool, part, orjson.loads(encoded))
            return kept if len(orjson.dumps(kept)) <= 2 * MAX_BYTES else {"not kept": "it is too large"}
        except Exception as error:  # noqa: BLE001 - what cannot be redacted is not kept, and the call goes on
            return {"not kept": f"redaction failed ({type(error).__name__})"}


class Erasure(NamedTuple):
    """Content that was erased at one time, and on whose word."""

    id: str
    time: float
    by: str
    """Who did it, as the operating system knows them: ``os:LOGIN``."""
    reason: str
    what: Mapping[str, str | float]
    """By what it was chosen: ``user``, ``decision`` or ``before``, with its value."""
    parts: int
    """How many arguments and results are gone."""
    hash: str
    """Hex SHA-256 over the sorted hashes of what is gone."""

    @property
    def record(self) -> AuditRecord:
        """What the log says of it. A user is named: the records of their calls name them too."""
        said = {name: value for name, value in self._asdict().items() if name != "time" and value != ""}
        return AuditRecord(RecordKind.ERASURE, self.time, decision_id="", tool="", outcome="", erasure=said)


def erasure_hash(hashes: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()


@dataclass(frozen=True, slots=True)
class Choice:
    """Which content: by one of these."""

    user: str | None = None
    decision: str | None = None
    before: float | None = None
    """Seconds since the epoch, exclusive."""

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.user, self.decision, self.before)) != 1:
            raise ValueError("choose by one of user, decision and before")

    @property
    def said(self) -> dict[str, str | float]:
        values = {"user": self.user, "decision": self.decision, "before": self.before}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ContentReport:
    """What came of comparing the log with what is kept beside it."""

    kept: int
    erased: int
    faults: tuple[str, ...]
    """The first 100, one sentence each."""


def check_content(source: AuditSource, store: ContentStore, progress: Callable[[int, int], object]) -> ContentReport:
    """Compare what the records of *source* commit to with what *store* has, and each erasure with its record.

    Memory does not grow with the log, but for the erasures.

    Raises:
        StoreError: the store, or the log, cannot be used.
    """
    before = {erasure.id: erasure for erasure in store.erasures()}
    with source.snapshot() as snapshot:
        check = _Check(store)
        of = snapshot.head.seq if snapshot.head else 0
        for seq, body, _, _ in snapshot.stored():
            if isinstance(body, bytes) and (COMMITS_TO_CONTENT in body or b'"erasure"' in body):
                check.see(seq, decode(body) or {})
            if seq % _AT_ONCE == 0:
                progress(seq, of)
        check.settle()
        all_seen = snapshot.begin.seq == 0
    known = before | {erasure.id: erasure for erasure in store.erasures()}
    waiting = {erasure.id for erasure in store.erasures(noted=False)}
    for erasure in known.values():
        said = check.erasures.pop(erasure.id, None)
        due = all_seen or erasure.id in waiting or erasure.id in check.taken_by  # a later record than what it took
        if said is None and erasure.id in before and due:
            check.faults.append(f"The log does not say that {erasure.id} was erased: run zt-agents audit erase again.")
        elif said is not None and erasure.record.to_dict()["erasure"] != said:
            check.faults.append(f"The erasure {erasure.id} is not the one that the log tells of.")
        elif store.erased_by(erasure) != (erasure.parts, erasure.hash):
            check.faults.append(f"The erasure {erasure.id} did not take what is filed under it.")
    for name in check.erasures:
        check.faults.append(f"The log tells of an erasure {name} that the store does not know.")
    for name in check.taken_by - known.keys():
        check.faults.append(f"Something is gone by an erasure {name} that was never noted.")
    return ContentReport(check.kept, check.erased, tuple(check.faults[:_MOST_FAULTS]))


class _Check:
    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._due: list[tuple[int, bytes]] = []
        self.kept = self.erased = 0
        self.faults: list[str] = []
        self.erasures: dict[str, Any] = {}
        """What the log says of each, by id."""
        self.taken_by: set[str] = set()
        """Ids of the erasures that took something."""

    def see(self, seq: int, said: Mapping[str, Any]) -> None:
        erasure = said.get("erasure")
        if said.get("kind") == RecordKind.ERASURE and isinstance(erasure, dict):
            self.erasures[str(erasure.get("id"))] = erasure
            return
        if "content_hash" not in said:
            return
        try:
            self._due.append((seq, bytes.fromhex(said["content_hash"])))
        except (TypeError, ValueError):
            self.faults.append(f"What record {seq} commits to is no hash.")
        if len(self._due) >= _AT_ONCE:
            self.settle()

    def settle(self) -> None:
        found = self._store.find([digest for _, digest in self._due])
        for seq, digest in self._due:
            there = found.get(digest)
            if there is None:
                self.faults.append(f"What record {seq} commits to is missing, and no erasure took it.")
            elif isinstance(there, str):
                self.erased += 1
                self.taken_by.add(there)
            elif there.sound:
                self.kept += 1
            else:
                self.faults.append(f"What is kept of record {seq} was changed: it is not what the record commits to.")
        self._due.clear()


class ContentStore(Protocol):
    """Keeps content, and forgets it when told. Several processes share one."""

    def keep(self, contents: Sequence[Content]) -> None:
        """Make *contents* durable; what is there already stays as it is. Raises StoreError if that fails."""

    def find(self, hashes: Sequence[bytes]) -> Mapping[bytes, Content | str]:
        """Return what there is of *hashes*: the content, or the id of the erasure that took it."""

    def count(self, choice: Choice) -> int:
        """Return how much content there is to erase."""

    def erase(self, choice: Choice, erasure: Erasure) -> Erasure:
        """Erase bodies and salts, and return *erasure* with how many and which; :meth:`wipe` comes next.

        It is remembered, unless there was nothing to erase.
        """

    def wipe(self) -> None:
        """Take what was erased out of all the store's files. Raises StoreError as long as somebody reads it."""

    def erasures(self, *, noted: bool | None = None) -> Sequence[Erasure]:
        """Return the erasures: all, or only those whose record is known, or not known, to be in the log."""

    def erased_by(self, erasure: Erasure) -> tuple[int, str]:
        """Return of how many hashes that are filed under *erasure* nothing else is left, and the hash over them."""

    def note(self, erasure: Erasure) -> None:
        """Remember that the record of *erasure* is in the log."""
