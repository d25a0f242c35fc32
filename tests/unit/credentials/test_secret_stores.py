"""Where secrets are: the environment, files, and a server that speaks Vault's API (a test's own, not Vault)."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vault_server import PASSWORD, ROLE, SECRET_ID, STRIPE, TOKEN, VaultServer, slowly, vault_server

from zt_agents._internal.hidden import Hidden
from zt_agents.catalog.secret_specs import SecretSource, SecretSpec, VaultSpec
from zt_agents.credentials import vault as vault_module
from zt_agents.credentials.secret_files import EnvironmentSecret, FileSecret
from zt_agents.credentials.secrets import Fetched, Secret, SecretsBroker, SecretStore
from zt_agents.credentials.vault import Vault, VaultSecret
from zt_agents.errors import ConfigurationError, SecretUnavailableError

KV = SecretSpec("stripe", SecretSource.VAULT, frozenset({"charge"}), "STRIPE", "secret/data/stripe", "api_key")
DATABASE = SecretSpec(
    "db", SecretSource.VAULT, frozenset({"query"}), "DB", "database/creds/readonly", lease=True
)
FILE = SecretSpec("token", SecretSource.FILE, frozenset({"charge"}), "TOKEN")


def fetched(store: SecretStore, spec: SecretSpec = FILE) -> Secret:
    return SecretsBroker({spec.name: (spec, store)}).fetch(spec.name)


def failure(store: SecretStore, spec: SecretSpec = FILE) -> str:
    with pytest.raises(SecretUnavailableError) as unavailable:
        fetched(store, spec)
    error = unavailable.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert "CANARY" not in f"{error} {error!r} {error.details}"
    return error.reason


# -- the wrapper --------------------------------------------------------------------------------------------------


def test_a_secret_is_shown_by_nothing_but_reveal(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("CANARY\n")
    path.chmod(0o600)
    secret = fetched(FileSecret(path))
    assert secret.reveal() == "CANARY"
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", repr([secret])):
        assert "CANARY" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert not hasattr(secret, "__dict__")


def test_a_wiped_secret_reveals_nothing_and_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("CANARY")
    path.chmod(0o600)
    secret = fetched(FileSecret(path))
    (held,) = secret._held.reveal().values()
    secret.wipe()
    assert b"CANARY" not in held
    with pytest.raises(SecretUnavailableError, match="has ended") as over:
        secret.reveal()
    assert over.value.reason == "over"


# -- the environment ----------------------------------------------------------------------------------------------


def test_a_variable_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZT_TEST_TAKEN", "CANARY")
    store = EnvironmentSecret("ZT_TEST_TAKEN")
    assert "ZT_TEST_TAKEN" not in os.environ
    code = "import os; print(os.environ.get('ZT_TEST_TAKEN'))"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert started.stdout.strip() == "None"
    assert fetched(store).reveal() == "CANARY"
    assert fetched(EnvironmentSecret("ZT_TEST_TAKEN")).reveal() == "CANARY"  # a second guard of the same process


def test_a_variable_stays_where_the_policy_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZT_TEST_KEPT", "CANARY")
    assert fetched(EnvironmentSecret("ZT_TEST_KEPT", keep=True)).reveal() == "CANARY"
    assert os.environ["ZT_TEST_KEPT"] == "CANARY"


def test_a_variable_that_is_not_there_is_missing() -> None:
    assert failure(EnvironmentSecret("ZT_TEST_ABSENT")) == "missing"
    assert failure(EnvironmentSecret("ZT_TEST_ABSENT", keep=True)) == "missing"


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        (SecretSpec("key", SecretSource.ENV, frozenset({"pay"}), "STRIPE_KEY"), "the environment variable STRIPE_KEY"),
        (SecretSpec("key", SecretSource.FILE, frozenset({"pay"}), "KEY", path="/run/key"), "the file /run/key"),
        (KV, "secret/data/stripe in the vault"),
    ],
)
def test_an_operator_is_told_where_a_secret_was_looked_for(spec: SecretSpec, place: str) -> None:
    with pytest.raises(SecretUnavailableError) as unavailable:
        fetched(EnvironmentSecret("ZT_TEST_ABSENT"), spec)
    assert f"could not be fetched from {place}: there is none." in str(unavailable.value)
    assert place not in unavailable.value.message_for_model()


# -- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"CANARY", 0o640, "unsafe"),
        (b"CANARY", 0o604, "unsafe"),
        (b"", 0o600, "malformed"),
        (b"\xff CANARY", 0o600, "malformed"),
        (b"CANARY" * 20_000, 0o600, "malformed"),
    ],
    ids=["its group reads it", "others read it", "empty", "no text", "too large"],
)
def test_a_file_that_is_not_one_of_ours_alone_is_refused(
    tmp_path: Path, content: bytes, mode: int, reason: str
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    assert failure(FileSecret(path)) == reason


def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    assert failure(FileSecret(tmp_path / "absent")) == "missing"
    assert failure(FileSecret(tmp_path)) in {"malformed", "unreachable"}
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert failure(FileSecret(tmp_path / "pipe")) == "malformed"  # and nobody waits for a writer


def test_a_link_counts_only_if_it_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "secret"
    target.write_text("CANARY")
    target.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(target)
    assert fetched(FileSecret(link)).reveal() == "CANARY"
    if os.geteuid() == 0:
        os.lchown(link, 4711, 4711)  # the file is ours still
        assert failure(FileSecret(link)) == "unsafe"
    monkeypatch.setattr(os, "geteuid", lambda: 4711)  # now it is somebody else's; root's counts as ours
    if target.stat().st_uid != 0:
        assert failure(FileSecret(link)) == "unsafe"


# -- vault --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[VaultServer]:
    with vault_server() as running:
        yield running


@pytest.fixture
def by_token(server: VaultServer, tmp_path: Path) -> Iterator[Vault]:
    path = tmp_path / "vault-token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    vault = Vault(VaultSpec(server.address, "", None, path, "", None, "approle"))
    yield vault
    vault.close()


@pytest.fixture
def by_role(server: VaultServer, tmp_path: Path) -> Iterator[Vault]:
    path = tmp_path / "secret-id"
    path.write_text(SECRET_ID)
    path.chmod(0o600)
    vault = Vault(VaultSpec(server.address, "", None, None, ROLE, path, "approle"))
    yield vault
    vault.close()


def test_a_secret_that_lies_in_vault(by_token: Vault) -> None:
    assert fetched(VaultSecret(by_token, KV), KV).reveal() == STRIPE


def test_credentials_made_for_the_call_are_taken_back(server: VaultServer, by_token: Vault) -> None:
    broker = SecretsBroker({"db": (DATABASE, VaultSecret(by_token, DATABASE))})
    secret = broker.fetch("db")
    assert (secret.fields, secret.reveal("password")) == (("username", "password"), PASSWORD)
    with pytest.raises(SecretUnavailableError, match="username, password"):
        secret.reveal()
    assert list(server.leases.values()) == ["live"]
    broker.take_back([secret])
    broker.close()
    assert list(server.leases.values()) == ["revoked"]


def test_a_lease_that_cannot_be_taken_back_is_said_after_three_tries(server: VaultServer, by_token: Vault) -> None:
    kept: list[str] = []
    broker = SecretsBroker({"db": (DATABASE, VaultSecret(by_token, DATABASE))})
    broker.kept = kept.append
    secret = broker.fetch("db")
    server.answers["sys/leases/revoke"] = lambda _: (503, {"errors": ["sealed"]})
    broker.take_back([secret])
    broker.close()
    assert kept == ["db"]
    assert server.asked.count("sys/leases/revoke") == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_connections_of_its_own_and_takes_back_what_it_was_lent(
    server: VaultServer, by_token: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.RequestHandlerClass, "protocol_version", "HTTP/1.1")  # connections are kept
    broker = SecretsBroker({"db": (DATABASE, VaultSecret(by_token, DATABASE))})
    broker.take_back([broker.fetch("db")])  # there are a connection and a thread now
    ends_at = time.monotonic() + 10
    while "live" in server.leases.values() and time.monotonic() < ends_at:
        time.sleep(0.01)
    callers = set(server.callers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads beside a fork: that is what is tested
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        with contextlib.suppress(BaseException):
            broker.take_back([broker.fetch("db")])
            broker.close()
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    broker.close()
    assert list(server.leases.values()) == ["revoked", "revoked"]
    assert server.callers - callers, "the child used a connection of the parent's"


def test_one_login_by_role_serves_many_calls_until_its_token_is_refused(server: VaultServer, by_role: Vault) -> None:
    store = VaultSecret(by_role, KV)
    assert [fetched(store, KV).reveal() for _ in range(3)] == [STRIPE] * 3
    assert server.logins == 1
    server.tokens.clear()
    assert fetched(store, KV).reveal() == STRIPE
    assert server.logins == 2


ANSWER = {"lease_id": "", "data": {"data": {"api_key": "CANARY"}}}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((403, {"errors": ["permission denied"]}), "refused"),
        ((404, {"errors": []}), "missing"),
        ((503, {"errors": ["Vault is sealed"]}), "unreachable"),
        ((307, None), "malformed"),
        ((200, b"CANARY is no JSON"), "malformed"),
        ((200, b"[" * 100_000), "malformed"),
        ((200, ["CANARY"]), "malformed"),
        ((200, b'{"data": {"data": {"api_key": "CANARY"}}, "x": "' + b"x" * 2_000_000 + b'"}'), "malformed"),
        ((200, {"lease_id": "", "data": None}), "malformed"),
        ((200, {"lease_id": "", "data": {"api_key": "CANARY"}}), "malformed"),
        ((200, {"lease_id": "", "data": {"data": {}}}), "malformed"),
        ((200, {"lease_id": "", "data": {"data": {"other": "CANARY"}}}), "missing"),
        ((200, {"lease_id": "", "data": {"data": {"api_key": 7}}}), "malformed"),
        ((200, {"lease_id": "", "data": {"data": {"api_key": ""}}}), "malformed"),
        ((200, {**ANSWER, "lease_id": "secret/data/stripe/1"}), "lease"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value[0]),
)
def test_a_vault_that_answers_something_else_lends_nothing(
    server: VaultServer, by_token: Vault, answer: Any, reason: str
) -> None:
    server.answers["secret/data/stripe"] = lambda _: answer
    assert failure(VaultSecret(by_token, KV), KV) == reason


def test_a_redirect_is_not_followed_with_the_token(server: VaultServer, by_token: Vault) -> None:
    def redirect(handler: Any) -> None:
        handler.reply(307, None, Location=f"{server.address}/v1/elsewhere")

    server.answers["secret/data/stripe"] = redirect
    assert failure(VaultSecret(by_token, KV), KV) == "malformed"
    assert "elsewhere" not in server.asked


def test_a_compressed_answer_is_not_unpacked(server: VaultServer, by_token: Vault) -> None:
    def bomb(handler: Any) -> None:
        handler.reply(200, gzip.compress(b" " * 50_000_000, 1), Content_Encoding="gzip")

    server.answers["secret/data/stripe"] = bomb
    assert failure(VaultSecret(by_token, KV), KV) == "malformed"


def test_an_answer_that_drips_is_not_waited_for(
    server: VaultServer, by_token: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "_SECONDS", 0.3)
    server.answers["secret/data/stripe"] = slowly
    assert failure(VaultSecret(by_token, KV), KV) == "unreachable"


def test_credentials_without_a_lease_are_not_lent(server: VaultServer, by_token: Vault) -> None:
    server.answers[DATABASE.path] = lambda _: (200, {"data": {"username": "v", "password": "CANARY"}})
    assert failure(VaultSecret(by_token, DATABASE), DATABASE) == "lease"


def test_a_lease_that_nobody_expected_is_given_back_at_once(server: VaultServer, by_token: Vault) -> None:
    spec = SecretSpec("db", SecretSource.VAULT, frozenset({"query"}), "DB", DATABASE.path)
    assert failure(VaultSecret(by_token, spec), spec) == "lease"
    assert list(server.leases.values()) == ["revoked"]


def test_a_vault_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    vault = Vault(VaultSpec("http://127.0.0.1:9", "", None, path, "", None, "approle"))
    assert failure(VaultSecret(vault, KV), KV) == "unreachable"
    vault.close()


def test_a_token_in_a_file_that_others_read_is_not_used(server: VaultServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o644)
    vault = Vault(VaultSpec(server.address, "", None, path, "", None, "approle"))
    assert failure(VaultSecret(vault, KV), KV) == "unsafe"
    assert server.asked == []
    vault.close()


def test_a_store_that_breaks_in_an_unforeseen_way_lends_nothing() -> None:
    class Broken:
        def fetch(self) -> Any:
            raise KeyError("CANARY")

    assert failure(Broken()) == "fault"


_OUTLIVES_MAIN = """
import threading
from zt_agents._internal.hidden import Hidden
from zt_agents.catalog.secret_specs import SecretSource, SecretSpec
from zt_agents.credentials.secrets import Fetched, SecretsBroker

