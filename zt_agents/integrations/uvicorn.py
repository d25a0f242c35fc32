"""The client certificate of a connection to uvicorn, for services that bind tokens to it. uvicorn has no word for it.

::

    config = uvicorn.Config(
        CallTokenMiddleware(app, verifier=verifier, tool="update_ticket", ..., certificate=client_certificate),
        http=ClientCertificates,
        ssl_context_factory=lambda config, default: server_context(me, admits=[HELPDESK]),
    )
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from zt_agents.credentials.tls import peer_certificate
from zt_agents.errors import CertificateRefusedError

_KEY = "zt_agents.client_certificate"


class ClientCertificates(H11Protocol):
    """uvicorn's protocol for HTTP/1.1, that remembers the certificate which a connection was let in with."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        # Requests of one connection share this; it is copied into the scope of each.
        self.app_state = {**self.app_state, _KEY: peer_certificate(connection) if connection is not None else None}


def client_certificate(scope: Mapping[str, Any]) -> bytes | None:
    """Return the client certificate (DER) of the connection that a request came by, or None where it has none.

    Raises:
        CertificateRefusedError: the server does not run with :class:`ClientCertificates`.
    """
    state = scope.get("state", {})
    if _KEY not in state:
        raise CertificateRefusedError("missing", "The server does not say which certificate a connection has.")
    certificate: bytes | None = state[_KEY]
    return certificate
