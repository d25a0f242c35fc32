"""A first guess at what a tool does, for a human to review. A guess grants nothing.

The rules:

1. Guessing low is the unsafe error: a tool whose name holds no known verb, or characters that could be
   look-alikes, is guessed high.
2. A name is the evidence. The schema and the description add to it; MCP annotations, which a server writes
   about itself, may raise a tier and never lower one.
3. Every guess says why.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from zt_agents.catalog import words
from zt_agents.catalog.specs import Effect, Tier, ToolDescription
from zt_agents.provenance.labels import DataClass, Integrity

_TIER_OF = {
    Effect.READ: Tier.LOW,
    Effect.WRITE: Tier.MEDIUM,
    Effect.EGRESS: Tier.MEDIUM,
    Effect.DELETE: Tier.HIGH,
    Effect.MONEY: Tier.HIGH,
    Effect.AUTH: Tier.HIGH,
    Effect.EXECUTE: Tier.HIGH,
}
_DOES = {
    Effect.READ: "reads",
    Effect.WRITE: "changes something",
    Effect.DELETE: "deletes",
    Effect.EGRESS: "sends data out",
    Effect.MONEY: "moves money",
    Effect.AUTH: "changes who may do what",
    Effect.EXECUTE: "runs code or commands",
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:/ -]+")
_URL_FORMATS = frozenset({"uri", "uri-reference", "iri", "url", "hostname", "idn-hostname", "ipv4", "ipv6"})
_MAIL_FORMATS = frozenset({"email", "idn-email"})
_SENDING = frozenset({Effect.EGRESS, Effect.MONEY})
_CHANGING = frozenset({Effect.WRITE, Effect.EGRESS, Effect.MONEY})
_GRAVE = frozenset({Effect.DELETE, Effect.MONEY, Effect.AUTH, Effect.EXECUTE})
_MAX_DEPTH = 20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Guess:
    """What a tool seems to do. The fields are those of a ToolSpec."""

    tier: Tier
    effects: frozenset[Effect]
    system: str
    resource: str
    data_class: DataClass
    integrity: Integrity
    destinations: tuple[str, ...]
    content: tuple[str, ...]
    why: tuple[str, ...]
    """One sentence for each piece of evidence."""


def split_words(name: str) -> tuple[str, ...]:
    """Return the words of a snake_case, kebab-case or camelCase name, in lower case."""
    return tuple(match.lower() for match in _WORD.findall(name))


def guess(description: ToolDescription) -> Guess:
    """Guess what the tool does from its name, schema, description and annotations."""
    evidence = _Evidence()
    name = split_words(description.name)
    arguments = _arguments(description.parameters)
    _from_name(evidence, description.name, name)
    _from_arguments(evidence, description.parameters, arguments)
    _from_description(evidence, description.description)
    _from_data(evidence, name, description)
    _from_annotations(evidence, description.annotations)
    if description.unmediated:
        evidence.effect(
            Effect.EGRESS, Tier.HIGH, "The provider runs it on its own servers: the guard never sees it."
        )
    destinations = _destinations(evidence, arguments)
    content = tuple(
        a.name for a in arguments if evidence.effects & _CHANGING and a.ends_in(words.CONTENT_WORDS)
    )
    content = tuple(each for each in content if each not in destinations)
    free = [a.name for a in arguments if a.name in destinations and a.free]
    if Effect.EGRESS in evidence.effects and free and content:
        evidence.effect(
            Effect.EGRESS, Tier.HIGH, f"The model chooses both where ({free[0]}) and what ({content[0]})."
        )
    return Guess(
        tier=evidence.tier,
        effects=frozenset(evidence.effects),
        system=_system(name),
        resource=_resource(name, arguments),
        data_class=evidence.data_class,
        integrity=Integrity.UNTRUSTED,
        destinations=destinations,
        content=content,
        why=tuple(evidence.why),
    )


@dataclass(slots=True)
class _Evidence:
    """What has been found so far. It only ever grows more serious."""

    tier: Tier = Tier.LOW
    effects: set[Effect] = field(default_factory=set)
    data_class: DataClass = DataClass.INTERNAL
    why: list[str] = field(default_factory=list)

    def effect(self, effect: Effect, tier: Tier, why: str) -> None:
        self.effects.add(effect)
        self.at_least(tier, why)

    def at_least(self, tier: Tier, why: str) -> None:
        self.tier = max(self.tier, tier, key=lambda each: each.rank)
        if why not in self.why:
            self.why.append(why)

    def data(self, data_class: DataClass, why: str) -> None:
        self.data_class = max(self.data_class, data_class, key=lambda each: each.rank)
        self.at_least(Tier.MEDIUM, why)


@dataclass(frozen=True, slots=True)
class _Argument:
    name: str
    words: tuple[str, ...]
    formats: frozenset[str]
    required: bool
    free: bool
    """Not limited to a list of values."""
    scalar: bool
    """Plainly a text or a number."""

    def ends_in(self, vocabulary: frozenset[str]) -> bool:
        """True when the name is about one of these: the head of an English compound is its last word."""
        return bool(self.words) and self.words[-1] in vocabulary

    @property
    def is_url(self) -> bool:
        return bool(self.formats & _URL_FORMATS) or self.ends_in(words.URL_WORDS)


def _arguments(parameters: Mapping[str, Any]) -> list[_Argument]:
    properties = parameters.get("properties")
    required = parameters.get("required")
    if not isinstance(properties, Mapping):
        return []
    return [
        _Argument(
            name=str(name),
            words=split_words(str(name)),
            formats=frozenset(_values_of("format", schema)),
            required=isinstance(required, list | tuple) and name in required,
            free=not _is_limited(schema),
            scalar=isinstance(schema, Mapping) and schema.get("type") in {"string", "integer"},
        )
        for name, schema in properties.items()
    ]


def _is_limited(schema: object) -> bool:
    """True when the schema lists its values. One of several alternatives doing so limits nothing."""
    return isinstance(schema, Mapping) and (
        "enum" in schema or "const" in schema or _is_limited(schema.get("items"))
    )


def _from_name(evidence: _Evidence, name: str, parts: tuple[str, ...]) -> None:
    if not _PLAIN_NAME.fullmatch(name):
        evidence.effect(
            Effect.WRITE,
            Tier.HIGH,
            "The name holds characters other than plain letters, digits, '_', '-', '.', ':'.",
        )
    verb_seen = False
    for part in parts:
        effect = words.VERBS.get(part) or (None if verb_seen else words.NOUN_VERBS.get(part))
        if effect is not None:
            verb_seen = True
            evidence.effect(effect, _TIER_OF[effect], f"'{part}' in the name: {_DOES[effect]}.")
    if not verb_seen:
        evidence.effect(Effect.WRITE, Tier.HIGH, "No known verb in the name, so it is taken to be the worst.")
    if evidence.effects != {Effect.READ}:
        for text, effect in _found(parts, words.OBJECTS, words.OBJECT_PAIRS):
            evidence.effect(
                effect,
                _TIER_OF[effect],
                f"'{text}' in the name of a tool that changes something: {_DOES[effect]}.",
            )


def _from_arguments(evidence: _Evidence, parameters: Mapping[str, Any], arguments: list[_Argument]) -> None:
    for argument in arguments:
        if argument.ends_in(words.CODE_WORDS) or "_".join(argument.words) in words.CODE_ARGUMENTS:
            evidence.effect(
                Effect.EXECUTE, Tier.HIGH, f"Argument '{argument.name}' looks like something that is run."
            )
        if argument.is_url:
            evidence.effect(
                Effect.EGRESS,
                Tier.MEDIUM,
                f"Argument '{argument.name}' is an address on the network: data can leave in it.",
            )
    nested = set(_values_of("format", parameters)) & _URL_FORMATS
    if nested and Effect.EGRESS not in evidence.effects:
        evidence.effect(Effect.EGRESS, Tier.MEDIUM, "An address on the network is nested in its arguments.")


def _from_description(evidence: _Evidence, text: str) -> None:
    parts = split_words(text)
    if not parts:
        return
    opening = words.DESCRIPTION_VERBS.get(parts[0])
    if opening is not None:
        evidence.effect(
            opening, _TIER_OF[opening], f"The description opens with '{parts[0]}': {_DOES[opening]}."
        )
    mentioned = next((part for part in parts[1:] if words.DESCRIPTION_VERBS.get(part) in _GRAVE), None)
    if mentioned is not None:
        evidence.at_least(Tier.MEDIUM, f"The description mentions '{mentioned}'.")


def _from_data(evidence: _Evidence, name: tuple[str, ...], description: ToolDescription) -> None:
    places: list[tuple[str, tuple[str, ...]]] = [
        ("name", name),
        ("description", split_words(description.description)),
    ]
    places += [("arguments", split_words(each)) for each in _argument_names(description.parameters)]
    for place, parts in places:
        for text, data_class in _found(parts, words.DATA_CLASSES, words.DATA_CLASS_PAIRS):
            evidence.data(data_class, f"'{text}' in the {place}: {data_class} data.")


def _from_annotations(evidence: _Evidence, annotations: Mapping[str, Any]) -> None:
    """Raise what the server itself admits to. A hint that would lower something is not looked at."""
    if annotations.get("destructiveHint") is True:
        evidence.effect(Effect.DELETE, Tier.HIGH, "Its server says that it may destroy (destructiveHint).")
    if annotations.get("openWorldHint") is True:
        evidence.effect(
            Effect.EGRESS, Tier.MEDIUM, "Its server says that it talks to the outside (openWorldHint)."
        )
    if annotations.get("readOnlyHint") is False:
        evidence.effect(Effect.WRITE, Tier.MEDIUM, "Its server says that it is not read-only (readOnlyHint).")
    if annotations.get("idempotentHint") is False and annotations.get("readOnlyHint") is not True:
        evidence.effect(
            Effect.WRITE, Tier.MEDIUM, "Its server says that repeating a call matters (idempotentHint)."
        )


def _destinations(evidence: _Evidence, arguments: list[_Argument]) -> tuple[str, ...]:
    sends = bool(evidence.effects & _SENDING)
    return tuple(
        argument.name
        for argument in arguments
        if argument.is_url or (sends and (argument.formats & _MAIL_FORMATS or _names_destination(argument)))
    )


def _names_destination(argument: _Argument) -> bool:
    head = argument.words[:-1] if argument.words[-1:] in {("id",), ("ids",), ("name",)} else argument.words
    return bool(head) and (
        head[-1] in words.DESTINATION_WORDS or head[0] in {"to", "recipient", "destination"}
    )


def _system(name: tuple[str, ...]) -> str:
    """Return what stands before the first verb (``gmail`` of ``GmailSendEmail``), or else after it."""
    first = next((i for i, part in enumerate(name) if part in words.VERBS or part in words.NOUN_VERBS), 0)
    return "-".join(name[:first] or name[first + 1 :] or name) or "unknown"


def _resource(name: tuple[str, ...], arguments: list[_Argument]) -> str:
    for argument in arguments:
        if not (
            argument.required and argument.scalar and re.fullmatch(r"[A-Za-z_]\w*", argument.name, re.ASCII)
        ):
            continue
        if argument.ends_in(frozenset({"id", "path", "key", "filename"})):
            nouns = (
                argument.words[:-1]
                or [part for part in name if part not in words.VERBS][-1:]
                or argument.words
            )
            return f"{'-'.join(nouns)}/{{args.{argument.name}}}"
    return ""


def _found(
    parts: tuple[str, ...], single: Mapping[str, _T], pairs: Mapping[tuple[str, str], _T]
) -> Iterator[tuple[str, _T]]:
    yield from ((part, single[part]) for part in dict.fromkeys(parts) if part in single)
    yield from ((" ".join(pair), pairs[pair]) for pair in itertools.pairwise(parts) if pair in pairs)


def _values_of(keyword: str, schema: object, depth: int = 0) -> Iterator[str]:
    """Yield the values of a keyword anywhere inside a schema, as text."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == keyword and isinstance(value, str | list | tuple):
                yield from [value] if isinstance(value, str) else map(str, value)
            else:
                yield from _values_of(keyword, value, depth + 1)
    elif isinstance(schema, list | tuple):
        for each in schema:
            yield from _values_of(keyword, each, depth + 1)


def _argument_names(schema: object, depth: int = 0) -> Iterable[str]:
    """Yield the names of all arguments, nested ones too."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            yield from map(str, properties)
        for value in schema.values():
            yield from _argument_names(value, depth + 1)
    elif isinstance(schema, list | tuple):
        for each in schema:
            yield from _argument_names(each, depth + 1)
