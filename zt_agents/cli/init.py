"""``zt-agents init``: propose a policy file for tools that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from zt_agents.catalog.guess import guess
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.cli.check import describe_sources
from zt_agents.cli.display import say, say_table
from zt_agents.cli.draft import Draft, draft_policy
from zt_agents.errors import ConfigurationError, PolicyFileError
from zt_agents.identity.principals import parse_spiffe_id

_AGENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def init(
    source: Annotated[str, typer.Argument(metavar="MODULE:ATTRIBUTE", help="A list of tools, or a toolkit.")],
    out: Annotated[Path, typer.Option(help="The policy file to write.")] = Path("zt-agents.yaml"),
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a policy file and its lock file.")
    ] = False,
    agent: Annotated[str, typer.Option(help="Name of the agent that uses these tools.")] = "assistant",
    owner: Annotated[str, typer.Option(help="Mail of the human who answers for it.")] = "owner@example.org",
    trust_domain: Annotated[
        str, typer.Option(help="Domain under which agents get their ids.")
    ] = "example.org",
) -> None:
    """Read tools and propose a policy file: tiers guessed and marked for review, nothing granted."""
    lock_file = lock_path(out)
    existing = [str(path) for path in (out, lock_file) if path.exists()]
    if existing and not force:
        raise ConfigurationError(
            f"{' and '.join(existing)} would be overwritten; nothing was written.",
            hint="Choose another file with --out, or overwrite with --force.",
        )
    _check_names(agent, trust_domain)
    from zt_agents.policy.loader import parse_policy  # loads pydantic and CEL

    descriptions = describe_sources([source])
    if not descriptions:
        raise ConfigurationError(f"{source!r} holds no tools; nothing was written.")
    proposals = [(description, guess(description)) for description in descriptions]
    lock = ToolLock().accept(descriptions)
    text = draft_policy(Draft(source, trust_domain, agent, owner), proposals)
    try:
        parse_policy(text, name=out.name, parameters=lock.parameters)
    except PolicyFileError as error:
        lines = ["", *text.splitlines()]
        problems = [
            f"  {each.message} It would stand in: {lines[each.line].strip()}" for each in error.problems
        ]
        raise ConfigurationError(
            "\n".join(["A policy for these tools would not load, so nothing was written.", *problems])
        ) from error
    try:
        with out.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"The policy file {str(out)!r} cannot be written: {error}.") from error
    lock.write(lock_file)

    say_table(
        ("tool", "tier", "effects", "why"),
        [
            (each.name, proposal.tier, ", ".join(sorted(proposal.effects)), proposal.why)
            for each, proposal in proposals
        ],
    )
    say(f"\nWrote {out} and {lock_file}. Nothing is granted yet.")
    say("Look at every line marked `review`, add rules, then run: zt-agents check")


def _check_names(agent: str, trust_domain: str) -> None:
    if not _AGENT_NAME.fullmatch(agent):
        raise ConfigurationError(
            f"{agent!r} cannot name an agent.", hint="Use letters, digits, '.', '-' and '_'."
        )
    try:
        parse_spiffe_id(f"spiffe://{trust_domain}/agent/{agent}")
    except ValueError as error:
        raise ConfigurationError(f"{trust_domain!r} cannot be a trust domain: {error}.") from error
