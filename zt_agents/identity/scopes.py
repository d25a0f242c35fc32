"""Task scopes: what one task may touch, within what the policy allows. A scope only ever takes away.

Rules:

1. A tool is named exactly. A resource is named exactly (``ticket/5``), or everything below it is (``ticket/*``); an
   empty text stands for the calls of tools that name no resource. There is no other pattern.
2. What a scope does not mention it does not limit. What it mentions is all that is left: an empty list is nothing.
3. A scope within another admits nothing that the other does not. One that would is refused, never cut to fit: whoever
   asked for more is to know that they do not have it.
4. In a token it is an ``authorization_details`` of a type of its own (RFC 9396, section 2). A member, a type or a value
   that is not understood makes the token invalid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from zt_agents.errors import ScopeError
from zt_agents.provenance.labels import DataClass

DETAILS_TYPE = "zt_agents_task_scope"
_BELOW = "/*"
_LONGEST = 1_000
"""Characters of one name."""
_MOST = 500
"""Names in one list."""


def _names(what: str, given: Iterable[str] | None) -> tuple[str, ...] | None:
    # A text is iterable too: tools="pay" would be the tools "p", "a" and "y".
    if given is None:
        return None
    if isinstance(given, str | bytes | Mapping):
        raise ValueError(f"{what} of a scope are a list of texts")  # noqa: TRY004 - as for every other bad value here
    names = tuple(given)
    if not all(isinstance(name, str) and len(name) <= _LONGEST for name in names) or len(names) > _MOST:
        raise ValueError(f"{what} of a scope are at most {_MOST} texts of at most {_LONGEST} characters")
    return tuple(sorted(set(names)))


@dataclass(frozen=True, slots=True)
class TaskScope:
    """What a task may touch. None: whatever the policy allows."""

    tools: tuple[str, ...] | None = None
    """Exact names."""
    resources: tuple[str, ...] | None = None
    """``ticket/5``, or ``ticket/*`` for everything below ``ticket/``; ``""`` for calls that name none."""
    data_class: DataClass | None = None
    """Gravest data class of what a tool returns."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", _names("tools", self.tools))
        object.__setattr__(self, "resources", _names("resources", self.resources))
        if self.data_class is not None:
            object.__setattr__(self, "data_class", DataClass(self.data_class))
        if "" in (self.tools or ()):
            raise ValueError("a tool has a name")
        for pattern in self.resources or ():
            if "*" in pattern.removesuffix(_BELOW) or pattern == _BELOW:
                raise ValueError(f"{pattern!r} names no resource: write ticket/5, or ticket/* for all below ticket/")

    def admits(self, tool: str, resource: str, data_class: DataClass) -> bool:
        """Return whether a call of *tool* on *resource*, which returns data of *data_class*, is within this scope."""
        return not self.unmet(tool, resource, data_class)

    def unmet(self, tool: str, resource: str, data_class: DataClass) -> tuple[str, ...]:
        """Return which parts of this scope do not admit such a call: ``tools``, ``resources``, ``data_class``."""
        return _failing(
            tools=self.tools is None or tool in self.tools,
            resources=self.resources is None or any(_covers(pattern, resource) for pattern in self.resources),
            data_class=self.data_class is None or data_class.rank <= self.data_class.rank,
        )

    def narrows(self, outer: TaskScope | None) -> bool:
        """Return whether *outer* admits everything that this scope admits."""
        return outer is None or not self._wider(outer)

    def _wider(self, outer: TaskScope) -> tuple[str, ...]:
        """Return which parts of this scope admit what *outer* does not."""
        return _failing(
            tools=outer.tools is None or (self.tools is not None and set(self.tools) <= set(outer.tools)),
            resources=_all_covered(self.resources, outer.resources),
            data_class=outer.data_class is None
            or (self.data_class is not None and self.data_class.rank <= outer.data_class.rank),
        )

    def within(self, outer: TaskScope | None) -> TaskScope:
        """Return this scope, limited by *outer* where it does not say anything itself.

        Raises:
            ScopeError: it admits what *outer* does not.
        """
        if outer is None:
            return self
        inner = TaskScope(
            outer.tools if self.tools is None else self.tools,
            outer.resources if self.resources is None else self.resources,
            outer.data_class if self.data_class is None else self.data_class,
        )
        if wider := inner._wider(outer):
            text = f"The scope asks for more than the session has: {', '.join(wider)}."
            raise ScopeError(text, hint="A delegation can only narrow: leave out what the session does not have.")
        return inner

    def to_details(self) -> list[dict[str, Any]]:
        """Return the ``authorization_details`` that say this scope."""
        said: dict[str, Any] = {"type": DETAILS_TYPE}
        if self.tools is not None:
            said["tools"] = list(self.tools)
        if self.resources is not None:
            said["resources"] = list(self.resources)
        if self.data_class is not None:
            said["data_class"] = self.data_class.value
        return [said]

    @classmethod
    def from_details(cls, details: object) -> Self:
        """Return the scope that ``authorization_details`` say.

        Raises:
            ValueError: they say something else, or more.
        """
        if not isinstance(details, list) or len(details) != 1 or not isinstance(details[0], dict):
            raise ValueError("authorization_details are a list of one object")
        said = dict(details[0])
        if said.pop("type", None) != DETAILS_TYPE or not said.keys() <= {"tools", "resources", "data_class"}:
            raise ValueError("authorization_details of another type, or with more members than are understood")
        scope = cls(**said)
        if scope.to_details() != details:  # an object or a null for a list, a list that is not sorted, a name twice
            raise ValueError("authorization_details that could be written otherwise")
        return scope


def _failing(**held: bool) -> tuple[str, ...]:
    return tuple(part for part, holds in held.items() if not holds)


def _covers(pattern: str, resource: str) -> bool:
    """Return whether *pattern* covers *resource*, which may itself be a pattern."""
    if not pattern.endswith(_BELOW):
        return pattern == resource
    above = pattern[: -len("*")]
    return resource.startswith(above) and resource != above


def _all_covered(inner: tuple[str, ...] | None, outer: tuple[str, ...] | None) -> bool:
    # Sound and complete one by one: what is below a name is never covered by finitely many narrower names.
    if outer is None:
        return True
    return inner is not None and all(any(_covers(pattern, each) for pattern in outer) for each in inner)
