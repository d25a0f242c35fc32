"""A revocation that was made is made, whoever is killed; ``ZT_AGENTS_ROUNDS`` and ``ZT_AGENTS_SEED`` as elsewhere."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("ZT_AGENTS_ROUNDS") or 24)
SEED = int(os.environ.get("ZT_AGENTS_SEED") or random.randrange(10**6))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which this platform lacks")
def test_after_kill_9_what_was_revoked_is_and_what_was_reinstated_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "revocation_rounds.py"), str(tmp_path), str(ROUNDS), str(SEED)],
        capture_output=True,
        text=True,
        timeout=60 + ROUNDS,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        check=False,
    )
    assert done.returncode == 0, f"ZT_AGENTS_SEED={SEED} ZT_AGENTS_ROUNDS={ROUNDS}\n{done.stderr}"
    seen = json.loads(done.stdout)
    assert seen["users"] >= ROUNDS / 2, "too little was done to have shown anything"
    assert seen.get("killed while revoke")
