"""What an integration hands to the guard: the tool it sealed, and one attempt to call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zt_agents.catalog.catalog import Standing
from zt_agents.catalog.specs import ToolSpec
from zt_agents.decisions import Reason
from zt_agents.provenance.labels import Label
from zt_agents.sessions.session import Session

if TYPE_CHECKING:
    from zt_agents.guard import Guard

_MAX_ID = 1_000
"""Characters in the id of a call."""


@dataclass(eq=False, slots=True)
class GuardedTool:
    """A tool enrolled with a guard: what its seal holds on to."""

    guard: Guard
    name: str
    spec: ToolSpec | None
    fingerprint: str
    standing: Standing
    effects: tuple[str, ...]
    label: Label
    """Label of what the tool returns."""
    attributes: Mapping[str, Any]
    """Attributes that every span of the tool carries."""
    suspends: Callable[[BaseException], bool]
    """Whether an exception from the body is its framework's way to pause it, not a failure."""

    def __deepcopy__(self, memo: dict[int, Any]) -> GuardedTool:
        return self  # a copied tool stays under the very same guard

    def __reduce__(self) -> str:
        raise TypeError("a seal cannot be pickled: a tool that was pickled refuses until it is sealed again")


@dataclass(frozen=True, slots=True)
class Invocation:
    """One attempt to reach a tool's body, as an integration hands it in."""

    tool: GuardedTool
    arguments: Mapping[str, Any]
    """Parsed, validated and copied; only those a model may supply."""
    session: Session | None
    call_id: str | None = None
    refusal: Reason | None = None
    """Something the integration already knows to be wrong; makes the call a denial."""


def checked_id(call_id: object) -> str | None:
    """Return the id of a call if it is one: it comes from a model, and goes into records and spans."""
    if type(call_id) is str and len(call_id) <= _MAX_ID and call_id.isprintable():
        return call_id
    return None
