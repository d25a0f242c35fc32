"""``zt-agents console``: the web inbox of approvals.

It holds the guard's signing key and attests what those who sign in answer: run it where only those who may read that
key can reach its memory, and put TLS in front of it for anybody on another machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zt_agents._internal.clock import system_clock
from zt_agents._internal.optional import require
from zt_agents._internal.origins import is_loopback
from zt_agents.cli.approvals import DEFAULT_STORE, StoreOption
from zt_agents.cli.approvers import DomainOption, KeyOption
from zt_agents.cli.display import say
from zt_agents.errors import ConfigurationError

if TYPE_CHECKING:
    from zt_agents.policy import Policy

_EXTRA, _PURPOSE = "console", "The console"


def console(
    key: KeyOption,
    trust_domain: DomainOption,
    store: StoreOption = DEFAULT_STORE,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65_535)] = 8765,
    origin: Annotated[str, typer.Option(help="Where browsers find it; by default http://localhost:PORT.")] = "",
    proxy: Annotated[str, typer.Option(metavar="ADDRESS", help="Of the proxy that may say who a client is.")] = "",
    policy: Annotated[
        Path | None, typer.Option(help="The policy: evaluates conditions on approvers, and tells where it has changed.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="The audit log: shows what came of similar calls.")] = None,
) -> None:
    """Serve the inbox of approvals to browsers, until interrupted."""
    for module in ("fastapi", "uvicorn", "jinja2", "python_multipart", "webauthn"):
        require(module, extra=_EXTRA, purpose=_PURPOSE)
    from zt_agents.config import answer_proofs, approver_authority
    from zt_agents.console.logins import Logins
    from zt_agents.console.origins import Origin
    from zt_agents.console.parts import Console
    from zt_agents.console.passkeys import Passkeys
    from zt_agents.console.prompt import listening
    from zt_agents.console.server import server
    from zt_agents.desk import AnswerDesk
    from zt_agents.identity import SigningKey
    from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
    from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry
    from zt_agents.stores.sqlite_audit import SqliteAuditSink

    public = Origin.parse(origin or f"http://localhost:{port}")
    if not public.secure and not is_loopback(host):
        raise ConfigurationError(
            f"Others would reach {host} unencrypted.", hint="Listen on 127.0.0.1 behind a TLS proxy, and give --origin."
        )
    signing_key = SigningKey.from_file(key)
    known = _policy(policy) if policy else None
    registry = SqliteApproverRegistry.beside(store, create=True)
    proofs = answer_proofs(trust_domain, signing_key, registry, known.eligibility if known else None)
    authority = approver_authority(trust_domain, signing_key)
    desk = AnswerDesk(store=SqliteApprovalStore(store), proofs=proofs, clock=system_clock)
    assert proofs.factors is not None
    passkeys = Passkeys(
        factors=proofs.factors, authority=authority, registry=registry, origin=public, clock=system_clock
    )
    made = Console(
        desk=desk,
        logins=Logins(authority, registry, public),
        passkeys=passkeys,
        origin=public,
        clock=system_clock,
        log=SqliteAuditSink(log, create=False) if log else None,
        policy_version=known.version if known else "",
    )
    made.inbox.warm()
    with listening(host, port) as place:
        say(f"Approvals: {public.text}  (end with Ctrl+C)")
        server(made, proxy=proxy).run([place])


def _policy(path: Path) -> Policy:
    from zt_agents.catalog.lock import ToolLock, lock_path
    from zt_agents.policy import load_policy
    from zt_agents.stores.sqlite_agents import SqliteAgentStore

    registered = SqliteAgentStore.beside(path).registered()
    return load_policy(path, parameters=ToolLock.read(lock_path(path)).parameters, registered=registered)
