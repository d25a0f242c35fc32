"""The catalog: what the organisation says about each tool, and which description of it was accepted.

The rules: a tool that is not listed is unknown; a listed tool whose description differs in any way from the
accepted one has drifted; a listed tool nobody accepted is unrecorded. Only an accepted tool may be called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType

from zt_agents.catalog.fingerprints import fingerprint
from zt_agents.catalog.lock import ToolLock
from zt_agents.catalog.specs import ToolDescription, ToolSpec


class Standing(StrEnum):
    """How a tool, as it presents itself now, stands to the catalog. Anything but ACCEPTED means deny."""

    ACCEPTED = "accepted"
    DRIFTED = "drifted"
    """Name, description or parameters differ from what was accepted."""
    UNRECORDED = "unrecorded"
    """In the catalog, and never accepted."""
    UNKNOWN = "unknown"
    """Not in the catalog."""


class Catalog:
    """Tool specs by exact name, with the descriptions that were accepted for them.

    It does not decide: the policy says who may call a tool, and the guard denies what is not ACCEPTED.
    """

    def __init__(self, specs: Mapping[str, ToolSpec], lock: ToolLock) -> None:
        self._specs = MappingProxyType(dict(specs))
        self._lock = lock

    @property
    def lock(self) -> ToolLock:
        """The accepted descriptions."""
        return self._lock

    def get(self, name: str) -> ToolSpec | None:
        """Return the spec of the tool of exactly this name, or None."""
        return self._specs.get(name)

    def compare(self, description: ToolDescription) -> Standing:
        """Return how a tool that presents itself like this stands to the catalog.

        Raises:
            ConfigurationError: the description has no canonical form.
        """
        if description.name not in self._specs:
            return Standing.UNKNOWN
        accepted = self._lock.fingerprints.get(description.name)
        if accepted is None:
            return Standing.UNRECORDED
        return Standing.ACCEPTED if fingerprint(description) == accepted else Standing.DRIFTED

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)
