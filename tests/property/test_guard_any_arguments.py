"""Whatever the arguments: nothing but our own errors leaves a gate, and a body runs at most once, on ALLOW, on what
was decided.

What LangChain itself does before the gate (turning the input into text for its callbacks, validating it) raises
LangChain's and Python's own errors, on a sealed tool exactly as on a bare one.
"""

from __future__ import annotations

import asyncio
import copy
import datetime
import decimal
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, ValidationError
from world import HEAD, World

from zt_agents._internal.canonical import canonical, encode
from zt_agents.errors import ZeroTrustError
from zt_agents.telemetry import attributes as names

RAN: list[dict[str, Any]] = []


class Typed(BaseModel):
    a: int
    b: str = "x"
    c: list[str] = []


class AnyTyped(BaseModel):
    a: Any
    b: Any = None
    c: Any = None


def note(a: Any, b: Any = None, c: Any = None) -> str:
    RAN.append({"a": a, "b": b, "c": c})
    return "ok"


async def anote(a: Any, b: Any = None, c: Any = None) -> str:
    RAN.append({"a": a, "b": b, "c": c})
    return "ok"


def note_all(**arguments: Any) -> str:
    RAN.append(arguments)
    return "ok"


async def anote_all(**arguments: Any) -> str:
    RAN.append(arguments)
    return "ok"


class Own(BaseTool):
    name: str = "own"
    description: str = "A class."
    args_schema: Any = AnyTyped

    def _run(self, a: Any, b: Any = None, c: Any = None) -> str:
        return note(a, b, c)

    async def _arun(self, a: Any, b: Any = None, c: Any = None) -> str:
        return await anote(a, b, c)


