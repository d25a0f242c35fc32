"""How an answer is given from the command line: with a credential of one's own, or vouched for by the guard's key."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import typer

from zt_agents._internal.clock import system_clock
from zt_agents._internal.login import login
from zt_agents.approvals import Answer, ApprovalState, StoredApproval, already, filed_as, objection
from zt_agents.cli.display import say
from zt_agents.decisions import Proof, SecondFactor
from zt_agents.desk import AnswerDesk
from zt_agents.errors import ConfigurationError, IdentityError
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


class Who(NamedTuple):
    """Who answers, and with which key of the guard, if any."""

    credential: ApproverKey | None
    signing: SigningKey | None
    trust_domain: str

    @property
    def name(self) -> str:
        return self.credential.name if self.credential else f"os:{login()}"


def who(as_file: Path | None, key: Path | None, trust_domain: str | None) -> Who:
    """Return who answers: the credential's approver, or this login, which the guard's signing key vouches for.

    Raises:
        ConfigurationError: there is neither a credential nor a signing key; or a key, and no trust domain.
    """
    if as_file is None and (key is None or trust_domain is None):
        hint = "Give your credential (--as), the guard's --signing-key and --trust-domain, or all for a one-time code."
        raise ConfigurationError("Who answers?", hint=hint)
    credential = ApproverKey.from_file(as_file) if as_file is not None else None
    # A key without its trust domain may be one of the environment, for other commands.
    return Who(credential, SigningKey.from_file(key) if key and trust_domain else None, trust_domain or "")


def give(by: Who, path: Path, store: SqliteApprovalStore, stored: StoredApproval, approved: bool) -> None:
    """File an answer and say what came of it; exit with :data:`REFUSED` if it does not count."""
    answer = _answer(by, stored, approved)
    if by.signing is not None:
        why = _filed_by_key(by, path, store, stored, answer)
    else:
        why = _filed(by, path, store, stored, answer)
    if why is not None:
        say(f"Not counted: {why}", stderr=True)
        if "second factor" in why and by.signing is None:
            hint = "hint: Give --signing-key and --trust-domain for a one-time code, or answer in the console."
            say(hint, stderr=True)
        raise typer.Exit(REFUSED)
    state = _settled_soon(store, stored.id) if by.signing is None else _state(store, stored.id)
    if state is ApprovalState.PENDING:
        waits = "the guard that asked looks at it" if by.signing is None else "more people answer, or the guard looks"
        say(f"{stored.id[:SHOWN_ID]}: your {'yes' if approved else 'no'} is noted; it is pending until {waits}.")
    else:
        say(f"{stored.id[:SHOWN_ID]} is {state}.")


def _answer(by: Who, stored: StoredApproval, approved: bool) -> Answer:
    if by.credential is None:
        return Answer(stored.binding_hash, approved, by.name)
    assert stored.request is not None
    now = max(system_clock(), stored.request.call.time)
    proof = by.credential.answer(stored.binding_hash, approved=approved, now=now)
    return Answer(stored.binding_hash, approved, by.name, groups=by.credential.groups, proof=proof)


def _filed(
    by: Who, path: Path, store: SqliteApprovalStore, stored: StoredApproval, answer: Answer
) -> str | None:
    """File what the guard that asked will verify: here is no key to do it with. Returns why it will not count."""
    assert stored.request is not None
    if answer.approved and (why := unlisted(by, path)) is not None:
        return why
    known, now = replace(answer, known=Proof.CREDENTIAL), system_clock()
    why = objection(stored.request, known, now=now, holds=lambda *_: True)  # a condition is the guard's to evaluate
    if why is not None:
        return why
    new = store.file(stored.id, filed_as(stored.request, known), answer, now=now)
    return None if new else already(store.get(stored.id) or stored, answer)


def unlisted(by: Who, path: Path) -> str | None:
    """Return why no yes of the credential counts at the store *path*, if it is not listed there."""
    registry = SqliteApproverRegistry.beside(path)
    if by.credential is None or registry.get(by.credential.credential_id) is not None:
        return None
    return f"The credential is not listed in {registry.path}: it was removed, or is of another registry."


def _filed_by_key(
    by: Who, path: Path, store: SqliteApprovalStore, stored: StoredApproval, answer: Answer
) -> str | None:
    from zt_agents.config import answer_proofs

    assert by.signing is not None
    assert stored.request is not None
    proofs = answer_proofs(by.trust_domain, by.signing, SqliteApproverRegistry.beside(path, create=True))
    asks_code = any(terms.second_factor in (SecondFactor.TOTP, SecondFactor.ANY) for terms in stored.request.terms)
    if answer.approved and asks_code and by.credential is not None:
        assert proofs.factors is not None
        code = typer.prompt("One-time code", hide_input=True)
        try:
            token = proofs.factors.check(stored.request, by.name, code, approved=True, now=system_clock())
        except IdentityError as error:
            return error.message
        answer = replace(answer, factor=token)
    desk = AnswerDesk(store=store, proofs=proofs, clock=system_clock)
    why = desk.file(answer)
    desk.look(stored.id)
    return why


def _state(store: SqliteApprovalStore, request_id: str) -> ApprovalState:
    found = store.get(request_id)
    return found.state if found is not None else ApprovalState.FAILED


def _settled_soon(store: SqliteApprovalStore, request_id: str) -> ApprovalState:
    """Return where a request stands when the guard has had a moment to look."""
    until = time.monotonic() + _PATIENCE
    while (state := _state(store, request_id)) is ApprovalState.PENDING and time.monotonic() < until:
        time.sleep(_LOOK)
    return state
