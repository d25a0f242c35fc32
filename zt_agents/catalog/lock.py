"""The lock file: what every tool looked like when a human accepted it.

It stands beside the policy file and is meant to be committed with it, so a change of a tool's description or
parameters shows up in review. The rules:

1. A missing file is an empty lock: nothing has been accepted yet, so nothing matches it.
2. Anything else that is not exactly a lock file is refused: malformed JSON, unknown or repeated keys, another
   version.
3. Every recorded fingerprint must be the fingerprint of the recorded content, so an edit of one without the
   other is noticed.
4. Writing replaces the file in one step; a reader never sees half of it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zt_agents.catalog.fingerprints import fingerprint
from zt_agents.catalog.specs import ToolDescription
from zt_agents.errors import ConfigurationError

_VERSION = 1
_FILE_KEYS = {"version", "tools"}
_TOOL_KEYS = {"fingerprint", "description", "parameters"}


def lock_path(policy_path: str | Path) -> Path:
    """Return the path of a policy file's lock file: ``<policy stem>.lock.json`` beside it."""
    path = Path(policy_path)
    return path.with_name(f"{path.stem}.lock.json")


@dataclass(frozen=True, slots=True)
class ToolLock:
    """The descriptions a human accepted, by tool name."""

    accepted: Mapping[str, ToolDescription] = field(default_factory=dict)
    """Without annotations: those are not fingerprinted, so there is nothing to accept."""
    fingerprints: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        accepted = dict(self.accepted)
        prints = {name: fingerprint(description) for name, description in accepted.items()}
        object.__setattr__(self, "accepted", MappingProxyType(accepted))
        object.__setattr__(self, "fingerprints", MappingProxyType(prints))

    @property
    def parameters(self) -> Mapping[str, Mapping[str, Any]]:
        """JSON Schema of the arguments of every accepted tool, by tool name."""
        return {name: description.parameters for name, description in self.accepted.items()}

    def accept(self, descriptions: Iterable[ToolDescription]) -> ToolLock:
        """Return a lock in which *descriptions* are accepted as they are now; other tools stay the same."""
        fresh = {
            each.name: ToolDescription(each.name, each.description, dict(each.parameters))
            for each in descriptions
        }
        return ToolLock({**self.accepted, **fresh})

    @classmethod
    def read(cls, path: str | Path) -> ToolLock:
        """Return the lock kept in the file *path*; an empty one when there is no such file.

        Raises:
            ConfigurationError: the file cannot be read, or is not exactly what :meth:`write` writes.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(path, f"it cannot be read ({error})") from error
        try:
            document = json.loads(text, object_pairs_hook=_no_repeated_keys)
        except (ValueError, RecursionError) as error:
            raise _refused(path, f"it is not well-formed JSON ({error})") from error
        return cls(_tools(path, document))

    def write(self, path: str | Path) -> None:
        """Write the lock to the file *path*, replacing it in one step.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        tools = {
            name: {
                "fingerprint": self.fingerprints[name],
                "description": description.description,
                "parameters": dict(description.parameters),
            }
            for name, description in self.accepted.items()
        }
        document = {"version": _VERSION, "tools": tools}
        text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"
        try:
            _replace(Path(path), text)
        except OSError as error:
            raise ConfigurationError(f"The lock file {str(path)!r} cannot be written: {error}.") from error


def _tools(path: str | Path, document: object) -> dict[str, ToolDescription]:
    if not isinstance(document, dict) or set(document) != _FILE_KEYS:
        raise _refused(path, "its keys must be exactly 'version' and 'tools'")
    if type(document["version"]) is not int or document["version"] != _VERSION:
        raise _refused(path, f"its version must be {_VERSION}")
    if not isinstance(document["tools"], dict):
        raise _refused(path, "'tools' must be an object")
    tools: dict[str, ToolDescription] = {}
    for name, entry in document["tools"].items():
        if not isinstance(entry, dict) or set(entry) != _TOOL_KEYS:
            raise _refused(path, f"the keys of tool {name!r} must be exactly {sorted(_TOOL_KEYS)}")
        if not isinstance(entry["description"], str) or not isinstance(entry["parameters"], dict):
            raise _refused(path, f"tool {name!r} needs a text as description and an object as parameters")
        tools[name] = ToolDescription(name, entry["description"], entry["parameters"])
        if entry["fingerprint"] != fingerprint(tools[name]):
            raise _refused(
                path, f"the fingerprint of tool {name!r} is not that of the content recorded with it"
            )
    return tools


def _refused(path: str | Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The lock file {str(path)!r} was refused: {why}.",
        hint="Restore it from version control, or delete it and accept anew: zt-agents check --accept.",
    )


def _no_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is repeated")
    return document


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
