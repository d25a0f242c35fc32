"""A governed agent of ``create_agent``: one call allowed, one denied, one approved by a human.

Denials come back to the model as tool messages, so the run goes on and the model can tell its user.
Run it with ``python examples/create_agent_middleware.py``; it needs no key.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool

from zt_agents import Guard, User
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.testing import AnsweringChannel

HERE = Path(__file__).parent


@tool
def read_order(order_id: int) -> str:
    """Read an order."""
    return f"Order {order_id}: 3 lamps, 120 EUR, delivered."


@tool
def refund(order_id: int, amount: float) -> str:
    """Pay money back to a customer."""
    return f"Refunded {amount:.2f} EUR for order {order_id}."


TOOLS = [read_order, refund]

# Replace this by any chat model of LangChain. The script keeps the example short and always the same.
MODEL = ScriptedChatModel(
    turns=[
        calls(("read_order", {"order_id": 7})),
        calls(("refund", {"order_id": 7, "amount": 5000.0})),
        calls(("refund", {"order_id": 7, "amount": 40.0})),
        AIMessage("One lamp was refunded; the larger refund was refused."),
    ]
)


def main() -> None:
    with TemporaryDirectory() as folder:
        log = Path(folder, "audit.db")  # by default it lies beside the policy; an example leaves nothing behind
        # In an application the channel would be a TerminalChannel(), or one of your own. This one says yes.
        channel = AnsweringChannel(approve=True, approver="bo@acme.example")
        with Guard.from_config(HERE / "create_agent_middleware.yaml", audit_path=log, channel=channel) as guard:
            agent = create_agent(MODEL, guard.protect(TOOLS), middleware=[ZeroTrustMiddleware(guard)])
            question = "Customer of order 7 wants money back for a broken lamp."
            with guard.session(agent="orders", on_behalf_of=User("alice@acme.example"), intent=question):
                answer = agent.invoke({"messages": [("user", question)]})

        for message in answer["messages"]:
            if isinstance(message, ToolMessage):
                print(f"{message.name}: {message.status}: {message.text}")
        print(answer["messages"][-1].text)
        print(f"A human was asked {len(channel.asked)} time: {dict(channel.asked[0].call.arguments)}")


if __name__ == "__main__":
    main()
