"""Secrets lent from Vault: the same to HashiCorp's Vault as to the imitation that the other tests use.

Vault itself runs with ZT_AGENTS_SERVERS=1 where Go can build it, and makes its credentials in a real PostgreSQL.
"""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import programs
import pytest
import sqlalchemy
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from langchain_core.tools import tool
from postgres import Postgres, postgres
from vault_program import VaultProgram, vault_program
from vault_server import ROLE, SECRET_ID, STRIPE, vault_server
from world import HEAD, World

from zt_agents import current_call
from zt_agents.catalog.secret_specs import SecretSource, SecretSpec, VaultSpec
from zt_agents.credentials import vault as vault_module
from zt_agents.credentials.secrets import Secret, SecretsBroker
from zt_agents.credentials.vault import Vault, VaultSecret
from zt_agents.errors import SecretUnavailableError

KV = SecretSpec("stripe", SecretSource.VAULT, frozenset({"charge"}), "STRIPE", "secret/data/stripe", "api_key")
DATABASE = SecretSpec(
    "db", SecretSource.VAULT, frozenset({"query"}), "DB", "database/creds/readonly", lease=True
)
DATABASE_PASSWORD = "CANARY-of-vaults-own-role"
POLICY = (
    HEAD
    + """
tools:
  query: {tier: low, effects: [read]}
rules:
  - {id: all, agents: [helpdesk], tools: [query], outcome: allow}
secrets:
  db: {source: vault, path: database/creds/readonly, lease: true, tools: [query]}
vault: {address: "ADDRESS", role_id: role-1, secret_id_file: secret-id}
"""
)


class Server(Protocol):
    """What can be done to either of them."""

    @property
    def address(self) -> str: ...
    @property
    def token(self) -> str: ...
    def live(self) -> list[str]: ...
    def live_logins(self) -> int: ...
    def forget_logins(self) -> None: ...
    def sealed(self) -> AbstractContextManager[None]: ...
    def stopped(self) -> AbstractContextManager[None]: ...


# -- the servers --------------------------------------------------------------------------------------------------


