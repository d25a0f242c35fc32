"""What a policy that loads says."""

from __future__ import annotations

import json
from importlib import resources

import jsonschema_rs
import pytest
from policy_example import PARAMETERS, POLICY, load

from zt_agents.catalog.specs import Effect, Tier, ToolSpec
from zt_agents.errors import PolicyFileError
from zt_agents.identity.principals import AgentStatus
from zt_agents.policy.document import read_text
from zt_agents.policy.schema import schema_text
from zt_agents.provenance.labels import DataClass, Integrity


def test_the_policy_object() -> None:
    policy = load()
    assert (policy.id, policy.trust_domain, policy.environment) == (
        "zt-agents.yaml",
        "acme.example",
        "production",
    )
    assert (policy.session_ttl, policy.approval_timeout) == (600, 90)
    assert policy.sources == ("my_app.tools:TOOLS",)
    assert str(policy.audit_path) == "zt-agents-audit.db"
    assert policy.agents["old-bot"].status is AgentStatus.RETIRED
    assert policy.agents["finance"].id == "spiffe://acme.example/agent/finance"
    assert policy.tools["pay"] == ToolSpec(
        name="pay",
        tier=Tier.MEDIUM,
        effects=frozenset({Effect.MONEY, Effect.WRITE}),
        system="bank",
        data_class=DataClass.CONFIDENTIAL,
        integrity=Integrity.TRUSTED,
        destinations=("to",),
        content=("note",),
    )
    assert policy.engine.policy_version == policy.version


def test_defaults() -> None:
    text = POLICY.replace("session: {ttl: 10m}\napprovals: {timeout: 90s}\n", "")
    policy = load(text)
    assert (policy.session_ttl, policy.approval_timeout) == (900, 120)
    assert policy.tools["delete_account"].data_class is DataClass.INTERNAL
    assert policy.tools["delete_account"].integrity is Integrity.UNTRUSTED


def test_a_pattern_raises_a_tier_and_never_lowers_one() -> None:
    assert load().tools["delete_account"].tier is Tier.HIGH
    lowered = load(POLICY.replace("at_least: high", "at_least: low"))
    assert lowered.tools["delete_account"].tier is Tier.MEDIUM


def test_nothing_of_a_policy_can_be_changed_afterwards() -> None:
    policy = load()
    with pytest.raises(TypeError):
        policy.tools["pay"] = policy.tools["read_ticket"]  # type: ignore[index]
    with pytest.raises(TypeError):
        policy.agents["x"] = policy.agents["finance"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        policy.engine = None  # type: ignore[misc, assignment]


def test_the_version_follows_content_and_schemas_and_nothing_else() -> None:
    version = load().version
    assert version.startswith("sha256:")
    assert len(version) == len("sha256:") + 64
    assert load("# a comment\n" + POLICY).version == version
    assert load(parameters={**PARAMETERS, "other": {}}).version == version
    assert load(POLICY.replace("<= 100.0", "<= 100.5")).version != version
    assert load(parameters={**PARAMETERS, "delete_account": {"type": "object"}}).version != version


def test_the_published_schema_is_the_generated_one() -> None:
    published = resources.files("zt_agents.policy").joinpath("policy.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), (
        "run: python -m zt_agents.policy.schema > zt_agents/policy/policy.schema.json"
    )


def test_the_published_schema_agrees_with_the_loader() -> None:
    validator = jsonschema_rs.validator_for(json.loads(schema_text()))
    assert validator.is_valid(read_text(POLICY, "p").data)
    for old, new in [
        ("tier: low", "teir: low"),
        ("tools: [read_ticket]", "tools: []"),
        ("outcome: deny", "outcome: DENY"),
        ("version: 1\n", "version: 2\n"),
        ("ttl: 10m", "ttl: 10 minutes"),
        ("when: args.ticket_id > 0", "when:"),
        ("raise_tier: high", "raise_tier:"),
    ]:
        bad = POLICY.replace(old, new, 1)
        assert bad != POLICY
        assert not validator.is_valid(read_text(bad, "p").data), new
        with pytest.raises(PolicyFileError):
            load(bad)


def test_a_flood_of_mistakes_ends() -> None:
    rule = "  - {id: x, agents: [nobody], tools: [nothing], outcome: allow}\n"
    with pytest.raises(PolicyFileError) as caught:
        load(POLICY + rule * 5000)
    assert len(caught.value.problems) <= 201
    assert "there may be more" in caught.value.problems[-1].message


def test_pairs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from zt_agents.policy import rules

    monkeypatch.setattr(rules, "MAX_PAIRS", 3)
    with pytest.raises(PolicyFileError, match="more than 3 pairs"):
        load()
