"""Whom an agent may hand its task on to, as the policy has it: each mistake is found where it stands."""

from __future__ import annotations

import pytest
from policy_example import POLICY, load

from zt_agents.errors import PolicyFileError


def with_delegates(delegates: str, *, more: str = "") -> str:
    purpose = "    purpose: Pay what was approved\n"
    return POLICY.replace(purpose, f"{purpose}    delegates: {delegates}\n") + more


def problem(text: str) -> str:
    with pytest.raises(PolicyFileError) as caught:
        load(text)
    (only,) = caught.value.problems
    return str(only)


def test_delegates_and_depth_are_loaded() -> None:
    policy = load(with_delegates("[helpdesk]", more="delegation: {depth: 2}\n"))
    assert policy.agents["finance"].delegates == ("helpdesk",)
    assert policy.agents["helpdesk"].delegates == ()
    assert policy.delegation_depth == 2


@pytest.mark.parametrize(
    ("delegates", "more", "message"),
    [
        ("[helpdsek]", "", "no agent is called 'helpdsek'. Did you mean 'helpdesk'?"),
        ("[helpdesk, helpdesk]", "", "'helpdesk' appears twice."),
        ('["*"]', "", "'*' is not accepted: an agent name is"),
        ("[]", "", "empty never means all"),
        ("[helpdesk]", "delegation: {depth: 1}\n", "a chain of 1 agent is no delegation, and agent 'finance'"),
        ("[helpdesk]", "delegation: {deep: 2}\n", "delegation has no key 'deep'"),
        ("[helpdesk]", "delegation: {depth: 9}\n", ""),
        ("[helpdesk]", "delegation: {depth: true}\n", ""),
    ],
)
def test_mistakes(delegates: str, more: str, message: str) -> None:
    found = problem(with_delegates(delegates, more=more))
    assert message in found
    assert found.startswith("zt-agents.yaml:")
