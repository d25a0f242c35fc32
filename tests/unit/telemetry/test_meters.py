"""What a guard counts and times, as an application's own meter provider sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from world import World

from zt_agents import AccessDeniedError
from zt_agents.testing import AnsweringChannel

MakeWorld = Callable[..., World]
Points = dict[str, list[Any]]


@pytest.fixture
def act() -> BaseTool:
    @tool
    def act(n: int) -> str:
        """Act."""
        if n == 7:
            raise OSError("disk")
        return "done"

    return act


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def parts(reader: InMemoryMetricReader) -> dict[str, Any]:
    return {"meter_provider": MeterProvider([reader], shutdown_on_exit=False)}


def points(reader: InMemoryMetricReader) -> Points:
    data = reader.get_metrics_data()
    found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
    return {metric.name: list(metric.data.data_points) for metric in found}


def attempt(world: World, act: BaseTool, n: int) -> None:
    with world.session():
        try:
            act.invoke({"n": n})
        except (AccessDeniedError, OSError):
            return


def test_calls_are_timed_and_decisions_counted(
    make_world: MakeWorld, act: BaseTool, reader: InMemoryMetricReader, parts: dict[str, Any]
) -> None:
    world = make_world(act, when="args.n < 100", **parts)
    for n in (1, 2, 7, 500):
        attempt(world, act, n)
    found = points(reader)
    assert {point.attributes.get("error.type"): point.count for point in found["gen_ai.execute_tool.duration"]} == {
        None: 2,
        "OSError": 1,
        "access_denied": 1,
    }
    counted = {
        (point.attributes["zt_agents.decision.outcome"], point.attributes["zt_agents.decision.tier"]): point.value
        for point in found["zt_agents.decisions"]
    }
    assert counted == {("allow", "low"): 3, ("deny", "low"): 1}
    assert sum(counted.values()) == len(world.decisions())
    assert found["gen_ai.execute_tool.duration"][0].explicit_bounds[:2] == (0.01, 0.02)


def test_neither_users_nor_arguments_nor_resources_are_attributes(
    make_world: MakeWorld, act: BaseTool, reader: InMemoryMetricReader, parts: dict[str, Any]
) -> None:
    world = make_world(act, tier="high", channel=AnsweringChannel(approve=True), **parts)
    attempt(world, act, 987654)
    seen = {key for each in points(reader).values() for point in each for key in point.attributes}
    assert seen == {
        "gen_ai.operation.name",
        "gen_ai.tool.name",
        "gen_ai.tool.type",
        "zt_agents.approval.status",
        "zt_agents.decision.outcome",
        "zt_agents.decision.tier",
    }


@pytest.mark.parametrize(("approve", "status"), [(True, "approved"), (False, "denied")])
def test_the_wait_for_a_human_is_timed_apart(
    make_world: MakeWorld,
    act: BaseTool,
    reader: InMemoryMetricReader,
    parts: dict[str, Any],
    approve: bool,
    status: str,
) -> None:
    def think(_: object) -> bool:
        time.sleep(0.3)
        return approve

    world = make_world(act, tier="high", channel=AnsweringChannel(approve=think), **parts)
    attempt(world, act, 1)
    found = points(reader)
    (wait,) = found["zt_agents.approval.wait"]
    assert (wait.attributes["zt_agents.approval.status"], wait.count) == (status, 1)
    assert wait.sum >= 0.3
    (call,) = found["gen_ai.execute_tool.duration"]
    assert call.sum < 0.3


def test_a_channel_that_fails_is_no_answer(
    make_world: MakeWorld, act: BaseTool, reader: InMemoryMetricReader, parts: dict[str, Any]
) -> None:
    def fail(_: object) -> bool:
        raise OSError("no line")

    attempt(make_world(act, tier="high", channel=AnsweringChannel(approve=fail), **parts), act, 1)
    (wait,) = points(reader)["zt_agents.approval.wait"]
    assert wait.attributes["zt_agents.approval.status"] == "failed"
