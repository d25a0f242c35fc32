"""LangGraph: what a resumed graph may and may not make a guarded tool do."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from software_authenticator import ORIGIN, RP_ID, SoftwareAuthenticator
from world import HEAD, World

from zt_agents import AccessDeniedError, Answer, ConfigurationError, StoreChannel, User
from zt_agents.approvals import binding_hash
from zt_agents.config import approver_authority
from zt_agents.identity import AnswerClaims, ApproverKey, SigningKey
from zt_agents.identity.approving.passkeys import (
    approval_challenge,
    assertion_options,
    registration_options,
    verify_registration,
)
from zt_agents.integrations.langchain.interrupts import InterruptChannel
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel
from zt_agents.testing import AnsweringChannel

Ran = list[Any]
APPROVE = {"decisions": [{"type": "approve"}]}
REJECT = {"decisions": [{"type": "reject", "message": "no"}]}
CONFIG: dict[str, Any] = {"configurable": {"thread_id": "t"}}
USER = {"messages": [("user", "pay")]}


def payer(ran: Ran) -> BaseTool:
    @tool
    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return f"paid {amount}"

    return pay


def pays(*amounts: int) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "pay", "args": {"amount": n}, "id": f"call-{n}"} for n in amounts])


def toolnode(pay: BaseTool, message: AIMessage, **options: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda _: {"messages": [message]})
    builder.add_node("tools", ToolNode([pay], **options))
    builder.add_edge(START, "model")
    builder.add_edge("model", "tools")
    return builder.compile(checkpointer=InMemorySaver())


Make = Callable[..., World]


@pytest.fixture
def paying(tmp_path: Path) -> Iterator[Make]:
    worlds: list[World] = []

    def make(pay: BaseTool, approvals: str = "", channel: Any = None, **parts: Any) -> World:
        folder = tmp_path / str(len(worlds))
        folder.mkdir()
        text = (
            f"{HEAD}approvals: {{timeout: 5m{approvals}}}\ntools:\n  pay: {{tier: high, effects: [money]}}\nrules:\n"
            "  - {id: pay, agents: [helpdesk], tools: [pay], outcome: allow}\n"
        )
        worlds.append(World(folder, text, [pay], channel or InterruptChannel(), **parts))
        worlds[-1].guard.protect([pay])
        return worlds[-1]

    yield make
    for world in worlds:
        world.guard.close()


def held(paying: Make, approvals: str = "", **parts: Any) -> tuple[Ran, World, Any]:
    """Return what has run, its world, and a graph whose model pays 1: a call that waits for a human."""
    ran: Ran = []
    pay = payer(ran)
    return ran, paying(pay, approvals, **parts), toolnode(pay, pays(1))


def questions(app: Any) -> list[Any]:
    return [asked for task in app.get_state(CONFIG).tasks for asked in task.interrupts]


def say(world: World, asked: Any, response: Any = APPROVE, approver: User | str = "bob@acme.example") -> Any:
    return Command(resume={asked.id: world.guard.answer(asked.value, response, approver=approver)})


# -- who answered ------------------------------------------------------------------------------------------------------


def test_a_bare_answer_has_no_approver_and_does_not_count(paying: Make) -> None:
    ran, world, app = held(paying)
    with world.session():
        app.invoke(USER, CONFIG)
        app.invoke(Command(resume=APPROVE), CONFIG)
        assert ran == []
        (asked,) = questions(app)
        assert "Nobody vouched" in asked.value["zt_approval"]["not_counted"]
        app.invoke(say(world, asked), CONFIG)
    assert ran == [1]


def test_a_bare_answer_counts_where_the_policy_lets_the_session_user_approve(paying: Make) -> None:
    ran, world, app = held(paying, ", approvers: [session-user]")
    with world.session():
        app.invoke(USER, CONFIG)
        app.invoke(Command(resume=APPROVE), CONFIG)
    assert ran == [1]
    assert world.records()[-2]["approved_by"] == "session-user"


@pytest.mark.parametrize("who", ["alice@acme.example", "ALICE@acme.example ", "ａlice@acme.example"])
def test_the_requester_may_not_approve(who: str, paying: Make) -> None:
    ran, world, app = held(paying)
    with world.session():
        app.invoke(USER, CONFIG)
        app.invoke(say(world, questions(app)[0], approver=who), CONFIG)
        assert questions(app), "it is asked again"
    assert ran == []


def test_the_requester_may_not_approve_as_somebody_who_looks_the_same(paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay)
    app = toolnode(pay, pays(1))
    with world.session(on_behalf_of="alice\u200b@acme.example"):
        app.invoke(USER, CONFIG)
        app.invoke(say(world, questions(app)[0], approver="alice@acme.example"), CONFIG)
        assert questions(app), "it is asked again"
    assert ran == []


def test_a_quorum_needs_different_people_and_a_double_click_is_one(paying: Make) -> None:
    ran, world, app = held(paying, ", approvers: ['group:finance'], quorum: 2")
    bob, carol = User("bob", groups=("finance",)), User("carol", groups=("finance",))
    with world.session():
        app.invoke(USER, CONFIG)
        for approver in (bob, bob, User("BOB", groups=("finance",)), User("eve")):
            app.invoke(say(world, questions(app)[0], approver=approver), CONFIG)
            assert ran == []
        app.invoke(say(world, questions(app)[0], approver=carol), CONFIG)
    assert ran == [1]
    assert world.records()[-2]["approved_by"] == "bob, carol"


def test_a_passkey_answers_an_interrupt_where_the_policy_wants_one(paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay, ", second_factor: passkey")
    factors = world.guard.desk.proofs.factors
    assert factors is not None
    key, challenge = SoftwareAuthenticator(), b"c" * 32
    made = key.create(registration_options(rp_id=RP_ID, rp_name="x", approver="bob@acme.example", challenge=challenge))
    passkey = verify_registration(made, challenge=challenge, rp_id=RP_ID, origin=ORIGIN)
    factors.enrol("bob@acme.example", passkey, now=time.time())
    app = toolnode(pay, pays(1))
    with world.session():
        app.invoke(USER, CONFIG)
        app.invoke(say(world, questions(app)[0]), CONFIG)
        assert ran == []
        (asked,) = questions(app)
        shown = asked.value["zt_approval"]
        assert shown["needs"] == [{"quorum": 1, "proof": "attested", "second_factor": "passkey"}]
        assert "second factor" in shown["not_counted"]
        signed = approval_challenge(shown["id"], shown["binding_hash"], True)
        evidence = key.get(assertion_options(rp_id=RP_ID, challenge=signed, passkeys=[passkey]))
        answer = world.guard.answer(asked.value, APPROVE, approver="bob@acme.example", factor=evidence)
        app.invoke(Command(resume={asked.id: answer}), CONFIG)
    assert ran == [1]
    (approval,) = world.records()[-2]["approvals"]
    assert approval[:4] == ["bob@acme.example", "yes", "credential", "passkey"]


def test_an_answer_signed_by_another_guard_is_no_answer(paying: Make) -> None:
    ran: Ran = []
    pay, other = payer(ran), payer(ran)
    world, forger = paying(pay), paying(other)
    app = toolnode(pay, pays(1))
    with world.session():
        app.invoke(USER, CONFIG)
        (asked,) = questions(app)
        with pytest.raises(ValueError, match="no such question"):
            forger.guard.answer(asked.value, APPROVE, approver="bob")
        binding = asked.value["zt_approval"]["binding_hash"]
        token = forger.guard.desk.signer.answer(AnswerClaims(binding, "bob", (), True, 1_800_000_000))
        app.invoke(Command(resume={asked.id: {**APPROVE, "zt_answer": token}}), CONFIG)
        assert questions(app), "it is asked again"
    assert ran == []


@pytest.mark.parametrize("approver", ["session-user", "SESSION-USER "])
def test_nobody_is_called_like_a_word_of_the_policy(approver: str, paying: Make) -> None:
    pay = payer([])
    world = paying(pay)
    app = toolnode(pay, pays(1))
    with world.session():
        app.invoke(USER, CONFIG)
        with pytest.raises(ValueError, match="word of the policy"):
            world.guard.answer(questions(app)[0].value, APPROVE, approver=approver)


def test_what_the_approver_saw_must_be_what_was_asked(paying: Make) -> None:
    pay = payer([])
    world = paying(pay)
    app = toolnode(pay, pays(999))
    with world.session():
        app.invoke(USER, CONFIG)
        shown = copy.deepcopy(questions(app)[0].value)
        shown["action_requests"][0]["args"] = {"amount": 1}
        with pytest.raises(ValueError, match="somebody has changed"):
            world.guard.answer(shown, APPROVE, approver="bob")


# -- which call ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_15_parallel_calls_in_a_plain_toolnode_get_their_own_answers(order: tuple[int, int], paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay, ", approvers: [session-user]")
    app = toolnode(pay, pays(1, 999), handle_tool_errors=lambda e: str(e))
    with world.session():
        app.invoke(USER, CONFIG)
        for _ in range(2):
            (asked,) = questions(app)
            amount = asked.value["action_requests"][0]["args"]["amount"]
            app.invoke(Command(resume=APPROVE if amount == (1, 999)[order[0]] else REJECT), CONFIG)
        assert not questions(app)
    assert ran == [(1, 999)[order[0]]]


def test_parallel_calls_of_an_agent_are_answered_by_interrupt_id(paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay)
    model = ScriptedChatModel(turns=[pays(1, 2, 3), AIMessage("done")])
    app = create_agent(model, [pay], middleware=[ZeroTrustMiddleware(world.guard)], checkpointer=InMemorySaver())
    with world.session():
        app.invoke(USER, CONFIG)
        asked = {each.value["action_requests"][0]["args"]["amount"]: each for each in questions(app)}
        resume = {
            asked[n].id: world.guard.answer(asked[n].value, APPROVE if n != 2 else REJECT, approver="bob")
            for n in (3, 2, 1)
        }
        app.invoke(Command(resume=resume), CONFIG)
    assert sorted(ran) == [1, 3]


def test_a_signed_answer_moved_to_another_interrupt_stays_with_its_own_call(paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay)
    model = ScriptedChatModel(turns=[pays(1, 999), AIMessage("done")])
    app = create_agent(model, [pay], middleware=[ZeroTrustMiddleware(world.guard)], checkpointer=InMemorySaver())
    with world.session():
        app.invoke(USER, CONFIG)
        asked = {each.value["action_requests"][0]["args"]["amount"]: each for each in questions(app)}
        small = world.guard.answer(asked[1].value, APPROVE, approver="bob")
        app.invoke(Command(resume={asked[999].id: small}), CONFIG)
        for _ in range(2):
            assert 999 in [each.value["action_requests"][0]["args"]["amount"] for each in questions(app)]
            app.invoke(Command(resume={each.id: small for each in questions(app)}), CONFIG)
    assert ran == [1]


@pytest.mark.parametrize("signed", [True, False])
def test_arguments_changed_by_update_state_between_question_and_answer_do_not_run(signed: bool, paying: Make) -> None:
    ran, world, app = held(paying, "" if signed else ", approvers: [session-user]")
    with world.session():
        app.invoke(USER, CONFIG)
        (asked,) = questions(app)
        message = app.get_state(CONFIG).values["messages"][-1]
        changed = AIMessage("", id=message.id, tool_calls=[{"name": "pay", "args": {"amount": 666}, "id": "call-1"}])
        app.update_state(CONFIG, {"messages": [changed]}, as_node="model")
        response = world.guard.answer(asked.value, APPROVE, approver="bob") if signed else APPROVE
        app.invoke(Command(resume=response), CONFIG)
        assert ran == []
        assert questions(app)[0].value["action_requests"][0]["args"] == {"amount": 666}, "a new question"


@pytest.mark.parametrize(
    "response",
    [
        True,
        "approve",
        {},
        [],
        {"decisions": []},
        {"decisions": [{"type": "approve"}, {"type": "approve"}]},
        {"decisions": [{"type": "Approve"}]},
        {"decisions": [{"type": "edit", "edited_action": {"name": "delete_all", "args": {}}}]},
        {"decisions": [{"type": "respond", "message": "approved"}]},
        {"decisions": "approve"},
        {"type": ["approve"]},
    ],
)
def test_what_is_not_an_approval_is_a_no(response: Any, paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay, ", approvers: [session-user]")
    app = toolnode(pay, pays(1), handle_tool_errors=lambda e: str(e))
    with world.session():
        app.invoke(USER, CONFIG)
        app.invoke(Command(resume={questions(app)[0].id: response}), CONFIG)
        app.invoke(Command(resume=APPROVE), CONFIG)
    assert ran == []


# -- once ----------------------------------------------------------------------------------------------------


def test_replaying_an_old_checkpoint_does_not_run_the_side_effect_again(paying: Make) -> None:
    ran, world, app = held(paying)
    with world.session():
        app.invoke(USER, CONFIG)
        old = app.get_state(CONFIG).config
        app.invoke(say(world, questions(app)[0]), CONFIG)
        app.invoke(None, old)
        app.invoke(Command(resume=APPROVE), old)
    assert ran == [1]


def test_a_rejected_call_stays_rejected_whoever_makes_it_again(paying: Make) -> None:
    """jump_to="tools", a ``when`` that flips on resume, a second click: LangChain's own runs the call then."""
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay)
    app = toolnode(pay, pays(1), handle_tool_errors=lambda e: str(e))
    with world.session():
        app.invoke(USER, CONFIG)
        (asked,) = questions(app)
        app.invoke(say(world, asked, REJECT), CONFIG)
        with pytest.raises(AccessDeniedError):
            pay.invoke({"type": "tool_call", "name": "pay", "args": {"amount": 1}, "id": "call-1"})
        app.update_state(CONFIG, {"messages": [pays(1)]}, as_node="model")
        app.invoke(None, CONFIG)
        app.invoke(say(world, asked), CONFIG)
    assert ran == []


