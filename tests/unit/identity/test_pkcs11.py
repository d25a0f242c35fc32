"""Keys in a PKCS#11 token, with SoftHSM: they sign, rotate, and never come out."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zt_agents.errors import ConfigurationError, StoreError
from zt_agents.identity import Agent, KeyRing, TokenIssuer, User
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.key_schedule import Rotation

MODULES = [
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/softhsm/libsofthsm2.so"),
    Path("/opt/homebrew/lib/softhsm/libsofthsm2.so"),
]
MODULE = next((path for path in MODULES if path.exists()), None)
TOOL = shutil.which("softhsm2-util")
pytestmark = pytest.mark.skipif(not (MODULE and TOOL), reason="SoftHSM is missing: apt-get install softhsm2")
pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is missing: pip install zt-agents[pkcs11]")

NOW = 1_760_000_000.0
CALL = "zt-call+jwt"
ISSUER: dict[str, Any] = {"issuer": "i", "audience": "a", "require": ()}
AGENT = Agent(
    id="spiffe://acme.example/agent/helpdesk", name="helpdesk", version="1", owner="dana@acme.example", purpose="tests"
)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a new token."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    pin = folder / "pin"
    pin.write_text("271828\n")
    pin.chmod(0o600)
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    made = ["--init-token", "--free", "--label", "zt-test", "--pin", "271828", "--so-pin", "314159"]
    subprocess.run([str(TOOL), *made], check=True, capture_output=True, timeout=30)
    yield f"pkcs11:token=zt-test?module-path={MODULE}&pin-source=file:{pin}"
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_sessions_and_calls_are_signed_in_the_token_and_keys_rotate_there(
    tmp_path: Path, token: str, algorithm: str
) -> None:
    ring = KeyRing.in_folder(tmp_path / "keys", algorithm=algorithm, token=token, create=True, clock=lambda: NOW)
    issuer = TokenIssuer(issuer="i", audience="a", keys=ring)
    before, _ = issuer.issue(agent=AGENT, user=User("alice"), task="", ttl=60, now=NOW)
    assert issuer.verify(before, now=NOW).user_id == "alice"
    calls = ring.for_kind(CALL)
    signed = jws.sign(CALL, calls.current(NOW), {"iss": "i", "aud": "a"})
    assert jws.verified(signed, CALL, calls, issuer="i", audience="a", require=(), now=NOW)
    assert calls.current(NOW).thumbprint != ring.current(NOW).thumbprint
    assert calls.current(NOW).algorithm == algorithm
    assert sorted(path.name for path in ring.path.glob("*.pem")) == ["root.pem"]

    ring.rotate(NOW, at_once=True)
    after, _ = issuer.issue(agent=AGENT, user=User("alice"), task="", ttl=60, now=NOW)
    assert after.split(".")[0] != before.split(".")[0]
    other = TokenIssuer(
        issuer="i", audience="a", keys=KeyRing.in_folder(tmp_path / "keys", algorithm=algorithm, token=token)
    )
    for each in (before, after):
        assert other.verify(each, now=NOW).user_id == "alice"


def test_a_withdrawn_key_is_destroyed_in_the_token(tmp_path: Path, token: str) -> None:
    ring = KeyRing.in_folder(tmp_path / "keys", token=token, create=True, clock=lambda: NOW)
    stolen = ring.current(NOW)
    jws.sign(CALL, stolen, {})
    ring.rotate(NOW, withdraw=True)
    with pytest.raises(StoreError, match="could not be used"):
        jws.sign(CALL, stolen, {})
    time.sleep(0.011)
    assert ring.find(stolen.thumbprint, NOW) is None


@pytest.mark.parametrize("broken", ["generate", "remove"])
def test_a_token_that_makes_or_removes_no_key_goes_on_signing(
    tmp_path: Path, token: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("CKR_DEVICE_MEMORY")

    told: list[str] = []
    ring = KeyRing.in_folder(
        tmp_path / "keys",
        rotation=Rotation(every=100, overlap=10),
        on_rotation=lambda entry, _: told.append(entry.key.kid),
        token=token,
        create=True,
        clock=lambda: NOW,
    )
    ring.current(NOW + 200)
    monkeypatch.setattr(f"zt_agents.identity.signing.pkcs11.Pkcs11Token.{broken}", full)
    jws.sign(CALL, ring.current(NOW + 400), {})
    assert len(told) == (1 if broken == "generate" else 2)


def test_a_key_does_not_come_out(tmp_path: Path, token: str) -> None:
    key = KeyRing.in_folder(tmp_path / "keys", token=token, create=True, clock=lambda: NOW).current(NOW)
    for take in (
        lambda: key.pem,
        lambda: key.save(tmp_path / "taken.pem"),
        lambda: key.secret("x", 32),
        lambda: key.derived("zt-grant+jwt"),
        lambda: key.private.private_bytes(None, None, None),  # type: ignore[arg-type]
        lambda: copy.copy(key.private),
    ):
        with pytest.raises(ConfigurationError):
            take()
    assert not (tmp_path / "taken.pem").exists()


def test_a_ring_in_a_token_is_not_opened_without_it(tmp_path: Path, token: str) -> None:
    KeyRing.in_folder(tmp_path / "keys", token=token, create=True, clock=lambda: NOW)
    with pytest.raises(ConfigurationError, match="none is given"):
        KeyRing.in_folder(tmp_path / "keys")


def test_a_forked_process_does_not_use_the_tokens_session(tmp_path: Path, token: str) -> None:
    key = KeyRing.in_folder(tmp_path / "keys", token=token, create=True, clock=lambda: NOW).current(NOW)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            jws.sign(CALL, key, {})
            os.write(writing, b"signed")
        except StoreError:
            own = KeyRing.in_folder(tmp_path / "keys", token=token).current(NOW)
            jws.verified(jws.sign(CALL, own, {"iss": "i", "aud": "a"}), CALL, key.verification, **ISSUER)
            os.write(writing, b"refused, and opened anew")
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as said:
        assert said.read() == b"refused, and opened anew"


@pytest.mark.parametrize(
    "change",
    [
        lambda uri: uri.replace("zt-test", "another"),
        lambda uri: uri.replace("&pin-source", "&pin-value=271828&pin-source"),
        lambda uri: uri.split("&")[0] + "&pin-value=271828",
        lambda uri: uri.split("&")[0],
        lambda uri: uri.replace("file:/", "http://"),
        lambda uri: uri + "&pin-source=file:/x",
        lambda uri: uri.replace("module-path", "module-name"),
        lambda uri: uri.replace("pkcs11:", "pkcs12:"),
        lambda uri: uri.replace("?", ";slot-id=1?"),
        lambda uri: uri.replace("libsofthsm2", "libnowhere"),
        lambda _: "pkcs11:",
    ],
)
def test_a_uri_that_is_not_understood_is_refused(
    token: str, change: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZT_AGENTS_PKCS11_PIN", raising=False)
    with pytest.raises(ConfigurationError):
        KeyRing.in_folder(tmp_path / "keys", token=change(token), create=True)  # type: ignore[operator]
    assert not (tmp_path / "keys").exists()


def test_a_pin_that_others_can_read_is_refused_and_one_in_the_environment_is_taken(
    tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = tmp_path / "pin"
    pin.write_text("271828")
    pin.chmod(0o644)
    base = token.split("&")[0]
    with pytest.raises(ConfigurationError, match="read by other users"):
        KeyRing.in_folder(tmp_path / "keys", token=f"{base}&pin-source=file:{pin}", create=True)
    monkeypatch.setenv("ZT_AGENTS_PKCS11_PIN", "271828")
    KeyRing.in_folder(tmp_path / "keys", token=base, create=True)
