"""The ``zt-agents`` command.

Exit codes: 0 all is well, 1 the command has findings, 2 it could not do its work. An error of this package
becomes a message on standard error, never a traceback. Command modules import frameworks inside their
functions, so that ``zt-agents --help`` stays quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from zt_agents.cli import agent_lifecycle as _agent_lifecycle  # noqa: F401 - its commands join those of agents
from zt_agents.cli import agent_review as _agent_review  # noqa: F401 - likewise
from zt_agents.cli import approval_stats as _approval_stats  # noqa: F401 - its command joins those of approvals
from zt_agents.cli import changes as _changes  # noqa: F401 - its command joins those of audit
from zt_agents.cli import content as _content  # noqa: F401 - likewise
from zt_agents.cli import notify as _notify  # noqa: F401 - likewise
from zt_agents.cli import proofs as _proofs  # noqa: F401 - likewise
from zt_agents.cli import segments as _segments  # noqa: F401 - likewise
from zt_agents.cli import standing as _standing  # noqa: F401 - likewise
from zt_agents.cli.agents import agents_app
from zt_agents.cli.approvals import approvals_app
from zt_agents.cli.approvers import approvers_app
from zt_agents.cli.audit import audit_app
from zt_agents.cli.certs import certs_app
from zt_agents.cli.check import check
from zt_agents.cli.commands import Commands
from zt_agents.cli.console import console
from zt_agents.cli.demo import demo
from zt_agents.cli.display import say
from zt_agents.cli.explain import explain
from zt_agents.cli.export import export
from zt_agents.cli.idp import idp_app
from zt_agents.cli.init import init
from zt_agents.cli.issuer import issuer_app
from zt_agents.cli.keys import keys_app
from zt_agents.cli.login import login, logout, whoami
from zt_agents.cli.revocations import reinstate, revocations, revoke
from zt_agents.cli.timeline import timeline

app = Commands("zt-agents", "Zero Trust for the tool calls of AI agents.", top=True)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version  # slow to load

    try:
        say(version("zt-agents"))
    except PackageNotFoundError:
        say("not installed as a package")
    raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    pass


app.command()(demo)
app.command()(init)
app.command()(check)
app.command()(explain)
app.command()(console)
app.command()(login)
app.command()(logout)
app.command()(whoami)
app.command()(revoke)
app.command()(revocations)
app.command()(reinstate)
audit_app.command()(timeline)
audit_app.command()(export)
app.add_typer(agents_app, name="agents")
app.add_typer(audit_app, name="audit")
app.add_typer(approvals_app, name="approvals")
app.add_typer(approvers_app, name="approvers")
app.add_typer(keys_app, name="keys")
app.add_typer(issuer_app, name="issuer")
app.add_typer(idp_app, name="idp")
app.add_typer(certs_app, name="certs")


def main() -> None:
    """Run the command line."""
    app()
