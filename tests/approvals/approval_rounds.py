"""Kills processes that ask and processes that answer, again and again: ``approval_rounds.py FOLDER ROUNDS SEED``.

One warm interpreter without threads forks the processes of each round. Some ask for the same few calls, each in a
thread, and run a body that notes it ran; others answer them, and note each answer that was taken. Some of all these are
killed at a random moment; then new ones begin that make every call again and give every answer again, to the end. Then:

1. No body ran twice, and none ran but for its own arguments.
2. A call that enough people said yes to, and nobody no, is approved, and its body ran; or its grant was used by a
   process that was killed.
3. A call whose no was taken, or that not enough eligible people said yes to, did not run.
4. Every answer that was taken is in the store, under its own request, and once; one that may not count was not taken.
5. The file is whole, no request in it is damaged, and the next round goes on with it, and erases what this one left.

Prints a line of JSON: what happened how often. Exits with the seed and the round on stderr when a rule is broken.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from approval_requests import answer, request

from zt_agents.approvals import ApprovalRequest, ApprovalState, StoreChannel, StoredApproval
from zt_agents.decisions import ApprovalTerms
from zt_agents.desk import ApprovalDesk
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.identity import AnswerClaims, ApprovalSigner, SigningKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

ROUNDS_PER_STORE = 200
TIMEOUT, RETENTION = 60, 600
BETWEEN_ROUNDS = 1_000
"""Seconds by which the clock is put forward: what was decided in a round is erased in the next."""
FINANCE = ("bob", "carol", "erin")
KINDS = ("yes", "yes", "yes", "no", "short")
SIGNER = ApprovalSigner(issuer="i", audience="a", key=SigningKey.generate())


class Planned(NamedTuple):
    """An answer that somebody will give, again and again until it was taken or cannot be."""

    call: str
    person: str
    approved: bool
    counts: bool
    crossed: str = ""
    """The call that its signature is about, if that is another one."""


class Round:
    """What one round's processes share."""

    def __init__(self, store: Path, folder: Path, number: int, chance: random.Random) -> None:
        self.store_path, self.folder, self.chance = store, folder, chance
        self.clock: Callable[[], float] = lambda: time.time() + number % ROUNDS_PER_STORE * BETWEEN_ROUNDS
        self.kinds = {f"{number}/{index}": chance.choice(KINDS) for index in range(chance.randint(1, 5))}
        self.quorum = {name: chance.choice((1, 2, 3)) for name in self.kinds}
        self.amount = {name: number * 10 + index for index, name in enumerate(self.kinds)}
        self.binding = {name: self.request(name).binding_hash for name in self.kinds}
        self.plan = [planned for name in self.kinds for planned in self._planned(name)]

    def _planned(self, name: str) -> list[Planned]:
        kind, quorum = self.kinds[name], self.quorum[name]
        enough = self.chance.sample(FINANCE, quorum)
        other = self.chance.choice([each for each in self.kinds if each != name] or [name + "?"])
        said = [Planned(name, "dave", True, False), Planned(name, "alice@acme.example", True, False)]
        said.append(Planned(name, "bob", True, False, crossed=other))
        if kind == "no":
            said.append(Planned(name, self.chance.choice((*FINANCE, "dave")), False, True))
        said += [Planned(name, person, True, True) for person in (enough[:-1] if kind == "short" else enough)]
        return said

    def desk(self) -> ApprovalDesk:
        return ApprovalDesk(
            store=SqliteApprovalStore(self.store_path, busy_timeout=30),
            proofs=AnswerProofs(SIGNER),
            channel=StoreChannel(),
            clock=self.clock,
            retention=RETENTION,
        )

    def request(self, name: str) -> ApprovalRequest:
        terms = ApprovalTerms(("group:finance",), self.quorum[name], TIMEOUT)
        made = request(terms, call_id=name, arguments={"amount": self.amount[name], "note": "x" * 2000})
        now = self.clock()
        return dataclasses.replace(made, call=made.call._replace(time=now), expires_at=now + TIMEOUT)

    # -- the processes -------------------------------------------------------------------------------------------

    def asks(self, names: list[str]) -> None:
        """Make each call in a thread of its own, and run its body if it may."""
        desk, faults = self.desk(), list[BaseException]()

        def call(name: str) -> None:
            try:
                ruling = desk.ask(self.request(name), lambda _: False)
                if ruling.refusal is None:
                    self._note("ran", name, ruling.request.call.arguments["amount"], os.getpid())
                else:
                    assert "store" not in ruling.refusal.text, ruling.refusal
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=call, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults:
            raise faults[0]

    def answers(self, plan: list[Planned], *, to_the_end: bool) -> None:
        """Give each answer until it is taken or refused for good; whoever goes *to the end* withdraws what is open."""
        desk, left = self.desk(), plan
        while left:
            left = [each for each in left if not self._answered(desk, each)]
            time.sleep(0.002)
        for name, kind in self.kinds.items():
            stored = desk.store.find(self.binding[name])
            if to_the_end and kind == "short" and stored is not None:
                desk.withdraw(stored.id)

    def _answered(self, desk: ApprovalDesk, planned: Planned) -> bool:
        stored = desk.store.find(self.binding[planned.call])
        if stored is None or stored.request is None:
            return False
        groups = () if planned.person == "dave" else ("finance",)
        said = answer(stored.request, planned.person, planned.approved, *groups)
        if planned.crossed:
            about = self.binding.get(planned.crossed, "nobody's call")
            claims = AnswerClaims(about, said.approver, said.groups, said.approved, int(self.clock()))
            said = dataclasses.replace(said, proof=SIGNER.answer(claims))
        if desk.file(said) is None:
            self._note("taken", planned.call, planned.person, int(planned.approved))
            assert planned.counts, planned
        return True

    def _note(self, what: str, *words: object) -> None:
        with (self.folder / what).open("ab", buffering=0) as file:
            file.write(" ".join(map(str, words)).encode() + b"\n")

    def noted(self, what: str) -> list[list[str]]:
        path = self.folder / what
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def start(self, work: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            _run(work)
        return pid

    def play(self, seen: Counter[str]) -> None:
        """Start the processes, kill some, and see the round through with others."""
        names, some = list(self.kinds), self.chance.sample
        first = []
        for _ in range(self.chance.randint(1, 2)):
            asked = some(names, self.chance.randint(1, len(names)))
            first.append(self.start(lambda asked=asked: self.asks(asked)))
            plan = some(self.plan, len(self.plan))
            first.append(self.start(lambda plan=plan: self.answers(plan, to_the_end=False)))
        time.sleep(self.chance.choice((0.0, self.chance.uniform(0.0, 0.02), self.chance.uniform(0.0, 0.12))))
        victims = set(some(first, self.chance.randint(1, len(first))))
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        last = [self.start(lambda: self.asks(names))]
        last.append(self.start(lambda: self.answers(some(self.plan, len(self.plan)), to_the_end=True)))
        for pid in (*first, *last):
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            kind = "asking" if pid in first[::2] else "answering"
            seen[f"killed {kind}"] += code == -signal.SIGKILL
            assert code == 0 or pid in victims, f"a process that nobody killed ended with {code}"
        self.killed = victims

    # -- what must hold ------------------------------------------------------------------------------------------

    def check(self, seen: Counter[str]) -> None:
        ran = self.noted("ran")
        runs = Counter(name for name, *_ in ran)
        taken = defaultdict[str, list[tuple[str, bool]]](list)
        for name, person, approved in self.noted("taken"):
            taken[name].append((person, approved == "1"))
        for name, amount, _ in ran:
            assert int(amount) == self.amount[name], f"{name} ran with another call's arguments"
        store = SqliteApprovalStore(self.store_path, create=False)
        for name in self.kinds:
            stored = store.find(self.binding[name])
            assert stored is not None, f"{name} is not in the store"
            self._check(name, stored, taken[name], runs[name], seen)
        assert not any(each.damaged for each in store.pending())
        with closing(sqlite3.connect(self.store_path)) as connection:
            (intact,) = connection.execute("PRAGMA integrity_check").fetchone()
            (old,) = connection.execute("SELECT count(*) FROM request WHERE body IS NULL").fetchone()
        assert intact == "ok", intact
        seen["erased"] += bool(old)

    def _check(
        self, name: str, stored: StoredApproval, taken: list[tuple[str, bool]], runs: int, seen: Counter[str]
    ) -> None:
        kind, kept = self.kinds[name], [(each.approver, each.approved) for each in stored.answers]
        assert len(set(taken)) == len(taken), f"an answer to {name} was taken twice"
        assert len(set(kept)) == len(kept), f"an answer to {name} is kept twice"
        assert set(taken) <= set(kept), f"an answer to {name} that was taken is lost"
        assert set(kept) <= {(each.person, each.approved) for each in self.plan if each.call == name and each.counts}
        for each in stored.answers:
            about = SIGNER.verify_answer(each.proof).binding_hash
            assert about == self.binding[name], f"an answer to another call is under {name}"
        assert runs <= 1, f"{name} ran {runs} times"
        yes, refused = {person for person, approved in kept if approved}, any(not approved for _, approved in kept)
        if kind == "yes":
            assert stored.state is ApprovalState.APPROVED, f"the approval of {name} is lost: {stored.state}"
        if kind == "short":
            assert stored.state is ApprovalState.CANCELLED, f"{name} is {stored.state}"
        if refused:
            assert stored.state is ApprovalState.DENIED, f"{name} is {stored.state} against a no"
        if stored.state is ApprovalState.APPROVED:
            assert len(yes) >= self.quorum[name], f"{name} is approved by too few"
            assert stored.consumed_at is not None, f"nobody used the approval of {name}"
            seen["grant used, body never began" if not runs else "ran"] += 1
        else:
            assert not runs, f"{name} is {stored.state}, and ran"
        seen[f"{kind}: {stored.state}"] += 1
        seen["taken"] += len(taken)
        seen["kept, and whoever gave it was killed before it was told"] += len(set(kept) - set(taken))


def _run(work: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # the parent reads the exit code; the traceback is for people
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def main(folder: Path, rounds: int, seed: int) -> None:
    seen: Counter[str] = Counter()
    began = time.monotonic()
    for number in range(rounds):
        place = folder / f"round-{number}"
        place.mkdir()
        store = folder / f"approvals-{number // ROUNDS_PER_STORE}.db"
        try:
            one = Round(store, place, number, random.Random(f"{seed}-{number}"))
            one.play(seen)
            one.check(seen)
        except BaseException:
            print(f"round {number} of seed {seed}, store {store}", file=sys.stderr)
            raise
    seen["seconds"] = int(time.monotonic() - began)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
