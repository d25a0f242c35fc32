"""How other products in this field have failed, and that this one does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, hook_config
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from world import HEAD

from zt_agents import AccessDeniedError, Guard, PolicyFileError, ReasonCode
from zt_agents.integrations.langchain.gates import Seal
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel
from zt_agents.testing import AnsweringChannel, write_policy

Ran = list[Any]
USER = {"messages": [("user", "x")]}


def call(name: str, call_id: str = "call-1", **arguments: Any) -> Any:
    return tool_call(name=name, args=arguments, id=call_id)


def payer(ran: Ran) -> BaseTool:
    @tool
    def pay(amount: int, user: Any = None) -> str:
        """Pay."""
        ran.append(amount)
        return f"paid {amount}"

    return pay


def agent(target: BaseTool, *calls: Any, middleware: Any = (), **options: Any) -> Any:
    turns = [AIMessage("", tool_calls=list(calls)), AIMessage("done")]
    return create_agent(ScriptedChatModel(turns=turns), [target], middleware=list(middleware), **options)


def tool_messages(state: Any) -> list[ToolMessage]:
    return [m for m in state["messages"] if isinstance(m, ToolMessage)]


# -- LangChain's own human in the loop -------------------------------------------------------------------------------


class JumpBack(AgentMiddleware):
    """Sends the agent back to its tools after the tools are done: it runs every call of the message again."""

    jumped = False

    @hook_config(can_jump_to=["tools"])
    def before_model(self, state: Any, runtime: Any) -> Any:
        if not self.jumped and any(isinstance(m, ToolMessage) for m in state["messages"]):
            self.jumped = True
            return {"jump_to": "tools"}
        return None


@pytest.mark.parametrize("approve", [True, False])
def test_jumping_back_to_the_tools_neither_repeats_a_call_nor_revives_a_refused_one(
    approve: bool, make_world: Any
) -> None:
    ran: Ran = []
    pay = payer(ran)
    channel = AnsweringChannel(approve)
    world = make_world(pay, tier="high", channel=channel)
    app = agent(pay, call("pay", amount=1), middleware=[JumpBack(), ZeroTrustMiddleware(world.guard)])
    with world.session():
        app.invoke(USER)
    assert ran == ([1] if approve else [])
    assert len(channel.asked) == 1, "a refusal is final: nobody is asked until they give in"


def test_an_edit_in_the_stock_middleware_is_a_new_call_under_our_policy(make_world: Any) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = make_world(pay, when="args.amount < 100")
    stock = HumanInTheLoopMiddleware(interrupt_on={"pay": True})
    app = agent(
        pay,
        call("pay", amount=1),
        middleware=[stock, ZeroTrustMiddleware(world.guard)],
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    with world.session():
        assert "__interrupt__" in app.invoke(USER, config)
        edit = {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 777}}}
        state = app.invoke(Command(resume={"decisions": [edit]}), config)
    assert ran == []
    assert tool_messages(state)[0].status == "error"


def test_an_edit_to_another_tool_meets_that_tools_own_rules(make_world: Any) -> None:
    ran: Ran = []
    removed: Ran = []
    pay = payer(ran)

    @tool
    def remove(amount: int) -> str:
        """Remove."""
        removed.append(amount)
        return "gone"

    rules = """
  - {id: yes, agents: [helpdesk], tools: [pay], outcome: allow}
  - {id: no, agents: [helpdesk], tools: [remove], outcome: deny, reason: because}"""
    world = make_world(pay, remove, rules=rules)
    turns = [AIMessage("", tool_calls=[call("pay", amount=1)]), AIMessage("done")]
    app = create_agent(
        ScriptedChatModel(turns=turns),
        [pay, remove],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"pay": True}), ZeroTrustMiddleware(world.guard)],
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    with world.session():
        app.invoke(USER, config)
        edit = {"type": "edit", "edited_action": {"name": "remove", "args": {"amount": 1}}}
        state = app.invoke(Command(resume={"decisions": [edit]}), config)
    assert (ran, removed) == ([], [])
    assert tool_messages(state)[0].status == "error"


def test_arguments_changed_in_the_state_while_a_call_waits_are_decided_on(make_world: Any) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = make_world(pay, when="args.amount < 100")
    app = agent(
        pay,
        call("pay", amount=1),
        middleware=[ZeroTrustMiddleware(world.guard)],
        checkpointer=InMemorySaver(),
        interrupt_before=["tools"],
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    with world.session():
        state = app.invoke(USER, config)
        message = state["messages"][-1]
        changed = AIMessage("", id=message.id, tool_calls=[call("pay", amount=999)])
        app.update_state(config, {"messages": [changed]})
        app.invoke(None, config)
    assert ran == []


def test_replaying_an_old_checkpoint_does_not_repeat_the_side_effect(make_world: Any) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = make_world(pay)
    app = agent(
        pay, call("pay", amount=1), middleware=[ZeroTrustMiddleware(world.guard)], checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    with world.session():
        app.invoke(USER, config)
        before_tools = next(s for s in app.get_state_history(config) if s.next == ("tools",))
        app.invoke(None, before_tools.config)
    assert ran == [1]


def test_an_approval_says_who_gave_it(make_world: Any) -> None:
    pay = payer([])
    world = make_world(pay, tier="high", channel=AnsweringChannel(approve=True, approver="bea@acme.example"))
    with world.session():
        pay.invoke({"amount": 1})
    (allowed,) = [r for r in world.records() if r["kind"] == "decision" and r["outcome"] == "allow"]
    assert allowed["approved_by"] == "bea@acme.example"
    assert allowed["approval_id"]


# -- peers -----------------------------------------------------------------------------------------------------------

GOOD = {"id": "r", "agents": "[helpdesk]", "tools": "[pay]", "outcome": "allow"}
MISTAKES = {
    "a misspelled field": {"agents": None, "agent": "[helpdesk]"},
    "a misspelled outcome": {"outcome": "alow"},
    "an empty list of tools": {"tools": "[]"},
    "no list of tools": {"tools": None},
    "an empty list of agents": {"agents": "[]"},
    "a tool nobody has": {"tools": "[pya]"},
    "an agent nobody has": {"agents": "[helpdesc]"},
    "everything, by a pattern": {"tools": "['p*']"},
    "everything, by a star": {"tools": "['*']"},
    "a misspelled argument in a condition": {"when": "args.amonut < 5"},
    "a condition of the wrong type": {"when": "args.amount < '5'"},
    "a condition that is no condition": {"when": "args.amount"},
    "an empty condition": {"when": "''"},
    "an operator that does not exist": {"when": "args.amount lt 5"},
    "a function that does not exist": {"when": "lower(args.amount) == 5"},
    "a variable that does not exist": {"when": "caller.role == 'admin'"},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_rule_that_could_never_match_or_would_match_everything_does_not_load(mistake: str, tmp_path: Any) -> None:
    rule = {key: value for key, value in {**GOOD, **MISTAKES[mistake]}.items() if value is not None}
    if "when" in rule and rule["when"] != "''":
        rule["when"] = f'"{rule["when"]}"'
    text = ", ".join(f"{key}: {value}" for key, value in rule.items())
    entry = "tools:\n  pay: {tier: low, effects: [money]}\nrules:\n"
    path = write_policy(tmp_path, f"{HEAD}{entry}  - {{{text}}}\n", [payer([])])
    with pytest.raises(PolicyFileError) as error:
        Guard.from_config(path)
    assert error.value.problems[0].line > 0


def test_an_argument_that_claims_to_be_the_user_is_an_argument(make_world: Any) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = make_world(pay, when="'admin' in user.roles")
    with world.session(), pytest.raises(AccessDeniedError):
        pay.invoke({"amount": 1, "user": {"role": "admin", "roles": ["admin"], "id": "root"}})
    assert ran == []


LOOK_ALIKES = ["DROP", "drop", "drop ", "Drop", "drоp", "d\u200brop", "ｄｒｏｐ", "dr\u00adop", "select\x00"]


@pytest.mark.parametrize("word", LOOK_ALIKES)
def test_look_alikes_do_not_slip_past_an_allow_list(word: str, make_world: Any) -> None:
    ran: Ran = []

    @tool
    def query(statement: str) -> str:
        """Query."""
        ran.append(statement)
        return "rows"

    world = make_world(query, when='args.statement == "select"')
    with world.session():
        with pytest.raises(AccessDeniedError):
            query.invoke({"statement": word})
        query.invoke({"statement": "select"})
    assert ran == ["select"]


def test_an_agent_suspended_in_the_middle_of_a_run_stops_at_its_next_call(make_world: Any) -> None:
    ran: Ran = []

    @tool
    def step(n: int) -> str:
        """Step; the first one is where somebody pulls the plug."""
        ran.append(n)
        if n == 1:
            world.guard.registry.suspend("helpdesk")
        return "ok"

    world = make_world(step)
    turns = [
        AIMessage("", tool_calls=[call("step", "call-1", n=1)]),
        AIMessage("", tool_calls=[call("step", "call-2", n=2)]),
        AIMessage("done"),
    ]
    app = create_agent(ScriptedChatModel(turns=turns), [step], middleware=[ZeroTrustMiddleware(world.guard)])
    with world.session():
        state = app.invoke(USER)
    assert ran == [1]
    assert [m.status for m in tool_messages(state)] == ["success", "error"]
    assert world.decisions()[-1] == ("deny", "identity")


def test_an_approval_is_good_for_one_call(make_world: Any) -> None:
    ran: Ran = []
    pay = payer(ran)
    answers: list[Any] = []

    class Reusing(AnsweringChannel):
        """Gives the first answer again and again."""

        def ask(self, request: Any) -> Any:
            answers.append(super().ask(request))
            return answers[0]

    world = make_world(pay, tier="high", channel=Reusing(approve=True))
    with world.session():
        pay.invoke(call("pay", "call-1", amount=1))
        with pytest.raises(AccessDeniedError) as denial:
            pay.invoke(call("pay", "call-2", amount=1))
    assert denial.value.decision.reasons[0].code is ReasonCode.NOT_APPROVED
    assert ran == [1]


def test_a_refusal_tells_the_model_neither_the_rule_nor_its_threshold(make_world: Any) -> None:
    pay = payer([])
    world = make_world(pay, when="args.amount < 1234")
    app = agent(pay, call("pay", amount=5000), middleware=[ZeroTrustMiddleware(world.guard)])
    with world.session():
        (shown,) = tool_messages(app.invoke(USER))
    for secret in ("1234", "the-rule", "threshold", "5000"):
        assert secret not in str(shown.content)


@pytest.mark.parametrize("lost", [False, True], ids=["denied", "seal lost"])
def test_an_error_shown_by_a_tool_node_does_not_name_the_tool_inside(lost: bool, make_world: Any) -> None:
    hidden = payer([])
    hidden.name = "hidden_payment"

    @tool
    def front(amount: int) -> str:
        """Do it for me."""
        return str(hidden.invoke({"amount": amount}))

    rules = """
  - {id: yes, agents: [helpdesk], tools: [front], outcome: allow}
  - {id: no, agents: [helpdesk], tools: [hidden_payment], outcome: deny, reason: because}"""
    world = make_world(front, hidden, rules=rules)
    if lost:
        del hidden.__dict__[Seal.SLOT]
    graph: Any = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([front], handle_tool_errors=True))
    graph.add_edge(START, "tools")
    with world.session():
        state = graph.compile().invoke({"messages": [AIMessage("", tool_calls=[call("front", amount=1)])]})
    (shown,) = tool_messages(state)
    assert shown.status == "error"
    assert "hidden_payment" not in str(shown.content)


def test_a_refusal_inside_an_allowed_tool_does_not_name_the_other_tool_to_the_model(make_world: Any) -> None:
    hidden = payer([])
    hidden.name = "hidden_payment"

    @tool
    def front(amount: int) -> str:
        """Do it for me."""
        return str(hidden.invoke({"amount": amount}))

    rules = """
  - {id: yes, agents: [helpdesk], tools: [front], outcome: allow}
  - {id: no, agents: [helpdesk], tools: [hidden_payment], outcome: deny, reason: because}"""
    world = make_world(front, hidden, rules=rules)
    for use_async in (False, True):
        app = agent(front, call("front", amount=1), middleware=[ZeroTrustMiddleware(world.guard)])
        with world.session():
            state = asyncio.run(app.ainvoke(USER)) if use_async else app.invoke(USER)
        (shown,) = tool_messages(state)
        assert shown.status == "error"
        assert "hidden_payment" not in str(shown.content)
