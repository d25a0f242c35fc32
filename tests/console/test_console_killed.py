"""The console is killed while people answer: what they answered is kept once, and the next one goes on."""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from pathlib import Path

import httpx
from reception import DOMAIN, Reception
from test_the_whole_way import COMMAND, free_port

from zt_agents.approvals import ApprovalRequest, ApprovalState
from zt_agents.identity import ApproverKey

KILLS = 3
REQUESTS = 55
"""Less than one person may answer in a minute."""


def answer_until_it_dies(origin: str, dana: ApproverKey, waiting: list[ApprovalRequest]) -> int:
    """Sign in and approve one after the other. Returns how many answers the console has taken."""
    taken = 0
    form = {"origin": origin, "sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
    try:
        with httpx.Client(base_url=origin, headers=form, timeout=5) as client:
            assert client.post("/login", data={"token": dana.login(origin, now=time.time())}).status_code == 204
            found = re.search(r'name="csrf" value="([^"]+)"', client.get("/account").text)
            assert found is not None
            for asked in waiting:
                fields = {"csrf": found[1], "binding": asked.binding_hash, "approved": "yes"}
                answered = client.post(f"/requests/{asked.id}/answer", data=fields)
                assert answered.status_code == 303, answered.text
                taken += 1
    except httpx.TransportError:
        pass
    return taken


def test_what_was_answered_is_kept_once_whenever_the_console_is_killed(tmp_path: Path) -> None:
    port, chance = free_port(), random.Random(20261121)
    origin = f"http://localhost:{port}"
    reception = Reception(tmp_path, origin=origin)
    reception.key.save(tmp_path / "signing.pem")
    dana = reception.approver("dana@acme.example")
    asked = [reception.ask(arguments={"to": str(number)}) for number in range(REQUESTS)]
    store = ("--store", reception.store.path, "--signing-key", tmp_path / "signing.pem", "--trust-domain", DOMAIN)
    taken = 0
    for kill in [True] * KILLS + [False]:
        command = [*COMMAND, "console", *map(str, store), "--port", str(port)]
        console = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        death = threading.Timer(chance.uniform(0.05, 0.25), console.kill)
        try:
            assert console.stdout is not None
            assert origin in console.stdout.readline()
            pending = set(reception.store.pending_ids())
            if kill:
                death.start()
            taken += answer_until_it_dies(origin, dana, [each for each in asked if each.id in pending])
        finally:
            death.cancel()
            console.kill()
            console.communicate()
    kept = [reception.store.get(each.id) for each in asked]
    assert all(stored is not None and stored.state is ApprovalState.APPROVED for stored in kept)
    assert all(stored is not None and len(stored.answers) == 1 for stored in kept)
    assert len(asked) - KILLS <= taken <= len(asked), "at most one answer a kill is kept and not acknowledged"
