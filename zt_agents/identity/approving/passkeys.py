"""Passkeys (WebAuthn level 3): an approver's own authenticator signs the answer to one request.

Rules:

1. The challenge of an answer is the hash of request, binding hash and decision. An assertion that approves one call
   approves no other, and denies none.
2. The rp id and the origin are those that the passkey was enrolled with: one of each, compared whole. A page inside a
   frame of another origin is refused.
3. The user was present and verified (PIN, fingerprint, face), at enrolment and each time.
4. Three algorithms, and a passkey's own at that. RS256 is one of them because Windows Hello has no other.
5. Attestation is not asked for and not believed: a statement that comes unasked is dropped unread.
6. Evidence is text from a browser. It is bounded, and it can be read in one way only: ASCII JSON, no name twice,
   base64url in its one form, UTF-8. An assertion's authenticator data are 37 bytes: no extension was asked for.
7. The counter advances. Only 0 after 0 may stand still: a passkey that is synced among devices has no counter they
   could share, and always says 0.
8. Nothing here remembers: which challenge is open, which count came last, and that no two approvers have enrolled one
   credential, is the part of whoever asks.

What an assertion does not prove is what the approver saw: the authenticator shows a site's name, and the page the call.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from zt_agents._internal.canonical import digest, encode
from zt_agents._internal.optional import require
from zt_agents.errors import IdentityError, TokenInvalidError

ALGORITHMS = {"ES256": -7, "EdDSA": -8, "RS256": -257}
"""Accepted, in order of preference: JOSE name and COSE number. EdDSA is Ed25519; RS256 has 2,048 to 4,096 bits."""
MAX_EVIDENCE_CHARS = 16_384
MIN_CHALLENGE_BYTES = 16
"""WebAuthn level 3, section 13.4.3."""
_MAX_CREDENTIAL_ID_BYTES = 1_023
_ASSERTED_BYTES = 37
"""Authenticator data without credential and extensions: hash of the rp id, flags, counter."""
_TIMEOUT_MS = 300_000


@dataclass(frozen=True, slots=True)
class Passkey:
    """One credential of an approver's authenticator: public values only."""

    credential_id: bytes
    public_key: bytes
    """COSE_Key (RFC 9052)."""
    algorithm: str
    """One of :data:`ALGORITHMS`."""
    rp_id: str
    """The domain that the passkey belongs to."""
    origin: str
    """The one page it answers to, such as ``https://approvals.acme.example``."""
    sign_count: int
    """The authenticator's counter when it was enrolled."""


def approval_challenge(request_id: str, binding_hash: str, approved: bool) -> bytes:
    """Return the challenge of an answer: SHA-256 over the RFC 8785 form of what is answered, and how."""
    answer = {"type": "zt-approval", "request": request_id, "binding": binding_hash, "approved": approved}
    return digest(encode(answer))


