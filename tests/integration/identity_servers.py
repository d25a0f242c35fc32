"""Real identity providers for tests: Keycloak, and the npm package oidc-provider, on free ports of loopback.

Both are put into the user's cache folder with ZT_AGENTS_SERVERS=1: Keycloak's distribution from Maven Central (Java 17
or later), oidc-provider from npm (Node 20 or later). Nothing of a run is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from programs import CACHE, free_ports, running

KEYCLOAK = "26.4.2"
PASSWORD = "correct-horse"
LOGIN, GUARD, TICKETS = "zt-agents-login", "zt-agents", "tickets"
"""Clients: that people log in with; that access tokens are for; a back end behind a tool."""


class Keycloak:
    """A realm of its own, and what an administrator can do to it."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.issuer = f"{self.base}/realms/acme"
        self.http = httpx.Client(trust_env=False, timeout=30)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": PASSWORD}
        token = self.http.post(f"{self.base}/realms/master/protocol/openid-connect/token", data=form).json()
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        answer = self.http.request(method, f"{self.base}/admin/realms{path}", json=body, headers=headers)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def client(self, client_id: str) -> dict[str, Any]:
        (found,) = self.admin("GET", f"/acme/clients?clientId={client_id}")
        return dict(found)

    def let_exchange(self, client_id: str) -> None:
        """Let a client exchange users' tokens for one that is for the back end: its administrator's part."""
        for of, audience in ((LOGIN, client_id), (client_id, TICKETS)):
            mapper = _mapper(
                f"for {audience}",
                "oidc-audience-mapper",
                **{"included.client.audience": audience, "access.token.claim": "true"},
            )
            self.admin("POST", f"/acme/clients/{self.client(of)['id']}/protocol-mappers/models", mapper)

    def rotate(self) -> None:
        """Add a signing key that goes before the others."""
        realm = self.admin("GET", "/acme")["id"]
        config = {"priority": ["500"], "keySize": ["2048"], "algorithm": ["RS256"]}
        kind = {"providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider"}
        self.admin("POST", "/acme/components", {"name": "next", "parentId": realm, "config": config, **kind})


@contextmanager
def keycloak(folder: Path) -> Iterator[Keycloak]:
    """Run Keycloak with the realm acme, in memory."""
    home = _unpacked_keycloak()
    port, management = free_ports(2)
    command = [
        str(home / "bin" / "kc.sh"),
        "start-dev",
        "--db=dev-mem",
        "--http-host=127.0.0.1",
        f"--http-port={port}",
        f"--http-management-port={management}",
    ]
    variables = {
        "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
        "KC_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
        "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx512m",
    }
    server = Keycloak(port)
    ready = f"{server.base}/realms/master"
    log = folder / "keycloak.log"
    with server.http, running(command, log, lambda: _answers(ready), seconds=240, env=variables):
        server.admin("POST", "", realm())
        yield server


@contextmanager
def node_provider(folder: Path) -> Iterator[str]:
    """Run oidc-provider; return its issuer."""
    packages = CACHE / "oidc-provider-9"
    if not (packages / "node_modules" / "oidc-provider").exists():
        packages.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--silent", "--no-fund", "--no-audit", "oidc-provider@9"]
        subprocess.run(install, cwd=packages, check=True, timeout=300)
    (port,) = free_ports(1)
    program = packages / "zt-agents-provider.mjs"
    shutil.copy(Path(__file__).with_name("node_provider.mjs"), program)
    issuer = f"http://127.0.0.1:{port}"
    variables = {"PORT": str(port)}
    address = f"{issuer}/.well-known/openid-configuration"
    log = folder / "oidc-provider.log"
    with running(["node", program], log, lambda: _answers(address), seconds=60, env=variables):
        yield issuer


def _unpacked_keycloak() -> Path:
    home = CACHE / f"keycloak-{KEYCLOAK}"
    if home.exists():
        return home
    name = f"keycloak-quarkus-dist-{KEYCLOAK}.zip"
    archive = Path.home() / ".m2" / "repository" / "org" / "keycloak" / "keycloak-quarkus-dist" / KEYCLOAK / name
    if not archive.exists():
        coordinates = f"-Dartifact=org.keycloak:keycloak-quarkus-dist:{KEYCLOAK}:zip"
        subprocess.run(["mvn", "-q", "dependency:get", coordinates, "-Dtransitive=false"], check=True, timeout=600)
    partial = home.with_name(f"{home.name}.{os.getpid()}")
    with zipfile.ZipFile(archive) as content:
        content.extractall(partial)
    inner = partial / f"keycloak-{KEYCLOAK}"
    for script in (inner / "bin").glob("*.sh"):
        script.chmod(0o755)
    inner.replace(home)
    partial.rmdir()
    return home


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _mapper(name: str, kind: str, **config: str) -> dict[str, Any]:
    return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}


def realm() -> dict[str, Any]:
    """Return the realm: two people, their groups and roles, and three clients."""
    everywhere = {"id.token.claim": "true", "access.token.claim": "true", "userinfo.token.claim": "true"}
    groups = _mapper(
        "groups", "oidc-group-membership-mapper", **everywhere, **{"claim.name": "groups", "full.path": "false"}
    )
    roles = _mapper(
        "roles in ID tokens",
        "oidc-usermodel-realm-role-mapper",
        **everywhere,
        **{"claim.name": "realm_access.roles", "multivalued": "true", "jsonType.label": "String"},
    )
    audience = _mapper(
        "audience", "oidc-audience-mapper", **{"included.client.audience": GUARD, "access.token.claim": "true"}
    )
    people = [("alice", "Alice", "it-helpdesk", "agent"), ("bob", "Bob", "hr", "clerk")]
    return {
        "realm": "acme",
        "enabled": True,
        "sslRequired": "none",
        "groups": [{"name": "it-helpdesk"}, {"name": "hr"}],
        "roles": {"realm": [{"name": "agent"}, {"name": "clerk"}]},
        "users": [
            {
                "username": name,
                "email": f"{name}@acme.example",
                "emailVerified": True,
                "firstName": shown,
                "lastName": "Acme",
                "enabled": True,
                "groups": [group],
                "realmRoles": [role],
                "credentials": [{"type": "password", "value": PASSWORD}],
            }
            for name, shown, group, role in people
        ],
        "clients": [
            {
                "clientId": LOGIN,
                "publicClient": True,
                "redirectUris": ["http://127.0.0.1/*"],
                "standardFlowEnabled": True,
                "directAccessGrantsEnabled": False,
                "attributes": {
                    "oauth2.device.authorization.grant.enabled": "true",
                    "pkce.code.challenge.method": "S256",
                },
                "protocolMappers": [groups, roles, audience],
            },
            {"clientId": GUARD, "publicClient": False, "standardFlowEnabled": False, "secret": "unused"},
            {"clientId": TICKETS, "publicClient": False, "standardFlowEnabled": False, "secret": "unused"},
        ],
    }