def test_a_body_that_interrupts_after_its_approval_gets_its_own_answer_and_ends_once(paying: Make) -> None:
    ran: Ran = []

    @tool
    def pay(amount: int) -> str:
        """Pay."""
        said = interrupt("which account?")
        ran.append((amount, said))
        return "paid"

    world = paying(pay)
    app = toolnode(pay, pays(1))
    with world.session():
        app.invoke(USER, CONFIG)
        app.invoke(say(world, questions(app)[0]), CONFIG)
        assert questions(app)[0].value == "which account?"
        app.invoke(Command(resume="savings"), CONFIG)
        app.invoke(None, CONFIG)
    assert ran == [(1, "savings")]


# -- ways ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
@pytest.mark.parametrize("kind", ["toolnode", "agent"])
def test_every_way_to_run_a_graph_asks_first_and_runs_once(way: str, kind: str, paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay)
    if kind == "agent":
        model = ScriptedChatModel(turns=[pays(1), AIMessage("done")])
        app = create_agent(model, [pay], middleware=[ZeroTrustMiddleware(world.guard)], checkpointer=InMemorySaver())
    else:
        app = toolnode(pay, pays(1))

    async def go(given: Any) -> None:
        if way == "invoke":
            app.invoke(given, CONFIG)
        elif way == "stream":
            list(app.stream(given, CONFIG))
        elif way == "ainvoke":
            await app.ainvoke(given, CONFIG)
        else:
            _ = [chunk async for chunk in app.astream(given, CONFIG)]

    async def main() -> None:
        with world.session():
            await go(USER)
            assert ran == []
            await go(say(world, questions(app)[0]))

    asyncio.run(main())
    assert ran == [1]
    records = world.records()
    assert [record["status"] for record in records if record["kind"] == "outcome"] == ["suspended", "ok"]
    first, second = world.spans()
    assert not first.error
    assert first.attributes["zt_agents.approval.status"] == "pending"
    assert second.links == ((first.trace_id, first.span_id),)


