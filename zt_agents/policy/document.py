"""A policy file as plain data that still knows where everything stood.

What is accepted is a small, unsurprising part of YAML:

- UTF-8, at most 32 MB, three million values and 12 levels deep; one document; its root is a mapping.
- No anchors, aliases, tags or merge keys: a policy says what it says where it says it. No duplicate keys.
- No invisible or direction-changing characters, not even in comments: what is reviewed is what is loaded.
- Plain scalars follow the YAML 1.2 core schema: ``no``, ``on`` and ``12:30`` are text. Keys are always
  text.

Anything else is one :class:`~zt_agents.errors.PolicyFileError`. Positions would cost more memory than the
policy itself, so they are not kept: :meth:`Document.locate` reads again when there is something to report.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from zt_agents.errors import PolicyFileError, Problem

MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 12
MAX_VALUES = 3_000_000

Trail = tuple[str | int, ...]
"""Keys and indexes that lead from the root to a value."""

# libyaml is part of every wheel of PyYAML, but not of every build from source
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, among them the line breaks NEL and a lone CR
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"  # invisible or reordering
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_BASED = re.compile(r"0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?)([eE][-+]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Span:
    """Where a value stands, 1-based lines and columns."""

    key_line: int
    key_column: int
    line: int
    column: int
    source: str
    """The value as written, quotes and line breaks included; empty for lists and mappings."""


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a policy file."""

    name: str
    text: str
    data: dict[str, Any]

    def locate(self, trails: Collection[Trail]) -> dict[Trail, Span]:
        """Return where the values at *trails* stand; one that leads nowhere is left out."""
        wanted = set(trails)
        found: dict[Trail, Span] = {}

        def record(trail: Trail, key: Any, start: Any, end: Any, scalar: bool) -> None:
            if trail in wanted:
                source = self.text[start.index : end.index] if scalar else ""
                line, column = start.line + 1, start.column + 1
                at_key = (key.line + 1, key.column + 1) if key else (line, column)
                found[trail] = Span(*at_key, line, column, source)

        _compose(self.name, self.text, record)
        return found


def describe_character(character: str) -> str:
    """Return a character nobody can mistake for another, such as ``U+0430 CYRILLIC SMALL LETTER A``."""
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}{f' {name}' if name else ''}"


def read_file(path: Path) -> Document:
    """Return the content of the policy file at *path*, or raise PolicyFileError."""
    try:
        if not path.is_file():
            what = "this is not a regular file." if path.exists() else "there is no such file."
            _refuse(str(path), 0, 0, what)
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyFileError([Problem(str(path), 0, 0, f"the file cannot be read: {reason}.")]) from error
    return read_text(content, str(path))


def read_text(content: bytes | str, name: str) -> Document:
    """Return *content* as a document called *name* in messages, or raise PolicyFileError."""
    if len(content) > MAX_BYTES:
        _refuse(name, 0, 0, f"the file is larger than {MAX_BYTES // 1024 // 1024} MB.")
    text = _decode(content, name) if isinstance(content, bytes) else content
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if unsafe := _UNSAFE.search(text):
        line, column = _line_and_column(text, unsafe.start())
        _refuse(name, line, column, f"a policy may not contain {describe_character(unsafe[0])}.")
    data = _compose(name, text, None)
    if not isinstance(data, dict):
        what = "is empty" if data is None else "is not a mapping"
        _refuse(name, 1, 1, f"the policy {what}; it starts with 'version: 1'.")
    return Document(name, text, data)


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _line_and_column(content[: error.start].decode("utf-8"), -1)
        byte = content[error.start]
        _refuse(name, line, column, f"the file is not UTF-8: byte 0x{byte:02x} does not belong here.")


def _line_and_column(text: str, index: int) -> tuple[int, int]:
    before = text if index < 0 else text[:index]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _refuse(name: str, line: int, column: int, message: str) -> NoReturn:
    raise PolicyFileError([Problem(name, line, column, message)])


_Record = Callable[[Trail, Any, Any, Any, bool], None]
_AWAITING_KEY = object()


class _Frame:
    """A list or mapping that is still being filled."""

    __slots__ = ("container", "key", "key_mark")

    def __init__(self, container: dict[str, Any] | list[Any]) -> None:
        self.container = container
        self.key: Any = _AWAITING_KEY
        self.key_mark: Any = None

    @property
    def step(self) -> str | int:
        return len(self.container) - 1 if isinstance(self.container, list) else self.key


