"""Secrets that lie about: in what a tool's body holds or refers to, in the environment, in a policy file.

Such a secret is there for every call, allowed or not, and for all code in the process. What is found is said by its
place and why it looks like a secret, never by its value.

Nothing of what is looked at is run: no property, no method, no attribute that would be computed. What is found is
guessed from names and forms, so that there can be more: in C extensions, in files, in what a body fetches by itself.
"""

from __future__ import annotations

import collections
import dis
import enum
import functools
import re
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zt_agents._internal.secret_forms import form_of_secret, is_secret_name

_DEEPEST = 6
_MOST = 5_000
"""Objects that are looked at below one tool."""
_SHORTEST = 6
_PLACEHOLDER = re.compile(
    r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[A-Z]+"  # the name of a variable
    r"|[.*xX_-]+|<.*>|\$\{?.*|\{.*\}|%.*%"
    r"|(?i:none|null|true|false|bearer|basic|token|password|string|default|auto|optional|required|your[-_ ].*)"
    r"|(?i:enabled|disabled|managed|strict|X-[a-z-]+)"
)
_ABOUT = re.compile(
    r"(?:name|type|kind|policy|field|path|ur[il]|endpoint|file|source|format|limit|count|ttl|expir\w*|lifetime|seconds"
    r"|method|mode|arn|prefix|length|algorithm|provider|audience|scopes?)$"
)
"""How a name ends that is about a secret, and not of one."""
_VAGUE = re.compile(
    r"(?<!public)(?<!cache)(?<!sort)(?<!primary)(?<!partition)(?<!foreign)(?<!idempotency)(?<!dedup)(?<!object)key$"
    r"|auth$|pass$|(?:^|github|gitlab|azure|devops)pat$"
)
"""How a name ends that may be of a secret."""
_KEY_LIKE = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+/_=]{20,}")
_LONGEST = 65_536
"""Bytes of which a form is looked for."""
_PATH = re.compile(r"~?\.{0,2}/[^\s]*|[\w./-]+\.(?:pem|key|json|ya?ml|toml|txt|crt|db)|https?://[^\s@]*")
_SEALED = ("zt_agents", "builtins", "threading", "logging", "asyncio", "_thread", "abc", "typing", "re")
"""Packages whose objects are not looked into."""
_FRAMEWORKS = ("pydantic", "langchain_core", "langchain", "langgraph", "typing", "builtins", "abc")
"""Packages whose classes hold no attributes of the tool's."""


@dataclass(frozen=True, slots=True)
class AmbientSecret:
    """A secret that lies about."""

    place: str
    """Such as ``tool 'charge': closure of charge, api_key``."""
    why: str
    """Such as ``named like a secret``."""


def in_tool(name: str, tool: Any) -> list[AmbientSecret]:
    """Return what the body of *tool* holds or refers to."""
    search = _Search()
    search.look(tool, "", 0)
    return [AmbientSecret(f"tool {name!r}: {place or 'itself'}", why) for place, why in search.found.items()]


def in_environment(environment: Mapping[str, str], *, declared: Collection[str]) -> list[AmbientSecret]:
    """Return what is in *environment*, less the *declared* variables that a guard takes out of it."""
    found = ((name, _why(name, value)) for name, value in environment.items() if name not in declared)
    return [AmbientSecret(f"environment: {name}", why) for name, why in found if why]


def in_document(data: Any) -> list[AmbientSecret]:
    """Return what stands in the *data* of a policy file, by its form only: to name secrets is right there."""
    found = ((place, form_of_secret(text)) for place, text in _texts(data, ""))
    return [AmbientSecret(f"policy: {place}", f"looks like {form}") for place, form in found if form]


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{place}[{index}]")


def _why(name: str, value: str | bytes) -> str:
    """Return why *value*, which goes by *name*, looks like a secret; an empty text where it does not."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    form = form_of_secret(text)
    if form and form != "a random text":
        return f"looks like {form}"
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    told = is_secret_name(name) and not _ABOUT.search(plain) and len(text) >= _SHORTEST and text.count(" ") < 2
    told = told or (_VAGUE.search(plain) is not None and _KEY_LIKE.fullmatch(text) is not None)
    if told and not _PLACEHOLDER.fullmatch(text) and not _PATH.fullmatch(text):
        return "named like a secret"
    return f"looks like {form}" if form else ""


class _Search:
    """Walks what can be reached from a tool, and notes what looks like a secret."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._seen: set[int] = set()
        self._kept: list[Any] = []
        """What was seen, so that no id is used twice."""

    def look(self, value: Any, place: str, depth: int, name: str = "") -> None:
        if isinstance(value, bytearray | memoryview):
            value = _bytes_of(value)
        if isinstance(value, str | bytes):
            if why := _why(name, value):
                self.found.setdefault(place, why)
            return
        if depth > _DEEPEST or len(self._seen) >= _MOST or id(value) in self._seen or value is None:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if type(value).__name__ in {"SecretStr", "SecretBytes"} and _is_of(type(value), ("pydantic",)):
            if vars(value).get("_secret_value"):
                self.found.setdefault(place, "a secret of pydantic's")
            return
        for child, where, child_name in _children(value, name):
            self.look(child, f"{place}, {where}" if place else where, depth + 1, child_name)


_Child = tuple[Any, str, str]
_CONTAINERS = (list, tuple, set, frozenset, collections.deque, dict, types.MappingProxyType, collections.defaultdict)


