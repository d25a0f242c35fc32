"""What services behind a tool are told: the trace they belong to and, where the policy says so, which agent calls."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from opentelemetry import baggage, context, propagate

from zt_agents import ConfigurationError, Guard
from zt_agents.errors import TokenInvalidError
from zt_agents.identity import verify_baggage
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.testing import SpanRecorder, write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
telemetry: {baggage: true}
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}
  researcher: {id: spiffe://acme.example/agent/researcher, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  plain: {tier: low, effects: [read]}
  awaited: {tier: low, effects: [read]}
  stream: {tier: low, effects: [read]}
  astream: {tier: low, effects: [read]}
  threads: {tier: low, effects: [read]}
  asks: {tier: low, effects: [read]}
rules:
  - {id: all, agents: [helpdesk, researcher], tools: [plain, awaited, stream, astream, threads, asks], outcome: allow}
"""
HELPDESK, RESEARCHER = (f"spiffe://acme.example/agent/{name}" for name in ("helpdesk", "researcher"))
Headers = dict[str, str]


def headers() -> Headers:
    """Return what an instrumented client would send now."""
    carrier: Headers = {}
    propagate.inject(carrier)
    return carrier


class World:
    def __init__(self, folder: Path, policy: str = POLICY) -> None:
        self.recorder = SpanRecorder()
        self.sent: list[Headers] = []
        self.client: Callable[[Headers], object] = self.sent.append
        """Stands for an instrumented client: it is given what it would send."""

        def send() -> str:
            self.client(headers())
            return "sent"

        @tool
        def plain() -> str:
            """Send."""
            return send()

        @tool
        async def awaited() -> str:
            """Send after a while."""
            await asyncio.sleep(0.01)
            return send()

        @tool
        def stream() -> Iterator[str]:
            """Send at every step."""
            for _ in range(3):
                yield send()

        @tool
        async def astream() -> AsyncIterator[str]:
            """Send at every step."""
            for _ in range(3):
                await asyncio.sleep(0)
                yield send()

        @tool
        def threads() -> str:
            """Send from threads that were given the context."""
            with ThreadPoolExecutor(2) as pool:
                for done in [pool.submit(copy_context().run, send) for _ in range(4)]:
                    done.result()
            return "sent"

        @tool
        def asks() -> str:
            """Let another agent send."""
            with self.guard.session(agent="researcher", on_behalf_of="alice@acme.example"):
                plain.invoke({})
            return send()

        made = [plain, awaited, stream, astream, threads, asks]
        self.tools = {each.name: each for each in made}
        self.guard = Guard.from_config(write_policy(folder, policy, made), tracer_provider=self.recorder.provider)
        self.guard.protect(made)

    def session(self) -> Any:
        return self.guard.session(agent="helpdesk", on_behalf_of="alice@acme.example")

    def caller(self, sent: Headers) -> str:
        said = verify_baggage(sent["baggage"], key=self.guard.baggage_key, issuer="spiffe://acme.example/zt-agents")
        assert said is not None
        return said.agent_id

    def calls(self, name: str) -> set[str]:
        """Return the ids of the spans of a tool's calls."""
        return {span.span_id for span in self.recorder.spans() if span.name == f"execute_tool {name}"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with made.guard:
        yield made


async def drain(world: World) -> None:
    async for _ in world.tools["astream"].func():
        pass


WAYS: dict[str, Callable[[World], Any]] = {
    "plain": lambda world: world.tools["plain"].invoke({}),
    "awaited": lambda world: asyncio.run(world.tools["awaited"].ainvoke({})),
    "stream": lambda world: list(world.tools["stream"].func()),
    "astream": lambda world: asyncio.run(drain(world)),
    "threads": lambda world: world.tools["threads"].invoke({}),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_body_sends_its_span_and_its_agent(world: World, way: str) -> None:
    with world.session():
        WAYS[way](world)
        outside = headers()
    assert world.sent
    for sent in world.sent:
        assert {sent["traceparent"].split("-")[2]} == world.calls(way)
        assert world.caller(sent) == HELPDESK
    assert "baggage" not in outside, "only bodies send it: a model's provider is not told"


def test_parallel_calls_of_an_agent_send_each_their_own_span(world: World) -> None:
    model = ScriptedChatModel(turns=[calls(*(("plain", {}) for _ in range(6))), AIMessage("done")])
    agent = create_agent(model, [world.tools["plain"]], middleware=[ZeroTrustMiddleware(world.guard)])
    with world.session():
        agent.invoke({"messages": [("user", "send")]})
    assert {sent["traceparent"].split("-")[2] for sent in world.sent} == world.calls("plain")
    assert len(world.sent) == 6
    assert {world.caller(sent) for sent in world.sent} == {HELPDESK}


def test_a_sub_agent_sends_its_own_name_and_its_caller_then_its_own_again(world: World) -> None:
    with world.session():
        world.tools["asks"].invoke({})
    assert [world.caller(sent) for sent in world.sent] == [RESEARCHER, HELPDESK]


def test_baggage_of_others_is_carried_on_and_ours_from_upstream_is_not(world: World) -> None:
    upstream = baggage.set_baggage("tenant", "a,b", baggage.set_baggage("zt_agents.agent", "forged"))
    token = context.attach(upstream)
    try:
        with world.session():
            world.tools["plain"].invoke({})
        assert baggage.get_baggage("zt_agents.agent") == "forged", "what the application has is left as it is"
    finally:
        context.detach(token)
    (sent,) = world.sent
    assert "tenant=a%2Cb" in sent["baggage"]
    assert "forged" not in sent["baggage"]
    assert world.caller(sent) == HELPDESK


def test_it_is_signed_once_a_session(world: World) -> None:
    with world.session():
        world.tools["plain"].invoke({})
        world.tools["plain"].invoke({})
    with world.session():
        world.tools["plain"].invoke({})
    first, second, third = (sent["baggage"] for sent in world.sent)
    assert first == second != third


def test_a_task_that_baggage_has_no_room_for_is_refused_when_the_session_is_opened(world: World) -> None:
    with world.guard.session(agent="helpdesk", on_behalf_of="alice@acme.example", task="t" * 2_000):
        world.tools["plain"].invoke({})
    assert world.caller(world.sent[0]) == HELPDESK
    with pytest.raises(ValueError, match="more room than agent baggage has"):
        world.guard.session(agent="helpdesk", on_behalf_of="alice@acme.example", task="t" * 4_000)


def test_it_opens_nothing_here(world: World) -> None:
    with world.session():
        world.tools["plain"].invoke({})
    token = world.sent[0]["baggage"].partition("=")[2]
    with pytest.raises(TokenInvalidError, match="another type"):
        world.guard.issuer.verify(token, now=world.guard.clock())


def test_nobody_is_told_by_default(tmp_path: Path) -> None:
    world = World(tmp_path, POLICY.replace("telemetry: {baggage: true}\n", ""))
    with world.guard:
        with world.session():
            world.tools["plain"].invoke({})
        assert "baggage" not in world.sent[0]
        assert "traceparent" in world.sent[0]
        with pytest.raises(ConfigurationError, match="no baggage"):
            _ = world.guard.baggage_key


@pytest.fixture
def service(world: World) -> Iterator[str]:
    """The address of a service in another process, which has the guard's public key."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    program = str(Path(__file__).with_name("baggage_service.py"))
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(world.guard.baggage_key), file=process.stdin, flush=True)
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
        process.kill()


def test_a_service_in_another_process_learns_who_calls_and_in_which_trace(world: World, service: str) -> None:
    told: list[dict[str, Any]] = []

    def ask(sent: Headers) -> None:
        with urllib.request.urlopen(urllib.request.Request(service, headers=sent), timeout=10) as reply:
            told.append(json.load(reply))

    world.client = ask
    with world.session():
        world.tools["plain"].invoke({})
    ask({"baggage": "zt_agents.agent=a.b.c"})

    assert [each["caller"] for each in told] == [HELPDESK, "The token is of another type or from another issuer."]
    assert {told[0]["traceparent"].split("-")[2]} == world.calls("plain")


@pytest.mark.parametrize(("entries", "size"), [(180, 1), (4, 2_000)])
def test_what_comes_from_upstream_does_not_push_ours_out(world: World, entries: int, size: int) -> None:
    upstream = context.Context()
    for number in range(entries):
        upstream = baggage.set_baggage(f"k{number}", "v" * size, upstream)
    token = context.attach(upstream)
    try:
        with world.session():
            world.tools["plain"].invoke({})
    finally:
        context.detach(token)
    assert world.caller(world.sent[0]) == HELPDESK
    assert "k0=v" in world.sent[0]["baggage"]


def test_an_entry_like_ours_is_not_passed_on_where_there_is_no_baggage(tmp_path: Path) -> None:
    world = World(tmp_path, POLICY.replace("telemetry: {baggage: true}\n", ""))
    token = context.attach(baggage.set_baggage("zt_agents.agent", "other", baggage.set_baggage("tenant", "a")))
    try:
        with world.guard, world.session():
            world.tools["plain"].invoke({})
    finally:
        context.detach(token)
    assert world.sent[0]["baggage"] == "tenant=a"
