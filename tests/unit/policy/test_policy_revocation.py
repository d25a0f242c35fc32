"""``revocation:`` in a policy: where it is looked up, and for how long calls go on when that cannot be done."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import ONE_AGENT

from zt_agents.errors import PolicyFileError
from zt_agents.policy import Policy, parse_policy
from zt_agents.policy.models import PolicyFile

TEXT = (
    ONE_AGENT
    + """
tools:
  act: {tier: low, effects: [read]}
rules:
  - {id: act, agents: [helpdesk], tools: [act], outcome: allow}
"""
)


def policy(section: str) -> Policy:
    return parse_policy(f"{TEXT}{section}", name="p", parameters={"act": {"type": "object", "properties": {}}})


@pytest.mark.parametrize(
    ("section", "path", "seconds"),
    [
        ("", "zt-agents-revocations.db", 5),
        ("revocation: {max_staleness: 60s}", "zt-agents-revocations.db", 60),
        ("revocation: {max_staleness: 1m, path: state/stopped.db}", "state/stopped.db", 60),
    ],
)
def test_what_is_said_holds_and_what_is_not_is_five_seconds(section: str, path: str, seconds: int) -> None:
    loaded = policy(section)
    assert (loaded.revocations_path, loaded.max_staleness) == (Path(path), seconds)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("revocation: {max_staleness: 61s}", "60s"),
        ("revocation: {max_staleness: 0s}", "30s, 15m or 1h"),
        ("revocation: {max_staleness: 5}", "30s, 15m or 1h"),
        ("revocation: {max_staleness: null}", "30s, 15m or 1h"),
        ("revocation: {staleness: 5s}", "no key 'staleness'"),
        ("revocation: {path: ''}", "text is needed"),
    ],
)
def test_what_makes_no_sense_does_not_load(section: str, said: str) -> None:
    with pytest.raises(PolicyFileError, match=said):
        policy(section)


@pytest.mark.parametrize("section", sorted(PolicyFile.model_fields))
def test_a_key_that_is_unknown_is_a_mistake_in_every_section(section: str) -> None:
    with pytest.raises(PolicyFileError):
        policy(f"{section}: {{nonsense: 1}}")