def _events(name: str, text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        problem, mark = _in_plain_words(error, text)
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise PolicyFileError([Problem(name, line, column, f"this is not YAML: {problem}.")]) from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise PolicyFileError([Problem(name, 0, 0, "this is not YAML: it cannot be read.")]) from error


_QUOTES = "needs quotes around all of it"
_PLAIN_WORDS = (
    ("context", "while scanning a tag", f"a text that begins with '!' {_QUOTES}"),
    ("context", "while scanning an alias", f"a text that begins with '*' {_QUOTES}"),
    ("context", "while scanning an anchor", f"a text that begins with '&' {_QUOTES}"),
    ("context", "while scanning a simple key", "there is no ':' after this key"),
    ("context", "while scanning a quoted scalar", "the quote that opens here is never closed"),
    ("context", "while parsing a flow sequence", "the '[' that opens here is never closed, or a ',' is missing"),
    ("context", "while parsing a flow mapping", "the '{' that opens here is never closed, or a ',' is missing"),
    ("problem", "found unknown escape character", "write a backslash twice, or the text in single quotes"),
    ("problem", "did not find expected key", f"a quote is missing before this, or a text with quotes in it {_QUOTES}"),
    ("problem", "did not find expected '-'", "this line is indented differently from the list that it belongs to"),
    ("problem", "did not find expected <document", "this line is indented differently from those before it"),
    (
        "problem",
        "mapping values are not allowed",
        f"a ':' cannot stand here; a text with ': ' in it {_QUOTES}, and an entry lines up with the one before it",
    ),
    ("problem", "found character that cannot start", f"a text that begins with this character {_QUOTES}"),
)
"""What the parser says of its context or of the problem, and what a person would: where it begins to go wrong."""


def _in_plain_words(error: yaml.MarkedYAMLError, text: str) -> tuple[str, Any]:
    mark = error.problem_mark or error.context_mark
    if mark and text[mark.index : mark.index + 1] == "\t":
        return "a tab stands where only spaces may; indent with spaces", mark
    for part, opening, words in _PLAIN_WORDS:
        if str(getattr(error, part) or "").startswith(opening):
            return words, (error.context_mark if part == "context" else mark)
    return error.problem or error.context or "it cannot be read", mark


def _compose(name: str, text: str, record: _Record | None) -> Any:
    """Return the document in *text* as dicts, lists and scalars; tell *record* where each value stands."""
    frames: list[_Frame] = []
    root: Any = None
    documents = values = 0
    opened: list[tuple[Trail, Any, Any]] = []

    for event in _events(name, text):
        kind = type(event)
        if kind is yaml.ScalarEvent:
            _check_plainness(name, event)
            value: Any = event.value
            if unsafe := _UNSAFE.search(value):  # written as an escape in a quoted text
                _refuse_at(name, event, f"this text contains {describe_character(unsafe[0])}.")
            frame = frames[-1] if frames else None
            if frame and frame.key is _AWAITING_KEY and isinstance(frame.container, dict):
                _check_key(name, event, frame.container)
                frame.key, frame.key_mark = value, event.start_mark
                continue
            if event.implicit[0]:
                value = _resolve(value)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            _check_plainness(name, event)
            if frames and frames[-1].key is _AWAITING_KEY and isinstance(frames[-1].container, dict):
                _refuse_at(name, event, "a key must be text.")
            if len(frames) >= MAX_DEPTH:
                _refuse_at(name, event, f"the policy is nested more than {MAX_DEPTH} levels deep.")
            value = {} if kind is yaml.MappingStartEvent else []
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            frames.pop()
            if frames:
                frames[-1].key = _AWAITING_KEY
            if record:
                trail, key, start = opened.pop()
                record(trail, key, start, event.end_mark, False)
            continue
        elif kind is yaml.AliasEvent:
            _refuse_at(name, event, f"aliases are not allowed: write out what *{event.anchor} stands for.")
        else:
            documents += kind is yaml.DocumentStartEvent
            if documents > 1:
                _refuse_at(name, event, "a policy file holds one document; a second one starts here.")
            continue

        values += 1
        if values > MAX_VALUES:
            _refuse_at(name, event, f"the policy has more than {MAX_VALUES:,} values.")
        frame = frames[-1] if frames else None
        if frame is None:
            root = value
        elif isinstance(frame.container, list):
            frame.container.append(value)
        else:
            frame.container[frame.key] = value
        is_container = kind is not yaml.ScalarEvent
        if record:
            trail = tuple(each.step for each in frames)
            key = frame.key_mark if frame and isinstance(frame.container, dict) else None
            if is_container:
                opened.append((trail, key, event.start_mark))
            else:
                record(trail, key, event.start_mark, event.end_mark, True)
        if frame and not is_container:
            frame.key = _AWAITING_KEY
        if is_container:
            frames.append(_Frame(value))
    return root


def _refuse_at(name: str, event: Any, message: str) -> NoReturn:
    _refuse(name, event.start_mark.line + 1, event.start_mark.column + 1, message)


def _check_plainness(name: str, event: Any) -> None:
    if event.anchor is not None:
        _refuse_at(name, event, f"anchors are not allowed: remove &{event.anchor}.")
    if event.tag is not None:
        _refuse_at(name, event, f"tags are not allowed; a text that begins with '!' {_QUOTES}.")


def _check_key(name: str, event: Any, container: dict[str, Any]) -> None:
    if event.value == "<<":
        _refuse_at(name, event, "merge keys are not allowed: write out what is merged.")
    if event.value in container:
        _refuse_at(name, event, f"the key {event.value!r} appears twice.")


def _resolve(text: str) -> Any:
    """Return the value of a plain scalar by the YAML 1.2 core schema (section 10.3.2)."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if not text[0].isalpha():
        if _INTEGER.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
