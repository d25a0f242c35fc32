"""A governed ``AgentExecutor``: a callback is all that is added. A denial raises ``AccessDeniedError``.

Run it with ``python examples/agent_executor_callback.py``; it needs no key (extra: ``zt-agents[executor]``).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_classic.agents import AgentExecutor, create_tool_calling_agent
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from zt_agents import AccessDeniedError, Guard
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls

HERE = Path(__file__).parent


@tool
def read_note(name: str) -> str:
    """Read a note."""
    return f"The note {name!r} says: buy milk."


@tool
def share_note(name: str, to: str) -> str:
    """Send a note to someone."""
    return f"Shared {name!r} with {to}."


TOOLS = [read_note, share_note]


def executor(*turns: object) -> AgentExecutor:
    """Return an agent as you have it today. The scripted model stands for any chat model of LangChain."""
    prompt = ChatPromptTemplate.from_messages([("human", "{input}"), ("placeholder", "{agent_scratchpad}")])
    agent = create_tool_calling_agent(ScriptedChatModel(turns=list(turns)), TOOLS, prompt)
    return AgentExecutor(agent=agent, tools=TOOLS)


def main() -> None:
    with TemporaryDirectory() as folder:
        log = Path(folder, "audit.db")  # by default it lies beside the policy; an example leaves nothing behind
        with (
            Guard.from_config(HERE / "agent_executor_callback.yaml", audit_path=log) as guard,
            guard.session(agent="notes", on_behalf_of="alice@acme.example") as session,
        ):
            governed = {"callbacks": [ZeroTrustCallback(guard, session)]}

            reading = executor(calls(("read_note", {"name": "shopping"})), AIMessage("Milk."))
            print(reading.invoke({"input": "What do I need to buy?"}, config=governed)["output"])

            sharing = executor(calls(("share_note", {"name": "shopping", "to": "eve@elsewhere.example"})))
            try:
                sharing.invoke({"input": "Share my list with Eve."}, config=governed)
            except AccessDeniedError as denial:
                print(f"For the operator: {denial}")
                print(f"For the model: {denial.message_for_model()}")


if __name__ == "__main__":
    main()
