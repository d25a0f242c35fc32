"""What waits, as a list for one person: kept in memory, so that a look at it every half second costs little.

Of each request a summary is kept without its arguments; a request does not change while it waits. Which ones wait, and
which of them a person has answered, the store is asked each time.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from zt_agents._internal.clock import Clock
from zt_agents._internal.folding import fold
from zt_agents.approvals import ApprovalRequest, ApprovalStore, Holds, StoredApproval
from zt_agents.console.sessions import Person
from zt_agents.console.ways import Way, way_to_say_yes
from zt_agents.errors import StoreError

ON_A_PAGE = 50
_FRESH = 0.2
"""Seconds for which a look at the store is good."""
_MANY = 100
_MOST_PEOPLE = 32
_ANY = "any"


class Entry(NamedTuple):
    """One request in the list."""

    request: ApprovalRequest
    """Without arguments, and with the binding hash ``any``: of many, one answer can be tried."""
    mine: bool
    """Whether the person who looks may answer it, and has not."""
    answered: bool

    @property
    def id(self) -> str:
        return self.request.id


@dataclass(frozen=True, slots=True)
class Page:
    """Part of the list."""

    entries: Sequence[Entry]
    number: int
    """From 1."""
    pages: int
    mine: int
    """How many wait for this person."""
    all: int
    """How many wait."""
    unreadable: int
    """How many more wait and cannot be read."""
    wanting: int
    """How many more would wait for this person if they had a passkey."""

    @property
    def mark(self) -> str:
        """Differs when the page does."""
        shown = "|".join(f"{each.id}{each.mine:d}{each.answered:d}" for each in self.entries)
        facts = f"{self.number} {self.pages} {self.mine} {self.all} {self.unreadable} {self.wanting} {shown}"
        return hashlib.sha256(facts.encode()).hexdigest()[:24]


class Inbox:
    """The list of one store. Safe to share between threads."""

    def __init__(self, store: ApprovalStore, clock: Clock, *, signer: str, holds: Holds) -> None:
        """List what waits in *store*.

        Args:
            store: which is shared with guards.
            clock: seconds since the epoch.
            signer: who signs answers here; what another guard has asked cannot be answered.
            holds: evaluates conditions of terms.
        """
        self._store = store
        self._clock = clock
        self._signer = signer
        self._holds = holds
        self._lock = threading.Lock()
        self._looked = -_FRESH
        self._ids: Sequence[str] = ()
        self._known: dict[str, ApprovalRequest | None] = {}
        """None for what could not be read when it was tried last."""
        self._may: OrderedDict[tuple[Person, frozenset[Way]], dict[str, bool]] = OrderedDict()
        """What each person may answer, where neither time nor a condition has a say in it."""

    def warm(self) -> None:
        """Read what waits already, so that nobody has to wait for that.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._lock:
            self._look()

    def page(self, person: Person, *, mine: bool, number: int, ways: frozenset[Way] = frozenset()) -> Page:
        """Return page *number*, or the nearest there is, of what waits, or of what waits for *person*.

        Args:
            person: who looks.
            mine: whether only what they may answer is wanted.
            number: from 1.
            ways: in which they can answer besides plainly.

        Raises:
            StoreError: the store cannot be read.
        """
        answered = set(self._store.answered(fold(person.id)))
        with self._lock:
            self._look()
            may = self._answerable(person, ways)
            readable = [request_id for request_id in self._ids if self._known.get(request_id) is not None]
            own = [request_id for request_id in readable if may[request_id] and request_id not in answered]
            with_passkey = may if Way.PASSKEY in ways else self._answerable(person, ways | {Way.PASSKEY})
            wanting = sum(with_passkey[each] and not may[each] and each not in answered for each in readable)
            listed = own if mine else readable
            pages = max(1, -(-len(listed) // ON_A_PAGE))
            number = min(max(1, number), pages)
            chosen = listed[(number - 1) * ON_A_PAGE : number * ON_A_PAGE]
            entries = [
                Entry(request, may[request.id] and request.id not in answered, request.id in answered)
                for request in map(self._known.__getitem__, chosen)
                if request is not None
            ]
            return Page(entries, number, pages, len(own), len(readable), len(self._ids) - len(readable), wanting)

    def next_for(self, person: Person, *, after: str, ways: frozenset[Way] = frozenset()) -> str | None:
        """Return the id of what waits for *person* longest, but for *after*."""
        entries = self.page(person, mine=True, number=1, ways=ways).entries
        return next((each.id for each in entries if each.id != after), None)

    def _look(self) -> None:
        now = self._clock()
        if 0 <= now - self._looked < _FRESH:
            return
        ids = self._store.pending_ids(now=now)
        if sum(request_id not in self._known for request_id in ids) > _MANY:
            self._learn_all(now)
        for request_id in [request_id for request_id in ids if self._known.get(request_id) is None][:_MANY]:
            self._known[request_id] = _summary(self._get(request_id))
        waiting = set(ids)
        for request_id in [known for known in self._known if known not in waiting]:
            del self._known[request_id]
        for each in self._may.values():
            for request_id in [known for known in each if known not in waiting]:
                del each[request_id]
        self._ids, self._looked = ids, now

    def _learn_all(self, now: float) -> None:
        """Read what waits in portions: its arguments need not fit into memory at once."""
        portion = self._store.pending(limit=_MANY, now=now)
        while portion:
            for stored in portion:
                if stored.id not in self._known:
                    self._known[stored.id] = _summary(stored)
            portion = self._store.pending(limit=_MANY, after=portion[-1].id, now=now)

    def _get(self, request_id: str) -> StoredApproval | None:
        try:
            return self._store.get(request_id)
        except StoreError:  # one that is damaged must not hide the others
            return None

    def _answerable(self, person: Person, ways: frozenset[Way]) -> dict[str, bool]:
        may = self._may.setdefault((person, ways), {})
        self._may.move_to_end((person, ways))
        if len(self._may) > _MOST_PEOPLE:
            self._may.popitem(last=False)
        now = self._clock()
        for request_id in self._ids:
            request = self._known.get(request_id)
            if request is not None and (request_id not in may or _varies(request)):
                way, _ = way_to_say_yes(request, person, ways=ways, now=now, holds=self._holds)
                may[request_id] = way is not None and request.signer == self._signer
        return may


def _summary(stored: StoredApproval | None) -> ApprovalRequest | None:
    if stored is None or stored.request is None:
        return None
    request = replace(stored.request, binding_hash=_ANY)
    if any(terms.when for terms in request.terms):  # a condition may be about the arguments
        return request
    return replace(request, call=request.call._replace(arguments={}, intent=""))


def _varies(request: ApprovalRequest) -> bool:
    return any(terms.escalate_after or terms.when for terms in request.terms)
