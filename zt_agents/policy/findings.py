"""Collects the mistakes of a policy file and turns them into problems with a line and a column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from zt_agents.errors import PolicyFileError, Problem
from zt_agents.policy.document import Document, Span, Trail

_MOST = 200
"""A file with more mistakes than this is reported without reading on."""


@dataclass(frozen=True, slots=True)
class _Finding:
    trail: Trail
    message: str
    at_key: bool
    offset: int | None


class Findings:
    """The mistakes found in one document so far."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._findings: list[_Finding] = []

    def add(self, trail: Trail, message: str, *, at_key: bool = False, offset: int | None = None) -> None:
        """Note a mistake in the value at *trail*, in its key, or *offset* characters into its text.

        Raises:
            PolicyFileError: there are more mistakes than anybody wants to read at once.
        """
        self._findings.append(_Finding(trail, message, at_key, offset))
        if len(self._findings) >= _MOST:
            self._raise(["there may be more mistakes: reading stopped here."])

    def raise_if_any(self) -> None:
        """Raise PolicyFileError if anything was noted."""
        if self._findings:
            self._raise([])

    def _raise(self, remarks: Sequence[str]) -> NoReturn:
        name = self._document.name
        spans = self._document.locate({finding.trail for finding in self._findings})
        problems = {
            Problem(name, *_position(spans.get(finding.trail), finding), finding.message)
            for finding in self._findings
        }
        in_order = sorted(problems, key=lambda problem: (problem.line, problem.column, problem.message))
        raise PolicyFileError([*in_order, *(Problem(name, 0, 0, remark) for remark in remarks)])


def _position(span: Span | None, finding: _Finding) -> tuple[int, int]:
    if span is None:
        return 1, 1
    if finding.at_key:
        return span.key_line, span.key_column
    if finding.offset is None:
        return span.line, span.column
    index = _index_in_source(span.source, finding.offset)
    before = span.source[:index]
    if "\n" in before:
        return span.line + before.count("\n"), index - before.rfind("\n")
    return span.line, span.column + index


_ESCAPE = re.compile(r"\\(?:x.{2}|u.{4}|U.{8}|\n\s*|.)", re.DOTALL)


def _index_in_source(source: str, offset: int) -> int:
    """Return where in a scalar as written its visible character number *offset* stands."""
    style, index = source[:1], 0
    if style in {"|", ">"}:
        index = source.find("\n") + 1
    elif style in {"'", '"'}:
        index = 1
    seen, last = 0, index
    while index < len(source):
        step = 1
        if style == "'" and source.startswith("''", index):
            step = 2
        elif style == '"' and (escape := _ESCAPE.match(source, index)):
            step = len(escape[0])
        visible = not source[index].isspace() and source[index : index + 2] not in {"\\n", "\\t", "\\\n"}
        if visible:
            last = index
            if seen == offset:
                break
        seen += visible
        index += step
    return last
