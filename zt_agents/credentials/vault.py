"""Secrets in OpenBao or HashiCorp Vault, by its HTTP API: key-value version 2, and credentials made for one call.

Sources: Vault's API documentation for ``/v1/SECRET/data/PATH`` (KV v2), ``/v1/database/creds/ROLE``,
``/v1/auth/approle/login`` and ``/v1/sys/leases/revoke``; OpenBao has the same.

Rules:

1. Nothing that a call brings is part of a request: paths are the policy's.
2. The server is verified (HTTPS); redirects and proxies of the environment are not followed, for each request carries
   the token; an answer is at most 1 MB and not compressed, its body is there within five seconds, and nothing before
   that is silent for longer.
3. What has no lease where one is expected cannot be taken back, so it is not lent; a lease where none is expected is
   given back at once.
4. The token of AppRole is kept in memory for half of its life, and dropped when it is refused.
5. A forked process has connections of its own: on a shared one, each could read the other's answer.
"""

from __future__ import annotations

import os
import ssl
import time
import weakref
from collections.abc import Mapping
from threading import Lock
from typing import Any

import orjson

from zt_agents._internal.hidden import Hidden
from zt_agents._internal.optional import require
from zt_agents.catalog.secret_specs import SecretSpec, VaultSpec
from zt_agents.credentials.secret_files import FileSecret
from zt_agents.credentials.secrets import Fetched, Withheld
from zt_agents.errors import ConfigurationError

_LARGEST = 1024 * 1024
_SECONDS = 5.0


class Vault:
    """One server, and how this process shows it who it is. Safe to use from any thread."""

    def __init__(self, spec: VaultSpec) -> None:
        """Prepare to ask the server; nothing is asked yet.

        Raises:
            MissingExtraError: httpx is not installed.
            ConfigurationError: the file of authorities cannot be used.
        """
        self._spec = spec
        self._httpx = require("httpx", extra="vault", purpose="Secrets from Vault")
        authorities = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if spec.ca_file is not None:
                authorities.load_verify_locations(cafile=spec.ca_file)
            elif spec.address.startswith("https:"):
                authorities.load_default_certs()
        except OSError as error:
            raise ConfigurationError(f"The authorities in {spec.ca_file} could not be read.") from error
        self._authorities = authorities
        self._token = Hidden("")
        self._token_until = 0.0
        self._connect()
        _opened.add(self)

    def _connect(self) -> None:
        self._lock = Lock()
        self._client = self._httpx.Client(
            base_url=self._spec.address,
            verify=self._authorities,
            timeout=_SECONDS,
            trust_env=False,
            follow_redirects=False,
        )

    def read(self, path: str) -> dict[str, Any]:
        """Return the answer to a read of *path*.

        Raises:
            Withheld: there is none.
        """
        return self._ask("GET", path)

    def revoke(self, lease_id: str) -> bool:
        """Take a lease back. Returns whether that is done, and not merely begun (``sync``)."""
        try:
            self._ask("PUT", "sys/leases/revoke", {"lease_id": lease_id, "sync": True})
        except Withheld:
            return False
        return True

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        token, remembered = self._shown()
        try:
            return self._send(method, path, body, token)
        except Withheld as withheld:
            if withheld.reason != "refused" or not remembered:
                raise
        with self._lock:
            self._token = Hidden("")  # it may have been taken back before its time: once more, with a new one
        return self._send(method, path, body, self._shown()[0])

    def _shown(self) -> tuple[str, bool]:
        """Return the token to show, and whether it is one that was remembered."""
        if self._spec.token_file is not None:
            return FileSecret(self._spec.token_file).fetch().fields.reveal()["value"], False
        with self._lock:
            if self._token and time.monotonic() < self._token_until:
                return self._token.reveal(), True
            assert self._spec.secret_id_file is not None
            secret_id = FileSecret(self._spec.secret_id_file).fetch().fields.reveal()["value"]
            login = {"role_id": self._spec.role_id, "secret_id": secret_id}
            auth = self._send("POST", f"auth/{self._spec.approle}/login", login, "", wrong="refused").get("auth")
            token, lasts = (auth.get("client_token"), auth.get("lease_duration")) if isinstance(auth, dict) else ("", 0)
            if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
                raise Withheld("malformed")
            self._token = Hidden(token)
            self._token_until = time.monotonic() + (lasts / 2 if isinstance(lasts, int) else 0)
            return token, False

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, token: str, *, wrong: str = "malformed"
    ) -> dict[str, Any]:
        headers = {"X-Vault-Request": "true", "Accept-Encoding": "identity"}
        if token:
            headers["X-Vault-Token"] = token
        if self._spec.namespace:
            headers["X-Vault-Namespace"] = self._spec.namespace
        deadline = time.monotonic() + _SECONDS
        try:
            with self._client.stream(method, f"/v1/{path}", json=body, headers=headers) as response:
                _check(response.status_code, response.headers.get("Content-Encoding", "identity"), wrong)
                content = bytearray()
                for piece in response.iter_raw():
                    content += piece
                    if len(content) > _LARGEST:
                        raise Withheld("malformed")
                    if time.monotonic() > deadline:
                        raise Withheld("unreachable")
        except (self._httpx.HTTPError, self._httpx.InvalidURL, OSError):
            raise Withheld("unreachable") from None
        return _object(bytes(content))


class VaultSecret:
    """A secret in Vault: one that lies there, or one that is made for the call."""

    def __init__(self, vault: Vault, spec: SecretSpec) -> None:
        self._vault = vault
        self._spec = spec

    def fetch(self) -> Fetched:
        answer = self._vault.read(self._spec.path)
        lease = answer.get("lease_id")
        end = (lambda: self._vault.revoke(lease)) if isinstance(lease, str) and lease else None
        if (end is not None) is not self._spec.lease:
            if end is not None:
                end()
            raise Withheld("lease")
        try:
            return Fetched(Hidden(self._fields(answer)), end)
        except Withheld:
            if end is not None:
                end()
            raise

    def _fields(self, answer: Mapping[str, Any]) -> dict[str, str]:
        data = answer.get("data")
        if isinstance(data, dict) and not self._spec.lease:
            data = data.get("data")  # KV version 2 has the version's metadata beside it
        if not isinstance(data, dict) or not data:
            raise Withheld("malformed")
        if self._spec.field:
            if self._spec.field not in data:
                raise Withheld("missing")
            data = {self._spec.field: data[self._spec.field]}
        if not all(isinstance(value, str) and value for value in data.values()):
            raise Withheld("malformed")
        return data


def _check(status: int, encoding: str, wrong: str) -> None:
    """Raise Withheld unless it is an answer; *wrong* is what a request that the server calls wrong was."""
    if status in (401, 403):
        raise Withheld("refused")
    if status == 400:
        raise Withheld(wrong)
    if status == 404:
        raise Withheld("missing")
    if status >= 500 or status == 429:
        raise Withheld("unreachable")
    if status not in (200, 204) or encoding != "identity":
        raise Withheld("malformed")


def _object(content: bytes) -> dict[str, Any]:
    if not content:
        return {}
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:  # which holds the content
        value = None
    if not isinstance(value, dict):
        raise Withheld("malformed")
    return value


_opened: weakref.WeakSet[Vault] = weakref.WeakSet()


def _after_fork() -> None:
    for vault in list(_opened):
        vault._connect()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
