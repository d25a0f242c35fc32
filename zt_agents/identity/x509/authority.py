"""A built-in authority for certificates of agents: good for an hour at most, in one trust domain.

It issues for whoever holds it, and asks nothing: it takes the place of SPIRE where there is none, and attests nobody.

Rules:

1. The file that holds it is its owner's alone, and replaced as a whole.
2. A certificate is good for at most an hour, never longer than its authority, and names one agent of the trust domain.
3. A new authority is in the bundle before it issues, and the old one until all that it issued has expired: from when on
   each issues is written in its own certificate (``notBefore``).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zt_agents._internal.key_files import replace_whole, write_once
from zt_agents.errors import ConfigurationError
from zt_agents.identity.principals import parse_spiffe_id
from zt_agents.identity.signing.keys import read_private_file
from zt_agents.identity.x509.certificates import TrustBundle, X509Identity

LONGEST = 3600
"""Seconds for which a certificate is good at most."""
OVERLAP = 24 * 3600
"""Seconds, by default, for which a new authority is in the bundle before it issues."""
_ROOT_LASTS = timedelta(days=365)
_SKEW = timedelta(seconds=30)
"""How far clocks may differ: a certificate is good from this long before it was issued."""


@dataclass(frozen=True, slots=True)
class _Root:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def starts(self) -> float:
        return self.certificate.not_valid_before_utc.timestamp()


class CertificateAuthority:
    """Issues certificates in one trust domain. Immutable; safe to share between threads."""

    def __init__(self, trust_domain: str, roots: tuple[_Root, ...]) -> None:
        self.trust_domain = trust_domain
        self._roots = tuple(sorted(roots, key=lambda root: root.starts))

    @classmethod
    def new(cls, trust_domain: str, *, now: float) -> Self:
        """Return an authority that lives in memory until it is saved.

        Raises:
            ValueError: *trust_domain* is none.
        """
        parse_spiffe_id(f"spiffe://{trust_domain}/agent")
        return cls(trust_domain, (_root(trust_domain, starts=_moment(now) - _SKEW),))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Return the authority that was saved in the file *path*.

        Raises:
            ConfigurationError: the file is unreadable, readable by others, or holds something else.
        """
        pem = read_private_file(path)
        try:
            return cls(*_read(pem))
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
            raise ConfigurationError(f"The file {path} does not hold an authority for certificates.") from error

    def save(self, path: Path, *, replace: bool = False) -> None:
        """Write the authority, readable by its owner alone; an existing file is only overwritten to *replace* it.

        Raises:
            FileExistsError: there is such a file.
            OSError: it cannot be written.
        """
        pem = b"".join(
            root.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + root.certificate.public_bytes(serialization.Encoding.PEM)
            for root in self._roots
        )
        if not replace:
            write_once(path, pem)
            return
        replace_whole(path, pem)

    def rotated(self, *, now: float, overlap: float = OVERLAP) -> CertificateAuthority:
        """Return this authority with a new key, that issues after *overlap* seconds; what is long over is left out."""
        new = _root(self.trust_domain, starts=_moment(now + overlap))
        return CertificateAuthority(self.trust_domain, (*self._standing(now), new))

    def bundle(self, *, now: float) -> TrustBundle:
        """Return what verifies certificates of this authority: those issued until now, and those to come."""
        return TrustBundle(self.trust_domain, tuple(root.certificate for root in self._standing(now)))

    def issue(self, spiffe_id: str, *, now: float, ttl: float = LONGEST) -> X509Identity:
        """Return a new key with a certificate for *spiffe_id*, good for *ttl* seconds, at most an hour.

        Raises:
            ValueError: *spiffe_id* is none of this trust domain, or *ttl* is not from 1 to 3600.
            ConfigurationError: the authority itself is not valid now.
        """
        if parse_spiffe_id(spiffe_id)[0] != self.trust_domain:
            raise ValueError(f"this authority is for the trust domain {self.trust_domain!r}")
        if not 1 <= ttl <= LONGEST:
            raise ValueError(f"a certificate is good for 1 to {LONGEST} seconds")
        started = [root for root in self._standing(now) if root.starts <= now]
        if not started:
            text = "The authority is not valid now: it has expired, or the clock is wrong."
            raise ConfigurationError(text, hint="Run: zt-agents certs ca --rotate")
        root, key = started[-1], ec.generate_private_key(ec.SECP256R1())
        ends = min(_moment(now + ttl), root.certificate.not_valid_after_utc)
        signer = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        usage = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
        builder = _builder(key, root.certificate.subject, _moment(now) - _SKEW, ends)
        certificate = (
            builder.subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "zt_agents")]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(_uri(spiffe_id), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False)
            .sign(root.key, SHA256())
        )
        return X509Identity.of((certificate,), key)

    def _standing(self, now: float) -> tuple[_Root, ...]:
        """Return the roots that have not expired, less those that were followed more than a certificate's life ago."""
        follows = [root.starts for root in self._roots[1:]]
        return tuple(
            root
            for root, next_starts in zip(self._roots, [*follows, float("inf")], strict=True)
            if root.certificate.not_valid_after_utc > _moment(now)
            and now < next_starts + LONGEST + _SKEW.total_seconds()
        )

    def __repr__(self) -> str:
        return f"CertificateAuthority({self.trust_domain!r})"

    def __reduce__(self) -> str:
        raise TypeError("an authority holds private keys and cannot be pickled")


_KEY_BEGINS = b"-----BEGIN PRIVATE KEY-----"


def _read(pem: bytes) -> tuple[str, tuple[_Root, ...]]:
    certificates = x509.load_pem_x509_certificates(pem)
    keys = [_key(block) for block in pem.split(_KEY_BEGINS)[1:]]
    roots = tuple(_Root(*each) for each in zip(certificates, keys, strict=True))
    (domain,) = {_domain(root.certificate) for root in roots}
    if any(root.certificate.public_key() != root.key.public_key() for root in roots):
        raise ValueError("keys and certificates do not belong together")
    return domain, roots


def _key(block: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(_KEY_BEGINS + block, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("an authority's key is on the curve P-256")  # noqa: TRY004 - as for all else in the file
    return key


def _root(trust_domain: str, *, starts: datetime) -> _Root:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "zt_agents"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain[:40]} {secrets.token_hex(4)}"),
        ]
    )
    certificate = (
        _builder(key, name, starts, starts + _ROOT_LASTS)
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_uri(f"spiffe://{trust_domain}"), critical=False)
        .sign(key, SHA256())
    )
    return _Root(certificate, key)


def _builder(
    key: ec.EllipticCurvePrivateKey, issuer: x509.Name, starts: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(ends)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _uri(uri: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def _domain(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return parse_spiffe_id(f"{uri}/agent")[0]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