def _children(value: Any, name: str) -> Iterator[_Child]:
    if isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield value.__func__, f"method {value.__func__.__name__}", ""
        yield value.__self__, f"object of {value.__func__.__name__}", ""
    elif isinstance(value, functools.partial):
        yield value.func, "partial", ""
        yield from ((item, f"argument {index} of partial", "") for index, item in enumerate(value.args))
        yield from ((item, f"argument {key} of partial", key) for key, item in value.keywords.items())
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__, "function", ""
    elif isinstance(value, dict) or type(value) is types.MappingProxyType:
        items = dict.items(value) if isinstance(value, dict) else value.items()  # a subclass's own would be run
        yield from ((item, key, key) if isinstance(key, str) else (item, "item", "") for key, item in items)
        yield from _of_object(value) if type(value) not in _CONTAINERS else ()
    elif type(value) in _CONTAINERS:
        yield from ((item, f"item {index}", name) for index, item in enumerate(value))
    elif isinstance(value, list):
        yield from ((item, f"item {index}", name) for index, item in enumerate(list.__iter__(value)))
    elif isinstance(value, tuple):  # a named one, such as a URL of SQLAlchemy's
        fields = zip(getattr(type(value), "_fields", ()), tuple.__iter__(value), strict=False)
        yield from ((item, f"field {field}", str(field)) for field, item in fields)
    elif not isinstance(value, type | types.ModuleType) and not _is_of(type(value), _SEALED):
        yield from _of_object(value)


def _of_function(function: types.FunctionType) -> Iterator[_Child]:
    here, code = function.__name__, function.__code__
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield cell.cell_contents, f"closure of {here}, {variable}", variable
        except ValueError:  # not set yet
            continue
    parameters = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    for parameter, default in zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True):
        yield default, f"default of {here}, {parameter}", parameter
    for parameter, default in (function.__kwdefaults__ or {}).items():
        yield default, f"default of {here}, {parameter}", parameter
    if _is_of(function, _FRAMEWORKS):
        return
    for text in sorted(_texts_of(code)):
        if form_of_secret(text) not in ("", "a random text"):
            yield text, f"text in {here}", ""
    package = str(function.__module__).partition(".")[0]
    variables, attributes = _names(code, _GLOBALS), _names(code, _ATTRIBUTES)
    for variable in sorted(variables & function.__globals__.keys()):
        held = function.__globals__[variable]
        if isinstance(held, types.ModuleType | type):
            if isinstance(held, enum.EnumType):  # words, such as CREDENTIAL
                continue
            home = held.__name__ if isinstance(held, types.ModuleType) else held.__module__
            if home.partition(".")[0] == package:
                inside = ((each, vars(held)[each]) for each in sorted(attributes & vars(held).keys()))
                yield from ((item, f"{held.__name__}.{each}", each) for each, item in inside if _is_plain(item))
        elif _is_plain(held) or _is_of(held if isinstance(held, types.FunctionType) else type(held), (package,)):
            yield held, f"global of {function.__module__}, {variable}", variable


def _of_object(value: Any) -> Iterator[_Child]:
    # Never by getattr(): a property is code.
    attributes = _own(value, "__dict__"), _own(value, "__pydantic_private__"), _own(value, "__pydantic_extra__")
    for held in attributes:
        if isinstance(held, dict):
            yield from ((item, f"attribute {key}", str(key)) for key, item in held.items())
    for kind in type(value).__mro__:
        if _is_of(kind, _FRAMEWORKS):
            continue
        for key, item in vars(kind).items():
            if isinstance(item, types.MemberDescriptorType) and not key.startswith("__"):  # a slot
                yield _slot(item, value), f"attribute {key}", key
            elif key in {"_run", "_arun", "__call__"} or (_is_plain(item) and not key.startswith("__")):
                yield item, f"class {kind.__name__}, {key}", key


def _bytes_of(value: bytearray | memoryview) -> bytes:
    try:
        return bytes(memoryview(value).cast("B")[:_LONGEST])
    except (ValueError, TypeError):  # one that was released, or whose bytes do not lie together
        return b""


def _own(value: Any, attribute: str) -> Any:
    try:
        return object.__getattribute__(value, attribute)
    except AttributeError:
        return None


def _slot(slot: types.MemberDescriptorType, value: Any) -> Any:
    try:
        return slot.__get__(value)
    except AttributeError:  # not set yet
        return None


_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}


def _names(code: types.CodeType, operations: Collection[str]) -> set[str]:
    """Return what *operations* of a function, and of the functions inside it, refer to by name."""
    inner = (_names(each, operations) for each in code.co_consts if isinstance(each, types.CodeType))
    here = (each.argval for each in dis.get_instructions(code) if each.opname in operations)
    return {str(name) for name in here}.union(*inner)


def _texts_of(code: types.CodeType) -> set[str]:
    """Return the texts that are written in a function, and in the functions inside it, less what documents them."""
    inner = (_texts_of(each) for each in code.co_consts if isinstance(each, types.CodeType))
    here = {each for each in code.co_consts if isinstance(each, str)}
    return here.union({each.decode("latin-1") for each in code.co_consts if isinstance(each, bytes)}, *inner)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bytes | bytearray | memoryview | dict | list) or type(value) is tuple


def _is_of(thing: Any, packages: Collection[str]) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] in packages
