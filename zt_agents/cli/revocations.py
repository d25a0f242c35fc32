"""``zt-agents revoke``, ``revocations`` and ``reinstate``: the kill switch.

It needs no signing key and no policy that loads: who may write the store of revocations may stop and reinstate, so that
the file is its owner's alone. To revoke asks nothing back; to reinstate does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.display import visible
from zt_agents._internal.login import login
from zt_agents._internal.suggest import did_you_mean
from zt_agents.audit import AuditLog
from zt_agents.cli.display import confirmed, say, say_error, say_json, say_table
from zt_agents.cli.known_calls import Recent, meant, oddities, recent
from zt_agents.cli.options import (
    DEFAULT_POLICY,
    ByOption,
    JsonOption,
    LogOption,
    PolicyOption,
    ReasonOption,
    YesOption,
    again,
    agent_names,
)
from zt_agents.errors import ConfigurationError, PolicyFileError, StoreError, ZeroTrustError
from zt_agents.identity.revocations import Revocation, Revoked, new_revocation
from zt_agents.revocation import Stopped, stop, waiting
from zt_agents.revocation import reinstate as lift
from zt_agents.stores.sqlite_agents import SqliteAgentStore
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_revocations import SqliteRevocations

INCOMPLETE = 1
"""Exit code where it is revoked, but not on record, or not all of it; or where there was nothing to reinstate."""
SHOWN_ID = 8

StoreOption = Annotated[
    Path | None, typer.Option("--store", envvar="ZT_AGENTS_REVOCATIONS", help="The store, if not the policy's.")
]
ApprovalsOption = Annotated[
    Path | None,
    typer.Option("--approvals", envvar="ZT_AGENTS_APPROVALS", help="The store of approvals, if not the policy's."),
]


class Places(NamedTuple):
    """Where guards of a policy look, and which agents they know."""

    store: Path
    approvals: Path
    log: Path
    agents: Mapping[str, str]
    """Ids by name."""


def revoke(
    agent: Annotated[
        list[str] | None, typer.Option("--agent", help="Name or SPIFFE-format id.", autocompletion=agent_names)
    ] = None,
    user: Annotated[list[str] | None, typer.Option("--user", help="Whoever agents act for.")] = None,
    session: Annotated[list[str] | None, typer.Option("--session", help="Its id.")] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Its id.")] = None,
    token: Annotated[list[str] | None, typer.Option("--token", help="Its jti.")] = None,
    owner: Annotated[list[str] | None, typer.Option("--owner", help="All agents of this owner.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every call of every agent.")] = False,
    reason: ReasonOption = "",
    by: ByOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is known to match, and revoke nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also an agent that the policy does not name.")] = False,
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    approvals: ApprovalsOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop every matching call from its next decision on, in all processes, until it is reinstated.

    Each option may be repeated; one kind at a time. A tool's body that runs already is not interrupted.

    Exit code 0: revoked. 1: it is not on record, or not all of it was revoked. 2: nothing was revoked.
    """
    given = {
        Revoked.AGENT: agent,
        Revoked.USER: user,
        Revoked.SESSION: session,
        Revoked.TASK: task,
        Revoked.TOKEN: token,
        Revoked.OWNER: owner,
        Revoked.ALL: [""] if everything else None,
    }
    kinds = [kind for kind, named in given.items() if named]
    if len(kinds) != 1:
        raise typer.BadParameter("say what: exactly one of --agent, --user, --session, --task, --token, --owner, --all")
    (kind,) = kinds
    places = _places(policy, store, approvals, log)
    values = [_checked(kind, value, places, force=force) for value in dict.fromkeys(given[kind] or ())]
    new = not places.store.exists()
    now = system_clock()
    if dry_run:
        stopped = Stopped((), 0, (), ())
    else:
        with ExitStack() as opened:
            stopped = stop(
                kind,
                values,
                by=by or f"os:{login()}",
                why=reason,
                now=now,
                revocations=SqliteRevocations(places.store),
                approvals=SqliteApprovalStore(places.approvals, create=False) if places.approvals.exists() else None,
                audit=lambda: opened.enter_context(AuditLog(SqliteAuditSink(places.log))),
            )
    known = {value: _known(kind, value, places, now) for value in values}
    waits = sum(_waits(kind, value, places, now) for value in values) if dry_run else stopped.withdrawn
    warnings = [w for value in values for w in _warnings(kind, value, known[value], waits)]
    if new:
        text = f"No guard has ever looked into {places.store}. Those that run look elsewhere: see --policy and --store."
        warnings.append(text)
    if as_json:
        say_json(_document(stopped, known, waits, warnings, places))
    else:
        _report(kind, stopped, known, waits, places)
        for each in stopped.revoked:
            undoing = again(f"zt-agents reinstate {each.id[:SHOWN_ID]} --reason WHY", policy=policy, store=store)
            say(f"To undo it: {undoing}")
    for warning in warnings:
        say(f"warning: {warning}", style="bold yellow", stderr=True)
    for value in stopped.missed:
        say(f"NOT REVOKED: {kind} {visible(value)}", style="bold red", stderr=True)
    for failure in stopped.failures:
        say_error(failure)
    if stopped.failures:
        raise typer.Exit(INCOMPLETE)


