"""``zt-agents keys``: signing keys, the rings of them that guards share, and those of agents and services."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.login import login
from zt_agents._internal.suggest import did_you_mean
from zt_agents.cli.commands import Commands
from zt_agents.cli.display import say, say_json, say_table
from zt_agents.cli.options import DEFAULT_POLICY, ByOption, JsonOption, PolicyOption, ReasonOption, agent_names
from zt_agents.errors import ConfigurationError
from zt_agents.identity import KeyRing, SigningKey
from zt_agents.identity.signing.key_schedule import KeyEntry, Rotation
from zt_agents.identity.signing.public_keys import ALGORITHMS, ES256

if TYPE_CHECKING:
    from zt_agents.identity.signing.key_folder import FolderKeyRing
    from zt_agents.policy import Policy
    from zt_agents.policy.signing_keys import KeysPolicy

NOT_DUE = 1
"""Exit code where nothing was rotated, since it was not time."""

keys_app = Commands("keys", "Make, list and rotate signing keys.")

AgentOption = Annotated[
    str, typer.Option("--agent", metavar="NAME", help="The keys of this agent.", autocompletion=agent_names)
]
ServiceOption = Annotated[str, typer.Option("--service", metavar="NAME", help="The keys of this service.")]


@keys_app.command()
def new(
    path: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A new file, such as signing.pem.")] = None,
    algorithm: Annotated[str, typer.Option(help="ES256 or EdDSA.")] = ES256,
    agent: AgentOption = "",
    service: ServiceOption = "",
    policy: PolicyOption = DEFAULT_POLICY,
    as_json: JsonOption = False,
) -> None:
    """Make a signing key in a file, or a ring of keys for an agent or a service; readable by its owner alone.

    Exit code 2: there are keys already, or they cannot be written.
    """
    if sum(map(bool, (path, agent, service))) != 1:
        raise typer.BadParameter("say for whom: exactly one of FILE, --agent and --service")
    if algorithm not in ALGORITHMS:
        raise typer.BadParameter(f"the algorithms are {' and '.join(ALGORITHMS)}")
    if path is not None:
        key = SigningKey.generate(algorithm)
        try:
            key.save(path)
        except OSError as error:
            raise ConfigurationError(f"The file {path} could not be written: {error.strerror}.") from error
        if as_json:
            say_json({"path": str(path), "kid": key.thumbprint})
        else:
            say(f"{path} is a new signing key, {key.thumbprint}. Whoever can read it can vouch for anybody.")
        return
    from zt_agents.identity.signing.key_folder import FolderKeyRing

    loaded, keys = _keys_of(policy)
    ring = FolderKeyRing(_client(loaded, keys, agent, service), algorithm=algorithm)
    if ring.path.exists():
        asked = f"--agent {agent}" if agent else f"--service {service}"
        hint = f"For a new one: zt-agents keys rotate {asked}"
        raise ConfigurationError(f"There are keys in {ring.path} already.", hint=hint)
    now = system_clock()
    ring.create(now, root=False)
    ((entry, _),) = ring.listed(now)
    _recorded(loaded, entry, "made", agent or service, now, by=None, why="")
    if as_json:
        say_json({"path": str(ring.path), "kid": entry.key.kid})
        return
    say(f"{ring.path} is a new ring of keys. The first is {entry.key.kid}.")
    say("Whoever can read it can act as the agent." if agent else "Whoever can read it can ask as the service.")


@keys_app.command("list")
def list_keys(
    policy: PolicyOption = DEFAULT_POLICY,
    agent: AgentOption = "",
    service: ServiceOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the keys of a ring: what each is for now, and until when."""
    loaded, keys = _keys_of(policy)
    ring, now = _ring(loaded, keys, agent, service), system_clock()
    rows = ring.listed(now)
    if as_json:
        say_json([{**entry.to_json(), "state": state} for entry, state in rows])
        return
    say_table(
        ["key", "algorithm", "state", "signs from", "verifies until"],
        [
            [
                entry.key.kid,
                entry.key.algorithm,
                state.value,
                rfc3339(entry.signs_from)[:19] + "Z",
                rfc3339(entry.verifies_until)[:19] + "Z" if entry.verifies_until else "",
            ]
            for entry, state in rows
        ],
    )
    if keys.rotate and not agent and not service:
        say(f"Each signs for {keys.rotate / 86_400:g} days; guards make the next one by themselves.")


