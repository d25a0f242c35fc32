"""Whoever revokes or reinstates is killed at any moment: ``revocation_rounds.py FOLDER ROUNDS SEED``.

Each round forks a process that says what it is about to do, does it, and says that it is done. What was said to be done
is in force in every process and after a restart, and what was not done is done whole or not at all. Prints JSON counts.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from zt_agents.identity.revocations import Bearing, Revoked
from zt_agents.stores.sqlite_revocations import SqliteRevocations


def work(path: Path, note: int, first: int) -> None:
    """Revoke and reinstate in turns until killed."""
    store, number = SqliteRevocations(path), first
    while True:
        os.write(note, f"revoke u-{number}\n".encode())
        made = store.revoke(Revoked.USER, f"u-{number}", by="os:root", why="", now=1.0)
        os.write(note, f"revoked u-{number}\n".encode())
        if number % 2:
            os.write(note, f"lift u-{number}\n".encode())
            store.lift(made.id, now=2.0)
            os.write(note, f"lifted u-{number}\n".encode())
        number += 1


def main(folder: Path, rounds: int, seed: int) -> None:
    chance, path = random.Random(seed), folder / "revocations.db"
    watcher, seen, first = SqliteRevocations(path), Counter[str](), 0
    must: dict[str, bool | None] = {}
    """Whether each is to be in force; None is either."""
    for _ in range(rounds):
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                work(path, writes, first)
            finally:
                os._exit(1)
        os.close(writes)
        begun = os.read(reads, 1)  # on a busy machine, it may take long to begin
        time.sleep(chance.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        with os.fdopen(reads, "rb") as file:
            said = (begun + file.read()).decode().splitlines()
        for verb, user in map(str.split, said):
            must[user] = {"revoke": None, "revoked": True, "lift": None, "lifted": False}[verb]
            first = max(first, int(user[2:]) + 1)
        seen[f"killed while {said[-1].split()[0]}"] += 1
        check(must, watcher, SqliteRevocations(path), seen)
    print(json.dumps({**seen, "users": len(must)}))


def check(
    must: dict[str, bool | None], watcher: SqliteRevocations, restarted: SqliteRevocations, seen: Counter[str]
) -> None:
    time.sleep(0.01)  # for which a glance counts
    listed = {each.value for each in restarted.list()}
    assert listed <= must.keys()
    for user, expected in must.items():
        found = {store.find(Bearing((), user, (), "", ""), now=3.0) is not None for store in (watcher, restarted)}
        assert found == {user in listed}, f"{user}: {found}, {user in listed}"
        assert expected in (None, user in listed), f"{user}: {expected}, {user in listed}"
        if expected is None:
            seen["in force" if user in listed else "not in force"] += 1
            must[user] = user in listed


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
