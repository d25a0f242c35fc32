"""What is taken out of arguments and results before they are kept.

Rules:

1. A place that a path of the policy leads to is replaced, whatever is there.
2. A secret is replaced, whatever the policy says: a value whose name says that it is one, and a text that looks like
   one. Both are guesses: they find what is common, and what they miss is kept. So keep what need not be secret.
3. A text that is itself JSON is taken for what it says: paths and names reach into it. Where a path goes on below a
   text that is no JSON, or one that only begins like JSON, it would find nothing: the text is replaced.
4. What was replaced says so and why, in its place. Nothing is shortened or dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from zt_agents._internal.json_paths import Path, Walk
from zt_agents._internal.secret_forms import SECRET_TEXTS, is_secret_name

_NAMES_IN_TEXTS = re.compile(
    r"(?<![\w.-])([\w.-]++)\\*+['\"]?\s*+[:=]\s*+(?=\S)"  # in almost JSON, in headers, queries and settings
    r"|(?<!\S)--?+([\w-]++)\s++(?=\S)"  # in a command
)
_OPTION = re.compile(r"--?+[\w-]++")
_BEGINS_LIKE_JSON = re.compile(r"[\s\ufeff]*+(?:\{|\[\s*+[\[{\"'\d-])")
_DEEPEST = 128


class Redaction:
    """Takes out what the *paths* of the policy name, and secrets. Without state; safe to use from any thread."""

    def __init__(self, paths: Iterable[tuple[str, Path]] = ()) -> None:
        """Take paths as the policy has them: (tool or empty for every tool, path from ``arguments`` or ``result``)."""
        self._paths = tuple(paths)

    def __call__(self, tool: str, part: str, value: Any) -> Any:
        """Return a copy of the JSON *value*, which is the *part* (``arguments`` or ``result``) of a call of *tool*."""
        paths = [path for name, path in self._paths if name in ("", tool)]
        return _stepped(value, Walk.along(paths).into(part), 0)


def _walked(value: Any, walk: Walk, depth: int) -> Any:
    if depth > _DEEPEST:
        return _redacted("nested too deeply")
    if type(value) is str:
        inner = _json(value)
        if inner is not None:
            return _walked(inner, walk, depth + 1)
        return _redacted("looks like a secret") if _holds_a_secret(value) else value
    if type(value) is dict:
        pair = _names_a_secret(value)
        members = enumerate(value.items(), 1)
        return {_key(key, number): _member(key, item, walk, depth, pair) for number, (key, item) in members}
    if type(value) is list:
        pair = len(value) == 2
        named = [type(item) is str and (pair or _OPTION.fullmatch(item)) and is_secret_name(item) for item in value]
        return [_item(index, item, walk, depth, bool(index and named[index - 1])) for index, item in enumerate(value)]
    return value


def _member(key: str, value: Any, walk: Walk, depth: int, pair: bool) -> Any:
    below = walk.into(key)
    if below is not None and (is_secret_name(key) or (pair and key.lower() in ("value", "values"))):
        return _secret(value)
    return _stepped(value, below, depth)


def _item(index: int, value: Any, walk: Walk, depth: int, named: bool) -> Any:
    below = walk.into(index)
    return _secret(value) if below is not None and named else _stepped(value, below, depth)


def _stepped(value: Any, below: Walk | None, depth: int) -> Any:
    """Return what is kept of *value*, where the walk stands *below* after one more step."""
    if below is None:
        return _redacted("policy")
    looked_into = type(value) is str and below.ahead and (below.led_here or _BEGINS_LIKE_JSON.match(value))
    if looked_into and _json(value) is None:
        return _redacted("a text, in which the policy's paths find nothing")
    return _walked(value, below, depth + 1)


def _secret(value: Any) -> Any:
    """Return what stands for a value under the name of a secret; whether there is one is none itself."""
    return value if value is None or type(value) is bool else _redacted("named like a secret")


def _key(key: str, number: int) -> str:
    return f"(name {number} redacted: looks like a secret)" if SECRET_TEXTS.search(key) else key


def _holds_a_secret(text: str) -> bool:
    names = _NAMES_IN_TEXTS.finditer(text)
    return SECRET_TEXTS.search(text) is not None or any(is_secret_name(each[1] or each[2]) for each in names)


def _names_a_secret(value: dict[str, Any]) -> bool:
    """Return whether *value* is a pair of the kind ``{"name": "password", "value": ...}``."""
    return any(
        key.lower() in ("name", "key", "header", "field") and type(item) is str and is_secret_name(item)
        for key, item in value.items()
    )


def _json(text: str) -> Any:
    """Return the object or array that *text* is, however often it was put into quotes, or None."""
    if text[:1].isspace() or text[:1] == "\ufeff":
        text = text.lstrip("\ufeff \t\r\n")
    if not text.startswith(("{", "[", '"')):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return _json(value) if type(value) is str else value


def _redacted(why: str) -> dict[str, str]:
    return {"redacted": why}