@keys_app.command()
def rotate(
    policy: PolicyOption = DEFAULT_POLICY,
    agent: AgentOption = "",
    service: ServiceOption = "",
    at_once: Annotated[bool, typer.Option("--now", help="The new key signs at once, not after the overlap.")] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Every other key verifies no longer: somebody else may have one.")
    ] = False,
    every: Annotated[
        str, typer.Option(metavar="30d", help="Only if no key has begun to sign for so long: for a timer.")
    ] = "",
    why: ReasonOption = "",
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make another key. The others verify for as long as what they have signed is good.

    Exit code 1: --every was given, and it is not time.
    """
    loaded, keys = _keys_of(policy)
    ring, now = _ring(loaded, keys, agent, service), system_clock()
    if every and not ring.due(now, Rotation(every=_period(every), overlap=keys.overlap)):
        say_json({"rotated": False}) if as_json else say("It is not time.")
        raise typer.Exit(NOT_DUE)
    entry = ring.rotate(now, overlap=keys.overlap, at_once=at_once, withdraw=withdraw)
    _recorded(loaded, entry, "rotated", agent or service, now, by=by, why=why, withdrawn=withdraw)
    if as_json:
        say_json({"rotated": True, **entry.to_json()})
        return
    when = "from now on" if entry.signs_from <= now else f"from {rfc3339(entry.signs_from)[:19]}Z"
    say(f"{entry.key.kid} signs {when}.")
    if withdraw:
        say("Nothing that another key has signed is good any more.")


@keys_app.command()
def jwks(policy: PolicyOption = DEFAULT_POLICY, agent: AgentOption = "", service: ServiceOption = "") -> None:
    """Print the public keys as a JWK Set (RFC 7517): for services that verify calls' tokens, or for an issuer."""
    from zt_agents.credentials.call_tokens import CALL_TOKEN_TYPE

    loaded, keys = _keys_of(policy)
    ring, now = _ring(loaded, keys, agent, service), system_clock()
    rings: list[KeyRing] = [ring] if agent or service else [ring, ring.for_kind(CALL_TOKEN_TYPE)]
    say_json({"keys": [key for each in rings for key in each.jwks(now)["keys"]]})


def _keys_of(path: Path) -> tuple[Policy, KeysPolicy]:
    from zt_agents.catalog.lock import ToolLock, lock_path
    from zt_agents.policy import load_policy

    policy = load_policy(path, parameters=ToolLock.read(lock_path(path)).parameters)
    if policy.keys is None:
        text = f"The policy {path} names no folder of keys."
        raise ConfigurationError(text, hint="In the policy: keys: {rotate: 30d}")
    return policy, policy.keys


def _ring(policy: Policy, keys: KeysPolicy, agent: str, service: str) -> FolderKeyRing:
    if agent or service:
        return KeyRing.in_folder(_client(policy, keys, agent, service), algorithm=keys.algorithm)
    return KeyRing.in_folder(keys.path, algorithm=keys.algorithm, token=keys.token, create=True)


def _client(policy: Policy, keys: KeysPolicy, agent: str, service: str) -> Path:
    from zt_agents.identity.signing.key_folder import client_folder

    if agent and service:
        raise typer.BadParameter("either --agent or --service")
    if agent and agent not in policy.agents:
        text = f"No agent is called {agent!r}.{did_you_mean(agent, policy.agents)}"
        raise ConfigurationError(text, hint="They are listed by: zt-agents agents")
    try:
        return client_folder(keys.path, agent or service, service=bool(service))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _period(text: str) -> float:
    from zt_agents.policy.spelling import seconds

    if not text[:-1].isdigit() or text[-1] not in "hd" or not int(text[:-1]):
        raise typer.BadParameter("a period is written 12h or 30d")
    return seconds(text)


def _recorded(
    policy: Policy, entry: KeyEntry, what: str, whose: str, now: float, *, by: str | None, why: str, **facts: Any
) -> None:
    from zt_agents.audit import AuditLog
    from zt_agents.audit.records import change_record
    from zt_agents.stores.sqlite_audit import SqliteAuditSink

    said = {"algorithm": entry.key.algorithm, "signs_from": rfc3339(entry.signs_from), **facts}
    if whose:
        said["of"] = whose
    with AuditLog(SqliteAuditSink(policy.audit_path)) as log:
        record = change_record(f"key.{what}", entry.key.kid, by=by or f"os:{login()}", why=why, time=now, **said)
        log.append(record).wait(10.0)
