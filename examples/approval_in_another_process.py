"""A call waits for its human while nothing runs: one process asks and ends, another one is told yes and goes on.

They share the signing key, the store of approvals and LangGraph's checkpoints, each a file here.
Run it with ``python examples/approval_in_another_process.py``; it needs no key and starts itself three times.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command, Interrupt

from zt_agents import Guard
from zt_agents.identity import SigningKey
from zt_agents.integrations.langchain.interrupts import InterruptChannel
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls

POLICY = Path(__file__).with_suffix(".yaml")
ASKED = "Refund order 7, please."


@tool
def refund(order_id: int, amount: float) -> str:
    """Pay money back to a customer."""
    return f"Refunded {amount:.2f} EUR for order {order_id}."


TOOLS = [refund]


def next_turn(said: Sequence[BaseMessage]) -> AIMessage:
    """Call the tool, then say what came of it."""
    return AIMessage(said[-1].text) if said[-1].type == "tool" else calls(("refund", {"order_id": 7, "amount": 40.0}))


MODEL = ScriptedChatModel(turns=[next_turn])  # replace it by any chat model of LangChain


def step(folder: Path, action: str) -> None:
    """Do one process's part."""
    key = SigningKey.from_file(folder / "signing.pem")
    guard = Guard.from_config(POLICY, audit_path=folder / "audit.db", signing_key=key, channel=InterruptChannel())
    with guard, SqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as checkpoints:
        agent = create_agent(MODEL, TOOLS, middleware=[ZeroTrustMiddleware(guard)], checkpointer=checkpoints)
        token, asked = folder / "session", folder / "asked"
        if action == "ask":
            token.write_text(guard.session(agent="orders", on_behalf_of="alice@acme.example", intent=ASKED).token)
            given = {"messages": [("user", ASKED)]}
        else:
            question = Interrupt(**json.loads(asked.read_text()))
            response = {"decisions": [{"type": "approve"}]}  # what your page or chat sends: LangChain's own shape
            answer = guard.answer(question.value, response, approver=action)  # whom your page or chat has logged in
            given = Command(resume={question.id: answer})
        config = {"configurable": {"thread_id": "order-7", "zt_session": guard.session_from_token(token.read_text())}}
        result = agent.invoke(given, config)
    for question in result.get("__interrupt__", []):
        asked.write_text(json.dumps({"id": question.id, "value": question.value}))
        print(question.value["zt_approval"].get("not_counted") or question.value["action_requests"][0]["description"])
    print(result["messages"][-1].text or "The agent waits.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        step(Path(sys.argv[1]), sys.argv[2])
    else:
        with TemporaryDirectory() as name:
            SigningKey.generate().save(Path(name, "signing.pem"))
            for action in ("ask", "alice@acme.example", "bo@acme.example"):
                print(f"--- {action}", flush=True)
                subprocess.run([sys.executable, __file__, name, action], check=True)
