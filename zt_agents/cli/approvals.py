"""``zt-agents approvals``: what waits for a human, and the human's answer.

An answer is signed with the approver's own credential (``--as``), and the guard that asked verifies it. Or it is signed
with the guard's key, in the name of the operating system's user, ``os:LOGIN``: keep that key from those who may not
answer. Values in a request were chosen by models and by strangers: they are shown, never obeyed.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.display import visible
from zt_agents.approvals import ApprovalState, StoredApproval, approval_panel, person, write_request
from zt_agents.cli.answers import REFUSED, SHOWN_ID, give, who
from zt_agents.cli.commands import Commands
from zt_agents.cli.display import confirmed, console, say, say_json
from zt_agents.decisions import ApprovalTerms, Proof, SecondFactor
from zt_agents.errors import ConfigurationError
from zt_agents.identity import ApproverKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

_PAUSE = 0.5
_SHOWN = 100

approvals_app = Commands("approvals", "See what waits for a human, and answer it.")

StoreOption = Annotated[Path, typer.Option("--store", envvar="ZT_AGENTS_APPROVALS", help="The store of approvals.")]
AsOption = Annotated[Path | None, typer.Option("--as", metavar="FILE", help="Your credential: who answers.")]
KeyOption = Annotated[
    Path | None, typer.Option("--signing-key", envvar="ZT_AGENTS_SIGNING_KEY", help="The guard's, as PEM.")
]
DomainOption = Annotated[
    str | None, typer.Option("--trust-domain", envvar="ZT_AGENTS_TRUST_DOMAIN", help="The policy's trust domain.")
]
Reference = Annotated[str, typer.Argument(metavar="ID", help="The request's id, or how it begins.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
_SAFE_ORIGIN = re.compile(r"https://[A-Za-z0-9.:-]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?")
DEFAULT_STORE = Path("zt-agents-approvals.db")


@approvals_app.command("list")
def list_pending(
    store: StoreOption = DEFAULT_STORE,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = _SHOWN,
    as_json: JsonOption = False,
) -> None:
    """List the requests that wait for an answer, oldest first."""
    opened, now = open_store(store), system_clock()
    shown = opened.pending(limit=limit, now=now)
    opened.notice(*(each.id for each in shown if not each.damaged and each.noticed_at is None), now=now)
    if as_json:
        say_json([_summary(stored) for stored in shown])
        return
    if shown:
        say("\n".join(map(_line, shown)))
    hidden = opened.count_pending(now=now) - len(shown) if len(shown) == limit else 0
    more = f" {hidden} of them are not shown: see --limit." if hidden > 0 else ""
    say(f"{len(shown) + max(0, hidden)} waiting.{more}")


@approvals_app.command()
def show(reference: Reference, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show one request whole: who asks, for whom, why, and the exact arguments."""
    opened = open_store(store)
    stored = find(opened, reference)
    if not as_json:
        _show(opened, stored)
        return
    assert stored.request is not None
    opened.notice(stored.id, now=system_clock())
    terms = [each._asdict() for each in stored.request.terms]
    say_json({**json.loads(write_request(stored.request)), **_summary(stored), "terms": terms})


@approvals_app.command()
def watch(store: StoreOption = DEFAULT_STORE) -> None:
    """Show each request as it comes, until interrupted."""
    opened, seen = open_store(store), set[str]()
    try:
        while True:
            for request_id in opened.pending_ids(now=system_clock()):
                if request_id not in seen:
                    seen.add(request_id)
                    for stored in opened.named(request_id, limit=1):
                        _show(opened, stored)
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        return


@approvals_app.command()
def approve(
    reference: Reference,
    as_file: AsOption = None,
    key: KeyOption = None,
    trust_domain: DomainOption = None,
    store: StoreOption = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
) -> None:
    """Say yes to one request, for exactly its arguments.

    Exit code 1: it does not count, or nobody said yes.
    """
    by = who(as_file, key, trust_domain)
    opened = open_store(store)
    stored = find(opened, reference)
    if not yes:
        _show(opened, stored)
        if not confirmed("Approve this call?", otherwise="Nothing was answered."):
            raise typer.Exit(REFUSED)
    give(by, store, opened, stored, True)


