"""What somebody can do who writes the files, is an approver, or is the model: no yes comes of it that nobody gave."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from approval_requests import NOW, answer, request
from hypothesis import given, settings
from hypothesis import strategies as st
from test_second_factors import PASSKEY, TOTP, Bureau, shown, with_factor
from test_verified_approvers import ADD, AUTHORITY, OWN, run, said

from zt_agents._internal.folding import fold
from zt_agents.approvals import (
    NOBODY_OBJECTED,
    SESSION_USER,
    STANDING,
    Answer,
    ApprovalRequest,
    ApprovalState,
    DeferringChannel,
    Enrolled,
    StoredApproval,
    binding_hash,
    in_advance,
    listing,
    remembered,
)
from zt_agents.approvals.rulings import ruling
from zt_agents.catalog.resources import fill_resource, names_one
from zt_agents.catalog.specs import Tier
from zt_agents.decisions import ApprovalTerms, Proof
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.errors import PolicyFileError, StoreError
from zt_agents.identity import ApproverAuthority, ApproverKey, SigningKey, StandingClaims
from zt_agents.identity.approving.approvers import STANDING_TYPE
from zt_agents.identity.approving.factors import FactorKind
from zt_agents.identity.approving.one_time_codes import OneTimeSecret
from zt_agents.policy.approvers import Eligibility, check_terms
from zt_agents.policy.document import read_text
from zt_agents.policy.findings import Findings
from zt_agents.provenance.labels import DataClass, Integrity, Label

SCHEMA = {
    "pay": {
        "type": "object",
        "properties": {"to": {"type": "string"}, "amount": {"type": "number"}},
        "required": ["to", "amount"],
    }
}
AHEAD = ApprovalTerms(("anyone",), standing_uses=5, standing_within=3600)
GRACE = ApprovalTerms(("anyone",), grace=10)
REMEMBER = ApprovalTerms(("anyone",), remember=True)


class Mute:
    """A channel that does as it is told while somebody waits."""

    def __init__(self, meanwhile: Callable[[], Any] = lambda: None) -> None:
        self.meanwhile = meanwhile

    def ask(self, request: ApprovalRequest) -> Answer | None:
        result = self.meanwhile()
        return result if isinstance(result, Answer) else None

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        return self.ask(request)


class Bank(Bureau):
    """A bureau whose policy has conditions, and whose calls are asked about."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        proofs, conditions = self.desk.proofs, Eligibility(SCHEMA)
        conditions.add((), "approver.id != 'frank'", ["pay"], Findings(read_text("a: b", "")))
        self.desk.proofs = AnswerProofs(proofs.signer, proofs._authority, self.registry, conditions, self.factors)

    def runs(self, what: ApprovalRequest) -> bool:
        """Return whether the body of the call that asks for *what* would run."""
        return self.desk.ask(what, lambda _: False).refusal is None

    def stand(self, by: ApproverKey, what: ApprovalRequest, *, listed_as: str = "", **changes: Any) -> StandingClaims:
        """List a standing approval that *by* has signed."""
        made = in_advance(
            what, approver=by.name, groups=by.groups, when="", uses=5, now=self.now, until=self.now + 3600
        )
        claims = dataclasses.replace(made, **changes)
        self.listed(claims, by.standing(claims), listed_as or by.name)
        return claims

    def listed(self, claims: StandingClaims, token: str, approver: str) -> None:
        self.registry.add(Enrolled(claims.id, approver, STANDING, token, self.now, claims.about))


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    made = Bank(tmp_path)
    made.desk.channel = Mute()
    return made


def call(*terms: ApprovalTerms, tier: Tier = Tier.MEDIUM, **changes: Any) -> ApprovalRequest:
    """Return a request for a call of the medium tier, made now."""
    made = request(*terms, arguments={"to": "bob", "amount": 1.5})
    changed = made.call._replace(**changes)
    return dataclasses.replace(
        made,
        call=changed,
        decision=made.decision._replace(tier=tier),
        binding_hash=binding_hash(changed, nonce=made.nonce),
        expires_at=changed.time + 60,
    )


def again(what: ApprovalRequest, now: float, **changes: Any) -> ApprovalRequest:
    """Return the request of the same call when it is made again."""
    made = what.call._replace(time=now, **changes)
    return dataclasses.replace(what, id="another", call=made, expires_at=now + 60)


# -- who writes the store ---------------------------------------------------------------------------------------------


