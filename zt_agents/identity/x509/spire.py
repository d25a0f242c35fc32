"""A process's certificate from SPIRE, by the SPIFFE Workload API. Extra: ``zt-agents[spiffe]``.

SPIRE attests who a process is before it gives a certificate: an id that comes from there is more than SPIFFE-formatted.

Rules:

1. A process says who it means to be; a certificate for somebody else is not taken, were it the only one.
2. What the Workload API sends later takes the place of what was there: certificates are renewed by SPIRE, and bundles
   with them. While it cannot be reached, the last one counts, until it expires.
3. What it sent is verified by the rules of :mod:`zt_agents.identity.x509.certificates` like anything else.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from zt_agents._internal.optional import require
from zt_agents.errors import CertificateRefusedError, IdentityError
from zt_agents.identity.principals import parse_spiffe_id
from zt_agents.identity.x509.certificates import TrustBundle, X509Identity

if TYPE_CHECKING:
    from spiffe import X509Svid


class SpireIdentity:
    """The certificate for *spiffe_id*, streamed from the Workload API. Close it, or use it as ``with``."""

    def __init__(self, spiffe_id: str, *, socket: str | None = None, timeout: float = 10.0) -> None:
        """Wait for the first certificate.

        Args:
            spiffe_id: who this process means to be.
            socket: such as ``unix:///run/spire/agent.sock``; None is ``SPIFFE_ENDPOINT_SOCKET``.
            timeout: seconds to wait.

        Raises:
            ValueError: *spiffe_id* is none.
            MissingExtraError: the package spiffe is not installed.
            IdentityError: there is no such certificate, or no Workload API.
        """
        self._trust_domain = parse_spiffe_id(spiffe_id)[0]
        self._spiffe_id = spiffe_id
        self._spiffe = require("spiffe", extra="spiffe", purpose="A certificate from SPIRE")
        self._errors = require("spiffe.errors", extra="spiffe", purpose="A certificate from SPIRE")
        self._lock = threading.Lock()
        self._taken: X509Svid | None = None
        try:
            self._source = self._spiffe.X509Source(
                socket_path=socket, timeout_in_seconds=timeout, svid_picker=self._pick
            )
        except self._errors.PySpiffeError as error:
            raise IdentityError("The Workload API gave no certificate: is SPIRE's agent there?") from error
        try:
            self.svid()
        except BaseException:  # its thread would keep asking, for nobody
            self._source.close()
            raise

    def svid(self) -> X509Identity:
        taken = self._context().default_svid
        with self._lock:
            if taken is not self._taken:
                key = taken.private_key
                if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
                    raise CertificateRefusedError("weak_key", "The Workload API's key is of an unknown kind.")
                self._svid = X509Identity.of(taken.cert_chain, key)
                self._taken = taken
            return self._svid

    def bundle(self) -> TrustBundle:
        domain = self._spiffe.TrustDomain(self._trust_domain)
        bundle = self._context().x509_bundle_set.get_bundle_for_trust_domain(domain)
        authorities = bundle.x509_authorities if bundle is not None else ()
        return TrustBundle(self._trust_domain, tuple(sorted(authorities, key=lambda each: each.serial_number)))

    def close(self) -> None:
        """Ask for nothing more; no certificate is given any more."""
        self._source.close()

    def __enter__(self) -> SpireIdentity:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pick(self, svids: list[Any]) -> Any:
        for svid in svids:
            if str(svid.spiffe_id) == self._spiffe_id:
                return svid
        raise CertificateRefusedError("peer", f"The Workload API gives no certificate for {self._spiffe_id}.")

    def _context(self) -> Any:
        try:
            return self._source.get_x509_context()
        except self._errors.PySpiffeError as error:
            raise IdentityError("The Workload API gives no certificate any more.") from error
