"""Who may answer what, and what comes of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from reception import ALICE, MakeReception, Reception

from zt_agents.approvals import ApprovalState
from zt_agents.console.prompt import listening
from zt_agents.console.server import server
from zt_agents.decisions import ApprovalTerms, Proof, SecondFactor, ToolCall
from zt_agents.errors import ConfigurationError
from zt_agents.identity import User

DANA = "dana@acme.example"
ERIN = "erin@acme.example"


def state(reception: Reception, request_id: str) -> ApprovalState:
    return reception.desk.look(request_id)


@pytest.mark.parametrize(("said", "then"), [("yes", ApprovalState.APPROVED), ("no", ApprovalState.DENIED)])
async def test_an_answer_settles_it(said: str, then: ApprovalState, reception: Reception) -> None:
    asked = reception.ask()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        page = (await browser.get(f"/requests/{asked.id}")).text
        assert 'id="open-approve"' in page
        assert asked.binding_hash in page
        answered = await browser.answer(asked, said, comment="Invoice checked.\u202e")
        assert (answered.status_code, answered.headers["location"]) == (303, f"/requests/{asked.id}")
        after = (await browser.get(answered.headers["location"])).text
        assert state(reception, asked.id) is then
        assert 'id="open-approve"' not in after
        assert "Invoice checked." in after
        assert "\u202e" not in after
        assert "Nothing waits for you." in (await browser.get("/")).text
    (answer,) = reception.store.get(asked.id).answers  # type: ignore[union-attr]
    assert (answer.approver, answer.comment) == (DANA, "Invoice checked.\u202e")


async def test_several_have_to_say_yes(reception: Reception) -> None:
    asked = reception.ask(ApprovalTerms(("group:finance",), 2, 600))
    dana, erin = reception.approver(DANA, "finance"), reception.approver(ERIN, "finance", "staff")
    async with reception.browser() as first, reception.browser() as second:
        await first.sign_in(dana)
        await second.sign_in(erin)
        await first.answer(asked)
        assert state(reception, asked.id) is ApprovalState.PENDING
        page = (await first.get(f"/requests/{asked.id}")).text
        assert "You said yes. It waits for others." in page
        assert "1 of 2" in page
        assert "Nothing waits for you." in (await first.get("/")).text
        assert "you have answered" in (await first.get("/?show=all")).text
        assert "Approve" in (await second.get(f"/requests/{asked.id}")).text
        await second.answer(asked)
    assert state(reception, asked.id) is ApprovalState.APPROVED


@pytest.mark.parametrize(
    ("terms", "user", "why"),
    [
        (ApprovalTerms(("anyone",)), User(DANA), "asked for it, and so may not approve it"),
        (ApprovalTerms(("anyone",)), User("ＤANA@acme.example"), "asked for it, and so may not approve it"),
        (ApprovalTerms(("user:erin@acme.example", "group:finance")), ALICE, "is not one of its approvers"),
        (ApprovalTerms(("anyone",), exclude=("group:staff",)), ALICE, "the policy excludes them"),
        (ApprovalTerms(("anyone",), when="approver.id != ''"), ALICE, "condition on approvers does not hold"),
        (ApprovalTerms(("anyone",), proof=Proof.CREDENTIAL), ALICE, "with a credential of their own"),
        (ApprovalTerms(("anyone",), second_factor=SecondFactor.TOTP), ALICE, "wants a second factor"),
        (ApprovalTerms(("nobody",), escalate_after=300, escalate_to=("anyone",)), ALICE, "is not asked yet"),
    ],
)
@pytest.mark.parametrize("said", ["yes", "no"])
async def test_who_may_not_answer_reads_why(
    said: str, terms: ApprovalTerms, user: User, why: str, reception: Reception
) -> None:
    asked = reception.ask(terms, user=user)
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA, "staff"))
        page = (await browser.get(f"/requests/{asked.id}")).text
        assert why in page
        assert 'id="open-approve"' not in page
        assert "Nothing waits for you." in (await browser.get("/")).text
        assert "not yours to answer" in (await browser.get("/?show=all")).text
        refused = await browser.answer(asked, said)
    assert refused.status_code == 403
    assert why in refused.text
    assert state(reception, asked.id) is ApprovalState.PENDING
    assert reception.store.get(asked.id).answers == ()  # type: ignore[union-attr]


async def test_whom_it_is_escalated_to_may_answer_later(reception: Reception) -> None:
    asked = reception.ask(ApprovalTerms(("nobody",), timeout=600, escalate_after=300, escalate_to=("user:" + DANA,)))
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert "Nothing waits for you." in (await browser.get("/")).text
        reception.clock.ahead = 301
        assert asked.id in (await browser.get("/")).text
        await browser.answer(asked)
    assert state(reception, asked.id) is ApprovalState.APPROVED


async def test_a_condition_is_evaluated_where_there_is_a_policy(make_reception: MakeReception) -> None:
    seen: list[float] = []

    class Conditions:
        def holds(self, when: str, call: ToolCall, approver: User) -> bool:
            seen.append(call.arguments["amount"])
            return when == "small" and approver.id == DANA

        def covers(self, when: str, call: ToolCall) -> bool:
            raise AssertionError(when)

    reception = make_reception(conditions=Conditions())
    asked = reception.ask(ApprovalTerms(("anyone",), when="small"))
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert asked.id in (await browser.get("/")).text
        assert 'id="open-approve"' in (await browser.get(f"/requests/{asked.id}")).text
    assert set(seen) == {1280.5}


async def test_a_second_click_says_nothing_new(reception: Reception) -> None:
    asked = reception.ask()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        codes = await asyncio.gather(*(browser.answer(asked) for _ in range(4)))
        assert 303 in {each.status_code for each in codes}
        assert {each.status_code for each in codes} <= {303, 409}
        assert (await browser.answer(asked)).status_code == 303
        other = await browser.answer(asked, "no")
    assert other.status_code == 409
    assert "Too late. It was approved." in other.text
    assert state(reception, asked.id) is ApprovalState.APPROVED
    assert len(reception.store.get(asked.id).answers) == 1  # type: ignore[union-attr]


async def test_somebody_else_was_faster(reception: Reception) -> None:
    asked = reception.ask()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        page = (await browser.get(f"/requests/{asked.id}")).text
        assert "said no" not in page
        reception.say(asked, ERIN, approved=False, comment="Not this one")
        late = await browser.answer(asked)
        assert late.status_code == 409
        assert "It was denied. That is final." in late.text
        assert "Not this one" in late.text


async def test_an_answer_is_for_the_call_that_was_shown(reception: Reception) -> None:
    shown, other = reception.ask(), reception.ask(arguments={"to": "mallory", "amount": 1})
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        for binding in (other.binding_hash, "", "x" * 43, "ä" * 43):
            assert (await browser.answer(shown, binding=binding)).status_code in {400, 403}
        assert (await browser.answer(shown, binding="x" * 200)).status_code == 400
    assert {state(reception, each.id) for each in (shown, other)} == {ApprovalState.PENDING}


async def test_a_form_belongs_to_its_session(reception: Reception) -> None:
    asked = reception.ask()
    dana = reception.approver(DANA)
    async with reception.browser() as browser, reception.browser() as other:
        await browser.sign_in(dana)
        await other.sign_in(dana)
        for csrf in (other.csrf, "", "ä", browser.csrf[:-1]):
            assert (await browser.answer(asked, csrf=csrf)).status_code in {400, 403}
        assert (await browser.answer(asked, "maybe")).status_code == 400
        assert (await browser.post(f"/requests/{asked.id}/answer", csrf=browser.csrf)).status_code == 400
        assert (await browser.answer(asked, comment="x" * 1001)).status_code == 400
    assert state(reception, asked.id) is ApprovalState.PENDING


async def test_nobody_answers_without_a_session(reception: Reception) -> None:
    asked = reception.ask()
    async with reception.browser() as browser:
        browser.csrf = "x"
        refused = await browser.answer(asked)
        assert refused.headers["location"] == "/login"
        for path in ("", "/standing", "/past", "/arguments", "/arguments/0"):
            response = await browser.get(f"/requests/{asked.id}{path}")
            assert response.status_code == 303
            assert "1280" not in response.text
    assert state(reception, asked.id) is ApprovalState.PENDING


@pytest.mark.parametrize("gone", ["expired", "withdrawn", "purged", "unknown", "another guard's"])
async def test_what_cannot_be_answered_any_more(gone: str, reception: Reception) -> None:
    asked = reception.ask()
    words = {
        "expired": (409, "It expired before it was answered."),
        "withdrawn": (409, "It was withdrawn by whoever asked."),
        "purged": (404, "no longer kept"),
        "unknown": (404, "There is no such request."),
        "another guard's": (403, "another signing key"),
    }
    if gone == "expired":
        reception.clock.ahead = 601
    elif gone == "withdrawn":
        reception.desk.withdraw(asked.id)
    elif gone == "purged":
        reception.desk.withdraw(asked.id)
        reception.store.purge(before=reception.clock() + 60)
    elif gone == "unknown":
        asked = replace(asked, id="0" * 32)
    else:
        foreign = replace(asked, id="f" * 32, signer="somebody else", nonce="n")
        from zt_agents.approvals import binding_hash

        asked = replace(foreign, binding_hash=binding_hash(foreign.call, nonce="n"))
        reception.store.put(asked)
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        answered = await browser.answer(asked)
    code, sentence = words[gone]
    assert answered.status_code == code
    assert sentence in answered.text


async def test_answers_are_limited(reception: Reception) -> None:
    asked = reception.ask()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        codes = [(await browser.answer(asked, binding="x")).status_code for _ in range(61)]
    assert codes[:60] == [403] * 60
    assert codes[60] == 429


async def test_the_page_tells_when_something_has_changed(reception: Reception) -> None:
    asked = reception.ask(ApprovalTerms(("anyone",), 3, 600))
    async with reception.browser(**{"hx-request": "true"}) as browser:
        await browser.sign_in(reception.approver(DANA))
        page = (await browser.get(f"/requests/{asked.id}")).text
        seen = page.partition(f"/requests/{asked.id}/standing?seen=")[2][:24]
        address = f"/requests/{asked.id}/standing?seen={seen}"
        assert (await browser.get(address)).status_code == 204
        reception.say(asked, ERIN)
        changed = await browser.get(address)
        assert changed.status_code == 200
        assert "erin@acme.example" in changed.text
        assert "1 of 3" in changed.text


async def test_what_the_store_says_was_answered_is_not_believed(reception: Reception) -> None:
    import sqlite3

    asked = reception.ask(ApprovalTerms(("anyone",), 2, 600))
    reception.say(asked, ERIN)
    with sqlite3.connect(reception.store.path) as connection:
        connection.execute("UPDATE answer SET body = replace(CAST(body AS TEXT), 'erin@', 'mona@')")
    connection.close()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        page = (await browser.get(f"/requests/{asked.id}")).text
    assert "mona@" not in page
    assert "0 of 2" in page


async def test_the_policy_has_changed_since(make_reception: MakeReception) -> None:
    reception = make_reception(policy_version="sha256:another")
    asked = reception.ask()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert "The policy has changed since" in (await browser.get(f"/requests/{asked.id}")).text


def test_the_command_refuses_what_would_be_unsafe(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from zt_agents.cli import app
    from zt_agents.identity import SigningKey

    key = tmp_path / "key.pem"
    SigningKey.generate().save(key)
    common = ["console", "--signing-key", str(key), "--trust-domain", "acme.example"]
    for more in (["--host", "0.0.0.0"], ["--origin", "http://approvals.acme.example"], ["--origin", "nonsense"]):
        result = CliRunner().invoke(app, [*common, *more])
        assert result.exit_code == 2, result.output
        assert "error:" in result.output


def test_nobody_is_believed_about_clients_but_a_proxy_that_was_named(reception: Reception) -> None:
    assert not server(reception.console).config.proxy_headers
    named = server(reception.console, proxy="10.0.0.1").config
    assert (named.proxy_headers, named.forwarded_allow_ips) == (True, "10.0.0.1")


def test_a_port_that_is_taken_is_an_error() -> None:
    with listening("127.0.0.1", 0) as place, pytest.raises(ConfigurationError, match="cannot listen"):
        listening("127.0.0.1", place.getsockname()[1])