def test_outside_of_a_graph_it_asks_otherwise_or_denies(paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay)
    with world.session(), pytest.raises(AccessDeniedError):
        pay.invoke({"amount": 1})
    assert ran == []
    other = payer(ran)
    world = paying(other, channel=InterruptChannel(otherwise=AnsweringChannel(True)))
    with world.session():
        other.invoke({"amount": 2})
    assert ran == [2]


def test_an_expired_question_denies_and_a_late_answer_is_none(paying: Make) -> None:
    now = [1_800_000_000.0]
    ran, world, app = held(paying, clock=lambda: now[0])
    with world.session(ttl=3600):
        app.invoke(USER, CONFIG)
        now[0] += 301
        with pytest.raises(AccessDeniedError, match="expired"):
            app.invoke(say(world, questions(app)[0]), CONFIG)
    assert ran == []


def test_a_suspended_agent_stays_suspended_although_the_call_was_approved(paying: Make) -> None:
    ran, world, app = held(paying)
    with world.session():
        app.invoke(USER, CONFIG)
        world.guard.registry.suspend("helpdesk")
        with pytest.raises(AccessDeniedError):
            app.invoke(say(world, questions(app)[0]), CONFIG)
    assert ran == []


# -- edits -------------------------------------------------------------------------------------------------------------


