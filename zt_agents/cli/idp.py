"""``zt-agents idp``: agents as clients of the identity provider."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents.cli.commands import Commands
from zt_agents.cli.display import say, say_json
from zt_agents.cli.login import asking, provider_terms
from zt_agents.cli.options import DEFAULT_POLICY, JsonOption, PolicyOption, agent_names
from zt_agents.errors import ConfigurationError
from zt_agents.identity import SigningKey
from zt_agents.identity.provider.client_registration import (
    CLIENT_CREDENTIALS,
    GRANTS,
    Registration,
    agent_client,
    make_folder,
    register,
    unregister,
)
from zt_agents.identity.provider.terms import ProviderTerms

idp_app = Commands("idp", "Register agents with the identity provider.")

AgentArgument = Annotated[
    str, typer.Argument(metavar="AGENT", help="Name of an agent in the policy.", autocompletion=agent_names)
]


@idp_app.command("register")
def register_agent(
    agent: AgentArgument,
    policy: PolicyOption = DEFAULT_POLICY,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="The initial access token, where registration is not open.")
    ] = None,
    statement_file: Annotated[
        Path | None, typer.Option("--software-statement", help="A file with a software statement.")
    ] = None,
    no_exchange: Annotated[
        bool, typer.Option("--no-exchange", help="Ask for tokens of its own only, not on behalf of users.")
    ] = False,
    scope: Annotated[str, typer.Option(help="What it may ask for, separated by spaces.")] = "",
) -> None:
    """Register an agent as a client with a key of its own, which is made here and stays here."""
    terms = provider_terms(policy, agent)
    path, key_path = _files(terms, agent)
    if path.exists():
        raise ConfigurationError(f"{path} is there: the agent is registered.", hint=f"zt-agents idp unregister {agent}")
    make_folder(path.parent)
    if not key_path.exists():  # one that an earlier attempt left was registered nowhere
        SigningKey.generate().save(key_path)
    with asking(terms) as provider:
        registration = register(
            provider,
            agent,
            SigningKey.from_file(key_path),
            initial_access_token=_text(token_file),
            software_statement=_text(statement_file),
            grants=(CLIENT_CREDENTIALS,) if no_exchange else GRANTS,
            scope=scope,
        )
    registration.save(path)
    say(f"{agent} is the client {registration.client_id} of {terms.issuer}. Its key is {key_path}.")


@idp_app.command()
def check(
    agent: AgentArgument,
    policy: PolicyOption = DEFAULT_POLICY,
    as_json: JsonOption = False,
) -> None:
    """Have the identity provider give an agent a token of its own, and throw it away."""
    terms, now = provider_terms(policy, agent), system_clock()
    with asking(terms) as provider:
        client = agent_client(provider, terms.registrations, agent)
        tokens = client.credentials(now=now)
    until = rfc3339(now + tokens.expires_in)
    if as_json:
        say_json({"agent": agent, "client_id": client.client_id, "issuer": terms.issuer, "token_good_until": until})
        return
    say(f"{terms.issuer} knows {agent} as {client.client_id}.")


@idp_app.command("unregister")
def unregister_agent(agent: AgentArgument, policy: PolicyOption = DEFAULT_POLICY) -> None:
    """Delete an agent's client at the identity provider, and its key here."""
    terms = provider_terms(policy, agent)
    path, key_path = _files(terms, agent)
    with asking(terms) as provider:
        unregister(provider, Registration.read(path))
    path.unlink()
    key_path.unlink(missing_ok=True)
    say(f"{agent} is no client any more.")


def _files(terms: ProviderTerms, agent: str) -> tuple[Path, Path]:
    """Return where an agent's registration is, and its key."""
    return terms.registrations / f"{agent}.json", terms.registrations / f"{agent}.pem"


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read.") from error
