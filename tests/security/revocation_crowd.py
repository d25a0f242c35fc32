"""Processes that make governed calls without a pause, and another that revokes: ``revocation_crowd.py FOLDER ROUNDS``.

In each round one thing is revoked that stops all of them, and reinstated when each was denied. Prints a line of JSON:
of each round, the seconds from just before the revocation was written to the last moment at which a body began, and how
many calls were made in all.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Any

from zt_agents.identity.revocations import Revoked

PROCESSES = 8
_PATIENCE = 30.0
_COLUMNS = 3
"""Of each process: when a body last began, how many did, how many calls were denied."""
POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  act: {tier: low, effects: [read]}
rules:
  - {id: act, agents: [helpdesk], tools: [act], outcome: allow}
"""
WAYS = (
    (Revoked.AGENT, "spiffe://acme.example/agent/helpdesk"),
    (Revoked.USER, "alice@acme.example"),
    (Revoked.OWNER, "dana@acme.example"),
    (Revoked.TASK, "ticket-7"),
    (Revoked.ALL, ""),
)


class Board:
    """What the processes say of themselves, in memory that they share. ``time.monotonic`` is one clock for all."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, PROCESSES * _COLUMNS * 8)).cast("d")

    def write(self, process: int, began: float, bodies: int, denials: int) -> None:
        for column, number in enumerate((began, bodies, denials)):  # in this order, and each number at once
            self._numbers[process * _COLUMNS + column] = number

    def read(self) -> list[tuple[float, float, float]]:
        return list(zip(*[iter(self._numbers.tolist())] * _COLUMNS, strict=True))

    def until_each(self, column: int, more_than: list[float]) -> None:
        until = time.monotonic() + _PATIENCE
        while any(now[column] <= then for now, then in zip(self.read(), more_than, strict=True)):
            assert time.monotonic() < until, f"a process stands still: {self.read()}"
            time.sleep(0.002)


def tool() -> Any:
    from langchain_core.tools import StructuredTool

    return StructuredTool.from_function(lambda a: "done", name="act", description="Act.", args_schema=_ARGUMENTS)


_ARGUMENTS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def calls(folder: Path, board: Board, process: int) -> None:
    """Make calls until killed."""
    from zt_agents import AccessDeniedError, Guard

    act = tool()
    bodies = denials = 0
    last = 0.0

    def body(a: int) -> str:
        nonlocal bodies, last
        last, bodies = time.monotonic(), bodies + 1
        return "done"

    act.func = body
    guard = Guard.from_config(  # each with a log of its own: what is measured is not how fast one log is written
        folder / "zt-agents.yaml",
        audit_path=folder / f"audit-{process}.db",
        revocations_path=folder / "zt-agents-revocations.db",
    )
    guard.protect([act])
    with guard.session(agent="helpdesk", on_behalf_of="alice@acme.example", task="ticket-7", ttl=3600):
        while True:
            try:
                act.invoke({"a": 1})
            except AccessDeniedError as denial:
                denials += denial.decision.reasons[0].code == "revoked"  # or a log that waits for its disk
            board.write(process, last, bodies, denials)


def main(folder: Path, rounds: int) -> None:
    from zt_agents.stores.sqlite_revocations import SqliteRevocations
    from zt_agents.testing import write_policy

    write_policy(folder, POLICY, [tool()])
    board, pids = Board(), list[int]()
    for process in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            try:
                calls(folder, board, process)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
            finally:
                os._exit(1)
        pids.append(pid)
    try:
        board.until_each(1, [20.0] * PROCESSES)
        revocations = SqliteRevocations(folder / "zt-agents-revocations.db", create=False)
        took = [one_round(revocations, board, *WAYS[number % len(WAYS)]) for number in range(rounds)]
        made = sum(bodies + denials for _, bodies, denials in board.read())
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    print(json.dumps({"seconds": took, "calls": int(made)}))


def one_round(revocations: Any, board: Board, kind: Revoked, value: str) -> float:
    """Return how long after the command began the last body did."""
    before = [denials for _, _, denials in board.read()]
    began = time.monotonic()
    made = revocations.revoke(kind, value, by="os:root", why="", now=time.time())
    board.until_each(2, before)
    stopped = board.read()
    last = max(start for start, _, _ in stopped)
    time.sleep(0.02)
    later = board.read()
    assert [bodies for _, bodies, _ in later] == [bodies for _, bodies, _ in stopped], (before, began, stopped, later)
    revocations.lift(made.id, now=time.time())
    board.until_each(1, [bodies for _, bodies, _ in later])
    return max(0.0, last - began)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
