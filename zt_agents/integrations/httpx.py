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
3. Outside of a governed call there is no token, and no request.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zt_agents._internal.clock import Clock, system_clock
from zt_agents._internal.optional import require
from zt_agents._internal.origins import is_loopback, origin_of
from zt_agents.credentials.dpop import prove
from zt_agents.errors import ConfigurationError, CredentialError
from zt_agents.identity import SigningKey
from zt_agents.permit import current_call

if TYPE_CHECKING:
    import httpx
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
        certificate_thumbprint: str = "",
        clock: Clock = system_clock,
    ) -> None:
        """Name the service.

        Args:
            audience: its URI, as the policy names it for the tool.
            origin: scheme, host and port where it is; those of *audience* by default.
            dpop_key: binds each token to this key, and proves it with each request (RFC 9449).
            certificate_thumbprint: binds each token to the client certificate that the client connects with (RFC 8705).
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
        if dpop_key is not None and certificate_thumbprint:
            raise ConfigurationError("A call's token is bound to a key or to a certificate.")
        self._dpop_key = dpop_key
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
        key = self._dpop_key
        token = permit.token(
            audience=self._audience,
            key_thumbprint=key.thumbprint if key else "",
            certificate_thumbprint=self._certificate,
        )
        request.headers["Authorization"] = f"{'DPoP' if key else 'Bearer'} {token}"
        if key is not None:
            url = str(request.url)
            request.headers["DPoP"] = prove(key, method=request.method, url=url, token=token, now=self._clock())
        yield request
