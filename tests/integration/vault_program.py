"""HashiCorp's Vault itself for tests, on free ports of loopback, with the plug-in that makes PostgreSQL's credentials.

Both are built by Go, once, into the user's cache folder: about ten minutes on two cores. Built with the tag
``minimal``, Vault is without most of its plug-ins; key-value, database, AppRole and all of its core are there.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from postgres import Postgres
from programs import CACHE, build_fitted, free_ports, running, wait_until
from vault_server import ROLE, SECRET_ID, STRIPE

VERSION = "1.21.4"
_MODULE = "github.com/hashicorp/vault"
_HOME = CACHE / f"vault-{VERSION}"
_PLUGIN = "postgresql-database-plugin"
_APART = ("api", "api/auth/approle", "api/auth/kubernetes", "api/auth/userpass", "sdk")
"""Modules of its own source that it is published without."""
_EDITS = [
    (
        "builtin/logical/transit/path_restore.go",
        "err := b.lm.RestorePolicy(",
        "err := keyName, b.lm.RestorePolicy(",
    ),
    (
        "vault/identity_store.go",
        "ActivationFunc: iStore.activateDeduplication,",
        "ActivationFunc: func(ctx context.Context, r *logical.Request, _ string) error "
        "{ return iStore.activateDeduplication(ctx, r) },",
    ),
    ("vault/logical_system_activation_flags.go", "ActivationFunc(ctx, nil)", 'ActivationFunc(ctx, nil, "")'),
]
"""Its sdk, as it is published, has other signatures in three places; none of them is used here."""
POLICY = """
path "secret/data/stripe" { capabilities = ["read"] }
path "database/creds/readonly" { capabilities = ["read"] }
path "database/creds/thorough" { capabilities = ["read"] }
path "sys/leases/revoke" { capabilities = ["update"] }
"""
"""All that the token of a guard needs, and no more."""
_CREATE = """
CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE readers;
"""
_END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';
DROP ROLE "{{name}}";
"""


