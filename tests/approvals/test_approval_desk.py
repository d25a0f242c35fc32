"""What the desk takes for an approval, and what it does not, whoever can write the store."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest
from approval_requests import NOW, answer, request

from zt_agents.approvals import Answer, ApprovalRequest, ApprovalState, Channel
from zt_agents.decisions import ApprovalTerms, ReasonCode
from zt_agents.desk import ApprovalDesk, Ruling
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.errors import StoreError
from zt_agents.identity import AnswerClaims, ApprovalSigner, GrantClaims, SigningKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.testing import AnsweringChannel

KEY = SigningKey.generate()


class Silent:
    def ask(self, asked: ApprovalRequest) -> Answer | None:
        return None

    async def aask(self, asked: ApprovalRequest) -> Answer | None:
        return None


class Scripted(Silent):
    def __init__(self, *approvers: str) -> None:
        self.approvers = list(approvers)

    def ask(self, asked: ApprovalRequest) -> Answer | None:
        return answer(asked, self.approvers.pop(0)) if self.approvers else None


def make(folder: Path, channel: Channel | None = None, key: SigningKey = KEY, now: float = NOW) -> ApprovalDesk:
    return ApprovalDesk(
        store=SqliteApprovalStore(folder / "approvals.db"),
        proofs=AnswerProofs(ApprovalSigner(issuer="i", audience="a", key=key)),
        channel=channel or Silent(),
        clock=lambda: now,
        retention=3600,
    )


def ask(desk: ApprovalDesk, asked: ApprovalRequest) -> Ruling:
    return desk.ask(asked, lambda _: False)


def change(folder: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(folder / "approvals.db")
    connection.execute(sql, values)
    connection.commit()
    connection.close()


def test_a_grant_is_used_once_and_before_the_call_is_decided_again(tmp_path: Path) -> None:
    asked = request()
    first = ask(make(tmp_path, AnsweringChannel(True)), asked)
    assert (first.refusal, first.approvers) == (None, ("tester@example.org",))
    second = ask(make(tmp_path, AnsweringChannel(True)), request())
    assert second.refusal is not None
    assert second.refusal.code is ReasonCode.REPLAY


@pytest.mark.parametrize("forged", ["none", "empty", "other key", "other call", "other person", "a no", "a grant"])
def test_a_yes_written_into_the_store_without_the_key_is_none(forged: str, tmp_path: Path) -> None:
    desk, asked, other = make(tmp_path), request(), request(arguments={})
    desk.store.put(asked)
    claims = AnswerClaims(asked.binding_hash, "bob", (), True, int(NOW))
    proofs = {
        "none": "x",
        "empty": "",
        "other key": make(tmp_path, key=SigningKey.generate()).signer.answer(claims),
        "other call": desk.signer.answer(dataclasses.replace(claims, binding_hash=other.binding_hash)),
        "other person": desk.signer.answer(dataclasses.replace(claims, approver="carol")),
        "a no": desk.signer.answer(dataclasses.replace(claims, approved=False)),
        "a grant": desk.signer.grant(GrantClaims(asked.id, asked.binding_hash, ("bob",), int(NOW) + 60), now=NOW),
    }
    yes = dataclasses.replace(answer(asked, "bob"), proof=proofs[forged])
    assert desk.store.file(asked.id, "bob", yes, now=NOW)
    assert desk.look(asked.id) is ApprovalState.PENDING
    ruling = ask(desk, asked)
    assert ruling.refusal is not None


@pytest.mark.parametrize("grant", ["", "x", "other call", "other key", "expired"])
def test_a_state_written_into_the_store_without_a_good_grant_is_none(grant: str, tmp_path: Path) -> None:
    desk, asked = make(tmp_path), request()
    desk.store.put(asked)
    claims = GrantClaims(asked.id, asked.binding_hash, ("bob",), int(NOW) + 60)
    tokens = {
        "other call": desk.signer.grant(dataclasses.replace(claims, binding_hash="other"), now=NOW),
        "other key": make(tmp_path, key=SigningKey.generate()).signer.grant(claims, now=NOW),
        "expired": desk.signer.grant(dataclasses.replace(claims, approved_until=int(NOW)), now=NOW),
    }
    change(tmp_path, "UPDATE request SET state = 'approved', grant_token = ?", tokens.get(grant, grant))
    assert ask(desk, asked).refusal is not None


def test_terms_written_down_in_the_store_do_not_pass_for_the_policys(tmp_path: Path) -> None:
    from zt_agents.approvals import write_request

    desk, asked = make(tmp_path, AnsweringChannel(True)), request(ApprovalTerms(("owner",)))
    desk.store.put(asked)
    easier = dataclasses.replace(asked, terms=(ApprovalTerms(("anyone",)),), signer=desk.signer.id)
    change(tmp_path, "UPDATE request SET body = ?", write_request(easier))
    ruling = ask(desk, asked)
    assert ruling.refusal is None
    assert ruling.request.terms == easier.terms, "which the guard holds against its own decision"


def test_a_stored_request_that_shows_another_call_than_it_is_bound_to_is_refused(tmp_path: Path) -> None:
    """Who can write the store could otherwise show pay(1) and have pay(999) approved."""
    from zt_agents.approvals import write_request

    desk, asked = make(tmp_path, AnsweringChannel(True)), request(arguments={"amount": 999})
    desk.store.put(asked)
    shown = dataclasses.replace(asked, call=asked.call._replace(arguments={"amount": 1}), signer=desk.signer.id)
    change(tmp_path, "UPDATE request SET body = ?", write_request(shown))
    assert ask(desk, asked).refusal is not None
    with pytest.raises(StoreError):
        desk.store.get(asked.id)
    assert [each.request for each in desk.store.pending()] == [None], "and nobody is shown pay(1)"


def test_a_quorum_by_a_channel_that_asks_several_people(tmp_path: Path) -> None:
    terms = ApprovalTerms(("anyone",), 2)
    assert ask(make(tmp_path, Scripted("bob", "carol")), request(terms)).refusal is None
    for number, people in enumerate((("bob",), ("bob", "bob"), ("bob", "alice@acme.example"))):
        asked = request(terms, call_id=str(number))
        assert ask(make(tmp_path, Scripted(*people)), asked).refusal is not None, people


def test_withdrawn_is_final(tmp_path: Path) -> None:
    desk, asked = make(tmp_path), request()
    desk.store.put(dataclasses.replace(asked, signer=desk.signer.id))
    assert desk.withdraw(asked.id)
    assert not desk.withdraw(asked.id)
    assert desk.file(answer(asked, "bob")) is not None
    refusal = ask(make(tmp_path, AnsweringChannel(True)), asked).refusal
    assert refusal is not None
    assert "withdrawn" in refusal.text


def test_an_answer_for_another_call_does_not_count_here(tmp_path: Path) -> None:
    asked, other = request(), request(arguments={"to": "eve"})

    class Misdirected(Silent):
        def ask(self, _: ApprovalRequest) -> Answer | None:
            return answer(other, "bob")

    desk = make(tmp_path, Misdirected())
    desk.store.put(dataclasses.replace(other, signer=desk.signer.id))
    refusal = ask(desk, asked).refusal
    assert refusal is not None
    assert desk.look(other.id) is ApprovalState.PENDING


def test_a_store_that_cannot_be_used_denies(tmp_path: Path) -> None:
    desk = make(tmp_path / "nowhere", AnsweringChannel(True))
    refusal = ask(desk, request()).refusal
    assert refusal is not None
    assert refusal.code is ReasonCode.NOT_APPROVED


def test_what_was_decided_long_ago_is_refused(tmp_path: Path) -> None:
    asked = request()
    assert ask(make(tmp_path, AnsweringChannel(True)), asked).refusal is None
    later = make(tmp_path, AnsweringChannel(True), now=NOW + 4000)
    refusal = ask(later, asked).refusal
    assert refusal is not None
    assert refusal.code is ReasonCode.REPLAY


def test_nobody_is_named_for_a_no_they_did_not_give(tmp_path: Path) -> None:
    desk, asked = make(tmp_path), request()
    desk.store.put(dataclasses.replace(asked, signer=desk.signer.id))
    desk.store.file(asked.id, "carol", dataclasses.replace(answer(asked, "carol", False), proof="x"), now=NOW)
    assert desk.look(asked.id) is ApprovalState.PENDING
    assert desk.file(answer(asked, "bob", False)) is None
    ruling = ask(desk, asked)
    assert ruling.approvers == ("bob",)


def test_a_yes_that_was_noticed_late_is_no_fresh_approval(tmp_path: Path) -> None:
    """Whoever filed it was killed before the request was settled, and nobody looked for half an hour."""
    desk, asked = make(tmp_path), request()
    desk.store.put(dataclasses.replace(asked, signer=desk.signer.id))
    proof = desk.signer.answer(AnswerClaims(asked.binding_hash, "bob", (), True, int(NOW)))
    desk.store.file(asked.id, "bob", dataclasses.replace(answer(asked, "bob"), proof=proof), now=NOW)
    refusal = ask(make(tmp_path, now=NOW + 1800), asked).refusal
    assert refusal is not None
    assert "expired" in refusal.text
