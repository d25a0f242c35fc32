"""Whatever order questions, answers, clocks, kills and workers come in: no approval is lost, doubled or misdirected.

The model knows who may answer what, which answers the desk took, and what the file held before each step. It knows
nothing of how the desk comes to its rulings.
"""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from approval_requests import NOW, answer, request
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from zt_agents.approvals import Answer, ApprovalRequest, ApprovalState
from zt_agents.decisions import ApprovalTerms
from zt_agents.desk import ApprovalDesk, Ruling
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.errors import IdentityError
from zt_agents.identity import AnswerClaims, ApprovalSigner, SigningKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

KEY, FORGED = SigningKey.generate(), SigningKey.generate()
PEOPLE = {
    "bob": ("finance",),
    "BOB ": ("finance",),
    "carol": ("finance",),
    "erin": (),
    "dana@acme.example": (),
    "dave": ("hr",),
    "alice@acme.example": ("finance",),
}
FINANCE, OTHERS = frozenset({"bob", "carol"}), frozenset({"erin", "dana@acme.example"})
_TWO = (ApprovalTerms(("group:finance",), 2, 60),)
_BOTH = (ApprovalTerms(("group:finance",), 1, 60), ApprovalTerms(("user:erin", "owner"), 1, 90))
CALLS: list[tuple[int, tuple[ApprovalTerms, ...], list[tuple[frozenset[str], int]]]] = [
    (1, _TWO, [(FINANCE, 2)]),
    (999, _TWO, [(FINANCE, 2)]),
    (7, _BOTH, [(FINANCE, 1), (OTHERS, 1)]),
]
"""Of each call its amount, its terms, and what they mean: how many of whom."""
TIMEOUT, RETENTION, DAY = 60, 3600, 86_400
GUARDS = 3
RAM_DISK = Path("/dev/shm")
"""Thousands of transactions, and no loss of power here: that is for the tests of crashes."""

calls, guards = st.integers(0, len(CALLS) - 1), st.integers(0, GUARDS - 1)
people = st.sampled_from(["bob", "carol", "erin", "bob", "carol", "erin", *PEOPLE])
mostly, seldom = st.sampled_from([True] * 7 + [False]), st.sampled_from([False] * 7 + [True])


class Suspended(Exception):
    pass


class Killed(BaseException):
    pass


class Suspending:
    """Pauses whenever it would have to wait, as a graph does."""

    def bind(self, desk: Any) -> None:
        self.desk = desk

    def ask(self, asked: ApprovalRequest) -> Answer | None:
        if self.desk.look(asked.id) is ApprovalState.PENDING:
            raise Suspended
        return None

    async def aask(self, asked: ApprovalRequest) -> Answer | None:
        return self.ask(asked)

    def again(self, asked: ApprovalRequest) -> None:
        pass

    def paused(self, error: BaseException) -> None:
        pass


class Dying:
    """A store whose process is killed after so many halves of a step: before it is done, or when it is."""

    def __init__(self, store: SqliteApprovalStore, halves: int) -> None:
        self._store, self._halves = store, halves

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            self._live()
            done = getattr(self._store, name)(*arguments, **named)
            self._live()
            return done

        return step

    def _live(self) -> None:
        if self._halves == 0:
            raise Killed
        self._halves -= 1


class Meanwhile(Dying):
    """A store that others use between two steps of one who has read it and is about to write."""

    def __init__(self, store: SqliteApprovalStore, halves: int, work: Callable[[], object]) -> None:
        super().__init__(store, halves)
        self._work = work

    def _live(self) -> None:
        if self._halves == 0:
            self._work()
        self._halves -= 1


class Row(NamedTuple):
    """What the file holds of a request."""

    id: str
    state: str
    decided_at: float | None
    consumed_at: float | None
    kept: int
    expires_at: float
    grant: str


class Given(NamedTuple):
    """An answer that was signed with the guards' key, about one call."""

    call: int
    answer: Answer
    issued_at: int


