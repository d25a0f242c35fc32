"""A ring in a folder: who may reach it, what several processes see, and what is left when one is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from zt_agents.errors import ConfigurationError, StoreError, TokenInvalidError
from zt_agents.identity import Agent, KeyRing, SigningKey, TokenIssuer, User
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.key_folder import FolderKeyRing, Rotation
from zt_agents.identity.signing.key_schedule import KeyState

NOW = 1_760_000_000.0
KIND = "zt-call+jwt"
AGENT = Agent(
    id="spiffe://acme.example/agent/helpdesk", name="helpdesk", version="1", owner="dana@acme.example", purpose="tests"
)


def ring_in(folder: Path, **changes: object) -> FolderKeyRing:
    return KeyRing.in_folder(folder / "keys", create=True, clock=lambda: NOW, **changes)  # type: ignore[arg-type]


def test_a_new_ring_is_its_owners_alone_and_read_again(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in ring.path.iterdir()} == {
        "keys.json": "0o600",
        "lock": "0o600",
        "root.pem": "0o600",
        f"{ring.current(NOW).thumbprint}.pem": "0o600",
    }
    assert ring.path.stat().st_mode & 0o777 == 0o700
    again = ring_in(tmp_path)
    assert again.current(NOW).thumbprint == ring.current(NOW).thumbprint
    assert again.root.thumbprint == ring.root.thumbprint != ring.current(NOW).thumbprint


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_a_rotation_is_seen_at_once_by_whoever_shares_the_folder(tmp_path: Path, algorithm: str) -> None:
    ring, other = ring_in(tmp_path, algorithm=algorithm), ring_in(tmp_path)
    for kind in (None, KIND):
        mine, theirs = (r.for_kind(kind) if kind else r for r in (ring, other))
        before = mine.current(NOW)
        assert before.algorithm == algorithm
        ring.rotate(NOW, at_once=True)
        after = theirs.current(NOW)
        assert after.thumbprint != before.thumbprint
        assert mine.current(NOW).thumbprint == after.thumbprint
        assert theirs.find(before.thumbprint, NOW + 3599) == before.verification
        assert theirs.find(before.thumbprint, NOW + 3600) is None
        published = {key["kid"] for key in theirs.jwks(NOW)["keys"]}
        assert {before.thumbprint, after.thumbprint} <= published
        assert all("d" not in key for key in theirs.jwks(NOW)["keys"])


def test_a_key_is_published_before_it_signs(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    new = ring.rotate(NOW)
    assert new.key.kid in {key["kid"] for key in ring.jwks(NOW)["keys"]}
    assert ring.current(NOW + 3599).thumbprint != new.key.kid
    assert ring.current(NOW + 3600).thumbprint == new.key.kid
    assert [state for _, state in ring.listed(NOW)] == [KeyState.CURRENT, KeyState.NEXT]


def test_what_is_withdrawn_verifies_nothing_after_ten_milliseconds(tmp_path: Path) -> None:
    ring, other = ring_in(tmp_path), ring_in(tmp_path)
    stolen = other.current(NOW)
    ring.rotate(NOW, withdraw=True)
    time.sleep(0.011)
    assert other.find(stolen.thumbprint, NOW) is None
    assert other.for_kind(KIND).find(stolen.derived(KIND).thumbprint, NOW) is None
    assert not (ring.path / f"{stolen.thumbprint}.pem").exists()


def test_a_session_ends_with_the_key_that_signed_it_though_its_token_is_remembered(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    issuer = TokenIssuer(issuer="i", audience="a", keys=ring)
    token, _ = issuer.issue(agent=AGENT, user=User("alice"), task="", ttl=600, now=NOW)
    issuer.verify(token, now=NOW)
    ring.rotate(NOW, at_once=True)
    issuer.verify(token, now=NOW + 599)
    ring.rotate(NOW, withdraw=True)
    time.sleep(0.011)
    with pytest.raises(TokenInvalidError, match="no longer good"):
        issuer.verify(token, now=NOW)


def test_a_key_of_one_kind_is_none_of_another(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    for keys in (ring, ring.for_kind(KIND)):
        others = [ring, ring.for_kind(KIND), ring.for_kind("zt-other+jwt")]
        kid = keys.current(NOW).thumbprint
        assert sum(other.find(kid, NOW) is not None for other in others) == 1


def test_a_ring_rotates_by_itself_when_it_is_time(tmp_path: Path) -> None:
    told: list[str] = []
    rotation = Rotation(every=86_400, overlap=3600)
    rings = [
        ring_in(tmp_path, rotation=rotation, on_rotation=lambda entry, now: told.append(entry.key.kid))
        for _ in range(3)
    ]
    first = rings[0].current(NOW)
    for moment in range(0, 86_400, 600):
        for ring in rings:
            assert ring.current(NOW + moment).thumbprint == first.thumbprint
    assert len(told) == 1
    assert {ring.current(NOW + 86_400).thumbprint for ring in rings} == {told[0]}


def test_what_cannot_be_cleared_away_does_not_undo_a_rotation(tmp_path: Path) -> None:
    told: list[str] = []
    ring = ring_in(tmp_path, on_rotation=lambda entry, _: told.append(entry.key.kid))
    (ring.path / ".git").mkdir()
    made = ring.rotate(NOW, at_once=True)
    assert told == [made.key.kid] == [ring.current(NOW).thumbprint]


def test_of_many_threads_one_rotates(tmp_path: Path) -> None:
    told: list[str] = []
    rotation = Rotation(every=86_400, overlap=3600)
    rings = [
        ring_in(tmp_path, rotation=rotation, on_rotation=lambda entry, now: told.append(entry.key.kid))
        for _ in range(8)
    ]
    start = threading.Barrier(len(rings))

    def use(ring: FolderKeyRing) -> None:
        start.wait(10)
        ring.current(NOW + 90_000)

    threads = [threading.Thread(target=use, args=(ring,)) for ring in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(told) == 1
    assert len(rings[0].listed(NOW)) == 2


def test_a_rotation_that_cannot_be_written_leaves_the_present_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ring = ring_in(tmp_path, rotation=Rotation(every=86_400))
    first = ring.current(NOW)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zt_agents.identity.signing.key_folder.write_once", full)
    assert ring.current(NOW + 90_000).thumbprint == first.thumbprint
    assert "No space left" in caplog.text
    caplog.clear()
    assert ring.current(NOW + 90_001).thumbprint == first.thumbprint
    assert not caplog.text
    monkeypatch.undo()
    ring.current(NOW + 90_100)
    assert len(ring.listed(NOW + 90_100)) == 2


# -- who can reach it --------------------------------------------------------------------------------------------------


def folder_open(ring: FolderKeyRing) -> None:
    ring.path.chmod(0o750)


def manifest_open(ring: FolderKeyRing) -> None:
    (ring.path / "keys.json").chmod(0o640)


def key_open(ring: FolderKeyRing) -> None:
    (ring.path / f"{ring.current(NOW).thumbprint}.pem").chmod(0o604)


def key_is_a_link(ring: FolderKeyRing) -> None:
    path = ring.path / f"{ring.current(NOW).thumbprint}.pem"
    path.rename(ring.path.parent / "elsewhere.pem")
    path.symlink_to(ring.path.parent / "elsewhere.pem")


def manifest_is_a_link(ring: FolderKeyRing) -> None:
    path = ring.path / "keys.json"
    path.rename(ring.path.parent / "elsewhere.json")
    path.symlink_to(ring.path.parent / "elsewhere.json")


def folder_is_a_link(ring: FolderKeyRing) -> None:
    ring.path.rename(ring.path.parent / "elsewhere")
    ring.path.symlink_to(ring.path.parent / "elsewhere")


def key_is_a_pipe(ring: FolderKeyRing) -> None:
    path = ring.path / f"{ring.current(NOW).thumbprint}.pem"
    path.unlink()
    os.mkfifo(path, 0o600)


def key_is_another(ring: FolderKeyRing) -> None:
    path = ring.path / f"{ring.current(NOW).thumbprint}.pem"
    path.unlink()
    SigningKey.generate().save(path)


def key_is_gone(ring: FolderKeyRing) -> None:
    (ring.path / f"{ring.current(NOW).thumbprint}.pem").unlink()


def manifest_is_gone(ring: FolderKeyRing) -> None:
    (ring.path / "keys.json").unlink()


def manifest_names_another(ring: FolderKeyRing) -> None:
    path = ring.path / "keys.json"
    said = json.loads(path.read_bytes())
    said["keys"][0]["kid"] = SigningKey.generate().thumbprint
    path.write_text(json.dumps(said))


def manifest_has_another_key(ring: FolderKeyRing) -> None:
    path, mine = ring.path / "keys.json", SigningKey.generate()
    said = json.loads(path.read_bytes())
    said["keys"][0] |= {"kid": mine.thumbprint, "jwk": dict(mine.verification.members)}
    path.write_text(json.dumps(said))


def manifest_is_cut(ring: FolderKeyRing) -> None:
    path = ring.path / "keys.json"
    path.write_bytes(path.read_bytes()[:100])


TAMPERED = [
    folder_open, manifest_open, key_open, key_is_a_link, manifest_is_a_link, folder_is_a_link, key_is_a_pipe,
    key_is_another, key_is_gone, manifest_is_gone, manifest_names_another, manifest_has_another_key, manifest_is_cut,
]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERED)
def test_what_others_can_reach_or_have_changed_is_refused(
    tmp_path: Path, tamper: Callable[[FolderKeyRing], None]
) -> None:
    tamper(ring_in(tmp_path))
    with pytest.raises(ConfigurationError, match="could not be") as refused:
        KeyRing.in_folder(tmp_path / "keys")
    assert bool(refused.value.hint) is (tamper is manifest_is_gone)  # to make another ring


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
@pytest.mark.parametrize("name", ["", "keys.json"])
def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path, name: str) -> None:
    ring = ring_in(tmp_path)
    os.chown(ring.path / name, 12345, -1)
    with pytest.raises(ConfigurationError, match="another user"):
        KeyRing.in_folder(ring.path)


@pytest.mark.parametrize("tamper", [folder_open, manifest_open, manifest_is_gone, manifest_has_another_key])
def test_a_ring_that_is_taken_away_while_it_is_used_signs_nothing_and_still_verifies(
    tmp_path: Path, tamper: Callable[[FolderKeyRing], None]
) -> None:
    ring = ring_in(tmp_path)
    signed = jws.sign(KIND, ring.for_kind(KIND).current(NOW), {"iss": "i", "aud": "a"})
    kid = ring.current(NOW).thumbprint
    tamper(ring)
    for act in (ring.current, ring.for_kind(KIND).current, ring.jwks, ring.rotate, ring.listed):
        with pytest.raises(StoreError):
            act(NOW)
    assert ring.find(kid, NOW) is not None
    assert jws.verified(signed, KIND, ring.for_kind(KIND), issuer="i", audience="a", require=(), now=NOW)
    assert ring.find(SigningKey.generate().thumbprint, NOW) is None


@pytest.mark.parametrize("kid", ["root", "../keys/root", "keys.json", "", "/etc/passwd", "a" * 43])
def test_a_name_is_no_path(tmp_path: Path, kid: str) -> None:
    ring = ring_in(tmp_path)
    SigningKey.generate().save(ring.path / f"{'a' * 43}.pem")
    assert ring.find(kid, NOW) is None
    assert ring.for_kind(KIND).find(kid, NOW) is None


def test_a_folder_that_is_not_there_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        KeyRing.in_folder(tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


# -- killed, and together ----------------------------------------------------------------------------------------------

ROTATING = """
import sys
from pathlib import Path
from zt_agents.identity import KeyRing
ring = KeyRing.in_folder(Path(sys.argv[1]), create=True)
print("ready", flush=True)
while True:
    ring.rotate(1_760_000_000.0, at_once=True, overlap=1e-3)
    ring.rotate(1_760_000_001.0, at_once=True, overlap=1e-3)
