"""Asks an identity provider for tokens, as a program that is known there.

Rules:

1. A client proves itself by a signature of its own key, for this provider and 60 seconds (RFC 7523, section 3), or is
   public and proves nothing. There are no client secrets.
2. What is refused is said with the provider's error code; neither its text nor anything that was sent goes further.
3. An answer is of the type that was asked for, or it is none.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zt_agents._internal.hidden import Hidden
from zt_agents.errors import IdentityProviderError
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.jws import MAX_TOKEN_CHARS
from zt_agents.identity.signing.keys import SigningKey

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type, RFC 8693, section 3
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_TTL = 60


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider gave."""

    access_token: Hidden[str]
    expires_in: int
    """Seconds."""
    id_token: Hidden[str] = Hidden("")
    refresh_token: Hidden[str] = Hidden("")


class OAuthClient:
    """One client of one provider. Safe to share between threads."""

    def __init__(self, provider: IdentityProvider, client_id: str, *, key: SigningKey | None = None) -> None:
        self.provider = provider
        self.client_id = client_id
        self._key = key

    def grant(self, grant_type: str, form: Mapping[str, str], *, now: float) -> Tokens:
        """Return the tokens for one grant (RFC 6749, section 5.1).

        Raises:
            IdentityProviderError: they are refused, or cannot be had; ``.error`` is the provider's code.
        """
        body = self.post("token_endpoint", {"grant_type": grant_type, **form}, now=now)
        kind, access, life = body.get("token_type"), body.get("access_token"), body.get("expires_in", 60)
        texts = {name: body.get(name, "") for name in ("id_token", "refresh_token")}
        good = isinstance(kind, str) and kind.lower() == "bearer" and isinstance(access, str) and bool(access)
        good = good and type(life) is int and life >= 0
        if not good or not all(isinstance(each, str) and len(each) <= MAX_TOKEN_CHARS for each in texts.values()):
            raise IdentityProviderError("The identity provider gave no token of the usual type.", error="answer")
        return Tokens(Hidden(str(access)), life, **{name: Hidden(text) for name, text in texts.items()})

    def credentials(self, *, now: float) -> Tokens:
        """Return tokens of the client's own (RFC 6749, section 4.4): no human is behind them."""
        return self.grant("client_credentials", {}, now=now)

    def exchange(self, subject_token: str, *, audience: str, scopes: Iterable[str] = (), now: float) -> Tokens:
        """Return an access token for *audience* on behalf of whom *subject_token* is for (RFC 8693, section 2.1)."""
        form = {
            "subject_token": subject_token,
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": ACCESS_TOKEN,
            "audience": audience,
        }
        if scope := " ".join(scopes):
            form["scope"] = scope
        return self.grant(EXCHANGE, form, now=now)

    def refresh(self, refresh_token: str, *, now: float) -> Tokens:
        """Return new tokens for the same login (RFC 6749, section 6)."""
        return self.grant("refresh_token", {"refresh_token": refresh_token}, now=now)

    def post(self, endpoint: str, form: Mapping[str, str], *, now: float) -> dict[str, Any]:
        """Return the good answer of an endpoint that wants to know the client, or raise IdentityProviderError."""
        document = self.provider.document()
        sent = {"client_id": self.client_id, **form}
        if self._key is not None:
            sent |= {"client_assertion_type": _ASSERTION, "client_assertion": self._assertion(self._key, now)}
        answer = self.provider.http.ask("POST", document.address(endpoint), form=sent)
        if not answer.good:
            raise IdentityProviderError(f"The identity provider refuses: {answer.error}.", error=answer.error)
        return answer.body.reveal()

    def _assertion(self, key: SigningKey, now: float) -> str:
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.provider.terms.issuer,  # the issuer alone: no other provider can use it (RFC 7523bis)
            "jti": uuid.uuid4().hex,
            "iat": int(now),
            "exp": int(now) + _ASSERTION_TTL,
        }
        return jws.sign("JWT", key, claims)
