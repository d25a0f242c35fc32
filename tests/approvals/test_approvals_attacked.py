"""Answers kept from earlier, changed on their way, or given under a name that hides whose they are do not count."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from approval_requests import HELPDESK, NOW, answer, request
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from world import HEAD, World

from zt_agents import AccessDeniedError, Answer, User
from zt_agents.approvals import ApprovalRequest, ApprovalState, write_request
from zt_agents.decisions import ApprovalTerms, ToolCall
from zt_agents.desk import ApprovalDesk, Ruling
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.identity import AnswerClaims, ApprovalSigner, SigningKey
from zt_agents.integrations.langchain.interrupts import InterruptChannel
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

APPROVE = {"decisions": [{"type": "approve"}]}
CONFIG: dict[str, Any] = {"configurable": {"thread_id": "t"}}
USER = {"messages": [("user", "pay")]}
KEY = SigningKey.generate()


class Bank:
    """A tool that pays, a guard before it, and agents that use it, each with checkpoints of its own."""

    def __init__(self, folder: Path, key: SigningKey, store: str = "approvals.db", approvals: str = "") -> None:
        self.ran: list[Any] = []

        @tool
        def pay(amount: Any) -> str:
            """Pay."""
            self.ran.append(amount)
            return "paid"

        self.pay: BaseTool = pay
        text = (
            f"{HEAD}approvals: {{timeout: 5m{approvals}}}\ntools:\n  pay: {{tier: high, effects: [money]}}\nrules:\n"
            "  - {id: pay, agents: [helpdesk], tools: [pay], outcome: allow}\n"
        )
        self.now = NOW
        self.world = World(
            folder,
            text,
            [pay],
            InterruptChannel(),
            approvals_path=folder / store,
            signing_key=key,
            clock=lambda: self.now,
        )
        self.guard = self.world.guard
        self.guard.protect([pay])

    def agent(self, amount: Any = 1) -> Any:
        calls = [{"name": "pay", "args": {"amount": amount}, "id": "call-1"}]
        model = ScriptedChatModel(turns=[AIMessage("", tool_calls=calls), AIMessage("done")])
        middleware = [ZeroTrustMiddleware(self.guard)]
        return create_agent_of(model, self.pay, middleware)

    def toolnode(self, amount: Any = 1) -> Any:
        calls = [{"name": "pay", "args": {"amount": amount}, "id": "call-1"}]
        builder = StateGraph(MessagesState)
        builder.add_node("model", lambda _: {"messages": [AIMessage("", tool_calls=calls)]})
        builder.add_node("tools", ToolNode([self.pay], handle_tool_errors=str))
        builder.add_edge(START, "model")
        builder.add_edge("model", "tools")
        return builder.compile(checkpointer=InMemorySaver())


def create_agent_of(model: Any, pay: BaseTool, middleware: list[Any]) -> Any:
    from langchain.agents import create_agent

    return create_agent(model, [pay], middleware=middleware, checkpointer=InMemorySaver())


@pytest.fixture
def banks(tmp_path: Path) -> Iterator[Any]:
    opened: list[Bank] = []

    def make(name: str = "one", key: SigningKey = KEY, **parts: str) -> Bank:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        opened.append(Bank(folder, key, **parts))
        return opened[-1]

    yield make
    for bank in opened:
        bank.guard.close()


def asked(app: Any, config: dict[str, Any] = CONFIG) -> Any:
    (only,) = [each for task in app.get_state(config).tasks for each in task.interrupts]
    return only


def carried(token: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": "t", "zt_session": token}}


# -- kept from earlier -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["agent", "toolnode"])
def test_an_answer_given_to_one_store_is_none_in_another(shape: str, banks: Any) -> None:
    """A worker with a store of its own, or a store that was lost: the resume value is still in the checkpoint."""
    first = banks("one")
    config = carried(first.world.session(ttl=3600).token)
    app = getattr(first, shape)()
    app.invoke(USER, config)
    response = first.guard.answer(asked(app, config).value, APPROVE, approver="bob")
    app.invoke(Command(resume=response), config)
    assert first.ran == [1]

    other = banks("two")
    other.now += 60
    app = getattr(other, shape)()
    app.invoke(USER, config)
    app.invoke(Command(resume=response), config)
    assert other.ran == []
    other.now += 60
    app.invoke(Command(resume=other.guard.answer(asked(app, config).value, APPROVE, approver="bob")), config)
    assert other.ran == [1], "and who is asked anew may say yes anew"


@pytest.mark.parametrize("signed", [True, False])
def test_the_yes_to_an_edit_given_to_one_store_is_none_in_another(signed: bool, banks: Any) -> None:
    edit = {"decisions": [{"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 5}}}]}
    first = banks("one")
    config = carried(first.world.session(ttl=3600).token)
    app = first.agent()
    app.invoke(USER, config)
    response = first.guard.answer(asked(app, config).value, edit, approver="bob")
    app.invoke(Command(resume=response), config)
    assert first.ran == [5]

    other = banks("two")
    other.now += 60
    app = other.agent()
    app.invoke(USER, config)
    if not signed:
        del response["zt_answer"]
    app.invoke(Command(resume=response), config)
    assert other.ran == []


def test_a_clock_set_back_does_not_make_a_new_answer_an_old_one(banks: Any) -> None:
    bank = banks()
    app = bank.agent()
    with bank.world.session(ttl=3600):
        bank.now += 10
        app.invoke(USER, CONFIG)
        bank.now -= 5
        app.invoke(Command(resume=bank.guard.answer(asked(app).value, APPROVE, approver="bob")), CONFIG)
    assert bank.ran == [1]


# -- changed on its way ------------------------------------------------------------------------------------------------


def test_a_yes_that_was_changed_into_a_no_is_not_its_givers_no(banks: Any) -> None:
    bank = banks()
    app = bank.agent()
    with bank.world.session(ttl=3600):
        app.invoke(USER, CONFIG)
        yes = bank.guard.answer(asked(app).value, APPROVE, approver="bob")
        app.invoke(Command(resume={**yes, "decisions": [{"type": "reject"}]}), CONFIG)
    assert bank.ran == []
    denial = [record for record in bank.world.records() if record["kind"] == "decision"][-1]
    assert denial["outcome"] == "deny"
    assert "bob" not in str(denial)


@pytest.mark.parametrize(("real", "shown"), [(True, 1), (1, True), ([0], [False])])
def test_what_looks_equal_to_python_is_not_what_was_asked(real: Any, shown: Any, banks: Any) -> None:
    bank = banks()
    app = bank.agent(real)
    with bank.world.session(ttl=3600):
        app.invoke(USER, CONFIG)
        question = copy.deepcopy(asked(app).value)
        question["action_requests"][0]["args"]["amount"] = shown
        with pytest.raises(ValueError, match="somebody has changed"):
            bank.guard.answer(question, APPROVE, approver="bob")


# -- whose name --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alice@acme.example\u200b", "al\u00adice@acme.example", "bob\x1b[2K", "bob\ncarol"])
def test_a_name_with_what_nobody_sees_is_nobodys(name: str, banks: Any) -> None:
    bank = banks()
    app = bank.agent()
    with bank.world.session(ttl=3600):
        app.invoke(USER, CONFIG)
        with pytest.raises(ValueError, match="printable"):
            bank.guard.answer(asked(app).value, APPROVE, approver=name)
    with pytest.raises(ValueError, match="printable"):
        Answer("hash", True, name)


def test_who_is_in_many_groups_may_approve(banks: Any) -> None:
    """The groups of a large company would not fit into a token: it holds those that were asked for."""
    bank = banks(approvals=", approvers: ['group:finance']")
    app = bank.agent()
    groups = (*(f"a-group-with-a-long-name-{number}" for number in range(1000)), "finance")
    with bank.world.session(ttl=3600):
        app.invoke(USER, CONFIG)
        response = bank.guard.answer(asked(app).value, APPROVE, approver=User("bob", groups=groups))
        app.invoke(Command(resume=response), CONFIG)
    assert bank.ran == [1]


# -- who can write the store -------------------------------------------------------------------------------------------


class Silent:
    def ask(self, _: ApprovalRequest) -> Answer | None:
        return None

    async def aask(self, _: ApprovalRequest) -> Answer | None:
        return None


SIGNER = ApprovalSigner(issuer="i", audience="a", key=KEY)


def desk_of(folder: Path, store: SqliteApprovalStore | None = None) -> ApprovalDesk:
    return ApprovalDesk(
        store=store or SqliteApprovalStore(folder / "approvals.db"),
        proofs=AnswerProofs(SIGNER),
        channel=Silent(),
        clock=lambda: NOW,
        retention=3600,
    )


def ask(desk: ApprovalDesk, what: ApprovalRequest) -> Ruling:
    return desk.ask(what, lambda _: False)


def test_an_owner_written_into_the_store_is_not_the_agents_owner(tmp_path: Path) -> None:
    import sqlite3

    desk, what = desk_of(tmp_path), request(ApprovalTerms(("owner",)))
    desk.store.put(what)
    mine = dataclasses.replace(HELPDESK, owner="mallory")
    shown = dataclasses.replace(what, call=what.call._replace(agent=mine), signer=desk.signer.id)
    connection = sqlite3.connect(tmp_path / "approvals.db")
    connection.execute("UPDATE request SET body = ?", (write_request(shown),))
    connection.commit()
    connection.close()
    desk.file(answer(what, "mallory"))
    assert ask(desk, what).refusal is not None


def test_an_owner_written_into_the_store_is_not_on_record_beside_who_may(tmp_path: Path) -> None:
    desk, what = desk_of(tmp_path), request(ApprovalTerms(("owner", "user:bob")))
    mine = dataclasses.replace(HELPDESK, owner="mallory")
    desk.store.put(dataclasses.replace(what, call=what.call._replace(agent=mine), signer=desk.signer.id))
    stored = desk.store.get(what.id)
    assert stored is not None
    assert stored.request is not None
    for name in ("mallory", "bob"):
        signed = desk.proofs.attested(stored.request, answer(what, name), now=NOW)
        assert desk.store.file(what.id, name, signed, now=NOW)
    ruled = ask(desk, what)
    assert ruled.refusal is None
    assert ruled.approvers == ("bob",)
    assert [approval.approver for approval in ruled.approvals] == ["bob"]


def test_time_has_gone_on_when_a_call_is_made_again(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    terms = ApprovalTerms(("owner",), escalate_after=20, escalate_to=("user:carol",), timeout=60)
    what = request(terms)
    desk.store.put(dataclasses.replace(what, signer=desk.signer.id))
    now = NOW + 30
    desk._clock = lambda: now
    assert desk.file(answer(what, "carol")) is None
    again = dataclasses.replace(what, call=what.call._replace(time=now), expires_at=now + 60)
    assert ask(desk, again).refusal is None


def test_a_label_written_into_the_store_does_not_widen_what_was_approved_in_advance(tmp_path: Path) -> None:
    from zt_agents.approvals import STANDING, Enrolled, in_advance
    from zt_agents.provenance.labels import Integrity, Label
    from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry

    class Trusted:
        def holds(self, when: str, call: ToolCall, approver: User) -> bool:
            return False

        def covers(self, when: str, call: ToolCall) -> bool:
            return call.label.integrity is Integrity.TRUSTED

    registry = SqliteApproverRegistry(tmp_path / "approvers.db", create=True)
    desk = desk_of(tmp_path)
    desk.proofs = AnswerProofs(SIGNER, None, registry, Trusted())
    what = request(ApprovalTerms(standing_uses=5, standing_within=3600))
    claims = in_advance(what, approver="bob", groups=(), when="trusted", uses=5, now=NOW, until=NOW + 60)
    token = SIGNER.standing(claims)
    registry.add(Enrolled(claims.id, "bob", STANDING, token, NOW, claims.about))
    better = what.call._replace(label=Label(Integrity.TRUSTED))
    desk.store.put(dataclasses.replace(what, call=better, signer=desk.signer.id))
    assert ask(desk, what).refusal is not None


def test_a_forged_proof_does_not_take_its_owners_place(tmp_path: Path) -> None:
    desk, what = desk_of(tmp_path), request()
    desk.store.put(dataclasses.replace(what, signer=desk.signer.id))
    assert desk.file(dataclasses.replace(answer(what, "bob"), proof="x")) is not None
    assert desk.file(answer(what, "bob")) is None
    assert desk.look(what.id) is ApprovalState.APPROVED


def test_an_old_answer_written_into_the_store_does_not_count(tmp_path: Path) -> None:
    desk, what = desk_of(tmp_path), request()
    desk.store.put(dataclasses.replace(what, signer=desk.signer.id))
    old = desk.signer.answer(AnswerClaims(what.binding_hash, "bob", (), True, int(NOW) - 1))
    assert desk.store.file(what.id, "bob", dataclasses.replace(answer(what, "bob"), proof=old), now=NOW)
    assert desk.look(what.id) is ApprovalState.PENDING


# -- at the same moment ------------------------------------------------------------------------------------------------


class NoJustBefore(SqliteApprovalStore):
    """Somebody says no after the yes was read and before it is written down that it settles the request."""

    def settle(self, request_id: str, state: ApprovalState, **parts: Any) -> Any:
        if state is ApprovalState.APPROVED:
            what = self.get(request_id)
            assert what is not None
            assert what.request is not None
            claims = AnswerClaims(what.binding_hash, "carol", (), False, int(NOW))
            no = dataclasses.replace(answer(what.request, "carol", False), proof=SIGNER.answer(claims))
            assert self.file(what.id, "carol", no, now=NOW)
        return super().settle(request_id, state, **parts)


def test_a_no_that_was_filed_in_time_is_final_whoever_settles(tmp_path: Path) -> None:
    desk, what = desk_of(tmp_path, NoJustBefore(tmp_path / "approvals.db")), request()
    desk.store.put(dataclasses.replace(what, signer=desk.signer.id))
    desk.file(answer(what, "bob"))
    assert ask(desk, what).refusal is not None
    assert desk.look(what.id) is ApprovalState.DENIED


class YesJustBefore(SqliteApprovalStore):
    """Somebody says yes, in time, after the request was read by one who is to find that it has expired."""

    def settle(self, request_id: str, state: ApprovalState, **parts: Any) -> Any:
        if state is ApprovalState.EXPIRED:
            what = self.get(request_id)
            assert what is not None
            assert what.request is not None
            claims = AnswerClaims(what.binding_hash, "carol", (), True, int(NOW))
            yes = dataclasses.replace(answer(what.request, "carol"), proof=SIGNER.answer(claims))
            assert self.file(what.id, "carol", yes, now=NOW)
        return super().settle(request_id, state, **parts)


def test_a_yes_that_was_filed_in_time_is_not_lost_to_one_who_looked_before(tmp_path: Path) -> None:
    desk, what = desk_of(tmp_path, YesJustBefore(tmp_path / "approvals.db")), request()
    desk.store.put(dataclasses.replace(what, expires_at=NOW + 0.5, signer=desk.signer.id))
    desk._clock = lambda: NOW + 0.5
    assert desk.look(what.id) is ApprovalState.APPROVED


# -- no graph ----------------------------------------------------------------------------------------------------------


def test_where_no_graph_can_be_interrupted_the_denial_says_so(banks: Any) -> None:
    bank = banks()
    with bank.world.session(ttl=3600), pytest.raises(AccessDeniedError, match="No graph is running"):
        bank.pay.invoke({"type": "tool_call", "name": "pay", "args": {"amount": 1}, "id": "call-1"})
    assert bank.ran == []


# -- beside other questions --------------------------------------------------------------------------------------------


class Shop:
    """Beside the tool that pays, one whose body asks a question of its own, in LangChain's shape."""

    def __init__(self, folder: Path) -> None:
        self.ran: list[int] = []
        self.pays_first = True

        @tool
        def colour() -> str:
            """Choose a colour."""
            if self.pays_first:
                time.sleep(0.3)
            return str(interrupt({"action_requests": [{"name": "colour", "args": {}}]}))

        @tool
        def pay(amount: int) -> str:
            """Pay."""
            if not self.pays_first:
                time.sleep(0.3)
            self.ran.append(amount)
            return "paid"

        text = (
            f"{HEAD}approvals: {{timeout: 5m, approvers: [session-user]}}\ntools:\n"
            "  pay: {tier: high, effects: [money]}\n  colour: {tier: low, effects: [read]}\nrules:\n"
            "  - {id: all, agents: [helpdesk], tools: [pay, colour], outcome: allow}\n"
        )
        tools = [colour, pay]
        self.channel = InterruptChannel()
        self.world = World(folder, text, tools, self.channel)
        self.world.guard.protect(tools)
        calls = [{"name": "colour", "args": {}, "id": "call-0"}, {"name": "pay", "args": {"amount": 9}, "id": "call-1"}]
        builder = StateGraph(MessagesState)
        builder.add_node("model", lambda _: {"messages": [AIMessage("", tool_calls=calls)]})
        builder.add_node("tools", ToolNode(tools))
        builder.add_edge(START, "model")
        builder.add_edge("model", "tools")
        self.app: Any = builder.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("pays_first", [True, False])
