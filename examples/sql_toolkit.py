"""A governed ``SQLDatabaseToolkit`` of LangChain's community package, on a real database.

``guard.protect(toolkit)`` is the only change. Run it with ``python examples/sql_toolkit.py``; it needs no key.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from langchain.agents import create_agent
from langchain_community.agent_toolkits import SQLDatabaseToolkit
from langchain_community.utilities import SQLDatabase
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool

from zt_agents import Guard
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls

HERE = Path(__file__).parent
QUERIES = [
    "SELECT country, count(*) AS orders FROM orders GROUP BY country ORDER BY orders DESC",
    "DROP TABLE orders",
    "/* just a look */ dRoP TABLE orders",
    "SELECT 1; UPDATE orders SET euros = 0",
]


def make_database(path: Path) -> None:
    """Write a shop's 5,000 orders."""
    rows = [(number, ("DE", "FR", "NL")[number % 7 % 3], 10 + number * 37 % 490) for number in range(5000)]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, country TEXT, euros INTEGER)")
        db.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)


def toolkit(database: SQLDatabase, model: BaseChatModel) -> SQLDatabaseToolkit:
    return SQLDatabaseToolkit(db=database, llm=model)


def tools_for_review() -> list[BaseTool]:
    """Return the toolkit's tools on an empty database: for ``zt-agents check``, which only looks at them."""
    return toolkit(SQLDatabase.from_uri("sqlite://"), ScriptedChatModel(turns=[])).get_tools()


def main() -> None:
    model = ScriptedChatModel(
        turns=[*(calls(("sql_db_query", {"query": query})) for query in QUERIES), AIMessage("Done.")]
    )
    with TemporaryDirectory() as folder:
        log = Path(folder, "audit.db")  # by default it lies beside the policy; an example leaves nothing behind
        path = Path(folder, "shop.db")
        make_database(path)

        # Two lines of defence. The policy looks at the text of a query, and text can be dressed up: comments, case,
        # look-alike letters. So the rule says what is allowed (one SELECT) and not what is forbidden (DROP ...), and
        # the connection itself cannot write, whatever gets past the rule.
        database = SQLDatabase.from_uri(f"sqlite:///file:{path}?mode=ro&uri=true")
        with Guard.from_config(HERE / "sql_toolkit.yaml", audit_path=log) as guard:
            tools = guard.protect(toolkit(database, model))
            agent = create_agent(model, tools, middleware=[ZeroTrustMiddleware(guard)])
            with guard.session(agent="analyst", on_behalf_of="alice@acme.example"):
                answer = agent.invoke({"messages": [("user", "How many orders are there per country?")]})
        results = [message for message in answer["messages"] if isinstance(message, ToolMessage)]
        for query, result in zip(QUERIES, results, strict=True):
            print(f"{query}\n  {'denied' if result.status == 'error' else result.text}")
        print(f"And past the guard: {database.run_no_throw('DELETE FROM orders').splitlines()[0]}")
        database._engine.dispose()


if __name__ == "__main__":
    main()