def revocations(policy: PolicyOption = DEFAULT_POLICY, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List what is revoked, oldest first."""
    found = opened_at(_places(policy, store, None, None).store).list()
    if as_json:
        say_json([as_json_of(each) for each in found])
        return
    if not found:
        say("Nothing is revoked.")
        return
    rows = [(each.id[:SHOWN_ID], each.kind, each.value, rfc3339(each.at), each.by, each.why) for each in found]
    say_table(("id", "what", "which", "since", "by", "why"), rows)


def reinstate(
    reference: Annotated[str, typer.Argument(metavar="ID", help="The revocation's id, or how it begins.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    by: ByOption = None,
    yes: YesOption = False,
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lift one revocation, by its id. What else stops the same calls stays.

    Exit code 1: there is no such revocation, or nobody said yes.
    """
    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")
    places = _places(policy, store, None, log)
    opened = opened_at(places.store)
    in_force = opened.list()
    found = [each for each in in_force if reference and each.id.startswith(reference)]
    if len(found) != 1:
        what = "No revocation" if not found else "More than one revocation"
        say(f"{what} in force begins with {visible(reference, limit=80)!r}. See: zt-agents revocations", stderr=True)
        raise typer.Exit(INCOMPLETE)
    (revocation,) = found
    if not yes:
        say(f"{_line(revocation)}, by {revocation.by}, since {rfc3339(revocation.at)}: {revocation.why or 'no reason'}")
        if not confirmed("Let it go again?", otherwise="Nothing was reinstated."):
            raise typer.Exit(INCOMPLETE)
    with AuditLog(SqliteAuditSink(places.log)) as audit:
        lifted = lift(
            revocation, by=by or f"os:{login()}", why=reason, now=system_clock(), revocations=opened, audit=audit
        )
    if not lifted:
        say("Somebody else was faster: it is lifted already.", stderr=True)
        raise typer.Exit(INCOMPLETE)
    say_json(as_json_of(revocation)) if as_json else say(f"{_line(revocation)} is reinstated.")
    for each in in_force:
        if each is not revocation and (each.kind, each.value) == (revocation.kind, revocation.value):
            text = f"warning: it is revoked once more, by {each.by}: {each.id[:SHOWN_ID]}"
            say(text, style="bold yellow", stderr=True)


def _places(policy: Path, store: Path | None, approvals: Path | None, log: Path | None) -> Places:
    """Return where to look, also by a policy that does not load: whoever is in a hurry has no time to mend it."""
    from zt_agents.policy.document import read_file

    data: Mapping[str, Any] = {}
    if policy.exists():
        try:
            data = read_file(policy).data
        except PolicyFileError as error:
            say_error(error)
            say("warning: so the usual places are used, and agents go by their ids, with --force.", stderr=True)
    elif store is None:
        hint = "Name it with --policy, or the store of revocations with --store."
        raise ConfigurationError(f"There is no policy file {policy}.", hint=hint)

    def place(section: str, usual: str) -> Path:
        entry = data.get(section)
        named = entry.get("path") if isinstance(entry, Mapping) else None
        return policy.parent / (named if isinstance(named, str) else usual)

    entries = data.get("agents")
    agents = {
        name: entry["id"]
        for name, entry in (entries.items() if isinstance(entries, Mapping) else ())
        if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)
    }
    try:
        stored = SqliteAgentStore.beside(policy).read()
        agents.update({state.name: state.id for state in stored.agents.values() if state.declared is not None})
    except StoreError as error:
        say_error(error)  # what the policy declares is enough for most
    return Places(
        store or place("revocation", "zt-agents-revocations.db"),
        approvals or place("approvals", "zt-agents-approvals.db"),
        log or place("audit", "zt-agents-audit.db"),
        agents,
    )


