"""``zt-agents approvals``: what waits for a human, and the human's answer.

An answer is signed with the approver's own credential (``--as``), and the guard that asked verifies it. Or it is signed
with the guard's key, in the name of the operating system's user, ``os:LOGIN``: keep that key from those who may not
answer. Values in a request were chosen by models and by strangers: they are shown, never obeyed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from zt_agents._internal.clock import system_clock
from zt_agents._internal.display import visible
from zt_agents.approvals import ApprovalState, StoredApproval, approval_panel
from zt_agents.cli.answers import REFUSED, SHOWN_ID, answerer
from zt_agents.cli.display import console, say
from zt_agents.errors import ConfigurationError
from zt_agents.identity import ApproverKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

_PAUSE = 0.5

approvals_app = typer.Typer(name="approvals", help="See what waits for a human, and answer it.", no_args_is_help=True)

StoreOption = Annotated[Path, typer.Option("--store", envvar="ZT_AGENTS_APPROVALS", help="The store of approvals.")]
AsOption = Annotated[Path | None, typer.Option("--as", metavar="FILE", help="Your credential: who answers.")]
KeyOption = Annotated[
    Path | None, typer.Option("--signing-key", envvar="ZT_AGENTS_SIGNING_KEY", help="The guard's, as PEM.")
]
DomainOption = Annotated[str | None, typer.Option("--trust-domain", help="The policy's trust domain.")]
Reference = Annotated[str, typer.Argument(metavar="ID", help="The request's id, or how it begins.")]
DEFAULT_STORE = Path("zt-agents-approvals.db")


@approvals_app.command("list")
def list_pending(store: StoreOption = DEFAULT_STORE) -> None:
    """List the requests that wait for an answer, oldest first."""
    waiting = _waiting(_open(store))
    for stored in waiting:
        say(_line(stored))
    say(f"{len(waiting)} waiting.")


@approvals_app.command()
def show(reference: Reference, store: StoreOption = DEFAULT_STORE) -> None:
    """Show one request whole: who asks, for whom, why, and the exact arguments."""
    _show(_find(_open(store), reference))


@approvals_app.command()
def watch(store: StoreOption = DEFAULT_STORE) -> None:
    """Show each request as it comes, until interrupted."""
    opened, seen = _open(store), set[str]()
    try:
        while True:
            for stored in _waiting(opened):
                if stored.id not in seen:
                    seen.add(stored.id)
                    _show(stored)
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
    """Say yes to one request, for exactly its arguments."""
    answer = answerer(store, as_file, key, trust_domain)
    opened = _open(store)
    stored = _find(opened, reference)
    if not yes:
        _show(stored)
        typer.confirm("Approve this call?", abort=True)
    answer(opened, stored, True)


@approvals_app.command()
def deny(
    reference: Reference,
    as_file: AsOption = None,
    key: KeyOption = None,
    trust_domain: DomainOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say no to one request. That is final."""
    answer = answerer(store, as_file, key, trust_domain)
    opened = _open(store)
    answer(opened, _find(opened, reference), False)


@approvals_app.command()
def withdraw(reference: Reference, store: StoreOption = DEFAULT_STORE) -> None:
    """Take one request back, so that nobody can approve it any more."""
    opened = _open(store)
    stored = _find(opened, reference)
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
    say(f"{origin}/login#{ApproverKey.from_file(as_file).login(origin, now=system_clock())}")


def _open(path: Path) -> SqliteApprovalStore:
    return SqliteApprovalStore(path, create=False)


def _waiting(store: SqliteApprovalStore) -> list[StoredApproval]:
    now = system_clock()
    return [each for each in store.pending() if each.request is not None and each.request.expires_at > now]


def _find(store: SqliteApprovalStore, reference: str) -> StoredApproval:
    exact = store.get(reference)
    found = [exact] if exact else [each for each in store.pending() if reference and each.id.startswith(reference)]
    if len(found) != 1 or found[0].request is None:
        what = "no request" if len(found) != 1 or not found else "nothing left of the request"
        what = f"{len(found)} requests" if len(found) > 1 else what
        raise ConfigurationError(
            f"There is {what} {visible(reference, limit=80)!r}.", hint="See: zt-agents approvals list"
        )
    return found[0]


def _line(stored: StoredApproval) -> str:
    request = stored.request
    assert request is not None
    call = request.call
    agent, user = call.agent.name if call.agent else "?", call.user.id if call.user else "?"
    left = max(0, int(request.expires_at - system_clock()))
    yes = sum(answer.approved for answer in stored.answers)
    quorum = max(terms.quorum for terms in request.terms)
    return (
        f"{stored.id[:SHOWN_ID]}  {call.tool} ({request.decision.tier})  {agent} for {visible(user)}  "
        f"{visible(call.resource)}  {yes} of {quorum}  {left} s left"
    )


def _show(stored: StoredApproval) -> None:
    assert stored.request is not None
    out = console()
    out.print(approval_panel(stored.request))
    for answer in stored.answers:
        say(f"{answer.approver} said {'yes' if answer.approved else 'no'}")
    say(f"{stored.id}  {stored.state}")
