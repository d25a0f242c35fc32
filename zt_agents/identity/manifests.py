"""What an agent is made of: version, model, prompt, tools, framework. Its owner accepts that, and no other.

Rules:

1. What is compared are values: a prompt and the tools by their SHA-256, the rest as text. No prompt is kept.
2. Anything that differs is a change, with one exception: fewer of the same tools, since a model may be shown some of
   them at a time.
3. An agent has one accepted manifest. Two prompts are two agents, each with an id of its own.
4. Whoever accepts names the difference that they were shown, by its hash: what changed meanwhile is not accepted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import rfc8785

_PARTS = ("version", "environment", "model", "prompt", "integration")


class Change(NamedTuple):
    """One part that differs. An empty text is: nothing there."""

    part: str
    """version, environment, model, prompt, integration, or ``tool NAME``."""
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """An agent as it was observed, or accepted."""

    version: str
    environment: str
    model: str = ""
    """As its provider calls it, behind the class that calls it: ``ChatOpenAI/gpt-5``."""
    prompt: str = ""
    """``sha256:<hex>`` of the system prompt; see :func:`prompt_hash`."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints by name."""
    integration: str = ""
    """The framework with its major and minor version: ``langchain 1.4``."""
    hash: str = field(init=False, compare=False)
    """Hex SHA-256 over all of it, in the form of RFC 8785."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", MappingProxyType(dict(self.tools)))
        object.__setattr__(self, "hash", _hash(self.to_dict()))

    def __hash__(self) -> int:
        return hash(self.hash)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**{part: getattr(self, part) for part in _PARTS}, "tools": dict(self.tools)}

    @classmethod
    def from_dict(cls, values: Any) -> Manifest:
        """Return what :meth:`to_dict` was called on.

        Raises:
            ValueError: it was something else.
        """
        if not isinstance(values, dict) or set(values) != {*_PARTS, "tools"} or not isinstance(values["tools"], dict):
            raise ValueError("this is no manifest")
        texts = [*(values[part] for part in _PARTS), *values["tools"], *values["tools"].values()]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a manifest is made of texts")
        return cls(**values)

    def covers(self, other: Manifest) -> bool:
        """Return whether whoever accepted this one has accepted *other*."""
        return not any(change.after or not change.part.startswith("tool ") for change in differences(self, other))

    def joined(self, other: Manifest) -> Manifest | None:
        """Return this one with the tools of *other* as well, or None if they differ in anything else."""
        tools = {**self.tools, **other.tools}
        both = replace(self, tools=tools)
        return both if both.covers(self) and both.covers(other) else None


def prompt_hash(prompt: str) -> str:
    """Return ``sha256:<hex>`` of a prompt's UTF-8, or an empty text where there is none."""
    return f"sha256:{hashlib.sha256(prompt.encode('utf-8', 'surrogatepass')).hexdigest()}" if prompt else ""


def differences(before: Manifest | None, after: Manifest) -> Sequence[Change]:
    """Return what differs, part by part and tool by tool; everything does from an agent that was never accepted."""
    old, new = before.to_dict() if before else {}, after.to_dict()
    changes = [Change(part, old.get(part, ""), new[part]) for part in _PARTS if old.get(part, "") != new[part]]
    had, has = old.get("tools", {}), new["tools"]
    names = sorted(name for name in {*had, *has} if had.get(name) != has.get(name))
    return [*changes, *(Change(f"tool {name}", had.get(name, ""), has.get(name, "")) for name in names)]


def difference_hash(agent_id: str, before: Manifest | None, after: Manifest) -> str:
    """Return the hex SHA-256 that stands for one difference of one agent."""
    return _hash({"agent": agent_id, "before": before.to_dict() if before else None, "after": after.to_dict()})


def _hash(values: Any) -> str:
    return hashlib.sha256(rfc8785.dumps(values)).hexdigest()