def registration_options(
    *, rp_id: str, rp_name: str, approver: str, challenge: bytes, enrolled: Iterable[Passkey] = ()
) -> dict[str, Any]:
    """Return what a page hands to ``PublicKeyCredential.parseCreationOptionsFromJSON``.

    Args:
        rp_id: domain of the page, or a parent of it.
        rp_name: what the authenticator calls it.
        approver: id of who enrols.
        challenge: random, for this enrolment only; at least 16 bytes.
        enrolled: the approver's passkeys, which the same authenticator shall not replace.
    """
    handle = digest(encode({"type": "zt-approver", "approver": approver}))
    return {
        "rp": {"id": rp_id, "name": rp_name},
        "user": {"id": _encoded(handle), "name": approver, "displayName": approver},
        "challenge": _challenge(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": number} for number in ALGORITHMS.values()],
        "timeout": _TIMEOUT_MS,
        "excludeCredentials": _descriptors(enrolled, rp_id),
        "authenticatorSelection": {"residentKey": "preferred", "userVerification": "required"},
        "attestation": "none",
    }


def verify_registration(evidence: str, *, challenge: bytes, rp_id: str, origin: str) -> Passkey:
    """Return the passkey that *evidence* enrols.

    Args:
        evidence: ``JSON.stringify(credential)`` of what ``navigator.credentials.create`` gave.
        challenge: the one of this enrolment.
        rp_id: as the options said it.
        origin: of the page that enrols, scheme and port included.

    Raises:
        TokenInvalidError: it does not, or it is malformed.
    """
    webauthn = _webauthn()
    credential_id, response = _credential(evidence, "clientDataJSON", "attestationObject")
    _check_client_data(response["clientDataJSON"], "webauthn.create", challenge, origin)
    with _refusing("registration"):
        attested = webauthn.helpers.parse_cbor(response["attestationObject"])
        response["attestationObject"] = webauthn.helpers.encode_cbor(
            {"fmt": "none", "attStmt": {}, "authData": attested["authData"]}
        )
        verified = webauthn.verify_registration_response(
            credential=_document(credential_id, response),
            expected_challenge=challenge,
            expected_rp_id=rp_id,
            expected_origin=origin,
            require_user_verification=True,
            supported_pub_key_algs=list(ALGORITHMS.values()),
        )
        if verified.credential_id != credential_id:
            raise TokenInvalidError("The passkey's registration names two credentials.")
        return Passkey(
            credential_id=credential_id,
            public_key=verified.credential_public_key,
            algorithm=_algorithm(webauthn, verified.credential_public_key),
            rp_id=rp_id,
            origin=origin,
            sign_count=verified.sign_count,
        )


def assertion_options(*, rp_id: str, challenge: bytes, passkeys: Iterable[Passkey]) -> dict[str, Any]:
    """Return what a page hands to ``PublicKeyCredential.parseRequestOptionsFromJSON``.

    Args:
        rp_id: domain of the page, or a parent of it.
        challenge: :func:`approval_challenge`, or for a login at least 16 random bytes.
        passkeys: those that may answer; none lets the user choose among those that the authenticator keeps for *rp_id*.
    """
    return {
        "challenge": _challenge(challenge),
        "timeout": _TIMEOUT_MS,
        "rpId": rp_id,
        "allowCredentials": _descriptors(passkeys, rp_id),
        "userVerification": "required",
    }


def asserted_credential(evidence: str) -> bytes:
    """Return the id of the credential that *evidence* claims to come from, so that its passkey can be looked up.

    Raises:
        TokenInvalidError: the evidence is malformed.
    """
    return _credential(evidence)[0]


def verify_assertion(passkey: Passkey, evidence: str, *, challenge: bytes, sign_count: int) -> int:
    """Return the authenticator's counter, where *evidence* is an assertion of *passkey* over *challenge*.

    Args:
        passkey: as it was enrolled.
        evidence: ``JSON.stringify(credential)`` of what ``navigator.credentials.get`` gave.
        challenge: what must have been signed.
        sign_count: the last count before this assertion. To verify an assertion that was accepted before once more,
            give the passkey's own count at enrolment.

    Raises:
        TokenInvalidError: it is not, it is malformed, or the counter did not advance.
    """
    webauthn = _webauthn()
    credential_id, response = _credential(evidence, "clientDataJSON", "authenticatorData", "signature")
    if credential_id != passkey.credential_id:
        raise TokenInvalidError("The assertion comes from another passkey.")
    _check_client_data(response["clientDataJSON"], "webauthn.get", challenge, passkey.origin)
    if len(response["authenticatorData"]) != _ASSERTED_BYTES:
        raise TokenInvalidError("The passkey's assertion says more or less than it was asked for.")
    with _refusing("assertion"):
        if _algorithm(webauthn, passkey.public_key) != passkey.algorithm:
            raise TokenInvalidError("The passkey's key is not of the algorithm it was enrolled with.")
        verified = webauthn.verify_authentication_response(
            credential=_document(credential_id, response),
            expected_challenge=challenge,
            expected_rp_id=passkey.rp_id,
            expected_origin=passkey.origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=0,  # compared below, where it can be told apart from a forgery
            require_user_verification=True,
        )
        count: int = verified.new_sign_count
    if (count or sign_count) and count <= sign_count:
        raise TokenInvalidError("The passkey's counter did not advance: its key may have been copied.")
    return count


def _webauthn() -> ModuleType:
    return require("webauthn", extra="approvals", purpose="a passkey")


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    try:
        yield
    except IdentityError:
        raise
    except Exception as error:  # the library walks what a browser sent: whatever it trips over is refused
        raise TokenInvalidError(f"The passkey's {what} could not be verified.") from error


def _credential(evidence: str, *members: str) -> tuple[bytes, dict[str, bytes]]:
    """Return the credential's id and these members of its response. What else there is says nothing that we ask."""
    if not isinstance(evidence, str) or len(evidence) > MAX_EVIDENCE_CHARS or not evidence.isascii():
        raise TokenInvalidError(f"The passkey's evidence is at most {MAX_EVIDENCE_CHARS} characters of ASCII.")
    match _object(evidence):
        case {"type": "public-key", "id": str(name), "rawId": str(raw), "response": dict(response)} if name == raw:
            credential_id = _decoded(name)
            if 1 <= len(credential_id) <= _MAX_CREDENTIAL_ID_BYTES:
                return credential_id, {member: _decoded(response.get(member)) for member in members}
    raise TokenInvalidError("The passkey's evidence is not a credential.")


def _document(credential_id: bytes, response: dict[str, bytes]) -> dict[str, Any]:
    """Return the credential anew, from what was checked and nothing else."""
    name = _encoded(credential_id)
    members = {member: _encoded(value) for member, value in response.items()}
    return {"type": "public-key", "id": name, "rawId": name, "response": members}


def _check_client_data(raw: bytes, kind: str, challenge: bytes, origin: str) -> None:
    try:
        data = _object(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise TokenInvalidError("The passkey's client data are not UTF-8.") from error
    # Members that we don't know are allowed: browsers add some in order that nobody relies on there being none.
    for member, expected in (("type", kind), ("challenge", _challenge(challenge)), ("origin", origin)):
        if data.get(member) != expected:
            raise TokenInvalidError(f"The passkey's evidence was made for another {member}.")
    if data.get("crossOrigin", False) is not False or "topOrigin" in data:
        raise TokenInvalidError("The passkey's evidence was made inside a frame of another origin.")


def _algorithm(webauthn: ModuleType, public_key: bytes) -> str:
    """Return the algorithm of *public_key*, where its name, type, curve and size fit together."""
    decoded = webauthn.helpers.decode_credential_public_key(public_key)
    match decoded.alg, webauthn.helpers.decoded_public_key_to_cryptography(decoded):
        case -7, ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return "ES256"
        case -8, ed25519.Ed25519PublicKey():
            return "EdDSA"
        case -257, rsa.RSAPublicKey(key_size=bits) if 2_048 <= bits <= 4_096:
            return "RS256"
    raise TokenInvalidError("The passkey's key is of no algorithm that is accepted.")


def _object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_once, parse_constant=_no_such_number)
    except (ValueError, RecursionError) as error:
        raise TokenInvalidError("The passkey's evidence is not JSON, or can be read in two ways.") from error
    if not isinstance(document, dict):
        raise TokenInvalidError("The passkey's evidence is not an object.")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return document


def _no_such_number(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _descriptors(passkeys: Iterable[Passkey], rp_id: str) -> list[dict[str, str]]:
    return [
        {"type": "public-key", "id": _encoded(passkey.credential_id)} for passkey in passkeys if passkey.rp_id == rp_id
    ]


def _challenge(challenge: bytes) -> str:
    if len(challenge) < MIN_CHALLENGE_BYTES:
        raise ValueError(f"a challenge has at least {MIN_CHALLENGE_BYTES} bytes")
    return _encoded(challenge)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: object) -> bytes:
    """Return the bytes of base64url *text*, of which no other text decodes to them."""
    if isinstance(text, str):
        with suppress(ValueError):
            raw = base64.urlsafe_b64decode(f"{text}===")
            if _encoded(raw) == text:
                return raw
    raise TokenInvalidError("The passkey's evidence is not base64url in its one form.")