class Store:
    def fetch(self):
        return Fetched(Hidden({"value": "x"}), lambda: print("taken back", flush=True) is None)

specs = [SecretSpec(name, SecretSource.FILE, frozenset({"charge"}), name.upper()) for name in ("one", "two")]
broker = SecretsBroker({spec.name: (spec, Store()) for spec in specs})
def body():
    lent = [broker.fetch("one"), broker.fetch("two")]
    threading.main_thread().join()
    broker.take_back(lent)

threading.Thread(target=body).start()
"""


def test_a_body_that_outlives_the_main_thread_gives_back_what_it_was_lent() -> None:
    ran = subprocess.run([sys.executable, "-c", _OUTLIVES_MAIN], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("taken back\n" * 2, "")


def test_a_source_that_breaks_when_it_should_take_back_has_not_taken_back() -> None:
    class Closed:
        def fetch(self) -> Fetched:
            return Fetched(Hidden({"value": "x"}), self.end)

        def end(self) -> bool:
            raise RuntimeError("closed")

    kept = list[str]()
    broker = SecretsBroker({"token": (FILE, Closed())})
    broker.kept = kept.append
    broker.take_back([broker.fetch("token")])
    broker.close()
    assert kept == ["token"]


def test_authorities_that_cannot_be_read_are_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="authorities"):
        Vault(VaultSpec("https://vault.acme.example", "", tmp_path / "absent.pem", tmp_path, "", None, "approle"))
