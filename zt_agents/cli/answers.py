"""How an answer is given from the command line: with a credential of one's own, or vouched for by the guard's key."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import typer

from zt_agents._internal.clock import system_clock
from zt_agents._internal.login import login
from zt_agents.approval_desk import ApprovalDesk
from zt_agents.approvals import Answer, ApprovalState, StoredApproval, filed_as, objection
from zt_agents.cli.display import say
from zt_agents.decisions import Proof
from zt_agents.errors import ConfigurationError
from zt_agents.identity import ApproverKey, SigningKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry

REFUSED = 1
"""Exit code of an answer that does not count."""
SHOWN_ID = 8
"""Characters of a request's id that a line shows."""
_LOOK = 0.05
_PATIENCE = 1.0
"""Seconds that an answer waits for the guard to look at it."""
GiveAnswer = Callable[[SqliteApprovalStore, StoredApproval, bool], None]


def either(
    as_file: Path | None, key: Path | None, trust_domain: str | None
) -> tuple[ApproverKey | None, SigningKey | None]:
    """Return the credential, or the guard's signing key: one of the two.

    Raises:
        ConfigurationError: neither was given, or both.
    """
    if as_file is not None and key is None:
        return ApproverKey.from_file(as_file), None
    if as_file is None and key is not None and trust_domain is not None:
        return None, SigningKey.from_file(key)
    raise ConfigurationError(
        "Who answers?", hint="Give your credential (--as), or the guard's --signing-key and --trust-domain; not both."
    )


def answerer(store: Path, as_file: Path | None, key: Path | None, trust_domain: str | None) -> GiveAnswer:
    """Return what answers with the credential *as_file*; or in the name of this login, vouched for by the *key*."""
    credential, signing = either(as_file, key, trust_domain)
    if credential is not None:
        return _signed_by(credential)
    assert signing is not None
    assert trust_domain is not None
    return _vouched_for(store, signing, trust_domain)


def _signed_by(credential: ApproverKey) -> GiveAnswer:
    def answer(store: SqliteApprovalStore, stored: StoredApproval, approved: bool) -> None:
        assert stored.request is not None
        now = system_clock()
        proof = credential.answer(stored.binding_hash, approved=approved, now=max(now, stored.request.call.time))
        said = Answer(stored.binding_hash, approved, credential.name, groups=credential.groups, proof=proof)
        known = replace(said, known=Proof.CREDENTIAL)
        why = objection(stored.request, known, now=now, holds=lambda *_: True)  # a condition is the guard's to evaluate
        if why is not None:
            _refuse(why)
        if not store.file(stored.id, filed_as(stored.request, known), said, now=now):
            _refuse(f"{credential.name} has answered already, or the request is settled.")
        state = _settled_soon(store, stored.id)
        waits = " It counts when the guard that asked has verified it." if state is ApprovalState.PENDING else ""
        say(f"{stored.id[:SHOWN_ID]} is {state}.{waits}")

    return answer


def _vouched_for(path: Path, key: SigningKey, trust_domain: str) -> GiveAnswer:
    from zt_agents.config import answer_proofs

    def answer(store: SqliteApprovalStore, stored: StoredApproval, approved: bool) -> None:
        desk = ApprovalDesk(
            store=store,
            proofs=answer_proofs(trust_domain, key, SqliteApproverRegistry.beside(path)),
            channel=None,
            clock=system_clock,
            retention=float("inf"),
        )
        why = desk.file(Answer(stored.binding_hash, approved, f"os:{login()}"))
        state = desk.look(stored.id)
        if why is not None:
            _refuse(why)
        more = " More people have to say yes." if state is ApprovalState.PENDING else ""
        say(f"{stored.id[:SHOWN_ID]} is {state}.{more}")

    return answer


def _settled_soon(store: SqliteApprovalStore, request_id: str) -> ApprovalState:
    """Return where a request stands when the guard has had a moment to look."""
    until = time.monotonic() + _PATIENCE
    while True:
        found = store.get(request_id)
        state = found.state if found is not None else ApprovalState.FAILED
        if state is not ApprovalState.PENDING or time.monotonic() > until:
            return state
        time.sleep(_LOOK)


def _refuse(why: str) -> NoReturn:
    say(why)
    raise typer.Exit(REFUSED)
