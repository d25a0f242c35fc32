"""A service that shares the store of revocations refuses the tokens of what was taken back, at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from call_token_parts import CLAIMS, NOW, check, mint, verifier

from zt_agents.credentials import UNSAFE_ANY_ARGUMENTS, CallTokenError, CallTokenReason
from zt_agents.identity.revocations import Revoked
from zt_agents.stores.sqlite_revocations import SqliteRevocations

TAKEN_BACK = [
    (Revoked.AGENT, CLAIMS.agents[0]),
    (Revoked.AGENT, CLAIMS.agents[1]),
    (Revoked.USER, CLAIMS.user_id),
    (Revoked.SESSION, CLAIMS.sessions[0]),
    (Revoked.SESSION, CLAIMS.sessions[1]),
    (Revoked.TASK, CLAIMS.task),
    (Revoked.TOKEN, CLAIMS.token_id),
    (Revoked.OWNER, CLAIMS.owner),
    (Revoked.ALL, ""),
]


@pytest.fixture
def revocations(tmp_path: Path) -> SqliteRevocations:
    made = SqliteRevocations(tmp_path / "revocations.db")
    made.open()
    return made


@pytest.mark.parametrize(("kind", "value"), TAKEN_BACK)
def test_what_was_taken_back_is_refused(revocations: SqliteRevocations, kind: Revoked, value: str) -> None:
    service = verifier(revocations=revocations, uses=5)
    token = mint()
    check(token, service)
    revocations.revoke(kind, value, by="os:dana", why="a test", now=NOW)
    for _ in range(2):
        with pytest.raises(CallTokenError) as refusal:
            check(token, service)
        assert refusal.value.reason is CallTokenReason.REVOKED
    assert value == "" or value not in str(refusal.value), "whose it was is nobody's business"


def test_what_others_had_taken_back_is_not(revocations: SqliteRevocations) -> None:
    for kind, _ in TAKEN_BACK[:-1]:
        revocations.revoke(kind, "spiffe://acme.example/agent/somebody-else", by="os:dana", why="a test", now=NOW)
    check(mint(), verifier(revocations=revocations))


def test_what_cannot_be_looked_up_is_refused_and_not_used_up(revocations: SqliteRevocations, tmp_path: Path) -> None:
    moved = tmp_path / "moved.db"
    service, token = verifier(revocations=revocations), mint()
    path = tmp_path / "revocations.db"
    check(mint(token_id="t-0", args_hash=CLAIMS.args_hash), service, arguments=UNSAFE_ANY_ARGUMENTS)
    for name in ("", "-wal", "-shm"):
        if path.with_name(path.name + name).exists():
            path.with_name(path.name + name).rename(moved.with_name(moved.name + name))
    with pytest.raises(CallTokenError) as refusal:
        check(token, verifier(revocations=SqliteRevocations(path)))
    assert refusal.value.reason is CallTokenReason.UNAVAILABLE
    check(token, verifier())
