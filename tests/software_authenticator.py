"""A WebAuthn authenticator and its browser in software: what a security key, a phone or a laptop does in the tests.

    authenticator = SoftwareAuthenticator()
    passkey = verify_registration(authenticator.create(options), ...)
    evidence = authenticator.get(options)

Each fault that a client or an authenticator could commit is a keyword of :meth:`create` and :meth:`get`; what is then
signed has the fault in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

ORIGIN = "https://approvals.acme.example"
RP_ID = "approvals.acme.example"
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
"""Flags: user present, user verified, backup eligible, backed up, attested credential, extensions."""


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class SoftwareAuthenticator:
    """One credential, in a browser that shows the page *origin*.

    Args:
        origin: of the page.
        algorithm: ``ES256``, ``EdDSA`` or ``RS256``.
        synced: whether the passkey is shared among devices: backed up, and its counter always 0.
    """

    def __init__(self, origin: str = ORIGIN, *, algorithm: str = "ES256", synced: bool = False) -> None:
        self.origin = origin
        self.algorithm = algorithm
        self.synced = synced
        self.credential_id = os.urandom(32)
        self.user_handle = b""
        self.count = 0
        self.private: Any = _new_key(algorithm)

    @property
    def cose_key(self) -> bytes:
        return cbor2.dumps(_cose_key(self.private, self.algorithm))

    def create(self, options: dict[str, Any], *, attestation: dict[str, Any] | None = None, **faults: Any) -> str:
        """Return what ``JSON.stringify(await navigator.credentials.create(...))`` gives."""
        self.user_handle = unb64url(options["user"]["id"])
        rp_id = faults.pop("rp_id", options["rp"]["id"])
        faults.setdefault("flags", UP | UV | AT)
        key = faults.pop("cose_key", self.cose_key)
        attested = os.urandom(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + key
        data, client_data = self._made("webauthn.create", options["challenge"], rp_id, attested, faults)
        statement = attestation or {"fmt": "none", "attStmt": {}}
        attestation_object = cbor2.dumps({**statement, "authData": data})
        response = {"clientDataJSON": b64url(client_data), "attestationObject": b64url(attestation_object)}
        return self._credential({**response, "transports": ["internal"]})

    def get(self, options: dict[str, Any], **faults: Any) -> str:
        """Return what ``JSON.stringify(await navigator.credentials.get(...))`` gives."""
        allowed = [unb64url(credential["id"]) for credential in options["allowCredentials"]]
        if allowed and self.credential_id not in allowed:
            raise LookupError("NotAllowedError: the authenticator has none of these credentials")
        rp_id = faults.pop("rp_id", options["rpId"])
        faults.setdefault("flags", UP | UV)
        data, client_data = self._made("webauthn.get", options["challenge"], rp_id, b"", faults)
        signature = self.sign(data + hashlib.sha256(client_data).digest())
        response = {
            "clientDataJSON": b64url(client_data),
            "authenticatorData": b64url(data),
            "signature": b64url(signature),
            "userHandle": b64url(self.user_handle),
        }
        return self._credential(response)

    def sign(self, message: bytes) -> bytes:
        if self.algorithm == "ES256":
            return bytes(self.private.sign(message, ec.ECDSA(SHA256())))
        if self.algorithm == "EdDSA":
            return bytes(self.private.sign(message))
        return bytes(self.private.sign(message, padding.PKCS1v15(), SHA256()))

    def _made(
        self, kind: str, challenge: str, rp_id: str, attested: bytes, faults: dict[str, Any]
    ) -> tuple[bytes, bytes]:
        """Return authenticator data and client data, with the *faults* in them."""
        flags = faults.pop("flags")
        if self.synced:
            flags |= BE | BS
        else:
            self.count += 1
        count = faults.pop("count", self.count)
        tail = faults.pop("tail", b"")
        said = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        said |= faults.pop("client_data", {})
        written = faults.pop("client_data_written", None)
        assert not faults, f"no such fault: {faults}"
        data = hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + count.to_bytes(4, "big") + attested + tail
        return data, json.dumps(said, separators=(",", ":")).encode() if written is None else written

    def _credential(self, response: dict[str, Any]) -> str:
        name = b64url(self.credential_id)
        return json.dumps(
            {
                "id": name,
                "rawId": name,
                "type": "public-key",
                "authenticatorAttachment": "platform",
                "response": response,
                "clientExtensionResults": {},
            }
        )


def _new_key(algorithm: str) -> Any:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65_537, 2_048)


def _cose_key(private: Any, algorithm: str) -> dict[int, Any]:
    """Return the public key as a COSE_Key (RFC 9053, section 7; RFC 8230, section 4)."""
    public = private.public_key()
    if algorithm == "EdDSA":
        return {1: 1, 3: -8, -1: 6, -2: public.public_bytes_raw()}
    numbers = public.public_numbers()
    if algorithm == "ES256":
        return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
    return {1: 3, 3: -257, -1: numbers.n.to_bytes(numbers.n.bit_length() // 8, "big"), -2: numbers.e.to_bytes(3, "big")}