class VaultProgram:
    """A Vault that is unsealed, and what its operator can do to it."""

    def __init__(self, port: int, tls_port: int, authorities: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.tls_address = f"https://127.0.0.1:{tls_port}"
        self.authorities = authorities
        self.http = httpx.Client(base_url=self.address, trust_env=False, timeout=30)
        self.process_id = 0
        self.token = ""
        """Of a guard."""
        self._root = self._key = ""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Ask as the operator."""
        answer = self.http.request(
            method, f"/v1/{path}", json=body, headers={"X-Vault-Token": self._root, **headers}
        )
        assert answer.is_success, (path, answer.text)
        return answer.json() if answer.content else None

    def answers(self) -> bool:
        try:
            return self.http.get("/v1/sys/health").status_code in (200, 501, 503)  # ready, uninitialised, sealed
        except httpx.HTTPError:
            return False

    def prepare(self) -> None:
        """Initialise it; lay down what the tests read, and let a guard read that."""
        said = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self._root, (self._key,) = said["root_token"], said["keys"]
        self._unseal()
        self.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        # Version 2 is prepared in the background.
        wait_until(lambda: self._put_stripe().status_code == 200, seconds=20)
        self.ask("PUT", "sys/policies/acl/guard", {"policy": POLICY})
        self.token = self.new_token("guard")
        self.ask("POST", "sys/auth/approle", {"type": "approle"})
        self.new_role("guard", ROLE, SECRET_ID)

    def _put_stripe(self) -> httpx.Response:
        body = {"data": {"api_key": STRIPE, "note": "for charges"}}
        return self.http.post("/v1/secret/data/stripe", json=body, headers={"X-Vault-Token": self._root})

    def new_token(self, *policies: str) -> str:
        created = self.ask("POST", "auth/token/create", {"policies": policies, "no_default_policy": True})
        return str(created["auth"]["client_token"])

    def new_role(self, name: str, role_id: str, secret_id: str, **terms: Any) -> None:
        """Make an AppRole that may do what a guard may."""
        self.ask("POST", f"auth/approle/role/{name}", {"token_policies": ["guard"], "token_ttl": "1h", **terms})
        self.ask("POST", f"auth/approle/role/{name}/role-id", {"role_id": role_id})
        self.ask("POST", f"auth/approle/role/{name}/custom-secret-id", {"secret_id": secret_id})

    def make_credentials_in(self, server: Postgres, password: str) -> None:
        """Have it make roles in PostgreSQL, as the role ``vault`` there."""
        server.run(
            f"CREATE ROLE readers; CREATE ROLE vault LOGIN CREATEROLE PASSWORD '{password}';"
            "GRANT readers TO vault WITH ADMIN OPTION; GRANT pg_signal_backend TO vault"
        )
        digest = hashlib.sha256((_HOME / _PLUGIN).read_bytes()).hexdigest()
        self.ask("PUT", f"sys/plugins/catalog/database/{_PLUGIN}", {"sha256": digest, "command": _PLUGIN})
        self.ask("POST", "sys/mounts/database", {"type": "database"})
        url = f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{server.port}/postgres?connect_timeout=2"
        login = {"username": "vault", "password": password, "connection_url": url, "allowed_roles": ["*"]}
        self.ask("POST", "database/config/tickets", {"plugin_name": _PLUGIN, **login})
        role = {"db_name": "tickets", "creation_statements": [_CREATE], "default_ttl": "1h"}
        self.ask("POST", "database/roles/readonly", role)
        self.ask("POST", "database/roles/thorough", {**role, "revocation_statements": [_END]})

    def live(self) -> list[str]:
        """Return the leases that are out."""
        answer = self.http.request(
            "LIST", "/v1/sys/leases/lookup/database/creds/readonly", headers={"X-Vault-Token": self._root}
        )
        found = answer.json()["data"]["keys"] if answer.status_code == 200 else []
        return [f"database/creds/readonly/{each}" for each in found]

    def live_logins(self) -> int:
        """Return how many tokens of AppRole are good."""
        answer = self.http.request(
            "LIST", "/v1/sys/leases/lookup/auth/approle/login", headers={"X-Vault-Token": self._root}
        )
        return len(answer.json()["data"]["keys"]) if answer.status_code == 200 else 0

    def forget_logins(self) -> None:
        """Take back every token of AppRole."""
        self.ask("PUT", "sys/leases/revoke-prefix/auth/approle/login", {"sync": True})

    @contextmanager
    def sealed(self) -> Iterator[None]:
        self.ask("PUT", "sys/seal")
        try:
            yield
        finally:
            self._unseal()

    def _unseal(self) -> None:
        self.ask("PUT", "sys/unseal", {"key": self._key})
        wait_until(lambda: self.http.get("/v1/sys/health").status_code == 200, seconds=30)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have it take connections and say nothing."""
        os.killpg(self.process_id, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process_id, signal.SIGCONT)


def _fit(source: Path) -> None:
    drops = [f"-dropreplace={_MODULE}/{each}" for each in _APART]
    subprocess.run(["go", "mod", "edit", *drops], cwd=source, check=True, timeout=60)
    for file, said, fitted in _EDITS:
        text = (source / file).read_text(encoding="utf-8")
        assert text.count(said) == 1, file
        (source / file).write_text(text.replace(said, fitted), encoding="utf-8")


@contextmanager
def vault_program(folder: Path, *, certificate: Path, key: Path) -> Iterator[VaultProgram]:
    """Run Vault with its files in *folder*; *certificate* and *key* (PEM) are what it shows on its TLS port."""
    if not _HOME.exists():
        plugin = f"./plugins/database/postgresql/{_PLUGIN}"
        options = ["-mod=mod", "-tags", "minimal"]
        build_fitted(_HOME, f"{_MODULE}@v{VERSION}", ".", plugin, fit=_fit, options=options)
    port, cluster, tls_port, tls_cluster = free_ports(4)
    server = VaultProgram(port, tls_port, certificate)
    listeners = [
        {"address": f"127.0.0.1:{port}", "cluster_address": f"127.0.0.1:{cluster}", "tls_disable": True},
        {
            "address": f"127.0.0.1:{tls_port}",
            "cluster_address": f"127.0.0.1:{tls_cluster}",
            "tls_cert_file": str(certificate),
            "tls_key_file": str(key),
        },
    ]
    config = folder / "vault.json"
    terms = {
        "storage": {"inmem": {}},
        "listener": [{"tcp": each} for each in listeners],
        "plugin_directory": str(_HOME),
        "disable_mlock": True,
        "api_addr": server.address,
    }
    config.write_text(json.dumps(terms), encoding="utf-8")
    command = [_HOME / "vault", "server", f"-config={config}"]
    with (
        server.http,
        running(command, folder / "log", server.answers, seconds=60, cwd=folder, env={"HOME": str(folder)}) as process,
    ):
        server.process_id = process.pid
        server.prepare()
        yield server
