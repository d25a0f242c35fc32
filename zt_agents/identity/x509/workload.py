"""Where a process has its certificate from: the built-in authority, files, or SPIRE.

All are asked for every connection, and answer from memory while what they hold is good.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from zt_agents._internal.clock import Clock, system_clock
from zt_agents.errors import ConfigurationError
from zt_agents.identity.signing.keys import read_private_file
from zt_agents.identity.x509.authority import LONGEST, CertificateAuthority
from zt_agents.identity.x509.certificates import TrustBundle, X509Identity


class WorkloadIdentity(Protocol):
    """Who this process is, in TLS. Its methods are called from any thread."""

    def svid(self) -> X509Identity:
        """Return the certificate and key that are good now.

        Raises:
            IdentityError: there is none.
        """
        ...

    def bundle(self) -> TrustBundle:
        """Return the authorities by which peers are verified now."""
        ...


class IssuedIdentity:
    """The certificate of one agent or service by the built-in authority, renewed when half of its life is over.

    A process that holds the authority can be anybody in its trust domain: this is for tests, and for a process that is
    trusted with that. Others get a :class:`FiledIdentity`, or one from SPIRE.
    """

    def __init__(
        self, authority: CertificateAuthority, spiffe_id: str, *, ttl: float = LONGEST, clock: Clock = system_clock
    ) -> None:
        """See :meth:`CertificateAuthority.issue`.

        Raises:
            ValueError: *spiffe_id* is not of the authority's trust domain, or *ttl* is not from 1 to 3600 seconds.
        """
        self._authority = authority
        self._spiffe_id = spiffe_id
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        self._issue(clock())

    def svid(self) -> X509Identity:
        now = self._clock()
        with self._lock:
            if not self._svid.issued_at <= now < self._renew_at:
                self._issue(now)
            return self._svid

    def bundle(self) -> TrustBundle:
        return self._authority.bundle(now=self._clock())

    def _issue(self, now: float) -> None:
        self._svid = self._authority.issue(self._spiffe_id, now=now, ttl=self._ttl)
        self._renew_at = now + self._ttl / 2


class FiledIdentity:
    """A key with its certificate, and a bundle, in files that ``zt-agents certs issue`` makes anew from time to time.

    The files are read again when they have changed. Key and certificate are in one file, so that they always match.
    """

    def __init__(self, trust_domain: str, *, identity: Path, bundle: Path) -> None:
        """Read the files.

        Raises:
            ConfigurationError: one cannot be read, or others can read the key.
            CertificateRefusedError: key and certificate do not belong together.
        """
        self._trust_domain = trust_domain
        self._identity, self._bundle = identity, bundle
        self._lock = threading.Lock()
        self._stamps: list[tuple[int, int]] = []
        self._read()

    def svid(self) -> X509Identity:
        return self._read()[0]

    def bundle(self) -> TrustBundle:
        return self._read()[1]

    def _read(self) -> tuple[X509Identity, TrustBundle]:
        with self._lock:
            try:
                found = [path.stat() for path in (self._identity, self._bundle)]
                stamps = [(each.st_ino, each.st_mtime_ns) for each in found]
                if stamps != self._stamps:
                    pem = read_private_file(self._identity)
                    svid = X509Identity.of(x509.load_pem_x509_certificates(pem), _private_key(pem))
                    self._held = svid, TrustBundle.from_pem(self._trust_domain, self._bundle.read_bytes())
                    self._stamps = stamps
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"{self._identity} or {self._bundle} could not be read.") from error
            return self._held


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("a certificate's key is an elliptic-curve or an RSA key")  # noqa: TRY004 - as for all else
    return key
