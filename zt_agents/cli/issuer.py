"""``zt-agents issuer``: the issuer's keys and token exchange, served over HTTP.

It signs with the folder of keys that the policy names: run it where only those who may read that folder can reach its
memory, and give it TLS for anybody on another machine.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from zt_agents._internal.optional import require
from zt_agents.cli.commands import Commands
from zt_agents.cli.display import say
from zt_agents.cli.options import DEFAULT_POLICY, PolicyOption
from zt_agents.errors import ConfigurationError

_EXTRA, _PURPOSE = "issuer", "The issuer"

issuer_app = Commands("issuer", "Serve keys, and exchange tokens, over HTTP.")


@issuer_app.callback()
def _issuer() -> None:
    """Commands below this one are named, though there is one."""


@issuer_app.command()
def serve(
    policy: PolicyOption = DEFAULT_POLICY,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65_535)] = 8770,
    url: Annotated[str, typer.Option(help="Where clients find it; by default http://localhost:PORT.")] = "",
    certificate: Annotated[Path | None, typer.Option("--tls-certificate", help="A PEM file, for TLS.")] = None,
    key: Annotated[Path | None, typer.Option("--tls-key", help="A PEM file: the certificate's key.")] = None,
    unsafe_http: Annotated[
        bool, typer.Option("--unsafe-http", help="Serve other machines without TLS: tokens can be read on the way.")
    ] = False,
) -> None:
    """Serve the issuer until interrupted: its keys, and tokens for agents that prove themselves."""
    for module in ("fastapi", "uvicorn"):
        require(module, extra=_EXTRA, purpose=_PURPOSE)
    from zt_agents._internal.origins import is_loopback
    from zt_agents.console.prompt import listening
    from zt_agents.guard import Guard
    from zt_agents.issuer.app import Issuer
    from zt_agents.issuer.server import server

    if (certificate is None) != (key is None):
        raise ConfigurationError("TLS needs a certificate and its key: --tls-certificate and --tls-key.")
    if certificate is None and not is_loopback(host) and not unsafe_http:
        raise ConfigurationError(
            f"Others would reach {host} unencrypted, and whoever reads a token can use it.",
            hint="Give --tls-certificate and --tls-key, or listen on 127.0.0.1 behind a TLS proxy.",
        )
    scheme = "http" if certificate is None else "https"
    public = (url or f"{scheme}://localhost:{port}").rstrip("/")
    with Guard.from_config(policy) as guard:
        if guard.policy.keys is None:
            text = f"The policy {policy} names no folder of keys, and an issuer signs with those that guards know."
            raise ConfigurationError(text, hint="In the policy: keys: {rotate: 30d}")
        with listening(host, port) as place, closing(Issuer(guard, url=public)) as issuer:
            served = server(issuer, certificate=certificate, key=key)
            say(f"Issuer: {public}  (end with Ctrl+C)")
            served.run([place])
