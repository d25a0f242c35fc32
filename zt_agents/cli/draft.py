"""The text of a first policy file: every tool with a guess to review, and one rule, which denies everything.

What a tool says about itself is quoted as a JSON string, or made visible inside a comment, so no name or
description can end its line and write policy of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zt_agents._internal.display import visible
from zt_agents.catalog.guess import Guess
from zt_agents.catalog.specs import Tier, ToolDescription

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NOT_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Plain words that YAML readers take for something else than text."""
_COMMENT_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Draft:
    """What the head of a first policy file says."""

    source: str
    trust_domain: str
    agent: str
    owner: str


def draft_policy(draft: Draft, proposals: Sequence[tuple[ToolDescription, Guess]]) -> str:
    """Return the text of a policy file that catalogues the tools and grants nothing."""
    lines = [*_head(draft), "tools:" if proposals else "tools: {}"]
    for description, guess in proposals:
        lines += _tool(description, guess)
    lines += ["", *_rules(draft, proposals)]
    return "\n".join(lines) + "\n"


def _head(draft: Draft) -> list[str]:
    return [
        f"# A first policy, proposed by: zt-agents init {visible(draft.source)}",
        "# It grants nothing. Look at every line marked `review`, then write your rules at the end.",
        "version: 1",
        f"trust_domain: {_scalar(draft.trust_domain)}  # review: a domain of yours",
        "environment: development  # review",
        f"sources: [{_scalar(draft.source)}]",
        "session: {ttl: 15m}  # review: how long one task may take",
        "approvals: {timeout: 2m}  # review: how long a call waits for a human",
        "audit: {path: zt-agents-audit.db}",
        "",
        "agents:",
        f"  {_scalar(draft.agent)}:",
        f"    id: {_scalar(f'spiffe://{draft.trust_domain}/agent/{draft.agent}')}",
        '    version: "1.0"  # review',
        f"    owner: {_scalar(draft.owner)}  # review: the human who answers for this agent",
        '    purpose: "describe what this agent is for"  # review',
        "    status: active",
        "",
    ]


def _tool(description: ToolDescription, guess: Guess) -> list[str]:
    fields = {
        "tier": guess.tier.value,
        "effects": _list(sorted(effect.value for effect in guess.effects)),
        "system": _scalar(guess.system),
        "resource": _scalar(guess.resource),
        "data_class": guess.data_class.value,
        "integrity": guess.integrity.value,
        "destinations": _list(guess.destinations),
        "content": _list(guess.content),
    }
    if not guess.resource:
        del fields["resource"]
    if description.unmediated:
        fields["unmediated"] = "true"
    opening = description.description.strip().partition("\n")[0]
    return [
        "",
        f"  {_scalar(description.name)}:",
        f"    # It says: {visible(opening, limit=_COMMENT_WIDTH)}",
        *(f"    # review: {visible(sentence)}" for sentence in guess.why),
        *(f"    {key}: {value}  # review" for key, value in fields.items()),
    ]


def _rules(draft: Draft, proposals: Sequence[tuple[ToolDescription, Guess]]) -> list[str]:
    example = next(
        (d.name for d, guess in proposals if guess.tier is Tier.LOW and not d.unmediated), "a_tool"
    )
    return [
        "# Nothing is granted. Replace this rule by rules of your own, such as:",
        "#",
        "#   - id: first-rule",
        f"#     agents: [{_scalar(draft.agent)}]",
        f"#     tools: [{_scalar(example)}]",
        "#     outcome: allow",
        '#     reason: "why this agent needs this tool"',
        "rules:",
        "  - id: nothing-granted-yet",
        '    agents: ["*"]',
        '    tools: ["*"]',
        "    outcome: deny",
        '    reason: "nobody has written rules yet"',
    ]


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return "".join(_escaped(character) for character in json.dumps(text, ensure_ascii=False))


def _escaped(character: str) -> str:
    """Write nothing beyond ASCII raw. YAML knows JSON's escapes, but no surrogate pairs."""
    point = ord(character)
    if " " <= character <= "~":
        return character
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def _list(items: Iterable[str]) -> str:
    return f"[{', '.join(_scalar(item) for item in items)}]"