def test_what_an_approver_has_ruled_out_in_advance_is_not_what_the_store_says_it_is(bank: Bank) -> None:
    """A condition is about the call as the guard knows it: its label is not bound to the request."""
    bank.stand(bank.hire("bob"), call(AHEAD), resource="", when="provenance.integrity == 'trusted'")
    own = call(AHEAD)
    trusted = own.call._replace(label=Label(Integrity.TRUSTED, DataClass.PUBLIC))
    row = dataclasses.replace(own, call=trusted, signer=bank.desk.signer.id)
    bank.store.put(row)
    assert not bank.runs(own)
    other = call(AHEAD, call_id="2", label=Label(Integrity.TRUSTED, DataClass.PUBLIC))
    assert bank.runs(other), "and those that he meant run"


def test_a_condition_in_advance_holds_when_the_call_is_made_again_or_it_does_not_count(bank: Bank) -> None:
    bank.desk.channel = DeferringChannel()
    bank.desk.channel.bind(bank.desk)
    terms = AHEAD._replace(quorum=2)
    bob, carol = bank.hire("bob"), bank.hire("carol")
    first = call(terms, label=Label(Integrity.TRUSTED, DataClass.PUBLIC))
    bank.stand(bob, first, resource="", when="provenance.integrity == 'trusted'")
    assert not bank.runs(first)
    assert bank.desk.file(said(carol, first)) is None
    assert bank.desk.look(first.id) is ApprovalState.APPROVED
    assert not bank.runs(again(first, NOW + 1, label=Label(Integrity.UNTRUSTED, DataClass.PUBLIC)))


def test_an_answer_from_after_the_end_is_none_wherever_it_was_filed(bank: Bank) -> None:
    bob, what = bank.hire("bob"), bank.asked(OWN)
    late = said(bob, what, now=NOW + 61)
    bank.store.file(what.id, "bob", late, now=NOW)  # by a clock that is slow, or none
    bank.now = NOW + 61
    assert bank.desk.look(what.id) is ApprovalState.EXPIRED


def test_a_credential_does_not_sign_for_a_time_when_it_has_expired(bank: Bank) -> None:
    key = SigningKey.generate()
    bob = ApproverKey(AUTHORITY.issue("bob", groups=(), key=key, now=NOW - 10, valid=20), key)
    bank.registry.add(Enrolled(bob.credential_id, "bob", "credential", bob.credential, NOW))
    what = bank.asked(OWN)
    assert bank.desk.file(said(bob, what, now=NOW + 15)) is not None
    assert bank.desk.file(said(bob, what, now=NOW + 5)) is None


def test_a_no_by_a_clock_that_is_fast_is_a_no(bank: Bank) -> None:
    bob, what = bank.hire("bob"), bank.asked(OWN)
    bank.now = NOW + 59
    assert bank.desk.file(said(bob, what, False, now=NOW + 61)) is None
    assert bank.desk.look(what.id) is ApprovalState.DENIED


def test_whose_yes_does_not_count_is_not_on_record_as_having_approved(bank: Bank) -> None:
    bob, eve = bank.hire("bob"), bank.hire("eve")
    what = bank.asked(OWN)
    bank.store.file(what.id, "eve", said(eve, what), now=NOW)
    assert bank.desk.file(said(bob, what)) is None
    ruled = bank.desk.ask(what, lambda _: False)
    assert ruled.approvers == ("bob",)
    assert [each.approver for each in ruled.approvals] == ["bob"]


def test_silence_is_not_on_record_as_the_yes_of_somebody_who_may_not_give_one(bank: Bank) -> None:
    what = call(GRACE._replace(approvers=("user:bob",)))
    eve = bank.hire("eve")

    def wait() -> None:
        bank.store.file(what.id, "eve", said(eve, what), now=NOW)
        bank.now += 11

    bank.desk.channel = Mute(wait)
    assert bank.desk.ask(what, lambda _: False).approvers == (NOBODY_OBJECTED,)


# -- who writes the registry ------------------------------------------------------------------------------------------


def test_a_standing_approval_that_is_listed_as_somebody_elses_does_not_count(bank: Bank) -> None:
    """Removing an approver would not remove it."""
    bank.hire("bob")
    claims = in_advance(call(AHEAD), approver="bob", groups=(), when="", uses=5, now=NOW, until=NOW + 3600)
    bank.listed(claims, bank.desk.signer.standing(claims), "x")
    assert not bank.runs(call(AHEAD))


def test_nor_does_a_credential(bank: Bank) -> None:
    key = SigningKey.generate()
    bob = ApproverKey(AUTHORITY.issue("bob", groups=(), key=key, now=NOW, valid=60), key)
    bank.registry.add(Enrolled(bob.credential_id, "x", "credential", bob.credential, NOW))
    assert bank.desk.file(said(bob, bank.asked(OWN))) is not None


