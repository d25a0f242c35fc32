"""``zt-agents approvals ahead | standing | revoke``: calls that are approved before anybody makes them.

What a policy does not permit in advance does not become permitted here: the guard looks at each call.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.display import visible
from zt_agents.approvals import STANDING, Answer, Enrolled, StoredApproval, in_advance, listing, objection
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.cli.answers import REFUSED, Who, unlisted, who
from zt_agents.cli.approvals import (
    DEFAULT_STORE,
    AsOption,
    DomainOption,
    KeyOption,
    Reference,
    StoreOption,
    approvals_app,
    find,
    open_store,
)
from zt_agents.cli.display import say, say_json, say_table
from zt_agents.cli.moments import until_option
from zt_agents.cli.options import DEFAULT_POLICY, PolicyOption
from zt_agents.decisions import Proof
from zt_agents.errors import ConfigurationError, TokenInvalidError
from zt_agents.identity import StandingClaims
from zt_agents.identity.approving.approvers import SEPARATOR
from zt_agents.identity.approving.standing import standing_of
from zt_agents.identity.signing import jws
from zt_agents.stores.sqlite_agents import SqliteAgentStore
from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry


@approvals_app.command()
def ahead(
    reference: Reference,
    uses: Annotated[int, typer.Option(min=1, max=1000, help="For how many calls.")],
    until: Annotated[str, typer.Option(help="Until when: 18:00 (UTC), 30m, 8h.")],
    when: Annotated[str, typer.Option(help="CEL: which calls; those of the same resource, if left out.")] = "",
    policy: PolicyOption = DEFAULT_POLICY,
    as_file: AsOption = None,
    key: KeyOption = None,
    trust_domain: DomainOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Approve calls like the request ID in advance: same agent, tool and user, for some time and some calls.

    Exit code 1: it does not count.
    """
    by = who(as_file, key, trust_domain)
    stored = find(open_store(store), reference)
    assert stored.request is not None
    if when:
        _check(when, stored, policy)
    now = system_clock()
    try:
        claims = in_advance(
            stored.request,
            approver=by.name,
            groups=by.credential.groups if by.credential else (),
            when=when,
            uses=uses,
            now=now,
            until=until_option(until, "--until"),
        )
    except ValueError as error:
        raise ConfigurationError(f"It cannot be approved in advance: {error}.", hint="Give --when.") from error
    known = Proof.CREDENTIAL if by.credential else Proof.ATTESTED
    yes = Answer(stored.binding_hash, True, by.name, groups=claims.groups, known=known, standing=claims)
    asked = replace(stored.request, expires_at=max(stored.request.expires_at, now + 1))  # it is about other calls
    # A condition on approvers is the guard's to evaluate.
    why = unlisted(by, store) or objection(asked, yes, now=now, holds=lambda *_: True)
    if why is not None:
        say(f"Not counted: {why}", stderr=True)
        raise typer.Exit(REFUSED)
    token = by.credential.standing(claims) if by.credential else _vouched(claims, by)
    registry = SqliteApproverRegistry.beside(store, create=True)
    registry.add(listing(claims, token, now=now))
    say(f"{claims.id[:8]}: {_line(claims)}. It counts where the policy permits that.")


@approvals_app.command()
def standing(
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the calls that are approved in advance, and how often that was used."""
    registry = SqliteApproverRegistry.beside(store)
    kept = [(each, _claims(each)) for each in registry.list(kind=STANDING)]
    good = [(each, claims) for each, claims in kept if claims is not None and claims.expires_at > system_clock()]
    if as_json:
        say_json(
            [
                {
                    "id": each.id,
                    "approver": claims.approver,
                    "agent": claims.agent,
                    "user": claims.user,
                    "session": claims.session,
                    "tool": claims.tool,
                    "resource": claims.resource,
                    "when": claims.when,
                    "used": registry.uses(each.id),
                    "uses": claims.uses,
                    "until": rfc3339(claims.expires_at),
                }
                for each, claims in good
            ]
        )
        return
    rows = [(each.id[:8], _line(claims), f"{registry.uses(each.id)} of {claims.uses}") for each, claims in good]
    say_table(("id", "what", "used"), rows)


@approvals_app.command()
def revoke(
    reference: Annotated[str, typer.Argument(metavar="ID", help="Of the standing approval, or how it begins.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Take back what was approved in advance. It ends at once.

    Exit code 1: there is no such thing, or more than one.
    """
    registry = SqliteApproverRegistry.beside(store)
    found = [each for each in registry.list(kind=STANDING) if reference and each.id.startswith(reference)]
    if len(found) != 1:
        what = "nothing" if not found else "more than one thing"
        say(f"There is {what} approved in advance under {visible(reference, limit=80)!r}.")
        raise typer.Exit(REFUSED)
    registry.remove(found[0].approver, now=system_clock(), enrolled_id=found[0].id)
    say(f"{found[0].id[:8]} is revoked.")


def _check(when: str, stored: StoredApproval, policy: Path) -> None:
    """Refuse a condition that could never hold: whoever wrote it believes in it."""
    from zt_agents.policy import load_policy

    assert stored.request is not None
    registered = SqliteAgentStore.beside(policy).registered()
    loaded = load_policy(policy, parameters=ToolLock.read(lock_path(policy)).parameters, registered=registered)
    call = stored.request.call
    mistakes = loaded.eligibility.mistakes(when, call.tool)
    if mistakes:
        raise ConfigurationError(f"The condition does not load: {' '.join(mistakes)}")
    if not loaded.eligibility.covers(when, call):
        text = "The condition does not hold for the request itself."
        raise ConfigurationError(text, hint="Calls that are approved in advance are like it.")


def _vouched(claims: StandingClaims, by: Who) -> str:
    from zt_agents.config import approval_signer

    assert by.signing is not None
    return approval_signer(by.trust_domain, by.signing).standing(claims)


def _claims(enrolled: Enrolled) -> StandingClaims | None:
    """Return what a standing approval says. Whether it is signed by whoever it names, guards verify."""
    try:
        return standing_of(jws.unverified(enrolled.token.rpartition(SEPARATOR)[2]), enrolled.approver, ())
    except TokenInvalidError:
        return None


def _line(claims: StandingClaims) -> str:
    which = f"where {claims.when}" if claims.when else f"of {claims.resource}"
    session = " in one session" if claims.session else ""
    return visible(
        f"{claims.approver} lets {claims.agent} call {claims.tool} {which} for {claims.user}{session}, "
        f"{claims.uses} times until {rfc3339(claims.expires_at)}"
    )