def edit(amount: object, name: str = "pay") -> dict[str, Any]:
    return {"decisions": [{"type": "edit", "edited_action": {"name": name, "args": {"amount": amount}}}]}


def agent(pay: BaseTool, world: World, *more: BaseTool) -> Any:
    model = ScriptedChatModel(turns=[pays(1), AIMessage("done")])
    middleware = [ZeroTrustMiddleware(world.guard)]
    return create_agent(model, [pay, *more], middleware=middleware, checkpointer=InMemorySaver())


@pytest.mark.parametrize("use_async", [False, True])
def test_an_edit_is_another_call_which_its_editor_has_approved(use_async: bool, paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay)
    app = agent(pay, world)
    with world.session():
        app.invoke(USER, CONFIG)
        (asked,) = questions(app)
        assert asked.value["review_configs"][0]["allowed_decisions"] == ["approve", "edit", "reject"]
        resume = say(world, asked, edit(5))
        result = asyncio.run(app.ainvoke(resume, CONFIG)) if use_async else app.invoke(resume, CONFIG)
    assert ran == [5]
    assert "a human changed the arguments" in result["messages"][-2].content
    outcomes = [(outcome, reason) for outcome, reason in world.decisions() if outcome != "require_approval"]
    assert outcomes == [("deny", "not_approved"), ("allow", "approved")]


