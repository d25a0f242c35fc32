"""Processes that append to one log are killed at random moments. What was acknowledged is there, and the log goes on.

``ZT_AGENTS_SEED`` repeats a run, ``ZT_AGENTS_ROUNDS`` makes it longer; without a seed the moment of a kill differs from
run to run, and the seed is in the message of a failure.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kill_rounds.py")
ROUNDS = int(os.environ.get("ZT_AGENTS_ROUNDS") or (200 if os.environ.get("ZT_AGENTS_SERVERS") == "1" else 100))
SEED = int(os.environ.get("ZT_AGENTS_SEED") or random.randrange(10**6))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which this platform lacks")
def test_nothing_acknowledged_is_lost_and_every_log_goes_on_after_kill_9(tmp_path) -> None:
    root = str(PROGRAM.parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(PROGRAM), str(tmp_path), str(ROUNDS), str(SEED)],
        capture_output=True,
        text=True,
        timeout=30 + 3 * ROUNDS,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, f"ZT_AGENTS_SEED={SEED} ZT_AGENTS_ROUNDS={ROUNDS}\n{done.stderr}"
    seen = json.loads(done.stdout)
    for needed in ("killed", "acknowledged", "ended with all written", "creation", "wal", "signing", "forking"):
        assert seen.get(needed), f"{needed}: never happened in {ROUNDS} rounds of seed {SEED}, so nothing was shown"
