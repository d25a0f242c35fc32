"""A process's certificate from SPIRE, by the SPIFFE Workload API. Extra: ``zt-agents[spiffe]``.

SPIRE attests who a process is before it gives a certificate: an id that comes from there is more than SPIFFE-formatted.

Rules:

1. A process says who it means to be; a certificate for somebody else is not taken, were it the only one.
2. What the Workload API sends later takes the place of what was there: certificates are renewed by SPIRE, and bundles
   with them. While it cannot be reached, the last one counts, until it expires.
3. What it no longer sends is over at once, and so is everything when it denies (SPIFFE Workload API, 4.4 and 5.2.1). It
   goes on being asked: who is registered again has a certificate again.
4. What it sent is verified by the rules of :mod:`zt_agents.identity.x509.certificates` like anything else.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from zt_agents._internal.optional import require
from zt_agents.errors import CertificateRefusedError, IdentityError
from zt_agents.identity.principals import parse_spiffe_id
from zt_agents.identity.x509.certificates import TrustBundle, X509Identity

if TYPE_CHECKING:
    from spiffe import X509Svid
    from spiffe.workloadapi.x509_context import X509Context

_AGAIN = 0.5
"""Seconds between the end of a stream and the next: the Workload API is on this machine."""


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
        errors = require("spiffe.errors", extra="spiffe", purpose="A certificate from SPIRE")
        self._lock = threading.Lock()
        self._given = threading.Event()
        self._lost, self._closed = threading.Event(), threading.Event()
        self._sent: tuple[X509Svid, TrustBundle] | None = None
        self._taken: X509Svid | None = None
        try:
            self._client = self._spiffe.WorkloadApiClient(socket)
        except errors.PySpiffeError as error:
            raise IdentityError(f"There is no Workload API for {spiffe_id}: {error}") from error
        threading.Thread(target=self._follow, name="zt-agents-spire", daemon=True).start()
        try:
            self._wait(timeout)
            self.svid()
        except BaseException:  # its thread would keep asking, for nobody
            self.close()
            raise

    def svid(self) -> X509Identity:
        """Return the certificate as it is now.

        Raises:
            IdentityError: there is none any more.
        """
        taken, _ = self._now()
        with self._lock:
            if taken is not self._taken:
                key = taken.private_key
                if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
                    raise CertificateRefusedError("weak_key", "The Workload API's key is of an unknown kind.")
                self._svid = X509Identity.of(taken.cert_chain, key)
                self._taken = taken
            return self._svid

    def bundle(self) -> TrustBundle:
        """Return the authorities of the trust domain as they are now.

        Raises:
            IdentityError: there is no certificate any more, and nobody to verify for.
        """
        return self._now()[1]

    def close(self) -> None:
        """Ask for nothing more; no certificate is given any more."""
        self._closed.set()
        self._lost.set()

    def __enter__(self) -> SpireIdentity:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, timeout: float) -> None:
        if not self._given.wait(timeout):
            text = f"The Workload API gave no certificate for {self._spiffe_id}: is SPIRE's agent there, and an entry?"
            raise IdentityError(text)

    def _now(self) -> tuple[X509Svid, TrustBundle]:
        sent = self._sent
        if sent is None or self._closed.is_set():
            raise IdentityError(f"The Workload API gives no certificate for {self._spiffe_id} any more.")
        return sent

    def _follow(self) -> None:
        while True:
            self._lost.clear()
            if self._closed.is_set():
                break
            stream = self._client.stream_x509_contexts(self._take, self._end, retry_connect=False)
            self._lost.wait()
            stream.cancel()
            self._closed.wait(_AGAIN)
        self._client.close()

    def _take(self, context: X509Context) -> None:
        domain = self._spiffe.TrustDomain(self._trust_domain)
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(domain)
        authorities = sorted(bundle.x509_authorities, key=lambda each: each.serial_number) if bundle else ()
        trusted = TrustBundle(self._trust_domain, tuple(authorities))
        ours = (each for each in context.x509_svids if str(each.spiffe_id) == self._spiffe_id)
        svid = next(ours, None)
        self._sent = None if svid is None else (svid, trusted)
        if svid is not None:
            self._given.set()

    def _end(self, error: Exception) -> None:
        if "PERMISSION_DENIED" in str(error):  # the package says it in no other way
            self._sent = None
        self._lost.set()
