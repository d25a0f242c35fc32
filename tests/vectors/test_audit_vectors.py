"""Our trees, checkpoints and proofs against somebody else's: RFC 6962's reference tests, and Go.

``audit_tree.json`` was written by ``go run . generate`` in ``tests/vectors/go``, with Go's own ``sumdb/note``
and ``sumdb/tlog``. Where Go is installed it is run as well, on what Python made.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from zt_agents.audit import AuditRecord, RecordKind
from zt_agents.audit.checkpoints import Checkpoint, open_checkpoint, origin, sign_checkpoint
from zt_agents.audit.proofs import prove_consistency, prove_inclusion
from zt_agents.audit.tree import (
    Tree,
    consistency_path,
    inclusion_path,
    leaf_hash,
    range_roots,
    verify_consistency,
    verify_inclusion,
)
from zt_agents.errors import AuditIntegrityError
from zt_agents.identity.checkpoint_keys import CheckpointKey, VerifierKey
from zt_agents.stores.sqlite_audit import SqliteAuditSink

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "audit_tree.json").read_text(encoding="utf-8"))
RECORDS = [base64.b64decode(record or "") for record in VECTORS["records"]]
ROOTS = [base64.b64decode(root) for root in VECTORS["roots"]]

REFERENCE_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
"""Roots over the first eight records, from the reference tests of Certificate Transparency."""

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="needs Go (the command `go`)")


def go(what: str, given: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["go", "run", ".", what],
        cwd=HERE / "go",
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"},
    )
    if "dial tcp" in done.stderr or "no such host" in done.stderr:
        pytest.skip("needs golang.org/x/mod, which is neither in Go's module cache nor to be had")
    return done


def decoded(hashes: list[str] | None) -> list[bytes]:
    return [base64.b64decode(part) for part in hashes or ()]


def named(vector: dict[str, object]) -> str:
    return "-".join(str(value) for value in vector.values() if isinstance(value, int))


def test_roots() -> None:
    tree = Tree()
    for body, root in zip(RECORDS, ROOTS, strict=True):
        tree.append(leaf_hash(body))
        assert tree.root() == root
    assert tuple(root.hex() for root in ROOTS[:8]) == REFERENCE_ROOTS


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=named)
def test_inclusion(vector) -> None:
    index, size, hashes = vector["index"], vector["size"], decoded(vector["hashes"])
    path = inclusion_path(index, size)
    roots = range_roots(map(leaf_hash, RECORDS), path)
    assert [roots[part] for part in path] == hashes
    leaf, root = leaf_hash(RECORDS[index]), ROOTS[size - 1]
    assert verify_inclusion(leaf, index=index, size=size, proof=hashes, root=root)


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=named)
def test_consistency(vector) -> None:
    old, new, hashes = vector["old"], vector["new"], decoded(vector["hashes"])
    path = consistency_path(old, new)
    roots = range_roots(map(leaf_hash, RECORDS), path)
    assert [roots[part] for part in path] == hashes
    assert verify_consistency(
        old_size=old, old_root=ROOTS[old - 1], new_size=new, new_root=ROOTS[new - 1], proof=hashes
    )


def test_notes_that_go_signed_open_and_ours_are_the_same_bytes(tmp_path) -> None:
    path = tmp_path / "key"
    path.write_text(VECTORS["private_key"])
    path.chmod(0o600)
    key = CheckpointKey.from_file(path)
    verifier = VerifierKey.parse(VECTORS["verifier_key"])
    assert key.verifier == verifier
    assert str(verifier) == VECTORS["verifier_key"]
    for note, size in zip(VECTORS["notes"], (1, 8, 21), strict=True):
        expected = Checkpoint(origin(bytes(range(16))), size, ROOTS[size - 1])
        assert open_checkpoint(note.encode(), [verifier]) == expected
        assert sign_checkpoint(expected, key) == note  # Ed25519 signatures are deterministic
        for at in range(len(note.encode())):
            changed = bytearray(note.encode())
            changed[at] ^= 1
            with pytest.raises(AuditIntegrityError):
                open_checkpoint(bytes(changed), [verifier])


@pytest.fixture
def case(tmp_path) -> dict[str, object]:
    """Checkpoints and proofs of a real log, as Go is to find them right."""
    sink = SqliteAuditSink(tmp_path / "audit.db")
    sink.append([AuditRecord(RecordKind.DECISION, float(n), f"d-{n}", "wipe ⚠", "deny") for n in range(45)])
    sink.close()
    with sink.snapshot() as snapshot:
        bodies = [body for _, body, *_ in snapshot.stored()]
        key = CheckpointKey.generate(origin(snapshot.log_id))
    tree, checkpoints = Tree(), []
    for size, body in enumerate(bodies, 1):
        tree.append(leaf_hash(body))
        checkpoints.append(Checkpoint(key.verifier.name, size, tree.root()))
    chosen = [checkpoints[size - 1] for size in (1, 2, 31, 32, 33, 45)]

    def written(hashes: tuple[bytes, ...]) -> list[str]:
        return [base64.b64encode(part).decode() for part in hashes]

    return {
        "verifier_key": str(key.verifier),
        "notes": [sign_checkpoint(checkpoint, key) for checkpoint in chosen],
        "records": [base64.b64encode(body).decode() for body in bodies],
        "inclusion": [
            {"index": proof.seq - 1, "size": proof.size, "hashes": written(proof.hashes)}
            for checkpoint in chosen
            for proof in prove_inclusion(sink, range(1, checkpoint.size + 1), checkpoint)
        ],
        "consistency": [
            {"old": old.size, "new": new.size, "hashes": written(prove_consistency(sink, old, new).hashes)}
            for new in chosen
            for old in checkpoints[: new.size]
        ],
    }


@needs_go
def test_go_finds_our_checkpoints_and_proofs_right(case) -> None:
    done = go("check", json.dumps(case))
    assert done.stdout == "6 notes, 144 inclusion, 144 consistency\n", done.stderr


@needs_go
@pytest.mark.parametrize("what", ["note", "record", "inclusion", "consistency"])
def test_go_finds_out_what_was_changed(case, what) -> None:
    if what == "note":
        case["notes"][1] = case["notes"][1].replace("\n2\n", "\n3\n")
    elif what == "record":
        case["records"][7] = base64.b64encode(b"another").decode()
    else:
        case[what][-2]["hashes"][0] = base64.b64encode(bytes(32)).decode()
    assert go("check", json.dumps(case)).returncode == 1


@needs_go
def test_the_vectors_are_what_their_generator_writes() -> None:
    assert go("generate").stdout == (HERE / "audit_tree.json").read_text(encoding="utf-8")
