"""Processes that ask and answer are killed, and crowds answer at once: no approval is lost, doubled or misdirected.

``ZT_AGENTS_SEED`` repeats a run, ``ZT_AGENTS_ROUNDS`` makes it longer; without a seed the moment of a kill differs from
run to run, and the seed is in the message of a failure.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("ZT_AGENTS_ROUNDS") or (200 if os.environ.get("ZT_AGENTS_SERVERS") == "1" else 100))
SEED = int(os.environ.get("ZT_AGENTS_SEED") or random.randrange(10**6))
RAM_DISK = Path("/dev/shm")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which this platform lacks"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A RAM disk where there is one: a process that is killed loses nothing that it has written to a file."""
    with tempfile.TemporaryDirectory(dir=RAM_DISK if RAM_DISK.is_dir() else tmp_path) as made:
        yield Path(made)


def run(program: str, folder: Path, *arguments: int, timeout: float) -> dict[str, Any]:
    path = os.pathsep.join(map(str, [HERE.parents[1], HERE.parent, *filter(None, [os.environ.get("PYTHONPATH")])]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(HERE / program), str(folder), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, f"ZT_AGENTS_SEED={SEED} ZT_AGENTS_ROUNDS={ROUNDS}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_after_kill_9_every_approval_is_used_once_and_for_its_own_call(folder: Path) -> None:
    seen = run("approval_rounds.py", folder, ROUNDS, SEED, timeout=60 + 3 * ROUNDS)
    print(seen)
    for needed in ("killed asking", "killed answering", "ran", "taken", "erased", "no: denied", "short: cancelled"):
        assert seen.get(needed), f"{needed}: never happened in {ROUNDS} rounds of seed {SEED}, so nothing was shown"


def test_two_hundred_people_answer_fifty_requests_at_once(folder: Path) -> None:
    seen = run("approval_crowd.py", folder, timeout=120)
    assert seen["given"] == 1_184
    assert seen["approved"] + seen.get("denied", 0) == 50
    assert seen["taken"] >= 3 * seen["approved"] > 100
