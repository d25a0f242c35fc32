"""The ``keys`` of a policy: guards that share a folder, and what outlives a rotation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from world import HEAD, records_of

from zt_agents import AccessDeniedError, Guard
from zt_agents.config import approver_authority
from zt_agents.errors import ConfigurationError, IdentityError, PolicyFileError, StoreError
from zt_agents.identity import KeyRing, SigningKey
from zt_agents.policy import parse_policy
from zt_agents.testing import write_policy

RULES = """
keys: {rotate: 30d}
telemetry: {baggage: true}
tools:
  read_ticket: {tier: low, effects: [read]}
rules:
  - {id: read, agents: [helpdesk], tools: [read_ticket], outcome: allow}
"""
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@tool
def read_ticket(ticket_id: int) -> str:
    """Read one ticket of the helpdesk."""
    return "open"


def guard_at(folder: Path, clock: Clock, **parts: Any) -> Guard:
    return Guard.from_config(write_policy(folder, HEAD + RULES, [read_ticket]), clock=clock, **parts)


def test_guards_share_the_keys_of_a_folder_and_a_rotation(tmp_path: Path) -> None:
    clock = Clock()
    with guard_at(tmp_path, clock) as one, guard_at(tmp_path, clock) as other:
        before = one.session(agent="helpdesk", on_behalf_of="alice@acme.example")
        assert other.session_from_token(before.token).user.id == "alice@acme.example"
        KeyRing.in_folder(tmp_path / "zt-agents-keys").rotate(clock.now, at_once=True)
        after = one.session(agent="helpdesk", on_behalf_of="alice@acme.example")
        assert before.token.split(".")[0] != after.token.split(".")[0]
        for session in (before, after):
            assert other.session_from_token(session.token).id == session.id


def test_a_withdrawn_key_ends_the_sessions_it_has_signed(tmp_path: Path) -> None:
    clock = Clock()
    with guard_at(tmp_path, clock) as guard:
        (sealed,) = guard.protect([tool(read_ticket.func)])
        with guard.session(agent="helpdesk", on_behalf_of="alice@acme.example") as session:
            assert sealed.invoke({"ticket_id": 1}) == "open"
            KeyRing.in_folder(tmp_path / "zt-agents-keys").rotate(clock.now, withdraw=True)
            time.sleep(0.011)
            with pytest.raises(AccessDeniedError, match="no longer good"):
                sealed.invoke({"ticket_id": 2})
        with pytest.raises(IdentityError):
            guard.session_from_token(session.token)


def test_guards_rotate_by_themselves_and_say_so_in_the_log(tmp_path: Path) -> None:
    clock = Clock()
    KeyRing.in_folder(tmp_path / "zt-agents-keys", create=True, clock=clock)
    with guard_at(tmp_path, clock) as guard:
        signed = set()
        for _ in range(70):
            signed.add(guard.session(agent="helpdesk", on_behalf_of="alice@acme.example").token.split(".")[0])
            clock.now += DAY
        changes = [record["change"] for record in records_of(guard) if record["kind"] == "change"]
    assert len(signed) == 3
    assert [change["what"] for change in changes] == ["key.rotated"] * len(changes)
    assert len(changes) == 2
    assert all(change["by"].startswith("os:") for change in changes)


def test_what_is_signed_for_long_outlives_every_rotation(tmp_path: Path) -> None:
    clock = Clock()
    with guard_at(tmp_path, clock) as guard:
        root = SigningKey.from_file(tmp_path / "zt-agents-keys" / "root.pem")
        authority = approver_authority("acme.example", root)
        credential = authority.issue(
            "dana@acme.example", groups=(), key=SigningKey.generate(), now=clock.now, valid=86_400
        )
        key = guard.baggage_key
        KeyRing.in_folder(tmp_path / "zt-agents-keys").rotate(clock.now, withdraw=True)
    with guard_at(tmp_path, clock) as again:
        assert again.baggage_key == key
    root = KeyRing.in_folder(tmp_path / "zt-agents-keys").root
    assert approver_authority("acme.example", root).verify(credential).id == "dana@acme.example"


def test_a_guard_whose_keys_were_taken_away_opens_no_session(tmp_path: Path) -> None:
    clock = Clock()
    with guard_at(tmp_path, clock) as guard:
        (sealed,) = guard.protect([tool(read_ticket.func)])
        with guard.session(agent="helpdesk", on_behalf_of="alice@acme.example"):
            (tmp_path / "zt-agents-keys").chmod(0o755)
            assert sealed.invoke({"ticket_id": 1}) == "open"
            with pytest.raises(StoreError, match="other users can reach it"):
                guard.session(agent="helpdesk", on_behalf_of="bob@acme.example")


def test_two_places_for_a_key_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="besides"):
        guard_at(tmp_path, Clock(), signing_key=SigningKey.generate())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("{overlap: 30m}", "at least 1h"),
        ("{rotate: 1h}", "twice the overlap"),
        ("{rotate: 30}", "is written"),
        ("{rotate: 91d}", "longest period allowed here is 90d"),
        ("{algorithm: HS256}", "'ES256' or 'EdDSA'"),
        ("{pth: x}", "pth"),
        ("null", "keys"),
    ],
)
def test_mistakes_in_the_policy_are_found(keys: str, said: str) -> None:
    text = HEAD + RULES.replace("keys: {rotate: 30d}", f"keys: {keys}")
    with pytest.raises(PolicyFileError, match=said):
        parse_policy(text, name="policy.yaml", parameters={"read_ticket": read_ticket.get_input_jsonschema()})
