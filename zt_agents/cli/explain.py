"""``zt-agents explain``: what would be decided about one call, and why, rule by rule. Nothing is run or recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.identity.principals import User
from zt_agents.provenance.labels import DataClass, Integrity

_T = TypeVar("_T")
_E = TypeVar("_E", Integrity, DataClass)


def explain(
    agent: Annotated[str, typer.Option(help="Name of the agent that acts.")],
    user: Annotated[str, typer.Option(help="Id of the user it acts for.")],
    tool: Annotated[str, typer.Option(help="Name of the tool.")],
    args: Annotated[str, typer.Option(help="The arguments, as a JSON object.")] = "{}",
    group: Annotated[list[str] | None, typer.Option(help="A group of the user; may be repeated.")] = None,
    policy_file: Annotated[Path, typer.Option("--policy", help="The policy file.")] = Path("zt-agents.yaml"),
    intent: Annotated[str, typer.Option(help="What the user asked for.")] = "",
    seen: Annotated[
        str, typer.Option(metavar="INTEGRITY/DATA_CLASS", help="Label of what the session has seen before.")
    ] = "user/public",
    time: Annotated[str | None, typer.Option(help="When, in RFC 3339 form; now if left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print each rule about one call, with what held and what did not.

    Exit code 0 whatever the decision; 2 when the question makes no sense.
    """
    from zt_agents.policy.loader import load_policy

    lock = ToolLock.read(lock_path(policy_file))
    policy = load_policy(policy_file, parameters=lock.parameters)
    arguments = _arguments(args)
    call = ToolCall(
        tool=tool,
        spec=_known("tool", tool, policy.tools),
        arguments=arguments,
        agent=_known("agent", agent, policy.agents),
        user=User(user, groups=tuple(group or ())),
        session_id="explain",
        intent=intent,
        label=_label(seen),
        time=_seconds(time),
        environment=policy.environment,
    )