"""


def test_killed_at_any_point_a_ring_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    for number in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", ROTATING, str(folder)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.013 * number)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        ring = KeyRing.in_folder(folder)
        key = ring.current(NOW + 10)
        assert ring.find(key.thumbprint, NOW + 10) is not None
    ring.rotate(NOW + 20, withdraw=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["keys.json", "lock", "root.pem", f"{ring.current(NOW + 20).thumbprint}.pem"]
    )


@pytest.mark.parametrize("left", ["key", "manifest", "nothing but root"])
def test_killed_while_it_was_made_a_folder_is_made_whole(tmp_path: Path, left: str) -> None:
    ring = ring_in(tmp_path)
    root, key = ring.root.thumbprint, ring.current(NOW).thumbprint
    if left == "manifest":
        (ring.path / "keys.json").rename(ring.path / ".keys.json.0abc")
    else:
        (ring.path / "keys.json").unlink()
    if left == "nothing but root":
        (ring.path / f"{key}.pem").unlink()
    again = ring_in(tmp_path)
    assert again.root.thumbprint == root
    assert len(list(again.path.glob("*.pem"))) == 2
    assert not list(again.path.glob(".*"))


def test_a_folder_that_was_copied_is_the_same_ring(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    shutil.copytree(ring.path, tmp_path / "copy")
    assert KeyRing.in_folder(tmp_path / "copy").current(NOW).thumbprint == ring.current(NOW).thumbprint
