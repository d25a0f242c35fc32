"""Eight processes call without a pause, a ninth revokes: within a second, no body begins any more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("ZT_AGENTS_ROUNDS") or 6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which this platform lacks")
def test_no_body_begins_a_second_after_it_was_revoked_in_any_of_eight_processes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "revocation_crowd.py"), str(tmp_path), str(ROUNDS)],
        capture_output=True,
        text=True,
        timeout=90 + 2 * ROUNDS,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout)
    assert len(seen["seconds"]) == ROUNDS
    assert max(seen["seconds"]) < 1
    assert seen["calls"] > 100
