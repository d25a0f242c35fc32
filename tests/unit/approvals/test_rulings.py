"""Which answers count, and what they come to."""

from __future__ import annotations

import dataclasses

import pytest
from approval_requests import ALICE, NOW, answer, request

from zt_agents.approvals import (
    SESSION_USER,
    Answer,
    ApprovalState,
    approval_panel,
    objection,
    read_request,
    ruling,
    write_request,
)
from zt_agents.decisions import ApprovalTerms, Proof, SecondFactor
from zt_agents.errors import TokenExpiredError, TokenInvalidError
from zt_agents.identity import AnswerClaims, ApprovalSigner, GrantClaims, SigningKey

PENDING, APPROVED, DENIED, EXPIRED = (
    ApprovalState.PENDING,
    ApprovalState.APPROVED,
    ApprovalState.DENIED,
    ApprovalState.EXPIRED,
)


@pytest.mark.parametrize(
    ("words", "approver", "groups", "counts"),
    [
        (("anyone",), "bob", (), True),
        (("anyone",), "alice@acme.example", (), False),
        (("anyone",), " Alice@ACME.example", (), False),
        (("anyone",), SESSION_USER, (), False),
        (("session-user",), SESSION_USER, (), True),
        (("session-user",), "alice@acme.example", (), True),
        (("session-user",), "bob", (), False),
        (("session-user", "anyone"), "bob", (), True),
        (("owner",), "dana@acme.example", (), True),
        (("owner",), "bob", (), False),
        (("user:bob",), "bob", (), True),
        (("user:bob",), "bobby", (), False),
        (("user:alice@acme.example",), "alice@acme.example", (), False),
        (("group:finance",), "bob", ("finance",), True),
        (("group:finance",), "bob", ("fin",), False),
        (("group:finance",), "finance", (), False),
        (("group:hr",), "alice@acme.example", ("hr",), False),
        ((), "bob", (), False),
        (("Anyone",), "bob", (), False),
    ],
)
def test_who_may_say_yes(words: tuple[str, ...], approver: str, groups: tuple[str, ...], counts: bool) -> None:
    asked = request(ApprovalTerms(words))
    yes = answer(asked, approver, True, *groups)
    assert ruling(asked, [yes], now=NOW) is (APPROVED if counts else PENDING)
    assert (objection(asked, yes, now=NOW) is None) is counts


def test_one_no_is_final_whoever_gives_it() -> None:
    asked = request(ApprovalTerms(("user:bob",)))
    assert ruling(asked, [answer(asked, "bob"), answer(asked, "eve", False)], now=NOW) is DENIED


def test_a_quorum_counts_people_and_not_answers_or_spellings() -> None:
    asked = request(ApprovalTerms(("anyone", "session-user"), quorum=2))
    twice = [answer(asked, "bob"), answer(asked, "BOB"), answer(asked, "ｂob ")]
    assert ruling(asked, twice, now=NOW) is PENDING
    same = [answer(asked, SESSION_USER), answer(asked, ALICE.id)]
    assert ruling(asked, same, now=NOW) is PENDING
    assert ruling(asked, [*twice, answer(asked, "carol")], now=NOW) is APPROVED


def test_all_terms_must_be_met() -> None:
    asked = request(ApprovalTerms(("owner",)), ApprovalTerms(("group:finance",), quorum=2))
    owner = answer(asked, "dana@acme.example")
    finance = [answer(asked, name, True, "finance") for name in ("bob", "carol")]
    assert ruling(asked, finance, now=NOW) is PENDING
    assert ruling(asked, [owner, finance[0]], now=NOW) is PENDING
    assert ruling(asked, [owner, *finance], now=NOW) is APPROVED


def test_a_request_without_terms_is_never_approved() -> None:
    asked = dataclasses.replace(request(), terms=())
    assert ruling(asked, [answer(asked, "bob")], now=NOW) is PENDING


def test_time_and_other_calls_do_not_count() -> None:
    asked, other = request(), request(arguments={"to": "eve"})
    assert ruling(asked, [answer(other, "bob")], now=NOW) is PENDING
    assert ruling(asked, [], now=asked.expires_at) is EXPIRED
    assert ruling(asked, [], now=asked.expires_at - 0.1) is PENDING
    assert objection(asked, answer(asked, "bob"), now=asked.expires_at) is not None
    assert objection(asked, answer(other, "bob"), now=NOW) is not None


def test_whom_the_terms_exclude_may_not_whatever_else_they_are() -> None:
    asked = request(ApprovalTerms(("anyone", "owner"), exclude=("owner", "user:eve", "group:interns")))
    for name, groups in (("dana@acme.example", ()), ("DANA@acme.example", ()), ("ｅve", ()), ("bob", ("Interns",))):
        yes = answer(asked, name, True, *groups)
        assert "excludes" in str(objection(asked, yes, now=NOW))
        assert ruling(asked, [yes], now=NOW) is PENDING
    assert ruling(asked, [answer(asked, "bob", True, "staff")], now=NOW) is APPROVED
    assert ruling(asked, [answer(asked, "eve", False)], now=NOW) is DENIED, "anybody may say no"


