"""From the ``content`` of a file to what of calls is kept; a path that could never match anything is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zt_agents._internal.json_paths import Path, Step, parse_path
from zt_agents._internal.suggest import did_you_mean
from zt_agents.policy.conditions import ConditionCompiler
from zt_agents.policy.findings import Findings
from zt_agents.policy.models import ContentSection
from zt_agents.provenance.labels import DataClass

_PARTS = ("arguments", "result")


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """Which arguments and results are kept, and without what."""

    keep: DataClass
    """The gravest data class that is kept."""
    redact: tuple[tuple[str, Path], ...]
    """(tool or empty for every tool, path from ``arguments`` or ``result``) of what is taken out."""


def content_policy(
    section: ContentSection, tools: Iterable[str], compiler: ConditionCompiler, findings: Findings
) -> ContentPolicy | None:
    """Return what *section* says, or None where nothing is kept; note every path that is none or leads nowhere."""
    names = sorted(tools)
    redact = []
    for index, text in enumerate(section.redact):
        tool = "" if text.startswith("$") or ":$" not in text else text[: text.index(":$")]
        try:
            path = parse_path(text[len(tool) + 1 :] if tool else text)
        except ValueError as error:
            problem = f"{error}."
        else:
            problem = _problem(tool, path, names, compiler)
            redact.append((tool, path))
        if problem:
            findings.add(("audit", "content", "redact", index), problem)
    if section.keep == "nothing":
        if section.redact:
            findings.add(("audit", "content", "redact"), "nothing is kept: say what, with the key 'keep'.", at_key=True)
        return None
    return ContentPolicy(DataClass(section.keep), tuple(redact))


def _problem(tool: str, path: Path, names: list[str], compiler: ConditionCompiler) -> str:
    """Return why *path* can never match, or an empty string."""
    if tool and tool not in names:
        return f"there is no tool {tool!r}.{did_you_mean(tool, names)}"
    first, *rest = path
    if first.deep or first.name is None:
        return ""
    if first.name not in _PARTS:
        return f"what is kept begins with $.arguments or $.result, not with $.{first.name}."
    if first.name == "arguments" and rest and not rest[0].deep:
        return _unknown_argument(rest[0], [tool] if tool else names, compiler)
    return ""


def _unknown_argument(step: Step, tools: list[str], compiler: ConditionCompiler) -> str:
    if step.name is None:
        return ""
    known: set[str] = set()
    for tool in tools:
        types = compiler.arguments(tool)
        if types is None:
            return ""  # what its arguments are is not known, so it may have this one
        known.update(path[0] for path in types)
    if step.name in known:
        return ""
    whose = f"tool {tools[0]!r} has no argument" if len(tools) == 1 else "no tool has an argument"
    return f"{whose} {step.name!r}.{did_you_mean(str(step.name), known)}"
