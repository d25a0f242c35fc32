"""``zt-agents approvers``: who may prove that they answered.

Adding one needs the guard's signing key, which makes the credential; the file that is written is the approver's alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.display import visible
from zt_agents._internal.folding import fold
from zt_agents.approvals import CREDENTIAL, RESERVED, Enrolled
from zt_agents.cli.approvals import DEFAULT_STORE, StoreOption
from zt_agents.cli.commands import Commands
from zt_agents.cli.display import console, say, say_json, say_table
from zt_agents.errors import ConfigurationError
from zt_agents.identity import ApproverKey, SigningKey
from zt_agents.identity.approving.approvers import checked_name
from zt_agents.identity.approving.one_time_codes import OneTimeSecret, matching_step, qr_text
from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry

NOBODY = 1
"""Exit code where there is nobody of that name."""
_DAY = 86_400
_LONGEST = 3_650
_TRIES = 3
_DAYS = re.compile(r"([1-9][0-9]{0,3})d")
_PREFIXES = ("os:", "user:", "group:")

approvers_app = Commands("approvers", "Say who may approve calls, and prove that they did.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As in the policy, such as dana@acme.example.")]
KeyOption = Annotated[Path, typer.Option("--signing-key", envvar="ZT_AGENTS_SIGNING_KEY", help="The guard's, as PEM.")]
DomainOption = Annotated[
    str, typer.Option("--trust-domain", envvar="ZT_AGENTS_TRUST_DOMAIN", help="The policy's trust domain.")
]


@approvers_app.command()
def add(
    name: NameArgument,
    key: KeyOption,
    trust_domain: DomainOption,
    group: Annotated[list[str] | None, typer.Option("--group", help="A group they are in; may be repeated.")] = None,
    valid: Annotated[str, typer.Option(help="How long the credential is good, in days.")] = "90d",
    out: Annotated[Path | None, typer.Option(help="Where it goes; NAME.approver if left out.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make a credential for one approver: a file that is theirs alone."""
    from zt_agents.config import approver_authority

    registry = SqliteApproverRegistry.beside(store, create=True)
    now = system_clock()
    own = SigningKey.generate()
    try:
        _check(name, group or (), registry)
        credential = approver_authority(trust_domain, SigningKey.from_file(key)).issue(
            name, groups=group or (), key=own, now=now, valid=_seconds(valid)
        )
    except ValueError as error:
        raise ConfigurationError(f"{visible(name, limit=80)!r} cannot be added: {error}.") from error
    made = ApproverKey(credential, own)
    path = out or Path(f"{name}.approver")
    made.save(path)
    others = len(registry.list(approver=name, kind=CREDENTIAL))
    registry.add(Enrolled(made.credential_id, name, CREDENTIAL, credential, now))
    say(f"{path} is the credential of {name}, good until {rfc3339(made.expires_at)}. Hand it over, and keep no copy.")
    if others:
        say(f"{name} has {others} more, good as before: take away what is not to count (list, remove --id).")


@approvers_app.command()
def enrol(
    name: NameArgument,
    key: KeyOption,
    trust_domain: DomainOption,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Give one approver one-time codes as a second factor. Passkeys are enrolled in the console.

    Exit code 1: no code was right.
    """
    from zt_agents.config import answer_proofs

    registry = SqliteApproverRegistry.beside(store, create=True)
    if not registry.list(approver=name, kind=CREDENTIAL):
        raise ConfigurationError(f"{visible(name, limit=80)!r} is no approver.", hint="See: zt-agents approvers list")
    factors = answer_proofs(trust_domain, SigningKey.from_file(key), registry).factors
    assert factors is not None
    secret = OneTimeSecret.generate()
    uri = secret.uri(approver=name, trust_domain=trust_domain)
    console().print(Text(qr_text(uri), style="white on black"), soft_wrap=True)
    say(f"Scan it with the authenticator app of {name}, or type the key: {secret.base32}")
    for _ in range(_TRIES):
        if matching_step(secret, typer.prompt("Code that the app shows", hide_input=True), system_clock()) is not None:
            factors.enrol(name, secret, now=system_clock())
            say(f"{name} can show one-time codes now.")
            return
        say("That is not its code.", style="yellow")
    raise typer.Exit(NOBODY)


@approvers_app.command("list")
def list_approvers(
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List credentials and second factors, oldest first."""
    kept = SqliteApproverRegistry.beside(store).list()
    if as_json:
        say_json([{"approver": e.approver, "kind": e.kind, "id": e.id, "added": rfc3339(e.added_at)} for e in kept])
        return
    say_table(("approver", "kind", "added", "id"), [(e.approver, e.kind, rfc3339(e.added_at), e.id) for e in kept])


@approvers_app.command()
def remove(
    name: NameArgument,
    identifier: Annotated[str | None, typer.Option("--id", help="One credential or factor, not all of theirs.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Take from one approver what they prove themselves with: what they approved and was not used yet is void.

    Exit code 1: they had nothing.
    """
    removed = SqliteApproverRegistry.beside(store).remove(name, now=system_clock(), enrolled_id=identifier)
    say(f"{removed} removed: credentials, second factors and what they approved in advance count alike.")
    if not removed:
        raise typer.Exit(NOBODY)


def _check(name: str, groups: Iterable[str], registry: SqliteApproverRegistry) -> None:
    """Refuse a name that is a word of the policy, or could be taken for somebody else's."""
    if any(fold(group).startswith("group:") for group in groups):
        raise ValueError("a group goes without the word that a policy puts before it")
    checked_name(name)
    if fold(name) in RESERVED or fold(name).startswith(_PREFIXES):
        raise ValueError("a policy means somebody else by it")
    for other in {enrolled.approver for enrolled in registry.list()}:
        if other != name and fold(other) == fold(name):
            raise ValueError(f"it could be taken for {other}")


def _seconds(valid: str) -> int:
    match = _DAYS.fullmatch(valid)
    if match is None or int(match[1]) > _LONGEST:
        raise typer.BadParameter(f"is written 90d; at most {_LONGEST}d", param_hint="--valid")
    return int(match[1]) * _DAY
