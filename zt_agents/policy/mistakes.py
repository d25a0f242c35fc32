"""What is wrong with a condition, in words for the person who wrote it.

Most mistakes show in the words of an expression, before it is compiled. The compiler has the last say: what
it reports is translated here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from zt_agents._internal.suggest import did_you_mean
from zt_agents.policy.arguments import ValueType
from zt_agents.policy.document import describe_character
from zt_agents.policy.expressions import EDGES, LIFTED, Chain, Token, iteration_variables, plain_text
from zt_agents.policy.variables import ROOTS, Scope


@dataclass(frozen=True, slots=True)
class Mistake:
    """One reason why a condition does not load."""

    message: str
    offset: int
    """Where in the expression, counted in characters."""


_TYPE_NAMES = frozenset(
    {"int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"}
)
_SLIPS = {
    "=": "==", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!", "is": "==", "AND": "&&", "OR": "||",
    "NOT": "!", "True": "true", "False": "false", "None": "null", "nil": "null",
}  # fmt: skip
_CURLY_QUOTES = frozenset("\u2018\u2019\u201a\u201c\u201d\u201e\u2032\u2033\u00ab\u00bb\u00b4")
_OTHER_LANGUAGES = {
    "len": "size", "length": "size", "count": "size", "lower": "lowerAscii", "toLowerCase": "lowerAscii",
    "upper": "upperAscii", "toUpperCase": "upperAscii", "strip": "trim", "includes": "contains", "any": "exists",
    "some": "exists", "every": "all", "str": "string", "float": "double", "match": "matches",
}  # fmt: skip
_BUILDERS = frozenset({"format", "join", "replace"})
_FUNCTIONS = (
    "all", "bool", "bytes", "charAt", "contains", "double", "duration", "dyn", "endsWith", "exists",
    "exists_one", "filter", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
    "getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds", "has",
    "indexOf", "int", "lastIndexOf", "lowerAscii", "map", "matches", "quote",
    "reverse", "size", "split", "startsWith", "string", "substring", "timestamp", "trim", "type", "uint",
    "upperAscii",
)  # fmt: skip


def in_the_words(
    tokens: tuple[Token, ...], used: tuple[Chain, ...], scope: Scope, tool: str
) -> list[Mistake]:
    """Return the mistakes that show before an expression is compiled."""
    return [
        *_slips(tokens, used),
        *_names(tokens, used, scope, tool),
        *_presence_tests(tokens, used, scope),
        *_impossible_texts(tokens, used, scope),
        *_built_texts(tokens),
    ]


def _slips(tokens: tuple[Token, ...], used: tuple[Chain, ...]) -> Iterator[Mistake]:
    words = {chain.first for chain in used if len(chain.parts) == 1}
    for index, token in enumerate(tokens):
        if (token.kind == "other" or index in words) and (right := _SLIPS.get(token.text)):
            yield Mistake(f"{token.text!r} is not CEL. Did you mean {right!r}?", token.start)
        elif token.text == "<" and index + 1 < len(tokens) and tokens[index + 1].text == ">":
            yield Mistake("'<>' is not CEL. Did you mean '!='?", token.start)
        elif token.kind == "other" and token.text in {"'", '"'}:
            yield Mistake("this text is never closed.", token.start)
        elif token.text in _CURLY_QUOTES:
            yield Mistake(f"{token.text} is {describe_character(token.text)}: quote texts with ' or \".", token.start)


def _names(tokens: tuple[Token, ...], used: tuple[Chain, ...], scope: Scope, tool: str) -> Iterator[Mistake]:
    local = set()
    for token in iteration_variables(tokens):
        local.add(token.text)
        if token.text in ROOTS or token.text.startswith(LIFTED):
            yield Mistake(f"{token.text!r} is taken: give the iteration variable another name.", token.start)
    known = [name for name in scope.variables if name not in local]
    for chain in used:
        root = chain.parts[0]
        if root in local or scope.resolve(chain) or chain.name in _TYPE_NAMES or chain.name in _SLIPS:
            continue
        if root == "args" and scope.arguments is None:
            message = f"no recorded schema for tool {tool!r}; run `zt-agents check --accept`."
        elif chain.name in ROOTS:
            message = f"{chain.name!r} is not a value by itself: name one of its parts."
        elif root == "args":
            argument, arguments = chain.name.removeprefix("args."), [name for name in known if name.startswith("args.")]
            parts = [name for name in arguments if name.startswith(f"{chain.name}.")]
            if parts:
                message = f"argument {argument!r} is an object: name one of its parts, such as {parts[0]}."
            else:
                message = f"tool {tool!r} has no argument {argument!r}.{did_you_mean(chain.name, arguments)}"
        else:
            message = f"there is no variable {chain.name!r}.{did_you_mean(chain.name, known)}"
        yield Mistake(message, chain.start)


def _presence_tests(tokens: tuple[Token, ...], used: tuple[Chain, ...], scope: Scope) -> Iterator[Mistake]:
    chain_at = {chain.first: chain for chain in used}
    for index, token in enumerate(tokens):
        if token.text != "has" or _text(tokens, index + 1) != "(":
            continue
        inner = index + 1
        while _text(tokens, inner) in {"(", "."}:
            inner += 1
        chain = chain_at.get(inner)
        if chain and _text(tokens, chain.last + 1) == ")" and scope.resolve(chain) == chain.name:
            instead = f"compare it with null: {chain.name} != null"
            yield Mistake(f"has() cannot be asked of a variable; {instead}.", token.start)


def _impossible_texts(tokens: tuple[Token, ...], used: tuple[Chain, ...], scope: Scope) -> Iterator[Mistake]:
    """Yield the texts that a variable with few possible values is compared with and can never be."""
    for chain in used:
        if scope.resolve(chain) != chain.name:
            continue
        value_type = scope.variables[chain.name].type
        choices = value_type.choices or (value_type.element.choices if value_type.element else ())
        for index in _compared_with(tokens, chain, value_type) if choices else ():
            text = plain_text(tokens[index]) if 0 <= index < len(tokens) else None
            if text is not None and text not in choices:
                hint = did_you_mean(text, choices) or f" It is one of {', '.join(choices)}."
                yield Mistake(f"{chain.name} is never {text!r}.{hint}", tokens[index].start)


def _built_texts(tokens: tuple[Token, ...]) -> Iterator[Mistake]:
    """Refuse functions that can make a text far longer than any argument: nobody can interrupt an evaluation."""
    for index, token in enumerate(tokens):
        if token.text in _BUILDERS and _text(tokens, index + 1) == "(":
            yield Mistake(f"{token.text}() builds texts; a condition compares them: try matches().", token.start)
        text = plain_text(token)
        if text is not None and not unicodedata.is_normalized("NFC", text):
            yield Mistake("this text is not in Unicode's normal form C, so no argument equals it.", token.start)


def _compared_with(tokens: tuple[Token, ...], chain: Chain, value_type: ValueType) -> Iterator[int]:
    """Yield the indexes of the tokens that *chain* is compared with."""
    before, after = chain.first - 1, chain.last + 1
    left, right = _text(tokens, before), _text(tokens, after)
    if value_type.element:
        if left == "in" and _text(tokens, before - 2) in EDGES:
            yield before - 1
        return
    if right in {"==", "!="} and left in EDGES and _text(tokens, after + 2) in EDGES:
        yield after + 1
    if left in {"==", "!="} and right in EDGES and _text(tokens, before - 2) in EDGES:
        yield before - 1
    if right == "in" and _text(tokens, after + 1) == "[":
        index = after + 2
        while _text(tokens, index) not in {"]", ""}:
            if _text(tokens, index - 1) in EDGES and _text(tokens, index + 1) in EDGES:
                yield index
            index += 1


def _text(tokens: tuple[Token, ...], index: int) -> str:
    return tokens[index].text if 0 <= index < len(tokens) else ""


_CEL_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_OVERLOAD = re.compile(r"found no matching overload for '(.+)' applied to '(.*)'")
_UNDECLARED = re.compile(r"undeclared reference to '([^']+)'")
_UNEXPECTED = re.compile(r"Syntax error: (?:mismatched|extraneous) input '(.*?)' expecting")


def in_the_compiler_s_words(errors: str, source: str) -> list[Mistake]:
    """Return what the compiler's message *errors* says about *source*: at least one mistake."""
    lines = source.split("\n")
    mistakes: list[Mistake] = []
    for match in _CEL_ERROR.finditer(errors):
        line, column, text = int(match[1]), int(match[2]), match[3].partition(" [INVALID_ARGUMENT]")[0]
        offset = sum(len(each) + 1 for each in lines[: line - 1]) + column - 1
        mistakes.append(Mistake(_translate(text), min(offset, max(len(source) - 1, 0))))
        if text.startswith("Syntax error"):
            break  # the rest is the parser's confusion
    if not mistakes and "recursion" in errors:
        return [Mistake("this condition is nested too deeply: use several rules.", 0)]
    return mistakes or [Mistake(f"this condition does not compile: {errors.partition(chr(10))[0]}", 0)]


def _translate(text: str) -> str:
    if unexpected := _UNEXPECTED.match(text):
        what = unexpected[1]
        hint = " A list is written in brackets: [1, 2]." if what == "," else ""
        return "the condition is not complete." if what == "<EOF>" else f"{what!r} is not expected here.{hint}"
    if undeclared := _UNDECLARED.search(text):
        name = _OTHER_LANGUAGES.get(undeclared[1], undeclared[1])
        return f"there is no function {undeclared[1]!r}.{did_you_mean(name, _FUNCTIONS)}"
    if overload := _OVERLOAD.search(text):
        operator, types = overload[1].strip("_@"), readable_type(overload[2])
        words = re.findall(r"\w+", types)
        hint = ""
        if "int" in words and "double" in words:
            hint = " Write the whole number with a point, such as 500.0."
        elif "null" in types.strip("()").split(", "):
            hint = " This value is never null."
        return f"{operator!r} does not take {types}.{hint}"
    return f"{text}."


def readable_type(name: str) -> str:
    """Return CEL's name of a type, or of several, as people would say it."""
    name = re.sub(r"wrapper\((\w+)\)", r"\1 or null", name)
    return name.replace("null_type", "null").replace("google.protobuf.Timestamp", "timestamp")