def _checked(kind: Revoked, value: str, places: Places, *, force: bool) -> str:
    """Return *value* as tokens have it."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{visible(value, limit=80)!r} is no text.") from error
    if kind is not Revoked.ALL and not value.strip():
        raise ConfigurationError(f"An empty text names no {kind}.", hint="To stop everything: --all")
    if kind is not Revoked.AGENT or value in places.agents.values():
        return value
    if value in places.agents:
        return places.agents[value]
    if force and value.startswith("spiffe://"):
        return value
    known = [*places.agents, *places.agents.values()]
    raise ConfigurationError(
        f"The policy has no agent {visible(value, limit=80)!r}.{did_you_mean(value, known)}",
        hint="To revoke one that it does not name, give its SPIFFE-format id and --force.",
    )


def opened_at(path: Path) -> SqliteRevocations:
    """Return the store at *path*. Raises ConfigurationError if guards have never made one."""
    if not path.exists() and not path.with_name(f"{path.name}.id").exists():
        hint = "It is made when a guard starts. Name it with --store, or ZT_AGENTS_REVOCATIONS."
        raise ConfigurationError(f"There is no store of revocations {path}.", hint=hint)
    return SqliteRevocations(path, create=False)


def _known(kind: Revoked, value: str, places: Places, now: float) -> Recent | ZeroTrustError:
    try:
        return recent(places.log, kind, value, now=now)
    except ZeroTrustError as error:  # what is known is not needed to revoke
        return error


def _waits(kind: Revoked, value: str, places: Places, now: float) -> int:
    if not places.approvals.exists():
        return 0
    revocation = new_revocation(kind, value, by="", why="", now=now)
    return len(waiting(revocation, SqliteApprovalStore(places.approvals, create=False), now=now))


def _warnings(kind: Revoked, value: str, known: Recent | ZeroTrustError, waits: int) -> list[str]:
    """Return what makes it likely that something else was meant."""
    if kind is Revoked.ALL:
        return []
    found = [f"{kind} {visible(value)}: {odd} It is compared exactly as it is." for odd in oddities(value)]
    if isinstance(known, Recent) and not known.calls and not waits:
        text = f"{kind} {visible(value)} matches nothing that is known: no call of the last day, no request that waits."
        found.append(f"{text}{meant(value, known.others)}")
    return found


def _report(
    kind: Revoked, stopped: Stopped, known: Mapping[str, Recent | ZeroTrustError], waits: int, places: Places
) -> None:
    for each in stopped.revoked:
        say(f"Revoked: {_line(each)}. Guards refuse it from their next decision on.", style="bold")
    for value, seen in known.items():
        which = f"{kind} {value}" if value else "everything"
        if isinstance(seen, ZeroTrustError):
            say(f"{which}: what is on record cannot be read: {seen.message}")
            continue
        last = f", the last at {rfc3339(seen.last)}" if seen.last is not None else ""
        least = "" if seen.whole else "at least "
        sessions = f"{seen.sessions} session{'s' if seen.sessions != 1 else ''}"
        say(f"Calls of {which} in the last day: {least}{seen.calls}, in {sessions}{last}.")
    say(f"Requests for approval {'withdrawn' if stopped.revoked else 'that would be withdrawn'}: {waits}.")
    if not stopped.revoked:
        say(f"Nothing was revoked in {places.store}: it was a dry run.")


def _document(
    stopped: Stopped,
    known: Mapping[str, Recent | ZeroTrustError],
    waits: int,
    warnings: Sequence[str],
    places: Places,
) -> dict[str, Any]:
    return {
        "revoked": [as_json_of(each) for each in stopped.revoked],
        "not_revoked": list(stopped.missed),
        "requests": waits,
        "calls": {value: seen.calls if isinstance(seen, Recent) else None for value, seen in known.items()},
        "warnings": list(warnings),
        "failures": [failure.message for failure in stopped.failures],
        "store": str(places.store),
    }


def as_json_of(revocation: Revocation) -> dict[str, Any]:
    """Return *revocation* as the commands print it."""
    return {
        "id": revocation.id,
        "kind": revocation.kind,
        "value": revocation.value,
        "at": rfc3339(revocation.at),
        "by": revocation.by,
        "why": revocation.why,
    }


def _line(revocation: Revocation) -> str:
    return f"{revocation.kind} {revocation.value}" if revocation.value else "everything"
