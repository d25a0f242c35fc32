"""A program that two processes run one after the other: ``ask`` starts a graph and ends, ``resume`` answers it.

    python approval_program.py FOLDER ACTION SHAPE [CHOICE]

It prints one JSON object: what the graph returned and what was traced. Each run of the body adds a line to FOLDER/ran.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from zt_agents import Guard, User
from zt_agents.funnel import Passage
from zt_agents.identity import SigningKey
from zt_agents.integrations.langchain.interrupts import InterruptChannel
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel
from zt_agents.testing import SpanRecorder, write_policy

FOLDER = Path(sys.argv[1]) if __name__ == "__main__" else Path()


@tool
def pay(amount: int) -> str:
    """Pay somebody."""
    with (FOLDER / "ran").open("a") as file:
        file.write(f"{amount}\n")
    if os.environ.get("CRASH") == "body":
        os._exit(9)
    return f"paid {amount}"


POLICY = """
version: 1
trust_domain: acme.example
environment: test
approvals: {timeout: 10m}
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  pay: {tier: high, effects: [money]}
rules:
  - {id: pay, agents: [helpdesk], tools: [pay], outcome: allow}
"""


def prepare(folder: Path) -> None:
    write_policy(folder, POLICY, [pay])
    SigningKey.generate().save(folder / "signing.pem")


def _once(calls: list[Any], said: Any) -> list[Any]:
    return [] if said[-1].type == "tool" else calls


def graph(shape: str, guard: Guard, saver: Any) -> Any:
    calls = [{"name": "pay", "args": {"amount": 1}, "id": "call-1"}]
    if shape == "agent":
        from langchain.agents import create_agent

        model = ScriptedChatModel(
            turns=[lambda said: AIMessage("done" if said[-1].type == "tool" else "", tool_calls=_once(calls, said))]
        )
        return create_agent(model, [pay], middleware=[ZeroTrustMiddleware(guard)], checkpointer=saver)
    guard.protect([pay])
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda _: {"messages": [AIMessage("", tool_calls=calls)]})
    builder.add_node("tools", ToolNode([pay]))
    builder.add_edge(START, "model")
    builder.add_edge("model", "tools")
    inner = builder.compile(checkpointer=saver if shape != "subgraph" else None)
    if shape != "subgraph":
        return inner
    outer = StateGraph(MessagesState)
    outer.add_node("inner", inner)
    outer.add_edge(START, "inner")
    return outer.compile(checkpointer=saver)


def main() -> None:
    from langgraph.checkpoint.sqlite import SqliteSaver

    action, shape = sys.argv[2:4]
    if os.environ.get("CRASH") == "before the body":
        Passage.enter = lambda _: os._exit(9)  # type: ignore[method-assign, assignment]
    recorder = SpanRecorder()
    guard = Guard.from_config(
        FOLDER / "zt-agents.yaml",
        channel=InterruptChannel(),
        signing_key=SigningKey.from_file(FOLDER / "signing.pem"),
        tracer_provider=recorder.provider,
    )
    connection = sqlite3.connect(FOLDER / "checkpoints.db", check_same_thread=False)
    app = graph(shape, guard, SqliteSaver(connection))
    token = FOLDER / "token"
    if not token.exists():
        token.write_text(guard.session(agent="helpdesk", on_behalf_of="alice@acme.example").token)
    config = {"configurable": {"thread_id": "t", "zt_session": token.read_text()}}
    if action == "ask":
        given: Any = {"messages": [HumanMessage("pay 1")]}
    elif action == "replay":
        oldest = [s for s in app.get_state_history(config) if s.next and s.next[0] in {"tools", "inner"}][-1]
        config, given = {"configurable": config["configurable"] | oldest.config["configurable"]}, None
    else:
        asked = json.loads((FOLDER / "asked").read_text())
        response = {"decisions": [{"type": sys.argv[4]}]}
        if os.environ.get("APPROVER"):
            response = guard.answer(asked, response, approver=User(os.environ["APPROVER"]))
        given = Command(resume=response)
    out: dict[str, Any] = {}
    try:
        if os.environ.get("WAY") == "stream":
            result: Any = list(app.stream(given, config, stream_mode="values"))[-1]
        else:
            result = app.invoke(given, config)
        interrupts = result.get("__interrupt__") or [i for t in app.get_state(config).tasks for i in t.interrupts]
        out["last"] = result["messages"][-1].content if result.get("messages") else ""
        out["messages"] = [str(message.content) for message in result.get("messages", ())]
        out["asked"] = [i.value for i in interrupts]
        if interrupts:
            (FOLDER / "asked").write_text(json.dumps(interrupts[0].value))
    except Exception as error:
        out["error"] = f"{type(error).__name__}: {error}"
    connection.close()
    guard.close()
    out["spans"] = [
        [span.name, span.trace_id, span.span_id, span.links, span.attributes.get("zt_agents.approval.status")]
        for span in recorder.spans()
    ]
    print(json.dumps(out))


if __name__ == "__main__":
    main()
