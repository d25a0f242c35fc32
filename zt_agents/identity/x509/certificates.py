"""Certificates of agents and services, in the shape of SPIFFE's X.509-SVID, and who a certificate proves to be there.

A peer is who its certificate names, and nobody else. Rules (X.509-SVID 4 and 5; RFC 5280):

1. The leaf names exactly one URI, which is a SPIFFE ID with a path, in the trust domain of the bundle.
2. It is of no authority: neither cA nor keyCertSign nor cRLSign; and it may sign (digitalSignature), as client and as
   server.
3. Its key is on P-256 or P-384, or RSA of at least 2048 bits.
4. It is valid now; validity is the only way in which a certificate ends, so it is short.
5. It leads to an authority of the bundle, each certificate of the way signed and allowed to sign the next, and nothing
   critical in any of them is unknown. pyca/cryptography's verifier says so; it refuses constraints on names of a URI.
6. At most four certificates are looked at.

A SPIFFE ID in a certificate of the built-in authority is SPIFFE-formatted: whoever may ask the authority says who runs
where. Only SPIRE attests that.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from zt_agents.errors import CertificateRefusedError
from zt_agents.identity.principals import parse_spiffe_id

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_LONGEST_CHAIN = 4
_WEAKEST_RSA = 2048
_PEM, _DER = serialization.Encoding.PEM, serialization.Encoding.DER
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What pyca/cryptography raises for certificates that are none."""
_BOTH = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True, slots=True)
class X509Identity:
    """What one agent or service shows of itself in TLS."""

    spiffe_id: str
    chain: tuple[x509.Certificate, ...]
    """Its certificate, then those between it and an authority, if any."""
    key: PrivateKey = field(repr=False)

    @classmethod
    def of(cls, chain: Sequence[x509.Certificate], key: PrivateKey) -> Self:
        """Return the identity that *chain* names and *key* proves.

        Raises:
            CertificateRefusedError: it names nobody, or the key is not the certificate's.
        """
        try:
            if not chain or chain[0].public_key() != key.public_key():
                raise CertificateRefusedError("key", "The private key is not that of the certificate.")
            return cls(_named(chain[0]), tuple(chain), key)
        except _UNREADABLE as error:
            raise CertificateRefusedError("malformed", "The certificate could not be read.") from error

    @property
    def issued_at(self) -> float:
        """Seconds since the epoch from which on it is good."""
        return self.chain[0].not_valid_before_utc.timestamp()

    @property
    def expires_at(self) -> float:
        """Seconds since the epoch."""
        return self.chain[0].not_valid_after_utc.timestamp()

    @property
    def certificate(self) -> bytes:
        """The certificate itself (DER)."""
        return self.chain[0].public_bytes(_DER)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(each.public_bytes(_PEM) for each in self.chain)

    def key_pem(self, password: bytes | None = None) -> bytes:
        """Return the private key (PKCS#8), encrypted if there is a *password*."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password)
        return self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, encryption)

    def __reduce__(self) -> str:
        raise TypeError("an identity holds a private key and cannot be pickled")


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The authorities of one trust domain."""

    trust_domain: str
    authorities: tuple[x509.Certificate, ...]

    @classmethod
    def from_pem(cls, trust_domain: str, pem: bytes) -> Self:
        """Return the bundle of *trust_domain* that *pem* holds.

        Raises:
            CertificateRefusedError: it holds no certificate, or something else.
        """
        try:
            return cls(trust_domain, tuple(x509.load_pem_x509_certificates(pem)))
        except _UNREADABLE as error:
            raise CertificateRefusedError("malformed", "The bundle is not a list of PEM certificates.") from error

    @property
    def pem(self) -> bytes:
        return b"".join(each.public_bytes(_PEM) for each in self.authorities)

    def spiffe(self) -> dict[str, Any]:
        """Return the bundle as SPIFFE writes it: a JWK set of ``x5c`` (SPIFFE Trust Domain and Bundle, 4)."""
        return {"keys": [_bundle_key(each) for each in self.authorities]}


@dataclass(frozen=True, slots=True)
class Chain:
    """What a file of certificates says; it proves nothing by itself."""

    spiffe_id: str
    starts_at: float
    """Seconds since the epoch."""
    ends_at: float
    der: tuple[bytes, ...]