@approvals_app.command()
def deny(
    reference: Reference,
    as_file: AsOption = None,
    key: KeyOption = None,
    trust_domain: DomainOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say no to one request. That is final.

    Exit code 1: it does not count.
    """
    by = who(as_file, key, trust_domain)
    opened = open_store(store)
    give(by, store, opened, find(opened, reference), False)


@approvals_app.command()
def withdraw(reference: Reference, store: StoreOption = DEFAULT_STORE) -> None:
    """Take one request back, so that nobody can approve it any more.

    Exit code 1: it was settled already.
    """
    opened = open_store(store)
    stored = find(opened, reference)
    state = opened.settle(stored.id, ApprovalState.CANCELLED, now=system_clock()).state
    say(f"{stored.id[:SHOWN_ID]} is {state}.")
    if state is not ApprovalState.CANCELLED:
        raise typer.Exit(REFUSED)


@approvals_app.command()
def login(
    as_file: Annotated[Path, typer.Option("--as", help="The approver's credential.")],
    console_url: Annotated[str, typer.Option("--console", help="The console, such as https://approvals.acme.example.")],
) -> None:
    """Print a link that signs its reader in at the console: once, within a minute."""
    origin = console_url.rstrip("/")
    if not _SAFE_ORIGIN.fullmatch(origin):
        raise ConfigurationError(
            f"{visible(console_url, limit=80)!r} is no place to sign in at.", hint="It begins with https://, or http://localhost."
        )
    say(f"{origin}/login#{ApproverKey.from_file(as_file).login(origin, now=system_clock())}")


def open_store(path: Path) -> SqliteApprovalStore:
    """Return the store at *path*, which must exist."""
    if not path.exists():
        hint = "It is made when a guard first asks. Name it with --store, or ZT_AGENTS_APPROVALS."
        raise ConfigurationError(f"There is no store of approvals {path}.", hint=hint)
    return SqliteApprovalStore(path, create=False)


def find(store: SqliteApprovalStore, reference: str) -> StoredApproval:
    """Return the one request that *reference* names, by its id or the beginning of it."""
    exact = store.get(reference)
    named = [exact] if exact else store.named(reference, limit=2) if reference else ()
    found = [each for each in named if each.state is ApprovalState.PENDING or each.damaged] or named
    if len(found) == 1 and found[0].request is not None:
        return found[0]
    what = "no request" if not found else "nothing left of the request" if len(found) == 1 else "more than one request"
    if len(found) == 1 and found[0].damaged:
        what = "nothing readable in the damaged request"
    raise ConfigurationError(f"There is {what} {visible(reference, limit=80)!r}.", hint="See: zt-agents approvals list")


def _line(stored: StoredApproval) -> str:
    request = stored.request
    if request is None:
        return f"{visible(stored.id[:SHOWN_ID])}  is damaged: nobody can answer it"
    call = request.call
    agent, user = visible(call.agent.name) if call.agent else "?", visible(call.user.id) if call.user else "?"
    left = max(0, int(request.expires_at - system_clock()))
    yes = len({person(request, answer) for answer in stored.answers if answer.approved})
    quorum = max(terms.quorum for terms in request.terms)
    return (
        f"{visible(stored.id[:SHOWN_ID])}  {visible(call.tool)} ({request.decision.tier})  {agent} for {user}  "
        f"{visible(call.resource)}  {yes} of {quorum}  {left} s left"
    )


def _needs(terms: ApprovalTerms) -> str:
    """Return who has to say yes, in a line."""
    parts = [f"needs {terms.quorum} of: {', '.join(terms.approvers)}"]
    parts += [f"not {', '.join(terms.exclude)}"] if terms.exclude else []
    parts += [f"where {terms.when}"] if terms.when else []
    parts += ["with a credential of their own"] if terms.proof is Proof.CREDENTIAL else []
    parts += [f"second factor: {terms.second_factor}"] if terms.second_factor is not SecondFactor.NONE else []
    parts += [f"after {terms.escalate_after} s also {', '.join(terms.escalate_to)}"] if terms.escalate_to else []
    return "; ".join(parts)


def _summary(stored: StoredApproval) -> dict[str, Any]:
    request = stored.request
    if request is None:
        return {"id": stored.id, "state": stored.state, "damaged": True}
    call = request.call
    return {
        "id": stored.id,
        "state": stored.state,
        "tool": call.tool,
        "tier": request.decision.tier,
        "agent": call.agent.name if call.agent else None,
        "user": call.user.id if call.user else None,
        "resource": call.resource,
        "expires_at": rfc3339(request.expires_at),
        "used": stored.consumed_at is not None,
        "answers": [{"approver": answer.approver, "approved": answer.approved} for answer in stored.answers],
    }


def _show(store: SqliteApprovalStore, stored: StoredApproval) -> None:
    if stored.request is None:
        say(_line(stored))
        return
    store.notice(stored.id, now=system_clock())
    out = console()
    out.print(approval_panel(stored.request))
    for answer in stored.answers:
        say(f"{answer.approver} said {'yes' if answer.approved else 'no'}")
    for terms in stored.request.terms:
        say(_needs(terms))
    left = int(stored.request.expires_at - system_clock())
    time_left = f", {left // 60}:{left % 60:02} left" if stored.state is ApprovalState.PENDING and left > 0 else ""
    say(f"{stored.id}  {stored.state}{time_left}")
