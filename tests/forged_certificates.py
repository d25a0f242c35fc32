"""Certificates with one thing wrong each, made by hand: the built-in authority makes none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

NOW = 1_800_000_000.0
AGENT = "spiffe://acme.example/agent/helpdesk"
BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


@dataclass(frozen=True)
class Recipe:
    """How a certificate is made. The default is a good one."""

    uris: Sequence[str] = (AGENT,)
    dns: Sequence[str] = ()
    key: Any = None
    starts: float = -60
    ends: float = 600
    ca: bool | None = False
    path_length: int | None = None
    signs: bool = True
    signs_certificates: bool = False
    signs_lists: bool = False
    purposes: Sequence[ObjectIdentifier] = BOTH
    unknown: bool | None = None
    """Whether an unknown extension is critical; None adds none."""
    name: str = "somebody"

    def but(self, **changes: Any) -> Recipe:
        return replace(self, **changes)


AUTHORITY = Recipe(
    uris=("spiffe://acme.example",),
    ca=True,
    signs=False,
    signs_certificates=True,
    purposes=(),
    ends=86_400,
    name="root",
)


@dataclass(frozen=True)
class Made:
    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.certificate.public_bytes(Encoding.DER)


def make(recipe: Recipe, by: Made | None = None) -> Made:
    key = recipe.key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, recipe.name)])
    signer = by.key if by else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment(recipe.starts))
        .not_valid_after(moment(recipe.ends))
        .add_extension(
            x509.KeyUsage(
                recipe.signs, False, False, False, False, recipe.signs_certificates, recipe.signs_lists, False, False
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if recipe.ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(recipe.ca, recipe.path_length), critical=True)
    names = [*map(x509.UniformResourceIdentifier, recipe.uris), *map(x509.DNSName, recipe.dns)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if recipe.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(recipe.purposes), critical=False)
    if recipe.unknown is not None:
        builder = builder.add_extension(UNKNOWN, critical=recipe.unknown)
    return Made(builder.sign(signer, SHA256()), key)


def weak_keys() -> dict[str, Any]:
    return {
        "rsa 1024": rsa.generate_private_key(65537, 1024),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "dsa": dsa.generate_private_key(1024),
    }