def test_a_second_factor_that_is_listed_twice_is_taken_away_at_once(bank: Bank) -> None:
    key, what = bank.give_passkey("bob"), bank.asked(PASSKEY)
    (listed,) = bank.registry.list(approver="bob")
    bank.registry.add(dataclasses.replace(listed, id="copy"))
    bank.registry.remove("bob", now=NOW, enrolled_id=listed.id)
    assert bank.desk.file(with_factor(what, "bob", shown(key, what))) is not None


def test_a_factor_is_of_the_kind_that_was_signed(bank: Bank) -> None:
    bank.give_passkey("bob")
    (listed,) = bank.registry.list(approver="bob")
    bank.registry.add(dataclasses.replace(listed, id="copy", kind=FactorKind.TOTP))
    bank.registry.add(dataclasses.replace(listed, id="other", kind=FactorKind.PASSKEY))
    assert bank.factors.of("bob", FactorKind.TOTP) == []
    assert [each.id for each in bank.factors.of("bob", FactorKind.PASSKEY)] == [listed.id]
    with bank.registry._file.writing() as connection:
        connection.execute("UPDATE enrolled SET kind = 'totp' WHERE id = ?", (listed.id,))
    assert bank.factors.of("bob", FactorKind.TOTP) == []


def test_a_condition_in_advance_that_nobody_can_evaluate_does_not_hold(bank: Bank) -> None:
    bank.stand(bank.hire("bob"), call(AHEAD), resource="", when="args.to == 'bob'")
    able = bank.desk.proofs
    bank.desk.proofs = AnswerProofs(able.signer, able._authority, bank.registry, None, bank.factors)
    assert not bank.runs(call(AHEAD))
    bank.desk.proofs = able
    assert bank.runs(call(AHEAD, call_id="2"))


# -- an approver ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"session": "s", "uses": 1000}, {"session": "s", "uses": 1000, "expires_at": int(NOW) + 86_400}],
    ids=["as the guard would", "for longer"],
)
def test_nobody_remembers_but_the_guard(changes: dict[str, Any], bank: Bank) -> None:
    """It would be a standing approval without any bounds, for a session in which nobody was asked."""
    bank.stand(bank.hire("bob"), call(REMEMBER), **changes)
    assert not bank.runs(call(REMEMBER))


def test_an_answer_does_not_say_for_itself_that_it_was_given_in_advance(bank: Bank) -> None:
    what = call(GRACE._replace(remember=True))
    claims = remembered(what, approver=NOBODY_OBJECTED, groups=(), now=NOW)
    bank.desk.channel = Mute(lambda: dataclasses.replace(answer(what, NOBODY_OBJECTED), standing=claims))
    assert not bank.runs(what)


@pytest.mark.parametrize("tier", [Tier.MEDIUM, Tier.HIGH])
def test_what_a_session_remembers_is_no_standing_approval_of_other_terms(tier: Tier, bank: Bank) -> None:
    wide = ApprovalTerms(("anyone",), standing_uses=1000, standing_within=3600)
    claims = remembered(call(REMEMBER), approver="bob", groups=(), now=NOW)
    bank.listed(claims, bank.desk.signer.standing(claims), "bob")
    assert not bank.runs(call(wide, tier=tier))
    assert not bank.runs(call(wide._replace(remember=True), tier=Tier.HIGH, call_id="2"))


def test_one_call_takes_one_use_of_one_standing_approval(bank: Bank) -> None:
    bob, carol = bank.hire("bob"), bank.hire("carol")
    made = [bank.stand(by, call(AHEAD)) for by in (bob, bob, carol)]
    assert bank.runs(call(AHEAD))
    assert sum(bank.registry.uses(each.id) for each in made) == 1
    assert bank.runs(call(AHEAD._replace(quorum=2), call_id="2"))
    assert sum(bank.registry.uses(each.id) for each in made) == 3


@pytest.mark.parametrize("lie", [{"approver": "carol"}, {"groups": ("finance",)}, {"approved": False}], ids=str)
def test_an_answer_that_says_otherwise_than_its_standing_approval_is_none(lie: dict[str, Any], bank: Bank) -> None:
    bob, what = bank.hire("bob"), bank.asked(AHEAD)
    claims = bank.stand(bob, what)
    assert bank.registry.use(claims.id, what.binding_hash, most=5)
    (listed,) = bank.registry.list(kind=STANDING)
    honest = Answer(what.binding_hash, True, "bob", proof=listed.token)
    assert bank.desk.proofs.verified(what, honest, now=NOW) is not None
    assert bank.desk.proofs.verified(what, dataclasses.replace(honest, **lie), now=NOW) is None


