"""Keys rotate five times a second while threads of several processes make governed calls: not one of them fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from langchain_core.tools import tool
from world import HEAD

from zt_agents._internal.clock import system_clock
from zt_agents.identity import KeyRing
from zt_agents.testing import write_policy

RULES = """
keys: {algorithm: EdDSA, rotate: 30d}
tools:
  read_ticket: {tier: low, effects: [read]}
rules:
  - {id: read, agents: [helpdesk], tools: [read_ticket], outcome: allow}
"""

CALLING = """
import json, sys, threading, time
from pathlib import Path
from langchain_core.tools import tool
from zt_agents import Guard

@tool
def read_ticket(ticket_id: int) -> str:
    "Read one ticket of the helpdesk."
    return "open"

failed, calls, keys = [], [0, 0], set()

def work(guard, sealed, number, until):
    token = None
    while time.monotonic() < until or (len(keys) < 3 and time.monotonic() < until + 10):
        try:
            with guard.session(agent="helpdesk", on_behalf_of="alice@acme.example") as session:
                keys.add(session.token.split(".")[0])
                for number in range(20):
                    sealed.invoke({"ticket_id": number})
                    calls[number % 2] += 1
        except Exception as error:
            failed.append(repr(error))

with Guard.from_config(sys.argv[1], audit_path=sys.argv[2]) as guard:
    (sealed,) = guard.protect([read_ticket])
    print("ready", flush=True)
    until = time.monotonic() + float(sys.argv[3])
    threads = [threading.Thread(target=work, args=(guard, sealed, n, until)) for n in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(json.dumps({"failed": failed, "calls": sum(calls), "keys": len(keys)}))
"""


def test_no_call_fails_while_keys_rotate(tmp_path: Path) -> None:
    @tool
    def read_ticket(ticket_id: int) -> str:
        """Read one ticket of the helpdesk."""
        return "open"

    policy = write_policy(tmp_path, HEAD + RULES, [read_ticket])
    ring = KeyRing.in_folder(tmp_path / "zt-agents-keys", create=True)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CALLING, str(policy), str(tmp_path / f"audit-{number}.db"), "1.3"],
            stdout=subprocess.PIPE,
            bufsize=0,  # what is read until it is ready is no more than that
        )
        for number in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        rotations = 0
        while any(process.poll() is None for process in processes) and rotations < 80:
            ring.rotate(system_clock(), at_once=True)
            rotations += 1
            time.sleep(0.2)
        said = [json.loads(process.communicate(timeout=30)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=30)
    assert [each["failed"] for each in said] == [[], [], []]
    assert rotations >= 4
    for each in said:
        assert each["keys"] > 2, "rotations were not noticed"
        assert each["calls"] > 50