def read_chain(pem: bytes) -> Chain:
    """Return the chain in *pem*.

    Raises:
        CertificateRefusedError: there is none, or it names nobody.
    """
    try:
        chain = x509.load_pem_x509_certificates(pem)
        svid, der = chain[0], tuple(each.public_bytes(_DER) for each in chain)
        return Chain(
            _named(svid), svid.not_valid_before_utc.timestamp(), svid.not_valid_after_utc.timestamp(), der
        )
    except _UNREADABLE as error:
        raise CertificateRefusedError("malformed", "The certificate could not be read.") from error


def verify_peer(chain: Sequence[bytes], bundle: TrustBundle, *, now: float) -> str:
    """Return the SPIFFE ID that *chain* (DER, the peer's own certificate first) proves.

    That the peer holds the key is for TLS to show.

    Raises:
        CertificateRefusedError: it proves nothing; the error's ``reason`` says in one word which rule it breaks.
    """
    if not chain:
        raise CertificateRefusedError("missing", "The peer has no certificate.")
    if len(chain) > _LONGEST_CHAIN:
        raise CertificateRefusedError("chain", "The peer's chain is longer than any that is accepted.")
    try:
        leaf, *between = (x509.load_der_x509_certificate(each) for each in chain)
        _check_leaf(leaf, now)
        spiffe_id = _named(leaf)
    except _UNREADABLE as error:  # keys and extensions are parsed when they are looked at
        raise CertificateRefusedError("malformed", "The peer's certificate could not be read.") from error
    if parse_spiffe_id(spiffe_id)[0] != bundle.trust_domain:
        raise CertificateRefusedError("trust_domain", f"The peer is not of the trust domain {bundle.trust_domain!r}.")
    if not bundle.authorities:
        raise CertificateRefusedError("authority", "The bundle has no authority.")
    moment = datetime.fromtimestamp(now, UTC)
    verifier = PolicyBuilder().store(Store(list(bundle.authorities))).time(moment).build_client_verifier()
    try:
        verifier.verify(leaf, between)
    except (VerificationError, *_UNREADABLE) as error:
        text = "No authority of the bundle stands behind the peer's certificate, or not for this."
        raise CertificateRefusedError("authority", text) from error
    return spiffe_id


def _check_leaf(leaf: x509.Certificate, now: float) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    if moment < leaf.not_valid_before_utc:
        raise CertificateRefusedError("not_yet_valid", "The peer's certificate is not valid yet.")
    if moment >= leaf.not_valid_after_utc:
        raise CertificateRefusedError("expired", "The peer's certificate has expired.")
    key = leaf.public_key()
    strong = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    if not strong and not (isinstance(key, rsa.RSAPublicKey) and key.key_size >= _WEAKEST_RSA):
        raise CertificateRefusedError("weak_key", "The key of the peer's certificate is weak or of an unknown kind.")
    constraints = _extension(leaf, x509.BasicConstraints)
    usage = _extension(leaf, x509.KeyUsage)
    if (constraints is not None and constraints.ca) or (usage is not None and (usage.key_cert_sign or usage.crl_sign)):
        raise CertificateRefusedError("authority_as_peer", "An authority's certificate names no peer.")
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if usage is None or not usage.digital_signature or purposes is None or not _BOTH.issubset(purposes):
        raise CertificateRefusedError("usage", "The peer's certificate is not for signing in TLS.")


def _named(leaf: x509.Certificate) -> str:
    """Return the one SPIFFE ID that *leaf* names."""
    names = _extension(leaf, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if len(uris) != 1:
        raise CertificateRefusedError("identity", "The certificate does not name exactly one URI.")
    try:
        parse_spiffe_id(uris[0])
    except ValueError as error:
        raise CertificateRefusedError("identity", "The certificate's URI is no SPIFFE ID of a peer.") from error
    return uris[0]


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _bundle_key(authority: x509.Certificate) -> dict[str, Any]:
    key, x5c = authority.public_key(), [base64.b64encode(authority.public_bytes(_DER)).decode()]
    if isinstance(key, ec.EllipticCurvePublicKey):
        numbers, size = key.public_numbers(), (key.curve.key_size + 7) // 8
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}[key.curve.name]
        members = {"kty": "EC", "crv": curve, "x": _b64(numbers.x, size), "y": _b64(numbers.y, size)}
    elif isinstance(key, rsa.RSAPublicKey):
        public = key.public_numbers()
        members = {"kty": "RSA", "n": _b64(public.n, (public.n.bit_length() + 7) // 8), "e": _b64(public.e, 3)}
    else:
        raise CertificateRefusedError("weak_key", "An authority's key is of an unknown kind.")
    return {**members, "use": "x509-svid", "x5c": x5c}


def _b64(number: int, size: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()