def test_a_standing_approval_that_was_not_used_for_a_call_does_not_count_for_it(bank: Bank) -> None:
    """Filed once more, it would be good for any number of calls."""
    bank.stand(bank.hire("bob"), call(AHEAD), uses=1)
    assert bank.runs(call(AHEAD))
    what = dataclasses.replace(call(AHEAD, call_id="2"), signer=bank.desk.signer.id)
    bank.store.put(what)
    (listed,) = bank.registry.list(kind=STANDING)
    once_more = Answer(what.binding_hash, True, "bob", proof=listed.token)
    assert bank.desk.file(once_more) is not None
    assert bank.store.file(what.id, "bob", once_more, now=NOW)
    assert bank.desk.look(what.id) is ApprovalState.PENDING


def test_a_standing_approval_is_the_one_that_is_listed_and_no_wider_one_of_its_name(bank: Bank) -> None:
    bob, what = bank.hire("bob"), bank.asked(AHEAD)
    claims = bank.stand(bob, what, resource="account/another")
    assert bank.registry.use(claims.id, what.binding_hash, most=5)
    wider = bob.standing(dataclasses.replace(claims, resource=what.call.resource))
    assert bank.store.file(what.id, "bob", Answer(what.binding_hash, True, "bob", proof=wider), now=NOW)
    assert bank.desk.look(what.id) is ApprovalState.PENDING


def test_a_standing_approval_ends_with_its_credential(bank: Bank) -> None:
    bob, carol = bank.hire("bob"), bank.hire("carol")
    bank.stand(bob, call(AHEAD))
    bank.registry.remove("bob", now=NOW, enrolled_id=bob.credential_id)
    assert not bank.runs(call(AHEAD))
    bank.now = carol.expires_at - 1
    bank.stand(carol, call(AHEAD))
    assert bank.runs(call(AHEAD, call_id="2", time=bank.now))
    bank.now += 1
    assert not bank.runs(call(AHEAD, call_id="3", time=bank.now))


def test_nothing_is_remembered_that_nobody_wants_remembered(bank: Bank) -> None:
    for own in (call(REMEMBER, tier=Tier.HIGH), call(REMEMBER._replace(remember=False), call_id="2")):
        bank.desk.channel = Mute(partial(answer, own, "bob"))
        assert bank.runs(own)
    assert bank.registry.list() == []


def test_what_was_approved_in_advance_is_not_remembered_besides(bank: Bank) -> None:
    both = AHEAD._replace(remember=True)
    bank.stand(bank.hire("bob"), call(both), uses=1)
    assert bank.runs(call(both))
    assert not bank.runs(call(both, call_id="2"))


def test_what_has_run_out_takes_no_use(bank: Bank) -> None:
    claims, what = bank.stand(bank.hire("bob"), call(AHEAD)), call(AHEAD)
    bank.store.put(dataclasses.replace(what, signer=bank.desk.signer.id))
    bank.now += 61
    assert not bank.runs(what)
    assert bank.registry.uses(claims.id) == 0


def test_each_terms_find_the_standing_approval_that_they_permit(bank: Bank) -> None:
    bob = bank.hire("bob")
    narrow, wide = AHEAD._replace(standing_uses=2), AHEAD._replace(standing_uses=100, proof=Proof.CREDENTIAL)
    bank.stand(bob, call(AHEAD), uses=100)
    bank.now += 1
    bank.stand(bob, call(AHEAD), uses=2)
    assert bank.runs(call(narrow, wide))


def test_a_thousand_standing_approvals_do_not_hold_up_a_call(bank: Bank) -> None:
    bob = bank.hire("bob")
    bank.stand(bob, call(AHEAD))
    base = remembered(call(REMEMBER), approver="bob", groups=(), now=NOW)
    with bank.registry._file.writing() as connection:
        for number in range(500):
            for claims in (
                dataclasses.replace(base, id=f"a{number}", user=f"user-{number}"),
                dataclasses.replace(base, id=f"b{number}", session=f"session-{number}"),
            ):
                row = dataclasses.asdict(listing(claims, "token", now=NOW))
                places = ", ".join(f":{name}" for name in row)
                connection.execute(f"INSERT INTO enrolled ({', '.join(row)}) VALUES ({places})", row)
    read = bank.registry.list
    seen: list[Enrolled] = []

    def counting(**which: Any) -> list[Enrolled]:
        seen.extend(found := read(**which))
        return list(found)

    bank.registry.list = counting  # type: ignore[method-assign]
    assert bank.runs(call(AHEAD))
    assert len(seen) == 1, "those of other users and sessions are not looked at"