def test_an_edit_by_somebody_who_may_not_approve_is_asked_about(paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay)
    app = agent(pay, world)
    with world.session():
        app.invoke(USER, CONFIG)
        app.invoke(say(world, questions(app)[0], edit(5), "alice@acme.example"), CONFIG)
        assert ran == []
        (asked,) = questions(app)
        assert asked.value["action_requests"][0]["args"] == {"amount": 5}
        app.invoke(say(world, asked), CONFIG)
    assert ran == [5]


def test_an_edit_by_an_approver_who_was_removed_is_asked_about(paying: Make) -> None:
    ran: Ran = []
    pay, key, own = payer(ran), SigningKey.generate(), SigningKey.generate()
    world = paying(pay, signing_key=key)
    issued = time.time() - 5
    credential = approver_authority("acme.example", key).issue("bob", groups=(), key=own, now=issued, valid=600)
    bob = ApproverKey(credential, own)  # who is not in the registry, or no longer
    app = agent(pay, world)
    with world.session():
        app.invoke(USER, CONFIG)
        (asked,) = questions(app)
        stored = world.guard.desk.store.get(asked.value["zt_approval"]["id"])
        assert stored is not None
        assert stored.request is not None
        other = binding_hash(stored.request.call._replace(arguments={"amount": 5}))
        said = {
            "zt_answer": bob.answer(stored.binding_hash, approved=False, now=time.time()),
            "zt_edit": bob.answer(other, approved=True, now=time.time()),
        }
        app.invoke(Command(resume={asked.id: {**edit(5), **said}}), CONFIG)
        assert ran == []
        (asked,) = questions(app)
        assert asked.value["action_requests"][0]["args"] == {"amount": 5}
    assert ran == []


