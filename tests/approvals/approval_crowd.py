"""Many people answer many requests in the same moment: ``approval_crowd.py FOLDER``.

200 approvers, a thread for each, in four processes; 50 requests that need three of them. Everyone answers some
requests, and each of them in two processes at once: a double click. Then four processes make every call. Prints a line
of JSON: how many answers were given and taken, how many requests are in which state, and how many bodies ran.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from approval_requests import answer, request

from zt_agents.approvals import ApprovalRequest, StoreChannel
from zt_agents.decisions import ApprovalTerms
from zt_agents.desk import ApprovalDesk
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.identity import ApprovalSigner, SigningKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

APPROVERS, REQUESTS, QUORUM, PROCESSES = 200, 50, 3, 4
TERMS = ApprovalTerms(("group:finance",), QUORUM, 120)
SIGNER = ApprovalSigner(issuer="i", audience="a", key=SigningKey.generate())
MADE = [
    request(TERMS, call_id=f"call-{number}", arguments={"amount": number, "note": "x" * 2000})
    for number in range(REQUESTS)
]
BEGAN = time.time()
ASKED = [
    dataclasses.replace(each, call=each.call._replace(time=BEGAN), expires_at=BEGAN + 120, signer=SIGNER.id)
    for each in MADE
]


def answered_by(person: int) -> dict[int, bool]:
    """Return which requests somebody answers, and how: a few people say no to one of theirs."""
    said = {(person * step + more) % REQUESTS: True for step, more in ((1, 0), (7, 3), (13, 29))}
    return said | ({person % REQUESTS: False} if person % 40 == 39 else {})


def desk(folder: Path) -> ApprovalDesk:
    store = SqliteApprovalStore(folder / "approvals.db")
    proofs = AnswerProofs(SIGNER)
    return ApprovalDesk(store=store, proofs=proofs, channel=StoreChannel(), clock=time.time, retention=3600)


def answers(folder: Path, process: int) -> None:
    """Be the approvers of one process: those who are here, and the other click of those next door."""
    people = [person for person in range(APPROVERS) if person % PROCESSES in {process, (process + 1) % PROCESSES}]
    gate, taken, faults = threading.Barrier(len(people)), list[str](), list[BaseException]()
    shared = desk(folder)

    def one(person: int) -> None:
        try:
            gate.wait(30)
            for number, approved in answered_by(person).items():
                said = answer(ASKED[number], f"p{person}", approved, "finance")
                if shared.file(said) is None:
                    taken.append(f"{number} p{person} {int(approved)}\n")
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=one, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _note(folder / "taken", taken)
    if faults:
        raise faults[0]


def asks(folder: Path, process: int) -> None:
    """Make every call, beginning at another one than the others."""
    shared, ran = desk(folder), list[str]()
    for number in range(REQUESTS):
        asked: ApprovalRequest = ASKED[(number + process) % REQUESTS]
        ruling = shared.ask(asked, lambda _: False)
        if ruling.refusal is None:
            assert ruling.request.call.arguments == asked.call.arguments
            ran.append(f"{asked.call.arguments['amount']}\n")
    _note(folder / "ran", ran)


def _note(path: Path, lines: list[str]) -> None:
    with path.open("ab", buffering=0) as file:
        file.write("".join(lines).encode())


def each_process(folder: Path, work: Callable[[Path, int], None]) -> float:
    """Do *work* in all processes at once; return how long it took, seconds."""
    began, pids = time.monotonic(), []
    for process in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work(folder, process)
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * PROCESSES
    return time.monotonic() - began


def main(folder: Path) -> None:
    store = SqliteApprovalStore(folder / "approvals.db")
    for asked in ASKED:
        store.put(asked)
    seconds = each_process(folder, answers)
    each_process(folder, asks)
    taken = (folder / "taken").read_text().split("\n")[:-1]
    runs = Counter(map(int, (folder / "ran").read_text().split()))
    states: Counter[str] = Counter()
    kept: list[str] = []
    for number, asked in enumerate(ASKED):
        stored = store.get(asked.id)
        assert stored is not None
        states[stored.state] += 1
        for each in stored.answers:
            claims = SIGNER.verify_answer(each.proof)
            assert (claims.binding_hash, claims.approver, claims.approved) == (
                asked.binding_hash,
                each.approver,
                each.approved,
            ), "an answer is under another request than it was given to"
            assert answered_by(int(each.approver[1:]))[number] is each.approved
            kept.append(f"{number} {each.approver} {int(each.approved)}")
        yes, no = (sum(each.approved is said for each in stored.answers) for said in (True, False))
        if stored.state == "approved":
            assert yes >= QUORUM
            assert not no
            assert set(SIGNER.verify_grant(stored.grant, now=BEGAN).approvers) <= {a.approver for a in stored.answers}
        else:
            assert (stored.state, no) == ("denied", 1)
        assert runs[number] == (stored.state == "approved"), (number, stored.state, runs[number])
    assert sorted(kept) == sorted(taken), "what was taken is kept, and nothing else, once"
    given = 2 * sum(len(answered_by(person)) for person in range(APPROVERS))
    print(json.dumps({"given": given, "taken": len(taken), **states, "ran": sum(runs.values()), "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