def test_what_has_ended_does_not_stay_in_the_registry(bank: Bank) -> None:
    for number in range(3):
        bank.now = NOW + 3600 * number
        own = call(REMEMBER, call_id=str(number), session_id=str(number), time=bank.now)
        bank.desk.channel = Mute(partial(answer, own, "bob"))
        assert bank.runs(own)
    assert len(bank.registry.list(kind=STANDING)) == 1


def test_resources_that_read_alike_are_not_one(bank: Bank) -> None:
    """``{args.to}/{args.amount}`` has one name for a/b and c, and for a and b/c."""

    def of(first: str, second: str, number: int) -> ApprovalRequest:
        made = call(REMEMBER).call
        assert made.spec is not None
        spec = dataclasses.replace(made.spec, resource="{args.to}/{args.amount}")
        arguments = {"to": first, "amount": second}
        return call(REMEMBER, spec=spec, arguments=arguments, resource=f"{first}/{second}", call_id=str(number))

    for said_to, made in ((("a", "b/c"), ("a/b", "c")), (("d/e", "f"), ("d", "e/f"))):
        approved = of(*said_to, number=1)
        bank.desk.channel = Mute(partial(answer, approved, "bob"))
        assert bank.runs(approved)
        bank.desk.channel = Mute()
        assert not bank.runs(of(*made, number=2))
    approved = of("g", "h", 3)
    bank.desk.channel = Mute(partial(answer, approved, "bob"))
    assert bank.runs(approved)
    bank.desk.channel = Mute()
    assert bank.runs(of("g", "h", 4))


def test_who_is_removed_has_approved_nothing_that_was_not_used_however_they_said_it(bank: Bank) -> None:
    """The console vouches for those who signed in with a credential."""
    what = bank.asked(ApprovalTerms(("anyone",), quorum=2))
    bank.hire("bob")
    assert bank.desk.file(answer(what, "bob")) is None
    bank.now += 1
    bank.registry.remove("bob", now=bank.now)
    assert bank.desk.file(answer(what, "carol")) is None
    assert bank.desk.look(what.id) is ApprovalState.PENDING
    assert bank.desk.file(answer(what, "bob", False)) is None
    assert bank.desk.look(what.id) is ApprovalState.DENIED


def test_nor_does_a_session_remember_it(bank: Bank) -> None:
    bob, what = bank.hire("bob"), call(REMEMBER)
    bank.desk.channel = Mute(lambda: said(bob, what))
    assert bank.runs(what)
    bank.desk.channel = Mute()
    assert bank.runs(call(REMEMBER, call_id="2"))
    bank.registry.remove("bob", now=bank.now + 1, enrolled_id=bob.credential_id)
    assert not bank.runs(call(REMEMBER, call_id="3"))


def test_who_is_removed_while_their_yes_is_remembered_is_removed(bank: Bank) -> None:
    bob, what = bank.hire("bob"), call(REMEMBER)
    consume = bank.store.consume

    def fired(request_id: str, *, now: float) -> bool:
        assert bank.registry.remove("bob", now=now)
        return consume(request_id, now=now)

    bank.store.consume = fired  # type: ignore[method-assign]
    bank.desk.channel = Mute(lambda: said(bob, what))
    assert bank.runs(what), "it was approved before"
    assert bank.registry.list(kind=STANDING) == []


PART = st.text("ab/-", min_size=1, max_size=4)
PARTS = st.fixed_dictionaries({"a": PART, "b": PART})
TEMPLATES = ["{args.a}/{args.b}", "{args.a}{args.b}", "x{args.a}--{args.b}/", "{args.a}aa{args.b}"]


@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(one=PARTS, other=PARTS)
def test_a_name_that_names_one_names_no_other(template: str, one: dict[str, str], other: dict[str, str]) -> None:
    if names_one(template, one) and names_one(template, other):
        assert (fill_resource(template, one) == fill_resource(template, other)) == (one == other)


@pytest.mark.parametrize("name", ["Session-User", "NOBODY-objected", "Anyone", "owner", "ａnyone"])
def test_a_word_of_the_policy_is_nobodys_name_however_it_is_written(name: str, bank: Bank) -> None:
    what = bank.asked(ApprovalTerms(("anyone",)))
    assert bank.desk.file(answer(what, name)) is not None
    assert bank.desk.look(what.id) is ApprovalState.PENDING


def test_a_request_without_terms_is_nobodys_to_approve() -> None:
    what = dataclasses.replace(request(), terms=())
    assert ruling(what, [answer(what, "bob")], now=NOW, noticed_at=NOW) is ApprovalState.PENDING


