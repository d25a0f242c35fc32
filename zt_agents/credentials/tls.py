"""Mutual TLS between tools and their back ends: each end names whom it expects by SPIFFE ID.

::

    context = client_context(me, expects="spiffe://acme.example/service/tickets")
    with httpx.Client(verify=context) as http: ...

    context = server_context(me, admits=["spiffe://acme.example/agent/helpdesk"])
    server.socket = context.wrap_socket(server.socket, server_side=True)      # http.server; asyncio: ssl=context

Rules:

1. TLS 1.3 and nothing older; nothing is resumed, so each connection shows its certificate anew.
2. Both ends have a certificate. OpenSSL verifies that the peer holds the key of its certificate; who the peer is, is
   verified at the end of the handshake, before a byte of the application is read or written
   (:func:`~zt_agents.identity.x509.certificates.verify_peer`, against the bundle as it is then).
3. Who is not named is refused. An empty list admits nobody. Names of hosts count for nothing: SPIFFE has none.
4. A key is in no file in the clear: ``ssl`` takes keys from files only, so one is encrypted with a password that is
   used once, and the file, its owner's alone, is gone when ``ssl`` has read it.

A connection outlives its certificates: who is refused tomorrow may go on with one that was opened today. Servers end
connections after a while, and a call token is verified with each request.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
import tempfile
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from zt_agents._internal.clock import Clock, system_clock
from zt_agents.errors import CertificateRefusedError, IdentityError
from zt_agents.identity.principals import parse_spiffe_id
from zt_agents.identity.x509.certificates import X509Identity, verify_peer
from zt_agents.identity.x509.workload import WorkloadIdentity


def certificate_thumbprint(certificate: bytes) -> str:
    """Return the ``x5t#S256`` of a certificate (DER): base64url of its SHA-256, without padding (RFC 8705, 3.1)."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()


def client_context(identity: WorkloadIdentity, *, expects: str, clock: Clock = system_clock) -> ssl.SSLContext:
    """Return a context for connections to the one service *expects*, a SPIFFE ID.

    Raises:
        ValueError: *expects* is no SPIFFE ID.
        IdentityError: there is no certificate.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, identity, [expects], clock)


def server_context(
    identity: WorkloadIdentity, *, admits: Collection[str], clock: Clock = system_clock
) -> ssl.SSLContext:
    """Return a context for connections from the agents and services *admits*, SPIFFE IDs.

    Raises:
        ValueError: one of them is no SPIFFE ID.
        IdentityError: there is no certificate.
    """
    if isinstance(admits, str):
        raise ValueError("who is admitted is a list of SPIFFE IDs")  # noqa: TRY004 - as for every other bad value
    return _context(ssl.PROTOCOL_TLS_SERVER, identity, admits, clock)


def peer_certificate(connection: ssl.SSLSocket | ssl.SSLObject) -> bytes:
    """Return the peer's certificate (DER) of a connection that was let in.

    Raises:
        CertificateRefusedError: the peer has none, or was not verified here.
    """
    certificate = connection.getpeercert(binary_form=True)
    if not isinstance(connection, _Socket | _Object) or certificate is None:
        raise CertificateRefusedError("missing", "The peer's certificate was not verified.")
    return certificate


class _Verifying(ssl.SSLContext):
    """A context whose sockets know whom they expect."""

    identity: WorkloadIdentity
    admits: frozenset[str]
    clock: Clock
    _lock: threading.Lock
    _shown: X509Identity | None = None
    _trusted: bytes = b""

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        if not options.get("do_handshake_on_connect", True) or len(args) > 2:
            raise ValueError("the handshake cannot be put off: it is where the peer is verified")
        try:
            self.refresh()
        except IdentityError as error:
            if not options.get("server_side") or not args:
                raise
            args[0].close()
            text = "there is no certificate for this end now"
            raise ssl.SSLError(1, text) from error  # a server that accepts connections goes on with the next
        return super().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        self.refresh()
        return super().wrap_bio(*args, **options)

    def refresh(self) -> None:
        """Take up what was renewed since the last connection."""
        shown, bundle = self.identity.svid(), self.identity.bundle()
        with self._lock:
            if shown is not self._shown:
                _load(self, shown)
                self._shown = shown
            if bundle.pem != self._trusted:  # OpenSSL forgets none; admit() goes by the bundle as it is
                self.load_verify_locations(cadata=bundle.pem.decode())
                self._trusted = bundle.pem

    def admit(self, connection: ssl.SSLSocket | ssl.SSLObject) -> None:
        """Verify who is at the other end.

        Raises:
            ssl.SSLCertVerificationError: none of those who are expected. It is what callers of ``ssl`` know.
        """
        try:
            self._verify(_chain(connection))
        except CertificateRefusedError as error:
            raise ssl.SSLCertVerificationError(1, f"{error.message} [{error.reason}]") from error

    def _verify(self, chain: Sequence[bytes]) -> None:
        found = verify_peer(chain, self.identity.bundle(), now=self.clock())
        if found not in self.admits:
            raise CertificateRefusedError("peer", f"The peer is {found}, who is not expected here.")


class _Socket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        assert isinstance(self.context, _Verifying)
        try:
            self.context.admit(self)
        except BaseException:  # whatever went wrong, the peer is not admitted: nothing is read from it or written to it
            self.close()
            raise


class _Object(ssl.SSLObject):
    _admitted = False

    def do_handshake(self) -> None:
        super().do_handshake()
        assert isinstance(self.context, _Verifying)
        self.context.admit(self)
        self._admitted = True

    def read(self, *args: Any) -> Any:
        self._check()
        return super().read(*args)

    def write(self, data: Any) -> int:
        self._check()
        return super().write(data)

    def _check(self) -> None:
        if not self._admitted:  # OpenSSL would do the handshake by itself, and nobody would look
            raise ssl.SSLError("the handshake comes first")


def _context(kind: int, identity: WorkloadIdentity, admits: Collection[str], clock: Clock) -> _Verifying:
    for each in admits:
        parse_spiffe_id(each)
    context = _Verifying(kind)
    context.sslsocket_class = _Socket
    context.sslobject_class = _Object
    context.identity, context.admits, context.clock = identity, frozenset(admits), clock
    context._lock = threading.Lock()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET
    if kind == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    context.refresh()
    return context


def _load(context: ssl.SSLContext, identity: X509Identity) -> None:
    password = secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="zt-agents-") as folder:
        path = Path(folder) / "identity.pem"
        path.touch(mode=0o600)
        path.write_bytes(identity.key_pem(password.encode()) + identity.chain_pem)
        context.load_cert_chain(path, password=password)


def _chain(connection: Any) -> list[bytes]:
    """Return the chain (DER) that the peer sent."""
    # Public since Python 3.13; before that it is there on the object underneath.
    holder = connection if hasattr(connection, "get_unverified_chain") else connection._sslobj
    chain = holder.get_unverified_chain() or ()
    return [each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in chain]
