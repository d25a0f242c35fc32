"""No way to a tool's body leads around the guard, and no way is changed by it.

``python tests/mediation/test_paths.py`` prints the table.
"""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool
from ways import (
    USER,
    WAYS,
    Bodies,
    ClassTool,
    SyncClassTool,
    Way,
    agent,
    bare_thread,
    call,
    executor,
    function_tool,
    last,
    message,
    node,
    walk,
)

from zt_agents import AccessDeniedError, ConfigurationError, ReasonCode
from zt_agents.errors import SealError, ZeroTrustError
from zt_agents.integrations.langchain import ZeroTrustCallback

ALL = [pytest.param(way, id=way.name) for way in WAYS]


def rules(outcome: str, way: Way) -> str:
    helper = "\n  - {id: helper, agents: [helpdesk], tools: [outer], outcome: allow}" if way.helper else ""
    return f"  - {{id: the-rule, agents: [helpdesk], tools: [add], outcome: {outcome}, reason: because}}{helper}"


def build(way: Way, ran: Bodies) -> list[BaseTool]:
    tool = way.make(ran)
    return [tool, way.helper(tool)] if way.helper else [tool]


@pytest.mark.parametrize("way", ALL)
def test_a_denied_body_does_not_run(way: Way, make_world: Any) -> None:
    ran: Bodies = []
    tools = build(way, ran)
    world = make_world(*tools, rules=rules("deny", way))
    with world.session(), pytest.raises(AccessDeniedError) as denial:
        walk(way, *tools)
    assert ran == []
    assert denial.value.decision.tool == "add"
    assert ("deny", "rule") in world.decisions()


@pytest.mark.parametrize("way", ALL)
def test_an_allowed_body_runs_once_on_what_was_decided_with_the_same_result(way: Way, make_world: Any) -> None:
    bare: Bodies = []
    expected = walk(way, *build(way, bare))
    assert len(bare) == 1
    ran: Bodies = []
    tools = build(way, ran)
    world = make_world(*tools, rules=rules("allow", way))
    with world.session():
        result = walk(way, *tools)
    assert ran == [way.ran]
    assert type(ran[0]) is type(way.ran)
    assert repr(result) == repr(expected)
    assert world.decisions().count(("allow", "rule")) == len(tools), "decided once"


@pytest.mark.parametrize("way", ALL)
def test_without_a_session_no_body_runs(way: Way, make_world: Any) -> None:
    ran: Bodies = []
    tools = build(way, ran)
    world = make_world(*tools, rules=rules("allow", way))
    with pytest.raises(AccessDeniedError) as denial:
        walk(way, *tools)
    assert ran == []
    assert denial.value.decision.reasons[0].code is ReasonCode.NO_SESSION
    assert world.spans()[0].error


def test_a_bare_thread_has_no_session(make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add)
    with world.session(), pytest.raises(AccessDeniedError) as denial:
        bare_thread(lambda: add.invoke({"a": 1}))
    assert ran == []
    assert denial.value.decision.reasons[0].code is ReasonCode.NO_SESSION


def test_the_original_reference_is_the_sealed_tool(make_world: Any) -> None:
    ran: Bodies = []
    original = function_tool(ran)
    listed = [original]
    world = make_world(original, outcome="deny", protect=False)
    assert world.guard.protect(listed) is listed
    assert listed[0] is original
    with world.session(), pytest.raises(AccessDeniedError):
        original.invoke({"a": 1})
    assert ran == []


_MODULE_RAN: Bodies = []


class Portable(BaseTool):
    name: str = "add"
    description: str = "Add two numbers."

    def _run(self, a: int, b: int = 7) -> int:
        _MODULE_RAN.append((a, b))
        return a + b


def test_a_pickled_tool_refuses_until_it_is_sealed_again(make_world: Any) -> None:
    _MODULE_RAN.clear()
    tool = Portable()
    world = make_world(tool)
    loaded = pickle.loads(pickle.dumps(tool))
    assert isinstance(loaded, Portable)
    with world.session():
        for way in (
            lambda: loaded.invoke({"a": 1}),
            lambda: asyncio.run(loaded.ainvoke({"a": 1})),
            lambda: loaded.run({"a": 1}),
            lambda: loaded._run(a=1),
            lambda: loaded.batch([{"a": 1}]),
            lambda: list(loaded.stream({"a": 1})),
        ):
            with pytest.raises(SealError, match="protect"):
                way()
        assert _MODULE_RAN == []
        world.guard.protect(loaded)
        assert loaded.invoke({"a": 1}) == 8
    assert _MODULE_RAN == [(1, 7)]


def test_a_sealed_function_tool_does_not_pickle_its_body_out(make_world: Any) -> None:
    add = function_tool([])
    make_world(add)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pickle.dumps(add)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda t: t.invoke({"a": 1}), id="invoke"),
        pytest.param(lambda t: t.invoke({"a": 1}, {"callbacks": []}), id="invoke, callbacks=[]"),
        pytest.param(lambda t: asyncio.run(t.ainvoke({"a": 1})), id="ainvoke"),
        pytest.param(lambda t: t.run({"a": 1}), id="run"),
        pytest.param(lambda t: node(t).invoke({"messages": [message(call())]}), id="ToolNode"),
        pytest.param(lambda t: agent(t).invoke(USER), id="create_agent"),
        pytest.param(lambda t: executor(t).invoke({"input": "x"}), id="AgentExecutor"),
    ],
)
def test_a_tool_added_after_sealing_is_refused_while_a_session_is_active(use: Any, make_world: Any) -> None:
    ran: Bodies = []
    late = function_tool(ran)
    world = make_world(ClassTool([], name="sealed"))
    with world.session(), pytest.raises(AccessDeniedError) as denial:
        use(late)
    assert ran == []
    assert denial.value.decision.reasons[0].code is ReasonCode.UNSEALED_TOOL
    assert ("deny", "unsealed_tool") in world.decisions()