def test_names_that_differ_only_in_case_are_one_person() -> None:
    for small in ("ΐδα", "ΰ", "ǰan", "straße", "ﬁn"):
        assert fold(small.upper()) == fold(small)
    assert fold(" Bob  Smith") == fold("bob smith")


@pytest.mark.parametrize("hidden", "\u200b\u00ad\u2060\ufeff\u202e\ufe0f\u3164\U000e0041\x00\x7f", ids=ascii)
def test_names_that_differ_only_in_what_nobody_sees_are_one_person(hidden: str) -> None:
    assert fold(f"bo{hidden}b") == fold("bob")
    assert fold(f"{hidden}bob{hidden}") == fold("bob")


def test_a_no_counts_whatever_became_of_the_passkey(bank: Bank) -> None:
    key, what = bank.give_passkey("bob"), bank.asked(PASSKEY._replace(quorum=2))
    no = shown(key, what, approved=False)
    assert bank.desk.file(with_factor(what, "bob", shown(key, what))) is None  # the counter is past the no's
    assert bank.desk.file(with_factor(what, "bob", no, approved=False)) is None
    assert bank.desk.look(what.id) is ApprovalState.DENIED


def test_a_one_time_code_is_no_signature(bank: Bank) -> None:
    codes, what = bank.give_codes("bob"), bank.asked(TOTP._replace(proof=Proof.CREDENTIAL))
    check = bank.factors.check(what, "bob", codes.at(int(NOW)), approved=True, now=NOW)
    assert "credential" in str(bank.desk.file(with_factor(what, "bob", check)))
    signed = dataclasses.replace(said(bank.hire("bob"), what), factor=check)
    assert bank.desk.file(signed) is None
    assert bank.desk.look(what.id) is ApprovalState.APPROVED


# -- silence, escalation, and the clock -------------------------------------------------------------------------------


def test_silence_of_people_who_were_not_reached_is_no_yes(bank: Bank) -> None:
    def unreachable() -> None:
        bank.now += 30  # it has tried again and again
        raise ConnectionError("nobody there")

    bank.desk.channel = Mute(unreachable)
    assert not bank.runs(call(GRACE))


def test_nor_if_somebody_else_looks_meanwhile(bank: Bank) -> None:
    what = call(GRACE)

    def unreachable() -> None:
        bank.now += 30
        bank.desk.look(what.id)
        raise ConnectionError("nobody there")

    bank.desk.channel = Mute(unreachable)
    assert not bank.runs(what)


def test_whom_a_call_was_escalated_to_may_approve_it_when_it_is_made_again(bank: Bank) -> None:
    bank.desk.channel = DeferringChannel()
    bank.desk.channel.bind(bank.desk)
    what = call(ApprovalTerms(("user:bob",), escalate_after=20, escalate_to=("user:carol",)))
    assert not bank.runs(what)
    assert bank.desk.file(answer(what, "carol")) is not None
    bank.now += 21
    assert bank.desk.file(answer(what, "carol")) is None
    assert bank.runs(again(what, bank.now))


def test_silence_approves_a_call_that_is_made_again(bank: Bank) -> None:
    bank.desk.channel = DeferringChannel()
    bank.desk.channel.bind(bank.desk)
    what = call(GRACE)
    assert not bank.runs(what)
    bank.now += 11
    assert not bank.runs(again(what, bank.now)), "nobody was told"
    bank.desk.notice(what.id)
    bank.now += 11
    assert bank.runs(again(what, bank.now))


def test_who_waits_for_silence_waits_for_it_whatever_the_store_says(bank: Bank) -> None:
    what = call(GRACE)

    def backdate() -> None:
        with bank.store._file.writing() as connection:
            connection.execute("UPDATE request SET noticed_at = 1")
        bank.now += 5

    bank.desk.channel = Mute(backdate)
    assert not bank.runs(what)


# -- a call that is put off ------------------------------------------------------------------------------------------


@pytest.fixture
def put_off(bank: Bank) -> Bank:
    bank.desk.channel = DeferringChannel()
    bank.desk.channel.bind(bank.desk)
    return bank


def deferred(bank: Bank, *terms: ApprovalTerms) -> ApprovalRequest:
    """Return the request of a call as the guard makes it where nobody waits."""
    made = call(*terms, time=bank.now)
    nonce = bank.desk.turn(made.call)
    return dataclasses.replace(
        made, id=f"at-{bank.now}", nonce=nonce, binding_hash=binding_hash(made.call, nonce=nonce)
    )