def test_an_edit_changed_on_its_way_is_asked_about(paying: Make) -> None:
    ran: Ran = []
    pay = payer(ran)
    world = paying(pay)
    app = agent(pay, world)
    with world.session():
        app.invoke(USER, CONFIG)
        (asked,) = questions(app)
        response = {**world.guard.answer(asked.value, edit(5), approver="bob"), **edit(5000)}
        app.invoke(Command(resume={asked.id: response}), CONFIG)
        assert ran == []
        assert questions(app)[0].value["action_requests"][0]["args"] == {"amount": 5000}


@pytest.mark.parametrize("response", [edit(5, name="wipe"), edit("much"), edit({"$": 1}), edit(-1)])
def test_an_edit_to_another_tool_or_to_what_may_not_be_does_not_run(response: Any, tmp_path: Path) -> None:
    """A cross-tool edit bypasses the target tool's own policy in LangChain's own."""
    ran: Ran = []
    pay = payer(ran)

    @tool
    def wipe(amount: int) -> str:
        """Wipe."""
        ran.append("wiped")
        return "wiped"

    text = (
        f"{HEAD}tools:\n  pay: {{tier: high, effects: [money]}}\n  wipe: {{tier: low, effects: [delete]}}\nrules:\n"
        "  - {id: pay, agents: [helpdesk], tools: [pay, wipe], outcome: allow}\n"
        "  - {id: no, agents: [helpdesk], tools: [pay], outcome: deny, when: args.amount < 0, reason: No.}\n"
    )
    world = World(tmp_path, text, [pay, wipe], InterruptChannel())
    app = agent(pay, world, wipe)
    with world.session():
        app.invoke(USER, CONFIG)
        app.invoke(say(world, questions(app)[0], response), CONFIG)
        assert not questions(app)
    world.guard.close()
    assert ran == []


def test_where_nobody_can_make_an_edited_call_an_edit_is_a_no(paying: Make) -> None:
    ran, world, app = held(paying)
    with world.session():
        app.invoke(USER, CONFIG)
        (asked,) = questions(app)
        assert "edit" not in asked.value["review_configs"][0]["allowed_decisions"]
        with pytest.raises(AccessDeniedError, match="wants other arguments"):
            app.invoke(say(world, asked, edit(5)), CONFIG)
    assert ran == []


def test_the_policy_that_resumes_must_still_be_content_with_the_approvers(paying: Make) -> None:
    ran, world, app = held(paying)
    with world.session():
        app.invoke(USER, CONFIG)
        (asked,) = questions(app)
        stricter = paying(payer(ran), ", approvers: [owner]").guard.policy.engine
        object.__setattr__(world.guard.policy, "engine", stricter)
        with pytest.raises(AccessDeniedError, match="now asks for other approvers"):
            app.invoke(say(world, asked), CONFIG)
    assert ran == []


def test_answered_by_other_means_the_graph_goes_on_when_it_is_run_again(paying: Make) -> None:
    ran, world, app = held(paying)
    with world.session():
        app.invoke(USER, CONFIG)
        (asked,) = questions(app)
        app.invoke(None, CONFIG)
        assert ran == []
        assert world.guard.desk.file(Answer(asked.value["zt_approval"]["binding_hash"], True, "bob")) is None
        app.invoke(None, CONFIG)
    assert ran == [1]


@pytest.mark.parametrize("channel", [InterruptChannel, StoreChannel])
def test_a_channel_serves_one_guard(channel: Any, paying: Make) -> None:
    one = channel()
    paying(payer([]), channel=one)
    with pytest.raises(ConfigurationError, match="another guard"):
        paying(payer([]), channel=one)