def test_a_tool_added_after_sealing_is_refused_under_a_session_carried_as_a_token(make_world: Any) -> None:
    ran: Bodies = []
    world = make_world(ClassTool([], name="sealed"))
    token = world.session().token
    with pytest.raises(AccessDeniedError) as denial:
        node(function_tool(ran)).invoke(
            {"messages": [message(call())]}, {"configurable": {"zt_session": token}}
        )
    assert ran == []
    assert denial.value.decision.reasons[0].code is ReasonCode.UNSEALED_TOOL


def test_a_second_tool_of_the_same_name_is_refused(make_world: Any) -> None:
    ran: Bodies = []
    twin_ran: Bodies = []
    add = function_tool(ran)

    @tool("add")
    def twin(a: int) -> int:
        """Do something else."""
        twin_ran.append(a)
        return a

    world = make_world(add)
    with pytest.raises(ConfigurationError, match="Two tools"):
        world.guard.protect([add, twin])
    with world.session():
        with pytest.raises(AccessDeniedError) as denial:
            twin.invoke({"a": 1})
        assert denial.value.decision.reasons[0].code is ReasonCode.UNSEALED_TOOL
        world.guard.protect(twin)
        with pytest.raises(AccessDeniedError) as denial:
            twin.invoke({"a": 1})
        assert denial.value.decision.reasons[0].code is ReasonCode.DRIFT
        assert add.invoke({"a": 1}) == 8
    assert twin_ran == []


def test_an_unsealed_twin_inside_a_class_that_overrides_run_is_refused(make_world: Any) -> None:
    twin_ran: Bodies = []
    twin = SyncClassTool(twin_ran)

    class Cunning(ClassTool):
        def run(self, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
            return twin.invoke(tool_input)

    cunning = Cunning([])
    world = make_world(cunning)
    with world.session(), pytest.raises(AccessDeniedError) as denial:
        cunning.invoke({"a": 1})
    assert twin_ran == []
    assert denial.value.decision.reasons[0].code is ReasonCode.UNSEALED_TOOL


def test_a_tool_of_another_guard_is_refused(make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    first, second = make_world(add), make_world(add, protect=False)
    with pytest.raises(ConfigurationError, match="another guard"):
        second.guard.protect(add)
    with second.session(), pytest.raises(AccessDeniedError) as denial:
        add.invoke({"a": 1})
    assert ran == []
    assert denial.value.decision.reasons[0].code is ReasonCode.WRONG_GUARD
    assert first.decisions() == [("deny", "wrong_guard")]


@pytest.mark.parametrize("use_async", [False, True])
def test_a_callback_alone_governs_an_agent_executor(use_async: bool, make_world: Any) -> None:
    for outcome in ("allow", "deny"):
        ran: Bodies = []
        add = function_tool(ran)
        world = make_world(add, outcome=outcome, protect=False)
        config: Any = {"callbacks": [ZeroTrustCallback(world.guard, world.session())]}

        def run(add: Any = add, config: Any = config) -> Any:
            if use_async:
                return asyncio.run(executor(add).ainvoke({"input": "x"}, config))
            return executor(add).invoke({"input": "x"}, config)

        if outcome == "allow":
            assert run()["intermediate_steps"][0][1] == 8
            assert ran == [(1, 7)]
        else:
            with pytest.raises(AccessDeniedError):
                run()
            assert ran == []


def test_the_three_ways_in_compose_and_decide_once(make_world: Any) -> None:
    from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware

    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add)
    with world.session() as session:
        graph = agent(add, middleware=[ZeroTrustMiddleware(world.guard)])
        config = {
            "callbacks": [ZeroTrustCallback(world.guard, session)],
            "configurable": {"zt_session": session.token},
        }
        assert last(graph.invoke(USER, config)) == "8"
    assert ran == [(1, 7)]
    assert world.decisions() == [("allow", "rule")]
    assert len(world.spans()) == 1


def table() -> str:
    """Return the table of ways as Markdown, by walking each one."""
    import tempfile
    from pathlib import Path

    from world import HEAD, World

    def outcome(way: Way, decision: str) -> str:
        ran: Bodies = []
        tools = build(way, ran)
        lines = [f"  {t.name}: {{tier: low, effects: [write]}}" for t in tools]
        with tempfile.TemporaryDirectory() as folder:
            text = "\n".join([HEAD, "tools:", *lines, "rules:", rules(decision, way), ""])
            world = World(Path(folder), text, tools, None)
            with world.guard:
                world.guard.protect(tools)
                with world.session():
                    try:
                        walk(way, *tools)
                    except ZeroTrustError as error:
                        return f"{type(error).__name__}, body ran {len(ran)}x"
                    return f"body ran {len(ran)}x"

    rows = [f"| {way.name} | {outcome(way, 'deny')} | {outcome(way, 'allow')} |" for way in WAYS]
    return "\n".join(["| way to the body | denied | allowed |", "|---|---|---|", *rows])


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1]))
    print(table())