def test_a_no_is_final_also_when_what_was_asked_is_no_longer_kept(put_off: Bank) -> None:
    put_off.desk._retention = 1
    first = deferred(put_off)
    assert not put_off.runs(first)
    assert put_off.desk.file(answer(first, "bob", False)) is None
    for _ in range(3):
        put_off.now += 30
        ruled = put_off.desk.ask(deferred(put_off), lambda _: False)
        assert ruled.refusal is not None
        assert ruled.state is not ApprovalState.PENDING, "it is not asked about anew"
    assert put_off.store.count_pending() == 0


def test_what_was_approved_and_not_fetched_in_time_is_asked_about_anew(put_off: Bank) -> None:
    first = deferred(put_off)
    assert not put_off.runs(first)
    assert put_off.desk.file(answer(first, "bob")) is None
    put_off.now += 121
    second = deferred(put_off)
    assert second.binding_hash != first.binding_hash
    assert not put_off.runs(second)
    assert put_off.desk.file(answer(second, "bob")) is None
    assert put_off.runs(deferred(put_off))
    assert put_off.desk.turn(second.call) != second.nonce, "and once"


def test_the_same_call_over_and_over_is_found_without_looking_at_all_before_it(put_off: Bank) -> None:
    often = AHEAD._replace(standing_uses=50)
    put_off.stand(put_off.hire("bob"), call(often), uses=50)
    find, looked = put_off.store.find, []

    def counting(binding: str) -> StoredApproval | None:
        looked.append(binding)
        return find(binding)

    put_off.store.find = counting  # type: ignore[method-assign]
    made = set()
    for number in range(40):
        looked.clear()
        what = dataclasses.replace(deferred(put_off, often), id=str(number))
        made.add(what.binding_hash)
        assert put_off.runs(what)
        assert len(looked) <= 15
    assert len(made) == 40


# -- counting --------------------------------------------------------------------------------------------------------


def test_guards_that_share_the_files_use_a_standing_approval_as_often_as_it_says(bank: Bank) -> None:
    claims = bank.stand(bank.hire("bob"), call(AHEAD), uses=3)
    calls = [call(AHEAD, call_id=str(number)) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(bank.runs, calls)) == 3
    assert bank.registry.uses(claims.id) == 3


def test_a_crash_between_use_and_filing_costs_no_use_and_gives_none(bank: Bank) -> None:
    def crash(*_: object, **__: object) -> bool:
        raise StoreError("gone")

    claims = bank.stand(bank.hire("bob"), call(AHEAD), uses=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank.store, "file", crash)
        assert not bank.runs(call(AHEAD))
    assert bank.registry.uses(claims.id) == 1
    assert not bank.runs(call(AHEAD, call_id="other")), "it was for the first"
    assert bank.runs(call(AHEAD))
    assert not bank.runs(call(AHEAD)), "and once"


# -- an operator ------------------------------------------------------------------------------------------------------


def test_terms_that_nothing_could_be_remembered_of_are_refused() -> None:
    findings = Findings(read_text("approvals: {}", "policy"))
    check_terms(("approvals",), REMEMBER._replace(proof=Proof.CREDENTIAL), findings)
    with pytest.raises(PolicyFileError, match="remember"):
        findings.raise_if_any()


def test_a_date_that_nobody_can_write_does_not_hide_what_else_is_approved_in_advance(bank: Bank) -> None:
    bob, eve = bank.hire("bob"), bank.hire("eve")
    bank.now = time.time()
    claims = bank.stand(bob, call(AHEAD))
    for number, forever in enumerate((10**12, 10**30)):
        token = eve._signed(STANDING_TYPE, "a", claims.to_claims() | {"exp": forever})
        bank.registry.add(Enrolled(str(number), "eve", STANDING, token, bank.now, claims.about))
    assert f"{claims.id[:8]}" in run("approvals", "standing", "--store", bank.store.path)
    assert run("approvals", "standing", "--json", "--store", bank.store.path).count('"id"') == 1


def test_an_operator_is_told_of_groups_that_no_policy_means_and_of_credentials_that_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    SigningKey.generate().save(tmp_path / "signing.pem")
    run(*ADD, "bob", "--group", "group:finance", code=2)
    assert "1 more" not in run(*ADD, "bob", "--group", "finance")
    assert "1 more" in run(*ADD, "bob", "--out", "second.approver")


# -- whatever they do -------------------------------------------------------------------------------------------------

