"""An agent as a client of the identity provider: registered there by itself, known by a key of its own.

::

    registration = register(provider, "helpdesk", key, initial_access_token=token)

Rules:

1. The client proves itself by its key (``private_key_jwt``); no client secret is asked for, and one that is given is
   thrown away (RFC 7591, section 3.2.1).
2. What the provider registered has to be what was asked for: it may change things (RFC 7591, section 3.2.1).
3. The registration and the key are files that their owner alone can read; neither is ever overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from zt_agents._internal.hidden import Hidden
from zt_agents._internal.key_files import write_once
from zt_agents.errors import ConfigurationError, IdentityProviderError
from zt_agents.identity.provider.oauth_client import EXCHANGE, OAuthClient
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.provider.terms import checked_address, stays_here
from zt_agents.identity.signing.keys import SigningKey, read_private_file

CLIENT_CREDENTIALS = "client_credentials"
GRANTS = (CLIENT_CREDENTIALS, EXCHANGE)
"""What an agent may ask for: tokens of its own, and tokens on behalf of its user."""
_AUTHENTICATION = "private_key_jwt"


@dataclass(frozen=True, slots=True)
class Registration:
    """An agent's client at one provider."""

    issuer: str
    client_id: str
    address: str = ""
    """Where it can be changed and deleted (RFC 7592), or an empty text."""
    access_token: Hidden[str] = Hidden("")
    """For that."""

    def save(self, path: Path) -> None:
        """Write it to the new file *path*.

        Raises:
            ConfigurationError: there is one, or it cannot be written.
        """
        document = {
            "version": 1,
            "issuer": self.issuer,
            "client_id": self.client_id,
            "address": self.address,
            "access_token": self.access_token.reveal(),
        }
        try:
            write_once(path, orjson.dumps(document))
        except OSError as error:
            raise ConfigurationError(f"The registration cannot be written to {path}: {error.strerror}.") from error

    @classmethod
    def read(cls, path: Path) -> Registration:
        """Return the registration in *path*.

        Raises:
            ConfigurationError: there is none, or others can read it.
        """
        content = read_private_file(path)
        try:
            document: dict[str, Any] = orjson.loads(content)
            version = document.pop("version")
            token = Hidden(document.pop("access_token", ""))
            registration = cls(**document, access_token=token)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigurationError(f"{path} is no registration.") from error
        texts = (*document.values(), token.reveal())
        if version != 1 or not all(isinstance(text, str) for text in texts):
            raise ConfigurationError(f"{path} is no registration.")
        return registration


def agent_client(provider: IdentityProvider, folder: Path, agent: str) -> OAuthClient:
    """Return the client that *agent* is, by its files in *folder*.

    Raises:
        ConfigurationError: it is not registered, or with another provider.
    """
    path = folder / f"{agent}.json"
    if not path.exists():
        raise ConfigurationError(
            f"Agent {agent!r} is not registered with the identity provider.",
            hint=f"Run: zt-agents idp register {agent}",
        )
    registration = Registration.read(path)
    if registration.issuer != provider.terms.issuer:
        raise ConfigurationError(f"Agent {agent!r} is registered with another identity provider.")
    return OAuthClient(provider, registration.client_id, key=SigningKey.from_file(folder / f"{agent}.pem"))


def register(
    provider: IdentityProvider,
    agent: str,
    key: SigningKey,
    *,
    initial_access_token: str = "",
    software_statement: str = "",
    grants: Iterable[str] = GRANTS,
    scope: str = "",
) -> Registration:
    """Register *agent* as a client that proves itself by *key* (RFC 7591, section 3.1).

    Args:
        initial_access_token: that the provider's administrator handed out, where registration is not open.
        software_statement: that vouches for the program, where the provider wants one.
        grants: what it may ask for.
        scope: that it may ask for, separated by spaces.

    Raises:
        IdentityProviderError: the provider refuses, or registered something else.
    """
    wanted = sorted(set(grants))
    asked: dict[str, Any] = {
        "client_name": agent,
        "token_endpoint_auth_method": _AUTHENTICATION,
        "token_endpoint_auth_signing_alg": key.algorithm,
        "grant_types": wanted,
        "response_types": [],
        "redirect_uris": [],
        "jwks": {"keys": [key.jwk]},
    }
    asked |= {"scope": scope} if scope else {}
    asked |= {"software_statement": software_statement} if software_statement else {}
    headers = {"Authorization": f"Bearer {initial_access_token}"} if initial_access_token else {}
    address = provider.document().address("registration_endpoint")
    answer = provider.http.ask("POST", address, json=asked, headers=headers)
    if not answer.good:
        raise IdentityProviderError(f"The identity provider refuses to register: {answer.error}.", error=answer.error)
    body = answer.body.reveal()
    given, method = body.get("client_id"), body.get("token_endpoint_auth_method")
    granted = body.get("grant_types", [])
    if not isinstance(given, str) or not given or method != _AUTHENTICATION or not isinstance(granted, list):
        raise IdentityProviderError("The identity provider registered something else than was asked.", error="answer")
    if missing := [grant for grant in wanted if grant not in granted]:
        raise IdentityProviderError(
            f"The identity provider registered the client without {', '.join(missing)}.", error="grant_types"
        )
    return Registration(provider.terms.issuer, given, **_where(body, provider))


def unregister(provider: IdentityProvider, registration: Registration) -> None:
    """Delete a client (RFC 7592, section 2.3), or raise IdentityProviderError."""
    if not registration.address:
        raise IdentityProviderError("The identity provider did not say how clients are deleted.", error="no_endpoint")
    headers = {"Authorization": f"Bearer {registration.access_token.reveal()}"}
    answer = provider.http.ask("DELETE", registration.address, headers=headers)
    if not answer.good:
        raise IdentityProviderError(f"The identity provider refuses: {answer.error}.", error=answer.error)


def _where(body: dict[str, Any], provider: IdentityProvider) -> dict[str, Any]:
    address, token = body.get("registration_client_uri"), body.get("registration_access_token")
    if not isinstance(address, str) or not isinstance(token, str):
        return {}
    here = stays_here(urlsplit(provider.terms.issuer).hostname or "")
    try:
        return {"address": checked_address(address, what="the address", loopback=here), "access_token": Hidden(token)}
    except ValueError:
        return {}


def make_folder(folder: Path) -> None:
    """Make *folder*, which its owner alone can read, where it is not there.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"The folder {folder} cannot be made: {os.strerror(error.errno or 0)}.") from error
