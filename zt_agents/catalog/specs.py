"""What the organisation says about a tool, and what the tool says about itself.

A :class:`ToolSpec` is the organisation's word and is what decisions are based on. A :class:`ToolDescription`
is the tool's own word (name, description, parameters): it is fingerprinted, so that a change is noticed, and
it types the conditions, but it grants nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from zt_agents.provenance.labels import DataClass, Integrity


class Tier(StrEnum):
    """How much a call is worth worrying about, which is how much has to happen before it runs."""

    LOW = "low"
    """Decided automatically."""
    MEDIUM = "medium"
    """Decided by policy checks; the record is durable before the body runs."""
    HIGH = "high"
    """Always needs a human, whatever an allow rule says."""

    @property
    def rank(self) -> int:
        """0 for low."""
        return _TIER_RANK[self]


_TIER_RANK = {value: rank for rank, value in enumerate(Tier)}


class Effect(StrEnum):
    """What a tool does to the world."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    EGRESS = "egress"
    """Data leaves the organisation."""
    MONEY = "money"
    AUTH = "auth"
    """Changes who may do what: passwords, keys, roles."""
    EXECUTE = "execute"
    """Runs code or commands."""


@dataclass(frozen=True, slots=True)
class ToolDescription:
    """A tool as it presents itself to a model."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of the arguments that a model may supply (injected arguments left out)."""
    annotations: Mapping[str, Any] = field(default_factory=dict)
    """MCP tool annotations. Untrusted: they may raise a tier, never lower it, and are not fingerprinted."""
    unmediated: bool = False
    """The provider runs it on its own servers; it never passes the guard."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the organisation sees it: one entry under ``tools:`` in the policy file."""

    name: str
    tier: Tier
    effects: frozenset[Effect]
    system: str = ""
    """Target system that the tool acts on."""
    resource: str = ""
    """Template of the resource touched, such as ``ticket/{args.id}``."""
    data_class: DataClass = DataClass.INTERNAL
    """Data class of what the tool returns."""
    integrity: Integrity = Integrity.UNTRUSTED
    """Integrity of what the tool returns."""
    destinations: tuple[str, ...] = ()
    """Names of arguments that say where data goes."""
    content: tuple[str, ...] = ()
    """Names of arguments that carry the data itself."""
    unmediated: bool = False
    """The provider runs it on its own servers: it never passes the guard, and is accepted by name here."""
    audiences: tuple[str, ...] = ()
    """Services for which its body may have a CallToken."""