def test_others_are_asked_after_a_time() -> None:
    asked = request(ApprovalTerms(("user:bob",), escalate_after=20, escalate_to=("group:duty",)))
    duty, bob = answer(asked, "carol", True, "duty"), answer(asked, "bob")
    assert "not asked yet" in str(objection(asked, duty, now=NOW + 19.9))
    assert ruling(asked, [duty], now=NOW + 19.9) is PENDING
    assert objection(asked, duty, now=NOW + 20) is None
    assert ruling(asked, [duty], now=NOW + 20) is APPROVED
    assert ruling(asked, [bob], now=NOW + 20) is APPROVED, "whoever was asked first still may"
    assert "not one of its" in str(objection(asked, answer(asked, "eve"), now=NOW + 20))


@pytest.mark.parametrize(
    ("wanted", "shown", "counts"),
    [
        (SecondFactor.NONE, SecondFactor.NONE, True),
        (SecondFactor.ANY, SecondFactor.NONE, False),
        (SecondFactor.ANY, SecondFactor.TOTP, True),
        (SecondFactor.ANY, SecondFactor.PASSKEY, True),
        (SecondFactor.TOTP, SecondFactor.PASSKEY, False),
        (SecondFactor.PASSKEY, SecondFactor.TOTP, False),
        (SecondFactor.PASSKEY, SecondFactor.PASSKEY, True),
    ],
)
def test_a_second_factor_is_the_one_that_is_wanted(wanted: SecondFactor, shown: SecondFactor, counts: bool) -> None:
    asked = request(ApprovalTerms(second_factor=wanted))
    yes = dataclasses.replace(answer(asked, "bob"), shown=shown)
    assert (ruling(asked, [yes], now=NOW) is APPROVED) is counts
    assert (objection(asked, yes, now=NOW) is None) is counts


def test_a_condition_that_nobody_can_evaluate_holds_for_nobody() -> None:
    asked = request(ApprovalTerms(when="approver.id == 'bob'"))
    yes = answer(asked, "bob")
    assert ruling(asked, [yes], now=NOW) is PENDING
    assert "condition" in str(objection(asked, yes, now=NOW))
    assert ruling(asked, [yes], now=NOW, holds=lambda when, _, by: by.approver in when) is APPROVED


def test_a_calls_binding_is_stable_with_an_id_and_unique_without() -> None:
    assert request().binding_hash == request().binding_hash
    assert request(call_id=None).binding_hash != request(call_id=None).binding_hash
    assert request().binding_hash != request(arguments={"to": "eve"}).binding_hash


def test_the_shortest_terms_set_the_end() -> None:
    assert request(ApprovalTerms(timeout=30), ApprovalTerms(timeout=50)).expires_at == NOW + 30
    assert request(ApprovalTerms(timeout=300)).expires_at == NOW + 60


def test_a_stored_request_shows_what_the_first_one_showed() -> None:
    from io import StringIO

    from rich.console import Console

    everything = ApprovalTerms(
        ("owner",), 2, 9, Proof.CREDENTIAL, SecondFactor.TOTP, ("user:x",), "approver.id != ''", 3, ("owner",)
    )
    asked = dataclasses.replace(request(everything), trace_id="a" * 32, span_id="b" * 16)
    read = read_request(write_request(asked))
    assert read.call == asked.call
    assert read.terms == asked.terms
    assert (read.trace_id, read.span_id, read.expires_at) == (asked.trace_id, asked.span_id, asked.expires_at)
    panels = []
    for each in (asked, read):
        console = Console(file=StringIO(), width=100)
        console.print(approval_panel(each))
        panels.append(console.file.getvalue())  # type: ignore[attr-defined]
    assert panels[0] == panels[1]


# -- signatures --------------------------------------------------------------------------------------------------------

KEY = SigningKey.generate()


def signer(key: SigningKey = KEY, audience: str = "guard") -> ApprovalSigner:
    return ApprovalSigner(issuer="acme", audience=audience, key=key)


def test_every_process_with_the_signing_key_knows_answers_and_grants() -> None:
    claims = AnswerClaims("hash", "bob", ("finance",), True, int(NOW))
    assert signer().verify_answer(signer().answer(claims)) == claims
    grant = GrantClaims("id", "hash", ("bob",), int(NOW) + 60)
    token = signer().grant(grant, now=NOW)
    assert signer().verify_grant(token, now=NOW) == grant
    with pytest.raises(TokenExpiredError):
        signer().verify_grant(token, now=NOW + 60)


def test_neither_passes_for_the_other_nor_for_another_guards() -> None:
    answered = signer().answer(AnswerClaims("hash", "bob", (), True, int(NOW)))
    granted = signer().grant(GrantClaims("id", "hash", ("bob",), int(NOW) + 60), now=NOW)
    for token in (granted, answered[:-4] + "AAAA", "", "x" * 20_000, None):
        with pytest.raises(TokenInvalidError):
            signer().verify_answer(token)  # type: ignore[arg-type]
    for foreign in (signer(SigningKey.generate()), signer(audience="other")):
        with pytest.raises(TokenInvalidError):
            foreign.verify_grant(granted, now=NOW)
    with pytest.raises(TokenInvalidError):
        signer().verify_grant(answered, now=NOW)


def test_a_derived_key_is_stable_and_not_the_key() -> None:
    assert KEY.derived("a").thumbprint == KEY.derived("a").thumbprint
    assert len({KEY.thumbprint, KEY.derived("a").thumbprint, KEY.derived("b").thumbprint}) == 3


def test_an_answer_needs_somebody() -> None:
    with pytest.raises(ValueError):
        Answer("hash", True, " ")
