"""A call's token in an HTTP request, and the answer to one that is not good.

Rules:

1. The token comes in ``Authorization``, once, as ``Bearer`` (RFC 6750) or with a proof as ``DPoP`` (RFC 9449, 7.1).
   A token that is bound to a key is refused as ``Bearer``; one that is bound to nothing has no use for a proof.
2. The URL that a proof is for is put together from the service's own address: never from what a request calls it.
3. A refusal is 401 with its reason, and ``WWW-Authenticate``; 503 if it is not the token's fault. It holds nothing of
   the token, the arguments, or what they should have been.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from zt_agents._internal.hidden import Hidden
from zt_agents.credentials.dpop import Proof
from zt_agents.errors import CallTokenError, CallTokenReason

_PROOF_REASONS = {CallTokenReason.DPOP_MISSING, CallTokenReason.DPOP_WRONG}
_RETRY_SECONDS = "5"


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request presents."""

    token: Hidden[str | None]
    proof: Proof | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a request is answered with."""

    status: int
    headers: dict[str, str]
    body: dict[str, str]
    """To be written as JSON."""


def presented(method: str, path: str, headers: Iterable[tuple[bytes, bytes]], *, origin: str) -> Presented:
    """Return what a request presents; nothing is verified by that.

    Args:
        method: of the request.
        path: its path, percent-encoded, without the query.
        headers: lower-case names and values.
        origin: scheme, host and port by which clients know the service, such as ``https://tickets.acme.example``.

    Raises:
        CallTokenError: it presents a token in a way that is not one way (``malformed``, ``dpop_wrong``).
    """
    given = [(name, value) for name, value in headers if name in (b"authorization", b"dpop")]
    credentials = [value for name, value in given if name == b"authorization"]
    proofs = [value for name, value in given if name == b"dpop"]
    if not credentials:
        return Presented(Hidden(None), None)
    scheme, _, token = _text(credentials[0]).partition(" ")
    if len(credentials) > 1:
        _refuse(CallTokenReason.MALFORMED, "The request has more than one Authorization.")
    if scheme.lower() == "bearer":
        return Presented(Hidden(token), None)
    if scheme.lower() != "dpop":
        return Presented(Hidden(None), None)
    if len(proofs) != 1:
        reason = CallTokenReason.DPOP_WRONG if proofs else CallTokenReason.DPOP_MISSING
        _refuse(reason, "The request needs one DPoP proof.")
    return Presented(Hidden(token), Proof(_text(proofs[0]), method, f"{origin}{path}"))


def refusal(error: CallTokenError) -> Refusal:
    """Return the answer to a request whose token was refused."""
    body = {"error": "invalid_token", "reason": str(error.reason), "error_description": error.message}
    headers = {"Cache-Control": "no-store"}
    if error.reason is CallTokenReason.UNAVAILABLE:
        body["error"] = "temporarily_unavailable"
        return Refusal(503, {**headers, "Retry-After": _RETRY_SECONDS}, body)
    scheme = "Bearer"
    if error.reason in _PROOF_REASONS:
        scheme, body["error"] = 'DPoP algs="ES256 EdDSA",', "invalid_dpop_proof"
    if error.reason is CallTokenReason.MISSING:  # who brought nothing is told only what to bring (RFC 6750, 3.1)
        challenge = scheme
    else:
        challenge = f'{scheme} error="{body["error"]}", error_description="{error.message}"'
    return Refusal(401, {**headers, "WWW-Authenticate": challenge}, body)


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" ")


def _refuse(reason: CallTokenReason, text: str) -> NoReturn:
    raise CallTokenError(reason, text)
