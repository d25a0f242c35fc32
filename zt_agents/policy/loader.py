"""Loads a policy file: everything is checked here, or the policy does not load.

::

    policy = load_policy("zt-agents.yaml", parameters={"read_ticket": schema})
    decision = policy.engine.decide(call)

All mistakes of a file are reported at once, each with its line, its column and, where there is one, the word
that was probably meant. There is no such thing as a rule that silently never matches.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zt_agents._internal.suggest import did_you_mean
from zt_agents.catalog.secret_specs import SecretSpec, VaultSpec
from zt_agents.catalog.specs import Effect, Tier, ToolSpec
from zt_agents.decisions import ApprovalTerms, Outcome
from zt_agents.identity.principals import Agent, AgentStatus
from zt_agents.identity.provider.terms import ProviderTerms
from zt_agents.policy.agents import check_delegates, declared_agents, other_agents
from zt_agents.policy.approvers import Eligibility, approval_terms, check_terms
from zt_agents.policy.conditions import ConditionCompiler
from zt_agents.policy.document import Document, read_file, read_text
from zt_agents.policy.engine import PolicyEngine, Rule
from zt_agents.policy.findings import Findings
from zt_agents.policy.identity_provider import provider_terms
from zt_agents.policy.kept_content import ContentPolicy, content_policy
from zt_agents.policy.models import ToolEntry
from zt_agents.policy.rules import build_rules, overruled_rules
from zt_agents.policy.secrets import secret_specs, vault_spec
from zt_agents.policy.signing_keys import KeysPolicy, keys_policy
from zt_agents.policy.spelling import seconds
from zt_agents.policy.validation import ValidPart, validate

_DANGEROUS = frozenset({Effect.DELETE, Effect.EGRESS, Effect.MONEY, Effect.AUTH, Effect.EXECUTE})


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that loaded without a mistake."""

    id: str
    """Name of the policy file."""
    version: str
    """``sha256:`` and a hash over the policy's content and the argument schemas that it was checked with."""
    trust_domain: str
    environment: str
    sources: tuple[str, ...]
    """MODULE:ATTRIBUTE of tools and toolkits."""
    session_ttl: int
    """Seconds."""
    approval_timeout: int
    """Seconds."""
    approval_retention: int
    """Seconds for which arguments are kept after an approval was decided."""
    approvals_path: Path
    eligibility: Eligibility
    """The conditions on approvers."""
    baggage: bool
    """Whether services behind a tool are told which agent calls."""
    audit_path: Path
    revocations_path: Path
    max_staleness: int
    """Seconds for which calls go on while the store of revocations cannot be read."""
    content: ContentPolicy | None
    """What of calls is kept beside their hashes; None is nothing."""
    keys: KeysPolicy | None
    """The folder of the keys that sign; None where the application hands one in, or none is shared."""
    agents: Mapping[str, Agent]
    tools: Mapping[str, ToolSpec]
    """By exact name, tiers already raised by patterns."""
    owner_grace: int
    """Seconds for which an agent goes on after its owner left."""
    delegation_depth: int
    """How many agents a chain of delegation may have."""
    engine: PolicyEngine
    identity_provider: ProviderTerms | None
    """Who says who the users are; None leaves it to the application."""
    warnings: tuple[str, ...]
    """What is allowed to be, and may not be what was meant."""
    secrets: Mapping[str, SecretSpec]
    """By the name by which bodies ask."""
    vault: VaultSpec | None


def load_policy(
    path: Path | str, *, parameters: Mapping[str, Mapping[str, Any]], registered: Iterable[Agent] = ()
) -> Policy:
    """Return the policy in the file at *path*.

    *parameters* maps the name of each tool to the JSON Schema of the arguments that a model may supply:
    conditions, resource templates and argument names are checked against it. Agents that were *registered* elsewhere
    are known to rules as those of the file are.

    Raises:
        PolicyFileError: the file has mistakes; the error lists all of them.
    """
    path = Path(path)
    return _policy(read_file(path), path.name, path.parent, parameters, registered)


def parse_policy(
    text: bytes | str, *, name: str, parameters: Mapping[str, Mapping[str, Any]], registered: Iterable[Agent] = ()
) -> Policy:
    """Return the policy in *text*, called *name* in messages. See :func:`load_policy`."""
    return _policy(read_text(text, name), name, Path(), parameters, registered)


def _policy(
    document: Document,
    policy_id: str,
    folder: Path,
    parameters: Mapping[str, Mapping[str, Any]],
    registered: Iterable[Agent],
) -> Policy:
    findings = Findings(document)
    part = validate(document, findings)
    compiler = ConditionCompiler(parameters)
    declared = declared_agents(part, document, findings)
    others = other_agents(registered, declared, document, findings)
    agents = {**declared, **others}
    part = replace(part, agent_names=part.agent_names | others.keys())
    check_delegates(part, findings)
    tools = _tools(part, compiler, findings)
    check_terms(("approvals",), terms := approval_terms(part.file.approvals), findings)
    rules = build_rules(part, agents, tools, compiler, findings)
    eligibility = _eligibility(part, terms, rules, parameters, findings)
    content = content_policy(part.file.audit.content, part.tool_names, compiler, findings)
    provider = provider_terms(part.file.identity_provider, part.tool_names, folder, findings)
    secrets = secret_specs(part, folder, findings)
    vault = vault_spec(part, folder, findings)
    keys = keys_policy(part.file.keys, folder, findings)
    findings.raise_if_any()

    file = part.file
    longest = max([terms.timeout, *(rule.terms.timeout for rule in rules if rule.terms)])
    content_of = {**document.data, **({"registered": [sorted(others)]} if others else {})}
    version = _fingerprint(content_of, {tool: parameters[tool] for tool in tools if tool in parameters})
    return Policy(
        id=policy_id,
        version=version,
        trust_domain=file.trust_domain,
        environment=file.environment,
        sources=tuple(file.sources),
        session_ttl=seconds(file.session.ttl),
        approval_timeout=longest,
        approval_retention=seconds(file.approvals.retention),
        approvals_path=folder / file.approvals.path,
        baggage=file.telemetry.baggage,
        eligibility=eligibility,
        audit_path=folder / file.audit.path,
        revocations_path=folder / file.revocation.path,
        max_staleness=seconds(file.revocation.max_staleness),
        content=content,
        keys=keys,
        owner_grace=seconds(file.owners.grace),
        delegation_depth=file.delegation.depth,
        agents=MappingProxyType(agents),
        tools=MappingProxyType(tools),
        engine=PolicyEngine(
            policy_id=policy_id, policy_version=version, agents=agents, tools=tools, rules=rules, terms=terms
        ),
        identity_provider=provider,
        warnings=tuple(_warnings(agents, tools, rules)),
        secrets=secrets,
        vault=vault,
    )