def certificate_in(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for loopback that is its own authority; return it, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vault")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    clear = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *clear))
    return paths


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    if absent := programs.missing("postgres", "initdb"):
        pytest.skip(absent)
    with postgres("vault") as running:
        yield running


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[VaultProgram]:
    if absent := programs.missing("go", "postgres", "initdb"):
        pytest.skip(absent)
    folder = tmp_path_factory.mktemp("vault")
    certificate, key = certificate_in(folder)
    with vault_program(folder, certificate=certificate, key=key) as running:
        running.make_credentials_in(request.getfixturevalue("database"), DATABASE_PASSWORD)
        yield running


@pytest.fixture(params=["imitation", "vault"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "vault":
        vault = request.getfixturevalue("real")
        yield vault
        vault.forget_logins()
        return
    with vault_server() as running:
        yield running


class Clients:
    """Makes clients of a server, and closes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Vault] = []

    def file(self, name: str, content: str) -> Path:
        path = self._folder / name
        path.touch(0o600)
        path.write_text(content)
        return path

    def by_token(self, address: str, token: str, *, namespace: str = "", ca_file: Path | None = None) -> Vault:
        return self._make(VaultSpec(address, namespace, ca_file, self.file("token", token), "", None, "approle"))

    def by_role(self, address: str, role: str = ROLE, secret_id: str = SECRET_ID) -> Vault:
        return self._make(VaultSpec(address, "", None, None, role, self.file("secret-id", secret_id), "approle"))

    def _make(self, spec: VaultSpec) -> Vault:
        self._made.append(Vault(spec))
        return self._made[-1]

    def close(self) -> None:
        for each in self._made:
            each.close()


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    made = Clients(tmp_path)
    yield made
    made.close()


def broker_of(vault: Vault, spec: SecretSpec) -> SecretsBroker:
    return SecretsBroker({spec.name: (spec, VaultSecret(vault, spec))})


def fetched(vault: Vault, spec: SecretSpec = KV) -> Secret:
    return broker_of(vault, spec).fetch(spec.name)


def failure(vault: Vault, spec: SecretSpec = KV) -> str:
    with pytest.raises(SecretUnavailableError) as unavailable:
        fetched(vault, spec)
    assert "CANARY" not in f"{unavailable.value} {unavailable.value!r} {unavailable.value.details}"
    return unavailable.value.reason


def at(path: str, *, lease: bool = False) -> SecretSpec:
    return SecretSpec("other", SecretSource.VAULT, frozenset({"charge"}), "OTHER", path, lease=lease)


# -- to both ------------------------------------------------------------------------------------------------------


def test_a_secret_lies_there(server: Server, clients: Clients) -> None:
    vault = clients.by_token(server.address, server.token)
    assert fetched(vault).reveal() == STRIPE
    assert fetched(vault, at("secret/data/stripe")).fields == ("api_key", "note")


def test_a_token_that_it_does_not_know_is_refused(server: Server, clients: Clients) -> None:
    assert failure(clients.by_token(server.address, "hvs.CANARY-of-somebody-else")) == "refused"


def test_a_token_that_is_exchanged_in_its_file_is_the_one_that_counts(server: Server, clients: Clients) -> None:
    vault = clients.by_token(server.address, "hvs.CANARY-too-old")
    assert failure(vault) == "refused"
    clients.file("token", server.token)
    assert fetched(vault).reveal() == STRIPE


def test_credentials_made_for_a_call_are_taken_back(server: Server, clients: Clients) -> None:
    broker = broker_of(clients.by_token(server.address, server.token), DATABASE)
    kept: list[str] = []
    broker.kept = kept.append
    secret = broker.fetch("db")
    assert secret.fields == ("username", "password") or secret.fields == ("password", "username")
    assert len(server.live()) == 1
    broker.take_back([secret])
    broker.close()
    assert server.live() == kept == []


def test_a_lease_that_nobody_expected_is_given_back_at_once(server: Server, clients: Clients) -> None:
    assert failure(clients.by_token(server.address, server.token), at(DATABASE.path)) == "lease"
    assert server.live() == []


def test_where_a_lease_is_expected_a_secret_that_lies_there_is_not_lent(server: Server, clients: Clients) -> None:
    assert failure(clients.by_token(server.address, server.token), at(KV.path, lease=True)) == "lease"


def test_what_has_been_taken_back_can_be_taken_back_again(server: Server, clients: Clients) -> None:
    vault = clients.by_token(server.address, server.token)
    lent = VaultSecret(vault, DATABASE).fetch()
    assert lent.end is not None
    assert [lent.end(), lent.end()] == [True, True]


def test_one_login_by_role_serves_until_its_token_is_taken_back(server: Server, clients: Clients) -> None:
    vault = clients.by_role(server.address)
    assert [fetched(vault).reveal() for _ in range(3)] == [STRIPE] * 3
    assert server.live_logins() == 1
    server.forget_logins()
    assert server.live_logins() == 0
    assert fetched(vault).reveal() == STRIPE
    assert server.live_logins() == 1


@pytest.mark.parametrize(("role", "secret_id"), [(ROLE, "CANARY-wrong"), ("CANARY-wrong", SECRET_ID)])
def test_a_login_that_is_wrong_is_refused(server: Server, clients: Clients, role: str, secret_id: str) -> None:
    assert failure(clients.by_role(server.address, role, secret_id)) == "refused"


def test_while_it_is_sealed_nothing_is_lent(server: Server, clients: Clients) -> None:
    by_token, by_role = clients.by_token(server.address, server.token), clients.by_role(server.address)
    assert fetched(by_role).reveal() == STRIPE
    with server.sealed():
        assert failure(by_token) == failure(by_role) == failure(by_token, DATABASE) == "unreachable"
    assert fetched(by_token).reveal() == fetched(by_role).reveal() == STRIPE


def test_a_lease_that_a_sealed_server_does_not_take_back_is_said(server: Server, clients: Clients) -> None:
    vault = clients.by_token(server.address, server.token)
    broker = broker_of(vault, DATABASE)
    kept: list[str] = []
    broker.kept = kept.append
    secret = broker.fetch("db")
    with server.sealed():
        broker.take_back([secret])
        broker.close()
    assert kept == ["db"]
    (lease,) = server.live()
    assert vault.revoke(lease)
    assert server.live() == []


def test_a_server_that_says_nothing_is_waited_for_only_so_long(
    server: Server, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "_SECONDS", 0.5)
    vault = clients.by_token(server.address, server.token)
    with server.stopped():
        began = time.monotonic()
        assert failure(vault) == "unreachable"
        assert time.monotonic() - began < 5
    monkeypatch.undo()
    assert fetched(clients.by_token(server.address, server.token)).reveal() == STRIPE


class Office:
    """A guard, and one tool whose body is lent what opens the database."""

    def __init__(self, folder: Path, server: Server) -> None:
        (folder / "secret-id").touch(0o600)
        (folder / "secret-id").write_text(SECRET_ID)
        self.body: Callable[[Secret], Any] = lambda secret: secret.fields

        @tool
        def query() -> Any:
            """Query."""
            here = current_call()
            assert here is not None
            return self.body(here.secret("db"))

        self.world = World(folder, POLICY.replace("ADDRESS", server.address), [query], None)
        (self.tool,) = self.world.guard.protect([query])

    def run(self, body: Callable[[Secret], Any]) -> Any:
        self.body = body
        with self.world.session():
            return self.tool.invoke({})

    def lent(self) -> list[Any]:
        return [record["secrets"] for record in self.world.records() if record["kind"] == "outcome"]


@pytest.fixture
def office(server: Server, tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path, server)
    yield made
    made.world.guard.close()


def test_a_governed_call_has_credentials_of_its_own(office: Office, server: Server) -> None:
    users = [office.run(lambda secret: secret.reveal("username")) for _ in range(2)]
    office.world.guard.close()
    assert users[0] != users[1]
    assert server.live() == []
    assert office.lent() == [[["db", "lent"]]] * 2


def test_a_body_learns_no_more_than_that_it_is_unreachable(office: Office, server: Server) -> None:
    def refused(secret: Secret) -> None:
        raise AssertionError("nothing is lent")

    with server.sealed(), pytest.raises(SecretUnavailableError) as unavailable:
        office.run(refused)
    assert unavailable.value.reason == "unreachable"
    assert office.lent() == [[["db", "unreachable"]]]


# -- to Vault itself ----------------------------------------------------------------------------------------------


def who(database: Postgres, user: str, password: str) -> str:
    with database.engine(user, password).connect() as connection:
        return str(connection.execute(sqlalchemy.text("SELECT current_user")).scalar_one())


def test_what_is_lent_opens_the_database_during_the_call_and_never_after(
    tmp_path: Path, real: VaultProgram, database: Postgres
) -> None:
    office = Office(tmp_path, real)
    kept: list[tuple[str, str]] = []

    def body(secret: Secret) -> str:
        kept.append((secret.reveal("username"), secret.reveal("password")))
        return who(database, *kept[0])

    found = office.run(body)
    office.world.guard.close()
    assert found == kept[0][0]
    with pytest.raises(sqlalchemy.exc.OperationalError, match="authentication failed"):
        who(database, *kept[0])
    assert kept[0][1] not in str(office.world.records())


@pytest.mark.parametrize(("role", "ends"), [("readonly", False), ("thorough", True)])
def test_a_connection_ends_with_its_lease_where_vaults_role_says_so(
    real: VaultProgram, clients: Clients, database: Postgres, role: str, ends: bool
) -> None:
    lent = VaultSecret(clients.by_token(real.address, real.token), at(f"database/creds/{role}", lease=True)).fetch()
    assert lent.end is not None
    login = lent.fields.reveal()
    with database.engine(login["username"], login["password"]).connect() as connection:
        query = sqlalchemy.text("SELECT 7")
        assert connection.execute(query).scalar_one() == 7
        assert lent.end()
        if ends:
            with pytest.raises(sqlalchemy.exc.OperationalError, match="terminat"):
                connection.execute(query)
        else:  # PostgreSQL lets a session go on whose role is gone
            assert connection.execute(query).scalar_one() == 7


def test_a_lease_that_the_database_does_not_end_is_said(
    real: VaultProgram, clients: Clients, database: Postgres
) -> None:
    broker = broker_of(clients.by_token(real.address, real.token), DATABASE)
    kept: list[str] = []
    broker.kept = kept.append
    secret = broker.fetch("db")
    login = secret.reveal("username"), secret.reveal("password")
    database.run("ALTER ROLE vault NOCREATEROLE")
    try:
        broker.take_back([secret])
        broker.close()
        assert kept == ["db"]
        assert who(database, *login) == login[0]
    finally:
        database.run("ALTER ROLE vault CREATEROLE")
    (lease,) = real.live()
    assert clients.by_token(real.address, real.token).revoke(lease)
    assert real.live() == []


def test_a_database_that_is_not_there_lends_nothing(real: VaultProgram, clients: Clients, database: Postgres) -> None:
    database.run("ALTER ROLE vault NOCREATEROLE")
    try:
        assert failure(clients.by_token(real.address, real.token), DATABASE) == "unreachable"
    finally:
        database.run("ALTER ROLE vault CREATEROLE")
    assert real.live() == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("secret/data/deleted", "missing"),
        ("secret/data/absent", "missing"),
        ("secret/stripe", "missing"),
        ("nowhere/data/stripe", "missing"),
        ("old/stripe", "malformed"),
        ("database/creds/absent", "malformed"),
        ("secret/data/numbers", "malformed"),
    ],
)
def test_a_path_that_is_not_what_the_policy_says(
    real: VaultProgram, clients: Clients, path: str, reason: str
) -> None:
    real.ask("PUT", "sys/policies/acl/all", {"policy": 'path "*" { capabilities = ["read"] }'})
    if "old/" not in real.ask("GET", "sys/mounts")["data"]:
        real.ask("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    real.ask("POST", "old/stripe", {"api_key": STRIPE})
    real.ask("POST", "secret/data/deleted", {"data": {"api_key": STRIPE}})
    real.ask("DELETE", "secret/data/deleted")
    real.ask("POST", "secret/data/numbers", {"data": {"port": 5432}})
    assert failure(clients.by_token(real.address, real.new_token("all")), at(path)) == reason


def test_a_token_is_asked_for_no_more_than_it_may(real: VaultProgram, clients: Clients) -> None:
    assert failure(clients.by_token(real.address, real.new_token("nothing"))) == "refused"
    real.ask("PUT", "sys/policies/acl/only-makes", {"policy": f'path "{DATABASE.path}" {{ capabilities = ["read"] }}'})
    vault = clients.by_token(real.address, real.new_token("only-makes"))
    broker = broker_of(vault, DATABASE)
    kept: list[str] = []
    broker.kept = kept.append
    broker.take_back([broker.fetch("db")])
    broker.close()
    assert kept == ["db"]
    (lease,) = real.live()
    assert clients.by_token(real.address, real.token).revoke(lease)


def test_a_login_is_renewed_before_its_token_ends(real: VaultProgram, clients: Clients) -> None:
    real.new_role("brief", "role-brief", "CANARY-brief", token_ttl="4s")
    vault = clients.by_role(real.address, "role-brief", "CANARY-brief")
    shown = []
    end = time.monotonic() + 9
    while time.monotonic() < end:
        assert fetched(vault).reveal() == STRIPE
        shown.append(vault._token.reveal())
        time.sleep(0.2)
    assert len(set(shown)) >= 4


def test_a_token_with_few_uses_is_followed_by_another(real: VaultProgram, clients: Clients) -> None:
    real.new_role("few", "role-few", "CANARY-few", token_num_uses=2)
    vault = clients.by_role(real.address, "role-few", "CANARY-few")
    assert [fetched(vault).reveal() for _ in range(5)] == [STRIPE] * 5


def test_what_a_login_was_lent_ends_with_its_token(
    real: VaultProgram, clients: Clients, database: Postgres
) -> None:
    real.new_role("briefer", "role-briefer", "CANARY-briefer", token_ttl="2s")
    secret = fetched(clients.by_role(real.address, "role-briefer", "CANARY-briefer"), DATABASE)
    login = secret.reveal("username"), secret.reveal("password")
    assert who(database, *login) == login[0]
    programs.wait_until(lambda: real.live() == [], seconds=20)
    with pytest.raises(sqlalchemy.exc.OperationalError, match="authentication failed"):
        who(database, *login)


def test_by_tls_it_is_verified(real: VaultProgram, clients: Clients, tmp_path: Path) -> None:
    vault = clients.by_token(real.tls_address, real.token, ca_file=real.authorities)
    assert fetched(vault).reveal() == STRIPE
    other, _ = certificate_in(tmp_path)
    assert failure(clients.by_token(real.tls_address, real.token, ca_file=other)) == "unreachable"
    assert failure(clients.by_token(real.tls_address, real.token)) == "unreachable"
    elsewhere = real.tls_address.replace("127.0.0.1", "localhost")
    assert failure(clients.by_token(elsewhere, real.token, ca_file=real.authorities)) == "unreachable"


def test_plain_text_to_a_port_for_tls_is_no_answer(real: VaultProgram, clients: Clients) -> None:
    plain = real.tls_address.replace("https:", "http:")
    assert failure(clients.by_token(plain, real.token)) in {"malformed", "unreachable"}


def test_leases_of_calls_at_once_do_not_mix(real: VaultProgram, clients: Clients, database: Postgres) -> None:
    broker = broker_of(clients.by_role(real.address), DATABASE)
    with ThreadPoolExecutor(6) as pool:
        secrets = list(pool.map(lambda _: broker.fetch("db"), range(12)))
    logins = [(each.reveal("username"), each.reveal("password")) for each in secrets]
    assert len({*logins}) == 12
    broker.take_back(secrets[::2])
    broker.close()
    assert len(real.live()) == 6
    assert [who(database, *login) for login in logins[1::2]] == [user for user, _ in logins[1::2]]
    broker.take_back(secrets[1::2])
    broker.close()
    assert real.live() == []