@pytest.mark.parametrize("pays_first_again", [True, False])
def test_a_yes_to_another_tools_question_is_none_to_ours(
    pays_first: bool, pays_first_again: bool, tmp_path: Path
) -> None:
    """A plain ToolNode shows one of the questions that its parallel calls ask, and whoever is first has the answer."""
    shop = Shop(tmp_path)
    shop.pays_first = pays_first
    with shop.world.session():
        shop.app.invoke(USER, CONFIG)
        assert asked(shop.app).value["action_requests"][0]["name"] == "colour"
        shop.pays_first = pays_first_again
        shop.channel._shared.clear()  # as in another process, which knows what the store knows
        shop.app.invoke(Command(resume=APPROVE), CONFIG)
    shop.world.guard.close()
    assert shop.ran == []


def test_an_edit_of_a_call_inside_a_body_is_not_one_of_the_call_around_it(tmp_path: Path) -> None:
    ran: list[int] = []
    inner: list[BaseTool] = []

    @tool
    def pay(amount: int) -> str:
        """Pay, in thousands where it is little."""
        if amount < 100:
            call = {"type": "tool_call", "name": "pay", "args": {"amount": amount * 1000}, "id": "inner"}
            return str(inner[0].invoke(call))
        ran.append(amount)
        return "paid"

    inner.append(pay)
    text = (
        f"{HEAD}tools:\n  pay: {{tier: medium, effects: [write]}}\nrules:\n"
        "  - {id: pay, agents: [helpdesk], tools: [pay], outcome: allow}\n"
        "  - {id: big, agents: [helpdesk], tools: [pay], outcome: require_approval, when: args.amount > 500,"
        " reason: Big.}\n"
    )
    world = World(tmp_path, text, [pay], InterruptChannel())
    calls = [{"name": "pay", "args": {"amount": 1}, "id": "outer"}]
    model = ScriptedChatModel(turns=[AIMessage("", tool_calls=calls), AIMessage("done")])
    app = create_agent_of(model, pay, [ZeroTrustMiddleware(world.guard)])
    edit = {"decisions": [{"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 200}}}]}
    with world.session():
        app.invoke(USER, CONFIG)
        question = asked(app).value
        assert "edit" not in question["review_configs"][0]["allowed_decisions"], "nobody there can make another call"
        app.invoke(Command(resume=world.guard.answer(question, edit, approver="bob")), CONFIG)
    world.guard.close()
    assert ran == []


def test_the_command_of_another_trust_domain_does_not_use_up_the_request(tmp_path: Path) -> None:
    desk, what = desk_of(tmp_path), request()
    desk.store.put(dataclasses.replace(what, signer=desk.signer.id))
    other = ApprovalDesk(
        store=desk.store,
        proofs=AnswerProofs(ApprovalSigner(issuer="other", audience="other", key=KEY)),
        channel=None,
        clock=lambda: NOW,
        retention=3600,
    )
    assert other.file(answer(what, "bob")) is not None
    assert other.look(what.id) is ApprovalState.PENDING
