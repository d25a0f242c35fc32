"""Whatever order questions, answers, clocks and workers come in: no approval is lost, doubled or misdirected."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from approval_requests import NOW, answer, request
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from zt_agents.approval_desk import ApprovalDesk, Ruling
from zt_agents.approval_proofs import AnswerProofs
from zt_agents.approvals import Answer, ApprovalRequest, ApprovalState
from zt_agents.decisions import ApprovalTerms
from zt_agents.identity import ApprovalSigner, SigningKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

KEY, FORGED = SigningKey.generate(), SigningKey.generate()
PEOPLE = ["bob", "carol", "BOB ", "alice@acme.example"]
GROUPS = {"bob": ("finance",), "BOB ": ("finance",), "carol": ("finance",), "alice@acme.example": ("finance",)}
TERMS = (ApprovalTerms(("group:finance",), 2, 60),)
REQUESTS = [request(*TERMS, arguments={"amount": amount}) for amount in (1, 999)]


class Suspended(Exception):
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


class Approvals(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.now = NOW
        self.desks = [self.desk() for _ in range(2)]
        self.asked: set[int] = set()
        self.yes: dict[int, set[str]] = {n: set() for n in range(len(REQUESTS))}
        self.settled: dict[int, bool] = {}
        self.approved_at: dict[int, float] = {}
        self.ran: dict[int, int] = dict.fromkeys(range(len(REQUESTS)), 0)

    def desk(self, key: SigningKey = KEY) -> ApprovalDesk:
        return ApprovalDesk(
            store=SqliteApprovalStore(self.folder / "approvals.db"),
            proofs=AnswerProofs(ApprovalSigner(issuer="i", audience="a", key=key)),
            channel=Suspending(),
            clock=lambda: self.now,
            retention=3600,
        )

    def expire(self) -> None:
        for n in self.asked - self.settled.keys():
            if self.now >= REQUESTS[n].expires_at:
                self.settled[n] = False

    @rule(n=st.integers(0, 1), desk=st.integers(0, 1))
    def call(self, n: int, desk: int) -> None:
        """The call is made, or made again: by another worker, a resumed graph, a double click."""
        if n not in self.asked and self.now >= REQUESTS[n].expires_at:
            return
        self.asked.add(n)
        self.expire()
        try:
            ruling = self.desks[desk].ask(REQUESTS[n], lambda error: isinstance(error, Suspended))
        except Suspended:
            assert n not in self.settled, "a settled request is not asked again"
            return
        assert isinstance(ruling, Ruling)
        if ruling.refusal is None:
            assert self.settled.get(n) is True
            self.ran[n] += 1
            assert {"bob", "carol"} >= {each.strip().lower() for each in ruling.approvers}
        else:
            late = n in self.approved_at and self.now >= self.approved_at[n] + 60
            assert self.settled.get(n) is False or self.ran[n] == 1 or late, ruling

    @rule(
        n=st.integers(0, 1),
        person=st.sampled_from(PEOPLE),
        approved=st.sampled_from([True, True, True, True, False]),
        desk=st.integers(0, 1),
    )
    def answer(self, n: int, person: str, approved: bool, desk: int) -> None:
        self.desks[desk].file(answer(REQUESTS[n], person, approved, *GROUPS.get(person, ())))
        self.expire()
        if n not in self.asked or n in self.settled:
            return
        if not approved:
            self.settled[n] = False
        elif person in {"bob", "BOB ", "carol"}:
            self.yes[n].add(person.strip().lower())
            if len(self.yes[n]) == 2:
                self.settled[n] = True
                self.approved_at[n] = self.now

    @rule(n=st.integers(0, 1), person=st.sampled_from(["bob", "carol"]))
    def forge(self, n: int, person: str) -> None:
        """Somebody who can write the store, and does not have the key, files a yes."""
        given = answer(REQUESTS[n], person, True, "finance")
        forger = self.desk(FORGED)
        forger.store.file(REQUESTS[n].id, f"forged-{person}", given, now=self.now)
        stored = forger.store.get(REQUESTS[n].id)
        assert stored is None or n in self.asked

    @rule(seconds=st.sampled_from([1, 1, 1, 61]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.expire()

    @rule(n=st.integers(0, 1))
    def restart(self, n: int) -> None:
        self.desks[n] = self.desk()

    @invariant()
    def nothing_runs_twice(self) -> None:
        assert all(count <= 1 for count in getattr(self, "ran", {}).values())

    @invariant()
    def nothing_is_lost(self) -> None:
        for n, approved in getattr(self, "settled", {}).items():
            state = self.desks[0].look(REQUESTS[n].id)
            assert (state is ApprovalState.APPROVED) is approved, (n, state)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


TestApprovals = Approvals.TestCase
TestApprovals.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