class OwnRun(Own):
    name: str = "own_run"

    def run(self, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        return note_all(**tool_input)

    async def arun(self, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        return await anote_all(**tool_input)


LOOSE = {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "additionalProperties": True}


def make_tools() -> dict[str, BaseTool]:
    def function(name: str, schema: Any, func: Any, coroutine: Any) -> BaseTool:
        return StructuredTool.from_function(func, coroutine, name=name, description="Note.", args_schema=schema)

    made = [
        function("typed", Typed, note, anote),
        function("any_typed", AnyTyped, note, anote),
        function("json_schema", LOOSE, note_all, anote_all),
        Own(),
        OwnRun(),
    ]
    return {each.name: each for each in made}


BARE = make_tools()
SEALED = make_tools()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("guard")
    tools = list(SEALED.values())
    lines = [HEAD, "tools:", *(f"  {name}: {{tier: low, effects: [write]}}" for name in SEALED)]
    lines.append(
        f"rules:\n  - {{id: go, agents: [helpdesk], tools: [{', '.join(SEALED)}], outcome: allow, "
        "when: context.attributes.go == true}\n"
    )
    world = World(folder, "\n".join(lines), tools, None)
    with world.guard:
        world.guard.protect(tools)
        yield world


# -- values -----------------------------------------------------------------------------------------------------------


class Awkward:
    """An object that fights back."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparing")

    def __hash__(self) -> int:
        raise RuntimeError("no hashing")

    def __repr__(self) -> str:
        return "Awkward()"


class NoCopy:
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copying")


class Wide(BaseModel):
    x: Any = None


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def cyclic(value: Any) -> list[Any]:
    ring: list[Any] = [value]
    ring.append({"again": ring})
    return ring


LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([53, 64, 1_000, 20_000]).map(lambda bits: 2**bits),
    st.sampled_from([-0.0, 1e308]),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.sampled_from(["\ud800", "a\x00b", "\u202e", "1", "true"]),
    st.sampled_from([1_100_000, 10_000_000]).map(lambda length: "x" * length),
    st.binary(max_size=8),
    st.complex_numbers(max_magnitude=1),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.sampled_from([decimal.Decimal("NaN"), datetime.date.min, uuid.UUID(int=0), Path("/x"), ..., object, print]),
    st.builds(Awkward),
    st.builds(NoCopy),
    st.builds(lambda: (i for i in range(3))),
    st.integers(60, 1_500).map(nested),
)
KEYS = st.one_of(st.text(st.characters(), max_size=5), st.integers(), st.none(), st.binary(max_size=2))
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=4),
        st.builds(Wide, x=inner),
        inner.map(cyclic),
    ),
    max_leaves=8,
)
ARGUMENTS = st.one_of(
    st.fixed_dictionaries({"a": VALUES}, optional={"b": VALUES, "c": VALUES}),
    st.fixed_dictionaries({"a": st.integers(0, 9)}, optional={"b": st.text(max_size=3), "c": st.just(["x"])}),
    st.dictionaries(st.sampled_from(["a", "b", "c", "d", "callbacks", "config", "run_manager", "self"]), VALUES),
)



class Arguments:
    """Arguments in a box whose repr never fails, so that a failing example can be shown."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __repr__(self) -> str:
        try:
            return f"Arguments({self.values!r:.500})"
        except Exception as error:
            return f"Arguments(<{type(error).__name__} in repr>)"


BOXED = ARGUMENTS.map(Arguments)
Use = Callable[[Any, dict[str, Any]], Any]
GATES: dict[str, Use] = {
    "func": lambda tool, arguments: tool.func(**arguments),
    "coroutine": lambda tool, arguments: asyncio.run(tool.coroutine(**arguments)),
}
METHODS: dict[str, Use] = {
    "_run": lambda tool, arguments: tool._run(**arguments),
    "_arun": lambda tool, arguments: asyncio.run(tool._arun(**arguments)),
}
ENTRIES: dict[str, Use] = {
    "invoke": lambda tool, arguments: tool.invoke(arguments),
    "ainvoke": lambda tool, arguments: asyncio.run(tool.ainvoke(arguments)),
    "run": lambda tool, arguments: tool.run(arguments),
    "arun": lambda tool, arguments: asyncio.run(tool.arun(arguments)),
    "batch": lambda tool, arguments: tool.batch([arguments]),
}

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def attempt(world: World, use: Use, tool: BaseTool, arguments: dict[str, Any], *, go: bool) -> BaseException | None:
    """Use *tool* and return what it raised; fail if the body ran without, or on something else than, the decision."""
    RAN.clear()
    world.recorder.clear()
    error: BaseException | None = None
    with world.session(attributes={"go": go}):
        try:
            use(tool, arguments)
        except BaseException as raised:
            error = raised
    spans = world.spans()
    allowed = [span for span in spans if span.attributes[names.DECISION_OUTCOME] == "allow"]
    assert len(RAN) == len(allowed) <= 1
    if RAN:
        assert go
        assert error is None
        (span,) = allowed
        assert world.guard.keyed_hash(encode(canonical(RAN[0]))) == span.attributes[names.ARGS_HASH]
    elif isinstance(error, ZeroTrustError):
        assert spans, "a refusal is traced"
        assert spans[-1].error
    return error


@pytest.mark.parametrize("go", [True, False], ids=["allowed", "denied"])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", ["typed", "any_typed", "json_schema"])
@QUICK
@given(arguments=BOXED)
def test_only_our_errors_leave_a_gate(name: str, gate: str, go: bool, arguments: Arguments, world: World) -> None:
    error = attempt(world, GATES[gate], SEALED[name], arguments.values, go=go)
    assert error is None or isinstance(error, ZeroTrustError | TypeError)
    if isinstance(error, TypeError):  # Python's own: the body takes no argument of this name
        assert _raises(GATES[gate], BARE[name], arguments.values, TypeError)


@pytest.mark.parametrize("gate", METHODS)
@QUICK
@given(arguments=BOXED)
def test_only_our_errors_leave_a_class(gate: str, arguments: Arguments, world: World) -> None:
    error = attempt(world, METHODS[gate], SEALED["own"], arguments.values, go=True)
    assert error is None or isinstance(error, ZeroTrustError | TypeError)
    if isinstance(error, TypeError):
        assert _raises(METHODS[gate], BARE["own"], arguments.values, TypeError)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", list(SEALED))
@QUICK
@given(arguments=BOXED)
def test_an_entry_raises_our_errors_or_what_the_bare_tool_raises(
    name: str, entry: str, arguments: Arguments, world: World
) -> None:
    error = attempt(world, ENTRIES[entry], SEALED[name], arguments.values, go=True)
    if name == "own_run" and isinstance(error, ValidationError):
        return  # a class with its own run() gets its input validated by its schema, which LangChain would not do
    if error is not None and not isinstance(error, ZeroTrustError):
        assert _raises(ENTRIES[entry], BARE[name], arguments.values, type(error))


@pytest.mark.parametrize("entry", ENTRIES)
@QUICK
@given(arguments=BOXED)
def test_a_denied_body_never_runs(entry: str, arguments: Arguments, world: World) -> None:
    for tool in SEALED.values():
        attempt(world, ENTRIES[entry], tool, _copied(arguments.values), go=False)
        assert RAN == []


def _copied(arguments: dict[str, Any]) -> dict[str, Any]:
    with suppress(Exception):
        return copy.deepcopy(arguments)
    return dict(arguments)


def _raises(use: Use, tool: BaseTool, arguments: dict[str, Any], kind: type[BaseException]) -> bool:
    try:
        use(tool, arguments)
    except BaseException as error:
        return isinstance(error, kind)
    return False
