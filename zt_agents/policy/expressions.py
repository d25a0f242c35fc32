"""Reading a CEL expression as text, for what its compiler does not tell: which variables it uses and where.

The compiler decides what an expression means; nothing here does. Tokens are only ever used to refuse an
expression, to find the values it needs (one not found is an evaluation error, and fails closed) and to
explain it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
      (?P<space>  \s+ | //[^\n]* )
    | (?P<text>   [rR][bB]? (?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"\n]*" | '[^'\n]*' )
                | [bB][rR] (?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"\n]*" | '[^'\n]*' )
                | [bB]? (?: \"{3}(?:\\.|[^\\])*?\"{3} | '{3}(?:\\.|[^\\])*?'{3}
                          | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' ) )
    | (?P<number> 0[xX][0-9a-fA-F]+[uU]? | (?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?[uU]? )
    | (?P<name>   [A-Za-z_][A-Za-z0-9_]* | `[^`\n]+` )
    | (?P<sign>   && | \|\| | [=!<>]= | [-+*/%!<>?:.,()\[\]{}] )
    | (?P<other>  . )
    """,
    re.VERBOSE | re.DOTALL,
)
_LITERALS = frozenset({"true", "false", "null", "in"})
_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


class Token(NamedTuple):
    kind: str
    """text, number, name, sign, or other for what CEL has no use for."""
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
EDGES = frozenset({"", "&&", "||", "(", ")", "[", "]", "{", "}", "?", ":", ",", "!"})
"""What may stand beside a comparison without being part of what is compared."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A dotted name that starts on its own, such as ``args.amount``."""

    parts: tuple[str, ...]
    first: int
    """Index of its first token."""
    last: int
    """Index of its last token."""
    start: int
    """Offset in the expression."""

    @property
    def name(self) -> str:
        return ".".join(self.parts)


def tokenize(expression: str) -> tuple[Token, ...]:
    """Return the tokens of *expression*, without spaces and comments."""
    return tuple(
        Token(match.lastgroup or "other", match[0], match.start())
        for match in _TOKEN.finditer(expression)
        if match.lastgroup != "space"
    )


def chains(tokens: tuple[Token, ...]) -> Iterator[Chain]:
    """Yield every dotted name in *tokens*; the name of a function or method is not part of one."""
    position = 0
    while position < len(tokens):
        first = position
        position += 1
        if not _starts_chain(tokens, first):
            continue
        last, parts = first, [tokens[first].text.strip("`")]
        while (
            _sign(tokens, last + 1) == "." and _is_name(tokens, last + 2) and _sign(tokens, last + 3) != "("
        ):
            last += 2
            parts.append(tokens[last].text.strip("`"))
        yield Chain(tuple(parts), first, last, tokens[first].start)
        position = last + 1


def iteration_variables(tokens: tuple[Token, ...]) -> Iterator[Token]:
    """Yield the variables that macros such as ``exists(x, ...)`` introduce."""
    for index, token in enumerate(tokens):
        if token.text in _MACROS and _sign(tokens, index - 1) == "." and _sign(tokens, index + 1) == "(":
            position = index + 2
            while _is_name(tokens, position) and _sign(tokens, position + 1) == ",":
                yield tokens[position]
                position += 2


def clauses(expression: str) -> list[str]:
    """Return *expression* cut at its outermost ``||`` and ``&&``, or whole where that cannot be done."""
    pieces: list[str] = []
    depth = start = 0
    for token in tokenize(expression):
        if token.text in _OPENING:
            depth += 1
        elif token.text in _CLOSING:
            depth -= 1
        elif depth == 0 and token.text == "?":
            return [expression.strip()]
        elif depth == 0 and token.text in {"&&", "||"}:
            pieces.append(expression[start : token.start].strip())
            start = token.end
    return [*pieces, expression[start:].strip()]


def lift_literals(expression: str, tokens: tuple[Token, ...]) -> tuple[str, dict[str, int | float | str]]:
    """Return *expression* with the literals that are one whole side of a comparison replaced by names.

    The names are ``_int0``, ``_double0``, ``_string0`` and so on, and come with their values: at most
    :data:`MAX_LIFTED` of each type. ``args.amount <= 500`` becomes ``args.amount <= _int0``.
    """
    pieces: list[str] = []
    values: dict[str, int | float | str] = {}
    end = 0
    for index, token in enumerate(tokens):
        before = tokens[index - 1].text if index else ""
        after = tokens[index + 1].text if index + 1 < len(tokens) else ""
        right = before in _COMPARISONS and after in EDGES
        left = after in _COMPARISONS and before in EDGES
        value = _literal(token) if left or right else None
        if value is None:
            continue
        kind = {int: "_int", float: "_double", str: "_string"}[type(value)]
        number = sum(name.startswith(kind) for name in values)
        if number < MAX_LIFTED:
            values[f"{kind}{number}"] = value
            pieces += [expression[end : token.start], f"{kind}{number}"]
            end = token.end
    return "".join([*pieces, expression[end:]]), values


MAX_LIFTED = 8
LIFTED = ("_int", "_double", "_string")
"""What the names of lifted literals begin with: an iteration variable of such a name would stand before them."""
_MAX_INT = 2**63 - 1


def _literal(token: Token) -> int | float | str | None:
    if token.kind == "text":
        return plain_text(token)
    if token.kind == "number" and re.fullmatch(r"[0-9]{1,19}", token.text) and int(token.text) <= _MAX_INT:
        return int(token.text)
    if token.kind == "number" and re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,15}", token.text):
        return float(token.text)
    return None


def plain_text(token: Token) -> str | None:
    """Return the value of a text literal, or None for one with escapes or a prefix."""
    quoted = re.fullmatch(r"'([^'\\]*)'|\"([^\"\\]*)\"", token.text)
    return (quoted[1] if quoted[1] is not None else quoted[2]) if quoted and token.kind == "text" else None


def _starts_chain(tokens: tuple[Token, ...], index: int) -> bool:
    token = tokens[index]
    if token.kind != "name" or token.text in _LITERALS or _sign(tokens, index + 1) == "(":
        return False
    if _sign(tokens, index - 1) != ".":
        return True
    before = tokens[index - 2] if index >= 2 else None  # a dot with nothing before it marks an absolute name
    return before is None or (before.kind == "sign" and before.text not in _CLOSING) or before.text == "in"


def _sign(tokens: tuple[Token, ...], index: int) -> str:
    return tokens[index].text if 0 <= index < len(tokens) and tokens[index].kind == "sign" else ""


def _is_name(tokens: tuple[Token, ...], index: int) -> bool:
    return 0 <= index < len(tokens) and tokens[index].kind == "name" and tokens[index].text not in _LITERALS
