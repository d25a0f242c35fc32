"""Holds a document against the models, and says what does not fit in words.

An entry that does not fit is left out and the rest is validated again, so that one misspelled key does not
hide the other mistakes of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from zt_agents._internal.suggest import did_you_mean
from zt_agents.policy import models
from zt_agents.policy.document import Document, Trail, describe_character
from zt_agents.policy.findings import Findings
from zt_agents.policy.spelling import ANY_TEXT, RULES_OF_SPELLING

_PLACES: dict[str, tuple[str, type[BaseModel]]] = {
    "": ("a policy", models.PolicyFile),
    "session": ("session", models.SessionSection),
    "approvals": ("approvals", models.ApprovalsSection),
    "audit": ("audit", models.AuditSection),
    "telemetry": ("telemetry", models.TelemetrySection),
    "delegation": ("delegation", models.DelegationSection),
    "identity_provider": ("identity_provider", models.IdentityProviderSection),
    "keys": ("keys", models.KeysSection),
    "agents": ("an agent", models.AgentEntry),
    "tools": ("a tool", models.ToolEntry),
    "tier_patterns": ("a tier pattern", models.TierPatternEntry),
    "rules": ("a rule", models.RuleEntry),
    "secrets": ("a secret", models.SecretEntry),
    "vault": ("vault", models.VaultSection),
    "owners": ("owners", models.OwnersSection),
    "revocation": ("revocation", models.RevocationSection),
}
_NEEDED = {"version": 1, "trust_domain": "unknown", "environment": "unknown"}
"""Stands in for a value that does not fit, so that validation can go on. Never leaves the loader."""


@dataclass(frozen=True, slots=True)
class ValidPart:
    """What of a policy file fits the models."""

    file: models.PolicyFile
    rules: tuple[tuple[int, models.RuleEntry], ...]
    """The rules that fit, with their place in the file."""
    tier_patterns: tuple[tuple[int, models.TierPatternEntry], ...]
    agent_names: frozenset[str]
    """Names of all agents, of those too that do not fit."""
    tool_names: frozenset[str]


def validate(document: Document, findings: Findings) -> ValidPart:
    """Return what of *document* fits the models, and note in *findings* what does not.

    Raises:
        PolicyFileError: nothing useful is left.
    """
    data = document.data
    dropped: set[Trail] = set()
    try:
        file = models.PolicyFile.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        _note(errors, data, findings)
        dropped = {tuple(each["loc"][: 2 if each["loc"][0] in _LISTED else 1]) for each in errors}
        try:
            file = models.PolicyFile.model_validate(_without(data, dropped))
        except ValidationError:
            findings.raise_if_any()
            raise
    return ValidPart(
        file=file,
        rules=tuple(zip(_kept("rules", data, dropped), file.rules, strict=True)),
        tier_patterns=tuple(zip(_kept("tier_patterns", data, dropped), file.tier_patterns, strict=True)),
        agent_names=frozenset(data["agents"]),
        tool_names=frozenset(data["tools"]),
    )


_LISTED = frozenset({"agents", "tools", "tier_patterns", "rules", "secrets"})


def _kept(section: str, data: Mapping[str, Any], dropped: set[Trail]) -> list[int]:
    if (section,) in dropped:
        return []
    return [index for index in range(len(data.get(section, []))) if (section, index) not in dropped]


def _without(data: Mapping[str, Any], dropped: set[Trail]) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    for key, value in data.items():
        if (key,) in dropped:
            continue
        if key in _LISTED and isinstance(value, dict):
            rest[key] = {name: each for name, each in value.items() if (key, name) not in dropped}
        elif key in _LISTED and isinstance(value, list):
            rest[key] = [each for index, each in enumerate(value) if (key, index) not in dropped]
        else:
            rest[key] = value
    for section in ("tier_patterns", "secrets"):
        if not rest.get(section):
            rest.pop(section, None)
    return {**_NEEDED, **rest}


def _note(errors: Iterable[ErrorDetails], data: Mapping[str, Any], findings: Findings) -> None:
    errors = list(errors)
    explained: set[Trail] = set()  # keys that are missing because they are misspelled
    for error in errors:
        if error["type"] == "extra_forbidden":
            *place, key = error["loc"]
            what, model = _place(tuple(place))
            present = _value_at(data, tuple(place))
            absent = [name for name in model.model_fields if name not in present]
            hint = did_you_mean(str(key), absent)
            if hint:
                explained.update((*place, name) for name in absent if hint.endswith(f" {name!r}?"))
            findings.add(tuple(error["loc"]), f"{what} has no key {str(key)!r}.{hint}", at_key=True)
    for error in errors:
        trail = tuple(error["loc"])
        if error["type"] == "missing":
            if trail not in explained:
                what, _ = _place(trail[:-1])
                findings.add(trail[:-1], f"{what} needs the key {trail[-1]!r}.", at_key=True)
        elif trail[-1:] == ("[key]",):
            findings.add(trail[:-1], message_of(error), at_key=True)
        elif error["type"] != "extra_forbidden":
            findings.add(trail, message_of(error))


_OF_APPROVALS: dict[str, type[BaseModel]] = {"escalate": models.EscalateSection, "standing": models.StandingSection}


def _place(trail: Trail) -> tuple[str, type[BaseModel]]:
    if trail[-2:-1] == ("approvals",) and trail[-1] in _OF_APPROVALS:
        return str(trail[-1]), _OF_APPROVALS[str(trail[-1])]
    if trail[:1] == ("rules",) and trail[2:] == ("approvals",):
        return "approvals", models.RuleApprovals
    if trail[:2] == ("audit", "content"):
        return "content", models.ContentSection
    if trail[:2] == ("identity_provider", "exchange"):
        return "an exchange", models.ExchangeEntry
    return _PLACES[str(trail[0]) if trail else ""]


def _value_at(data: Any, trail: Trail) -> Any:
    for step in trail:
        data = data[step]
    return data


_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list, such as [one, two]",
    "model_type": "a mapping of keys and values",
    "dict_type": "a mapping of names and what they stand for",
}


def message_of(error: ErrorDetails) -> str:
    """Return what does not fit, in words: a sentence."""
    kind, value = error["type"], error["input"]
    context = error.get("ctx", {})
    if expected := _EXPECTED.get(kind):
        quote = (
            " Put it in quotes." if kind == "string_type" and isinstance(value, bool | int | float) else ""
        )
        return f"this must be {expected}, not {_describe(value)}.{quote}"
    if kind == "enum":
        words = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        hint = did_you_mean(value, words) if isinstance(value, str) else ""
        return f"{_describe(value)} is not one of {', '.join(words)}.{hint}"
    if kind == "string_pattern_mismatch":
        strange = next((c for c in value if not c.isascii()), None)
        if strange and context["pattern"] != ANY_TEXT:
            look = f"contains {describe_character(strange)}"
            return f"{value!r} {look}; {RULES_OF_SPELLING[context['pattern']]}."
        return f"{value!r} is not accepted: {RULES_OF_SPELLING[context['pattern']]}."
    if kind == "too_short":
        return "this is empty, and empty never means all: name what is meant."
    if kind == "string_too_long":
        return f"this text is longer than {context['max_length']} characters."
    return error["msg"].removeprefix("Value error, ") + "."


def _describe(value: Any) -> str:
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    return "a list" if isinstance(value, list) else "a mapping"