class Approvals(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=RAM_DISK if RAM_DISK.is_dir() else None))
        self.now = NOW
        self.store = SqliteApprovalStore(self.folder / "approvals.db")
        self.desks = [self.desk() for _ in range(GUARDS)]
        self.bindings = [self.request(n).binding_hash for n in range(len(CALLS))]
        self.given: list[Given] = []
        self.taken: defaultdict[str, set[tuple[str, bool]]] = defaultdict(set)
        """Of each request the answers that count: who, and whether it is a yes."""
        self.asked_at: dict[str, float] = {}
        self.granted: Counter[str] = Counter()
        self.known: dict[int, Row] = {}
        """What the file last held of each call."""
        self.purged = -1.0

    def desk(self, key: SigningKey = KEY, store: Any = None) -> ApprovalDesk:
        return ApprovalDesk(
            store=store or SqliteApprovalStore(self.folder / "approvals.db"),
            proofs=AnswerProofs(ApprovalSigner(issuer="i", audience="a", key=key)),
            channel=Suspending(),
            clock=lambda: self.now,
            retention=RETENTION,
        )

    def request(self, n: int) -> ApprovalRequest:
        """Return a request for the call as a guard makes it: with an id of its own, and asked now."""
        amount, terms, _ = CALLS[n]
        made = request(*terms, arguments={"amount": amount})
        return dataclasses.replace(made, call=made.call._replace(time=self.now), expires_at=self.now + TIMEOUT)

    def row(self, n: int) -> Row | None:
        if not self.store.path.exists():
            return None
        sql = (
            "SELECT id, state, decided_at, consumed_at, body IS NOT NULL, expires_at, grant_token FROM request "
            "WHERE binding = ?"
        )
        with closing(sqlite3.connect(self.store.path)) as connection:
            found = connection.execute(sql, (self.bindings[n],)).fetchone()
        return None if found is None else Row(*found)

    def enough(self, n: int, request_id: str) -> bool:
        yes = {who for who, approved in self.taken[request_id] if approved}
        return all(len(yes & those) >= quorum for those, quorum in CALLS[n][2])

    def refused(self, request_id: str) -> bool:
        return any(not approved for _, approved in self.taken[request_id])

    # -- asking --------------------------------------------------------------------------------------------------

    @rule(n=calls, guard=guards, crash=st.booleans())
    def call(self, n: int, guard: int, crash: bool) -> None:
        """A call is made, or made again: by another worker, a resumed graph, a replayed checkpoint.

        Or its process ends between the grant and the body, and another one takes its place.
        """
        self.make(n, self.desks[guard])
        if crash:
            self.desks[guard] = self.desk()

    @rule(n=calls, halves=st.integers(0, 16))
    def call_and_be_killed(self, n: int, halves: int) -> None:
        try:
            self.make(n, self.desk(store=Dying(self.store, halves)))
        except Killed:
            after = self.row(n)
            if after is not None:
                self.asked_at.setdefault(after.id, self.now)
                if after.consumed_at is not None:
                    self.granted[after.id] = 1  # whether or not its body had begun

    @rule(n=calls, halves=st.integers(0, 9), other=st.sampled_from(["no", "yes", "withdraw", "call"]), guard=guards)
    def meanwhile(self, n: int, halves: int, other: str, guard: int) -> None:
        """Between two steps of a call another guard does something with the same request."""
        n, desk = self.aimed(n), self.desks[guard]

        def work() -> None:
            if other == "call":
                with suppress(Suspended):
                    self.granted_by(n, desk.ask(self.request(n), _suspends))
            elif other == "withdraw":
                self.withdraw(n, guard, True)
            else:
                person = "erin" if other == "no" else "carol"
                self.give(n, answer(self.request(n), person, other == "yes", *PEOPLE[person]), desk)

        self.purge()
        slow = self.desk(store=Meanwhile(self.store, halves, work))
        with suppress(Suspended):
            self.granted_by(n, slow.ask(self.request(n), _suspends))
        row = self.row(n)
        assert row is not None
        self.asked_at.setdefault(row.id, self.now)

    def granted_by(self, n: int, ruling: ApprovalRequest | Ruling) -> None:
        assert isinstance(ruling, Ruling)
        if ruling.refusal is None:
            self.granted[ruling.request.id] += 1
            assert self.enough(n, ruling.request.id)
            assert not self.refused(ruling.request.id)

    def make(self, n: int, desk: ApprovalDesk) -> None:
        self.purge()  # as the desk does first
        before = self.row(n)
        asked = self.request(n)
        try:
            ruling = desk.ask(asked, _suspends)
        except Suspended:
            assert before is None or before.state == "pending", "a settled request is not asked again"
            request_id = before.id if before else asked.id
            assert not self.refused(request_id)
            assert not self.enough(n, request_id)
            self.asked_at.setdefault(request_id, self.now)
            return
        assert isinstance(ruling, Ruling)
        request_id = before.id if before else asked.id
        self.asked_at.setdefault(request_id, self.now)
        if ruling.refusal is None:
            assert before is not None, "nobody was asked"
            assert before.kept
            assert before.consumed_at is None
            assert self.granted[request_id] == 0
            assert self.now < before.expires_at + TIMEOUT + 1, "however late it is noticed, an approval is not for ever"
            assert self.enough(n, request_id)
            assert not self.refused(request_id)
            assert {each.strip().lower() for each in ruling.approvers} <= {who for who, _ in self.taken[request_id]}
            self.granted[request_id] += 1
        elif before is not None and before.kept and self.granted[request_id] == 0:
            settled_at = self.now if before.decided_at is None else before.decided_at
            good = before.state in {"pending", "approved"} and self.now < min(settled_at, before.expires_at) + TIMEOUT
            assert not (good and self.enough(n, request_id) and not self.refused(request_id)), "an approval is lost"

    @rule(n=calls, guard=guards)
    def pause(self, n: int, guard: int) -> None:
        """The body pauses itself; it will be run again from its start, by the same approval."""
        row = self.row(n)
        if row is not None and self.granted[row.id]:
            self.desks[guard].release(dataclasses.replace(self.request(n), id=row.id))
            self.granted[row.id] = 0

    @rule(n=calls, guard=guards, really=seldom)
    def withdraw(self, n: int, guard: int, really: bool) -> None:
        row = self.row(n)
        if really and row is not None:
            assert self.desks[guard].withdraw(row.id) is (row.state == "pending")

    # -- answering -----------------------------------------------------------------------------------------------

    def aimed(self, n: int) -> int:
        """Return a call that waits for answers; if none does, one is made."""
        waiting = [each for each in range(len(CALLS)) if (row := self.row(each)) and row.state == "pending"]
        if not waiting:
            self.make(n, self.desks[0])
        return waiting[n % len(waiting)] if waiting else n

    @rule(n=calls, well=mostly, person=people, approved=mostly, guard=guards, clicks=st.sampled_from([1, 1, 2]))
    def answer(self, n: int, well: bool, person: str, approved: bool, guard: int, clicks: int) -> None:
        n = self.aimed(n) if well else n
        for click in range(clicks):
            taken = self.give(n, answer(self.request(n), person, approved, *PEOPLE[person]), self.desks[guard - click])
            assert not (click and taken), "a double click is one answer"

    @rule(n=calls, guard=guards)
    def all_say_yes(self, n: int, guard: int) -> None:
        n = self.aimed(n)
        for person in sorted({person for those, _ in CALLS[n][2] for person in those}):
            self.give(n, answer(self.request(n), person, True, *PEOPLE[person]), self.desks[guard])

    @rule(n=calls, guard=guards, seconds=st.sampled_from([0, 0, 59, 1800]))
    def all_say_yes_and_nobody_notices(self, n: int, guard: int, seconds: int) -> None:
        """Whoever files an answer is killed before the request can be settled, and the call is made again later."""
        n = self.aimed(n)
        for person in sorted({person for those, _ in CALLS[n][2] for person in those}):
            self.answer_and_be_killed_at(n, person, True, 3)
        self.now += seconds
        self.make(n, self.desks[guard])

    @rule(n=calls, person=people, approved=mostly, halves=st.integers(0, 9))
    def answer_and_be_killed(self, n: int, person: str, approved: bool, halves: int) -> None:
        self.answer_and_be_killed_at(self.aimed(n), person, approved, halves)

    def answer_and_be_killed_at(self, n: int, person: str, approved: bool, halves: int) -> None:
        said = answer(self.request(n), person, approved, *PEOPLE[person])
        before = self.filed()
        try:
            self.give(n, said, self.desk(store=Dying(self.store, halves)))
        except Killed:
            row = self.row(n)
            if self.filed() > before:
                assert row is not None
                self.take(n, row, said)

    @rule(n=calls, well=mostly, data=st.data(), guard=guards)
    def answer_again(self, n: int, well: bool, data: st.DataObject, guard: int) -> None:
        """An answer that was signed once is given again, perhaps about another call."""
        if not self.given:
            return
        old = data.draw(st.sampled_from(self.given))
        n = old.call if well else n
        said = dataclasses.replace(old.answer, binding_hash=self.bindings[n])
        row = self.row(n)
        fits = old.call == n and row is not None and old.issued_at >= int(self.asked_at[row.id])
        assert self.give(n, said, self.desks[guard], proven=fits) <= fits

    @rule(n=calls, person=people, with_key=st.booleans())
    def forge(self, n: int, person: str, with_key: bool) -> None:
        """Somebody who can write the store files a yes: without the key, or with a proof that is about another call."""
        row = self.row(n)
        if row is None:
            return
        other = self.bindings[(n + 1) % len(CALLS)]
        claims = AnswerClaims(other if with_key else self.bindings[n], person, PEOPLE[person], True, int(self.now))
        signer = self.desk(KEY if with_key else FORGED).signer
        said = answer(self.request(n), person, True, *PEOPLE[person])
        forged = dataclasses.replace(said, proof=signer.answer(claims))
        self.store.file(row.id, f"forged-{person}", forged, now=self.now)

    def give(self, n: int, said: Answer, desk: ApprovalDesk, *, proven: bool = True) -> bool:
        """File *said*; return whether it was taken: if, and only if, it is proven, in time, new, and its giver may."""
        row, before = self.row(n), self.filed()
        why = desk.file(said)
        may = not said.approved or any(_who(said) in those for those, _ in CALLS[n][2])
        open_ = row is not None and row.state == "pending" and self.now < row.expires_at
        fresh = row is not None and (_who(said), said.approved) not in self.taken[row.id]
        assert (why is None) is (proven and may and open_ and fresh), (why, said, row)
        assert (self.filed() > before) is (why is None)
        if why is None:
            assert row is not None
            self.take(n, row, said)
        return why is None

    def take(self, n: int, row: Row, said: Answer) -> None:
        self.taken[row.id].add((_who(said), said.approved))
        with closing(sqlite3.connect(self.store.path)) as connection:
            sql = "SELECT person FROM answer WHERE request = ? AND approved = ?"
            kept = [person.partition("#")[0] for (person,) in connection.execute(sql, (row.id, said.approved))]
        assert kept.count(_who(said)) == 1
        stored = self.store.get(row.id)
        assert stored is not None
        for each in stored.answers:
            with suppress(IdentityError):  # of the forged ones
                claims = self.desks[0].signer.verify_answer(each.proof)
                same = (claims.binding_hash, claims.approver, claims.approved)
                if same == (self.bindings[n], said.approver, said.approved):
                    self.given.append(Given(n, each, claims.issued_at))

    def filed(self) -> int:
        """Return how many answers there are that nobody forged."""
        if not self.store.path.exists():
            return 0
        with closing(sqlite3.connect(self.store.path)) as connection:
            sql = "SELECT count(*) FROM answer WHERE person NOT LIKE 'forged-%'"
            return int(connection.execute(sql).fetchone()[0])

    # -- time ----------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.4, 1, 5, 30, 61, -1, -5, -30]), far=st.integers(-30, 30))
    def wait(self, seconds: float, far: int) -> None:
        """Time passes, or the clock is set: seldom far."""
        self.now += {30: 1800, 29: 3700, 28: -3700, 27: 100_000, 26: -100_000}.get(far, seconds)

    @rule(n=calls, guard=guards, after=st.sampled_from([None] * 6 + [0, DAY]))
    def make_it_again_when_it_is_erased(self, n: int, guard: int, after: int | None) -> None:
        """Or when it is forgotten, a day later."""
        if after is not None:
            self.now += RETENTION + TIMEOUT + after + 1
            self.make(n, self.desks[guard])

    @rule()
    def purge(self) -> None:
        self.purged = max(self.purged, self.now - RETENTION)
        self.store.purge(before=self.now - RETENTION)

    @rule(n=calls, guard=guards)
    def look(self, n: int, guard: int) -> None:
        row = self.row(n)
        if row is None:
            return
        state = self.desks[guard].look(row.id)
        if row.state != "pending":
            assert state == row.state
        elif self.refused(row.id):
            assert state is ApprovalState.DENIED
        elif self.enough(n, row.id):
            assert state is ApprovalState.APPROVED
        else:
            assert state is (ApprovalState.EXPIRED if self.now >= row.expires_at else ApprovalState.PENDING)

    # -- what always holds ---------------------------------------------------------------------------------------

    @invariant()
    def what_is_settled_stays(self) -> None:
        if not hasattr(self, "known"):
            return
        for n, before in dict(self.known).items():
            after = self.row(n)
            forgotten = before.decided_at is not None and before.decided_at < self.purged - DAY
            if after is None or after.id != before.id:
                assert forgotten or self._expired_and_forgotten(before), (before, after)
                del self.known[n]
            elif before.state != "pending":
                assert after.state == before.state
                assert after.decided_at == before.decided_at
                assert after.grant == before.grant or not after.kept
                assert before.kept or not after.kept
        for n in range(len(CALLS)):
            row = self.row(n)
            if row is not None:
                self.known[n] = row
        self.an_approval_has_enough_people_behind_it_and_is_used_once()

    def _expired_and_forgotten(self, before: Row) -> bool:
        return before.state == "pending" and before.expires_at < self.purged - DAY

    def an_approval_has_enough_people_behind_it_and_is_used_once(self) -> None:
        for n, row in self.known.items():
            assert self.granted[row.id] <= 1
            assert row.state != "approved" or (self.enough(n, row.id) and not self.refused(row.id)), row
            assert bool(row.consumed_at) == bool(self.granted[row.id]), row
            assert not row.consumed_at or row.state == "approved"

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


def _suspends(error: BaseException) -> bool:
    return isinstance(error, Suspended)


def _who(said: Answer) -> str:
    return said.approver.strip().lower()


TestApprovals = Approvals.TestCase
TestApprovals.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
