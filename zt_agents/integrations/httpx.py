"""Requests of a tool's body that carry the credential of its call (httpx).

::

    client = httpx.Client(auth=CallAuth(audience="https://tickets.acme.example"))

    @tool
    def update_ticket(ticket_id: int, status: str) -> str:
        return client.patch(f"https://tickets.acme.example/tickets/{ticket_id}", json={"status": status}).text

Rules:

1. Each request has a token of its own, which is good once.
2. A token goes to its service and nowhere else, whatever URL the body was talked into, or redirected to; over
   ``https``, or within this machine.
3. Within this machine it goes there directly: where a client would ask a proxy instead, such as that of ``HTTP_PROXY``,
   there is no request. Over ``https`` a proxy passes on what it cannot read.
4. Outside of a governed call there is no token, and no request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zt_agents._internal.clock import Clock, system_clock
from zt_agents._internal.optional import require
from zt_agents._internal.origins import is_loopback, origin_of
from zt_agents.credentials.dpop import prove
from zt_agents.credentials.tls import certificate_thumbprint as thumbprint_of
from zt_agents.errors import ConfigurationError, CredentialError
from zt_agents.identity import SigningKey
from zt_agents.permit import Permit, current_call

if TYPE_CHECKING:
    import httpx

    from zt_agents.identity.x509.workload import WorkloadIdentity
else:
    httpx = require("httpx", extra="services", purpose="CallAuth")


class CallAuth(httpx.Auth):
    """Adds the CallToken of the governed call in whose body a request is made. Works with both clients of httpx."""

    def __init__(
        self,
        *,
        audience: str,
        origin: str = "",
        dpop_key: SigningKey | None = None,
        certificate_thumbprint: str | Callable[[], str] = "",
        certificate: WorkloadIdentity | None = None,
        clock: Clock = system_clock,
    ) -> None:
        """Name the service.

        Args:
            audience: its URI, as the policy names it for the tool.
            origin: scheme, host and port where it is; those of *audience* by default.
            dpop_key: binds each token to this key, and proves it with each request (RFC 9449).
            certificate_thumbprint: binds each token to the client certificate that the client connects with (RFC 8705);
                a function is asked for each token.
            certificate: the same, where the client's certificate is renewed from time to time: give what
                :func:`~zt_agents.credentials.tls.client_context` was given. Each request has a connection of its own
                then, because one that was opened earlier may have shown an earlier certificate.
            clock: seconds since the epoch.

        Raises:
            ConfigurationError: *origin* is not one to which a token may go, or a token would be bound to two things.
        """
        self._audience = audience
        self._origin = origin_of(origin or audience)
        parts = urlsplit(self._origin)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            text = f"A call's token goes over https, or within this machine: {origin or audience!r} is neither."
            raise ConfigurationError(text, hint="Name where the service is: CallAuth(audience=..., origin=...).")
        if sum(map(bool, (dpop_key, certificate_thumbprint, certificate))) > 1:
            raise ConfigurationError("A call's token is bound to a key or to a certificate.")
        self._direct = (parts.hostname, parts.port or 80) if parts.scheme == "http" else None
        self._dpop_key = dpop_key
        self._renewed = certificate is not None
        if certificate is not None:
            certificate_thumbprint = _thumbprint(certificate)
        self._certificate = certificate_thumbprint
        self._clock = clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add a new token to *request*.

        Raises:
            CredentialError: there is no governed call here, the request goes elsewhere, or the tool may have no token
                for this service.
        """
        permit = current_call()
        if permit is None:
            text = "There is no governed call here, so there is no token for this request."
            raise CredentialError(text, hint="Make the request in the body of a guarded tool.")
        if origin_of(str(request.url)) != self._origin:
            text = f"The token is for {self._origin}, and the request goes elsewhere."
            raise CredentialError(text, hint="If the service has another address: CallAuth(..., origin=...).")
        bound_to = self._bound_to()
        self._add(request, permit, bound_to)
        answer = yield request
        if self._renewed and answer.status_code == 401 and self._bound_to() != bound_to:
            self._add(request, permit, self._bound_to())  # it was renewed before the connection was opened
            yield request

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._direct is not None:
            told = request.extensions.get("trace")

            def trace(event: str, info: Mapping[str, Any]) -> None:
                self._refuse_proxy(event, info)
                if told is not None:
                    told(event, info)

            request.extensions = {**request.extensions, "trace": trace}
        yield from super().sync_auth_flow(request)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if self._direct is not None:
            told = request.extensions.get("trace")

            async def trace(event: str, info: Mapping[str, Any]) -> None:
                self._refuse_proxy(event, info)
                if told is not None:
                    await told(event, info)

            request.extensions = {**request.extensions, "trace": trace}
        flow = self.auth_flow(request)
        sent = next(flow)
        while True:
            answer = yield sent
            try:
                sent = flow.send(answer)
            except StopIteration:
                return

    def _refuse_proxy(self, event: str, info: Mapping[str, Any]) -> None:
        """Refuse to send the token to anybody but the service itself, before a byte of the request is."""
        if event == "socks.connect_tcp.started":
            direct = False
        elif event.endswith(".send_request_headers.started"):
            sent = info["request"]  # to a proxy: its address, and the service's where the path is
            carries = any(name.lower() == b"authorization" for name, _ in sent.headers)  # a redirect's does not
            direct = not carries or (sent.url.host.decode(), sent.url.port or 80) == self._direct
        else:
            return
        if not direct:
            text = f"The token is for {self._origin}, and the request would go to a proxy in the clear."
            raise CredentialError(text, hint="Make the client with httpx.Client(auth=..., trust_env=False).")

    def _bound_to(self) -> str:
        return self._certificate if isinstance(self._certificate, str) else self._certificate()

    def _add(self, request: httpx.Request, permit: Permit, certificate: str) -> None:
        key = self._dpop_key
        token = permit.token(
            audience=self._audience,
            key_thumbprint=key.thumbprint if key else "",
            certificate_thumbprint=certificate,
        )
        if self._renewed:
            request.headers["Connection"] = "close"
        request.headers["Authorization"] = f"{'DPoP' if key else 'Bearer'} {token}"
        if key is not None:
            url = str(request.url)
            request.headers["DPoP"] = prove(key, method=request.method, url=url, token=token, now=self._clock())


def _thumbprint(identity: WorkloadIdentity) -> Callable[[], str]:
    return lambda: thumbprint_of(identity.svid().certificate)