STRICT = ApprovalTerms(
    ("user:bob", "group:finance"),
    proof=Proof.CREDENTIAL,
    exclude=("owner",),
    when="approver.id != 'frank'",
    escalate_after=20,
    escalate_to=("group:security",),
    standing_uses=5,
    standing_within=3600,
    timeout=3600,
)
INELIGIBLE = {
    "eve": ("interns",),
    "BOB": (),  # not quite bob
    "user:bob": (),
    "alice@acme.example": ("finance",),  # on whose behalf the agent acts
    "dana@acme.example": ("finance",),  # owns the agent
    "frank": ("finance",),  # the policy's condition does not hold for him
}
FORGER = ApproverAuthority(issuer="i", audience="a", key=SigningKey.generate())
DOINGS = st.tuples(
    st.sampled_from(["hire", "forge", "fire", "enrol", "answer", "vouch", "smuggle", "stand", "use", "revoke", "wait"]),
    st.sampled_from(sorted(INELIGIBLE)),
    st.integers(-30, 30),
)


class Crowd:
    """People who may not approve a call, and what they do about it."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.what = call(STRICT)
        self.keys: dict[str, list[ApproverKey]] = {name: [] for name in INELIGIBLE}
        bank.desk.channel = Mute()
        bank.store.put(dataclasses.replace(self.what, signer=bank.desk.signer.id))

    def do(self, doing: str, name: str, number: int) -> None:
        with suppress(StoreError, ValueError):
            getattr(self, doing)(name, number)

    def hire(self, name: str, _: int) -> None:
        self.keys[name].append(self.bank.hire(name, *INELIGIBLE[name]))

    def forge(self, name: str, _: int) -> None:
        """List, in bob's name, a credential of another authority; and one's own credential as his."""
        self.keys[name].append(self.bank.hire("bob", "finance", authority=FORGER))
        for own in self.keys[name][:1]:
            copy = Enrolled(f"{own.credential_id}'", "bob", "credential", own.credential, self.bank.now)
            self.bank.registry.add(copy)

    def fire(self, name: str, _: int) -> None:
        self.bank.registry.remove(name, now=self.bank.now)

    def enrol(self, name: str, _: int) -> None:
        self.bank.factors.enrol(name, OneTimeSecret.generate(), now=self.bank.now)

    def answer(self, name: str, number: int) -> None:
        for own in self.keys[name]:
            signed = said(own, self.what, now=self.bank.now + number)
            for each in (signed, dataclasses.replace(signed, approver="bob", groups=("finance",))):
                assert self.bank.desk.file(each) is not None

    def vouch(self, name: str, _: int) -> None:
        for known in (name, "bob", SESSION_USER):
            boasting = Answer(self.what.binding_hash, True, known, groups=("finance",), known=Proof.CREDENTIAL)
            assert self.bank.desk.file(boasting) is not None

    def smuggle(self, name: str, number: int) -> None:
        """File past the desk."""
        for own in self.keys[name]:
            yes = said(own, self.what, now=self.bank.now)
            self.bank.store.file(self.what.id, f"{own.name}{number}", yes, now=self.bank.now)

    def stand(self, name: str, number: int) -> None:
        for own in self.keys[name]:
            claims = self.bank.stand(own, self.what, session="s" if number % 2 else "")
            yes = Answer(self.what.binding_hash, True, own.name, groups=own.groups, proof=own.standing(claims))
            self.bank.registry.use(claims.id, self.what.binding_hash, most=5)
            self.bank.store.file(self.what.id, f"{own.name}~{number}", yes, now=self.bank.now)

    def use(self, name: str, number: int) -> None:
        own = call(STRICT, call_id=f"another-{name}-{number}", time=self.bank.now)
        assert not self.bank.runs(own)

    def revoke(self, name: str, _: int) -> None:
        for enrolled in self.bank.registry.list(approver=name):
            self.bank.registry.remove(name, now=self.bank.now, enrolled_id=enrolled.id)

    def wait(self, _: str, number: int) -> None:
        self.bank.now += number


@settings(max_examples=30, deadline=None)
@given(st.lists(DOINGS, min_size=4, max_size=12))
def test_nothing_that_people_do_who_may_not_approve_a_call_approves_it(doings: list[tuple[str, str, int]]) -> None:
    with TemporaryDirectory() as folder:
        crowd = Crowd(Bank(Path(folder)))
        for doing in doings:
            crowd.do(*doing)
            assert crowd.bank.desk.look(crowd.what.id) is not ApprovalState.APPROVED
        assert not crowd.bank.runs(crowd.what)


def test_and_one_who_may_does(bank: Bank) -> None:
    crowd = Crowd(bank)
    for name in INELIGIBLE:
        for doing in ("hire", "answer", "smuggle", "stand"):
            crowd.do(doing, name, 0)
    assert bank.desk.look(crowd.what.id) is ApprovalState.PENDING
    assert bank.desk.file(said(bank.hire("carol", "finance"), crowd.what)) is None
    ruled = bank.desk.ask(crowd.what, lambda _: False)
    assert ruled.refusal is None
    assert ruled.approvers == ("carol",)
