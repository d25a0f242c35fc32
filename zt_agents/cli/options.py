"""Options that mean the same in every command that has them, and what a shell completes them with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from zt_agents.errors import ZeroTrustError


def agent_names(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield the names of agents, declared and registered, for a shell; none where the policy cannot be read."""
    from zt_agents.policy.document import read_file  # loads YAML
    from zt_agents.stores.sqlite_agents import SqliteAgentStore

    policy = ctx.params.get("policy") or DEFAULT_POLICY
    try:
        declared = read_file(policy).data.get("agents")
        registered = SqliteAgentStore.beside(policy).registered()
    except ZeroTrustError:
        return
    names = {*(declared if isinstance(declared, Mapping) else ()), *(agent.name for agent in registered)}
    # What a shell inserts it may run: a name that no policy could have is not for it.
    yield from sorted(name for name in names if _NAME.fullmatch(str(name)) and str(name).startswith(incomplete))


_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def again(command: str, *, policy: Path, store: Path | None = None) -> str:
    """Return *command* as it is to be typed, about the same policy and store as the one that says so."""
    said = [command]
    if policy != DEFAULT_POLICY:
        said.append(f"--policy {shlex.quote(str(policy))}")
    if store is not None:
        said.append(f"--store {shlex.quote(str(store))}")
    return " ".join(said)


DEFAULT_POLICY = Path("zt-agents.yaml")
PolicyOption = Annotated[Path, typer.Option("--policy", metavar="FILE", help="The policy file.")]
LogOption = Annotated[
    Path | None, typer.Option("--log", envvar="ZT_AGENTS_AUDIT", help="The audit log, if not the policy's.")
]
ByOption = Annotated[str | None, typer.Option("--by", help="Who does it; os:LOGIN if left out.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
