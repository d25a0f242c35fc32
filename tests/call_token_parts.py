"""Tokens of calls, good ones and forged ones, and a service that verifies them at a time of the test's choosing."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jwt

from zt_agents._internal.canonical import canonical, encode
from zt_agents.credentials import CallClaims, CallTokenSigner, CallTokenVerifier
from zt_agents.credentials.call_tokens import CALL_TOKEN_TYPE, hash_of_arguments
from zt_agents.identity import SigningKey

NOW = 1_800_000_000.0
ISSUER = "spiffe://acme.example/zt-agents"
AUDIENCE = "https://tickets.acme.example"
ARGUMENTS = {"ticket_id": 5, "note": "naïve"}
ROOT = SigningKey.generate()
KEY = ROOT.derived(CALL_TOKEN_TYPE)
SIGNER = CallTokenSigner(issuer=ISSUER, keys=ROOT)
CLAIMS = CallClaims(
    issuer=ISSUER,
    audience=AUDIENCE,
    user_id="alice@acme.example",
    agents=("spiffe://acme.example/agent/research", "spiffe://acme.example/agent/helpdesk"),
    sessions=("s-2", "s-1"),
    owner="dana@acme.example",
    tool="update_ticket",
    resource="ticket/5",
    effects=("write",),
    system="tickets",
    task="task-7",
    token_id="t-1",
    args_hash=hash_of_arguments("t-1", encode(canonical(ARGUMENTS))),
    issued_at=int(NOW),
    expires_at=int(NOW) + 60,
)


def mint(**changes: Any) -> str:
    """Return the good token, or one whose claims differ by *changes*."""
    return SIGNER.mint(replace(CLAIMS, **changes), now=NOW)


def verifier(**changes: Any) -> CallTokenVerifier:
    """Return the service of the good token, or one that differs by *changes*."""
    parts: dict[str, Any] = {"keys": SIGNER.jwks(NOW), "issuer": ISSUER, "audience": AUDIENCE, "clock": lambda: NOW}
    return CallTokenVerifier(**{**parts, **changes})


def check(token: str | None, service: CallTokenVerifier | None = None, **changes: Any) -> CallClaims:
    """Verify *token* as the service of :data:`CLAIMS` does."""
    return (service or verifier()).verify(token, **{"tool": "update_ticket", "arguments": ARGUMENTS, **changes})


def claims() -> dict[str, Any]:
    """Return the claims of the good token, for a forger to change."""
    said: dict[str, Any] = jwt.decode(mint(), options={"verify_signature": False})
    return said


def header(**changes: Any) -> dict[str, Any]:
    """Return the header of the good token; None takes a member out."""
    changed = {"alg": KEY.algorithm, "kid": KEY.thumbprint, "typ": CALL_TOKEN_TYPE, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def b64(part: Mapping[str, Any] | bytes) -> str:
    """Return bytes, or JSON, as base64url."""
    raw = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(head: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes, key: SigningKey = KEY) -> str:
    """Return what a key signs if it is told to, whatever it says."""
    signing_input = f"{b64(head)}.{b64(payload)}"
    algorithm = jwt.get_algorithm_by_name(key.algorithm)
    return f"{signing_input}.{b64(algorithm.sign(signing_input.encode(), key.private))}"


def changed(**changes: Any) -> str:
    """Return a well-signed token whose claims differ by *changes*; None takes a claim out."""
    said = {name: value for name, value in {**claims(), **changes}.items() if value is not None}
    return signed(header(), said)