def _eligibility(
    part: ValidPart,
    everywhere: ApprovalTerms,
    rules: Iterable[Rule],
    parameters: Mapping[str, Mapping[str, Any]],
    findings: Findings,
) -> Eligibility:
    eligibility = Eligibility(parameters)
    eligibility.add(("approvals", "when"), everywhere.when, part.file.tools, findings)
    places = {entry.id: index for index, entry in part.rules}
    for rule in rules:
        if rule.terms is not None and rule.terms.when != everywhere.when:
            eligibility.add(("rules", places[rule.id], "approvals", "when"), rule.terms.when, rule.tools, findings)
    return eligibility


def _fingerprint(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    # Sorted and compact like RFC 8785, whose numbers have no room for the 64-bit bounds found in schemas.
    text = json.dumps([content, parameters], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _tools(part: ValidPart, compiler: ConditionCompiler, findings: Findings) -> dict[str, ToolSpec]:
    tools = {}
    for name, entry in part.file.tools.items():
        _check_arguments(name, entry, compiler, findings)
        tools[name] = ToolSpec(
            name=name,
            tier=entry.tier,
            effects=frozenset(entry.effects),
            system=entry.system,
            resource=entry.resource,
            data_class=entry.data_class,
            integrity=entry.integrity,
            destinations=tuple(entry.destinations),
            content=tuple(entry.content),
            unmediated=entry.unmediated,
            audiences=tuple(dict.fromkeys(entry.audiences)),
        )
    for index, pattern in part.tier_patterns:
        matched = [name for name in part.tool_names if fnmatchcase(name, pattern.pattern)]
        if not matched:
            message = f"no tool matches {pattern.pattern!r}.{did_you_mean(pattern.pattern, part.tool_names)}"
            findings.add(("tier_patterns", index, "pattern"), message)
        for name in matched:
            if name in tools and tools[name].tier.rank < pattern.at_least.rank:
                tools[name] = replace(tools[name], tier=pattern.at_least)
    return tools


_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def _check_arguments(tool: str, entry: ToolEntry, compiler: ConditionCompiler, findings: Findings) -> None:
    """Note every argument name in a tool's entry that the tool does not have."""
    placeholders = list(_PLACEHOLDER.finditer(entry.resource))
    here = ("tools", tool)
    if "{" in (rest := _PLACEHOLDER.sub("", entry.resource)) or "}" in rest:
        findings.add((*here, "resource"), "a brace is never closed: write {args.name} for an argument.")
    types = compiler.arguments(tool)
    if types is None:
        unchecked = f"no recorded schema for tool {tool!r}; run `zt-agents check --accept`."
        used = {"resource": placeholders, "destinations": entry.destinations, "content": entry.content}
        for key in (key for key, names in used.items() if names):
            findings.add((*here, key), unchecked)
        return
    scalars = {".".join(("args", *path)) for path, value_type in types.items() if value_type.scalar}
    for placeholder in placeholders:
        if placeholder[1] not in scalars:
            known = {".".join(("args", *path)) for path in types}
            problem = (
                "is a list or an object" if placeholder[1] in known else "is not an argument of this tool"
            )
            hint = did_you_mean(placeholder[1], scalars)
            visible = sum(not character.isspace() for character in entry.resource[: placeholder.start()])
            findings.add((*here, "resource"), f"{placeholder[0]} {problem}.{hint}", offset=visible)
    names = {path[0] for path in types}
    for key, used_names in (("destinations", entry.destinations), ("content", entry.content)):
        for index, name in enumerate(used_names):
            if name not in names:
                message = f"tool {tool!r} has no argument {name!r}.{did_you_mean(name, names)}"
                findings.add((*here, key, index), message)


def _warnings(
    agents: Mapping[str, Agent], tools: Mapping[str, ToolSpec], rules: tuple[Rule, ...]
) -> Iterator[str]:
    for tool in tools.values():
        dangerous = sorted(effect.value for effect in tool.effects & _DANGEROUS)
        if tool.tier is Tier.LOW and dangerous:
            yield f"Tool {tool.name!r} is of the low tier, and its effects are {', '.join(dangerous)}."
    folded: dict[str, str] = {}
    for name in tools:
        if (other := folded.setdefault(name.casefold(), name)) != name:
            yield f"Tools {other!r} and {name!r} differ only in upper and lower case."
    for rule, above in overruled_rules(rules):
        yield f"Rule {rule.id!r} allows what rule {above.id!r} always holds for approval."
    used = {agent for rule in rules for agent in rule.agents if rule.outcome is not Outcome.DENY}
    for agent in agents.values():
        if agent.status is AgentStatus.ACTIVE and agent.name not in used:
            yield f"No rule lets agent {agent.name!r} do anything."
