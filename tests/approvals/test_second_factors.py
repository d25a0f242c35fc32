"""A second factor with an answer: shown for this very call, or not at all."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path

import pyotp
import pytest
from approval_requests import NOW, answer
from software_authenticator import ORIGIN, RP_ID, SoftwareAuthenticator
from test_verified_approvers import KEY, Office, run, said

from zt_agents.approvals import Answer, ApprovalRequest, ApprovalState, Enrolled, binding_hash
from zt_agents.decisions import ApprovalTerms, Proof, SecondFactor
from zt_agents.desk.factors import SecondFactors
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.errors import IdentityError
from zt_agents.identity import SigningKey
from zt_agents.identity.approving.factors import FactorKind, FactorSigner
from zt_agents.identity.approving.one_time_codes import OneTimeSecret
from zt_agents.identity.approving.passkeys import (
    approval_challenge,
    assertion_options,
    registration_options,
    verify_registration,
)

PASSKEY = ApprovalTerms(second_factor=SecondFactor.PASSKEY)
TOTP = ApprovalTerms(second_factor=SecondFactor.TOTP)


class Bureau(Office):
    """An office whose desk knows second factors."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.factors = SecondFactors(FactorSigner(issuer="i", audience="a", key=KEY), self.registry)
        proofs = self.desk.proofs
        self.desk.proofs = AnswerProofs(proofs.signer, proofs._authority, self.registry, None, self.factors)
        self.secrets: dict[str, OneTimeSecret] = {}

    def give_passkey(self, name: str, **kind: bool) -> SoftwareAuthenticator:
        authenticator = SoftwareAuthenticator(**kind)  # type: ignore[arg-type]
        options = registration_options(rp_id=RP_ID, rp_name="Approvals", approver=name, challenge=b"c" * 32)
        evidence = authenticator.create(options)
        passkey = verify_registration(evidence, challenge=b"c" * 32, rp_id=RP_ID, origin=ORIGIN)
        self.factors.enrol(name, passkey, now=NOW)
        return authenticator

    def give_codes(self, name: str) -> pyotp.TOTP:
        secret = OneTimeSecret.generate()
        self.factors.enrol(name, secret, now=NOW)
        return pyotp.TOTP(secret.base32)


@pytest.fixture
def bureau(tmp_path: Path) -> Bureau:
    return Bureau(tmp_path)


def shown(
    by: SoftwareAuthenticator, what: ApprovalRequest, *, approved: bool = True, binding: str = "", request_id: str = ""
) -> str:
    challenge = approval_challenge(request_id or what.id, binding or what.binding_hash, approved)
    return by.get(assertion_options(rp_id=RP_ID, challenge=challenge, passkeys=()))


def with_factor(what: ApprovalRequest, name: str, factor: str, approved: bool = True) -> Answer:
    return dataclasses.replace(answer(what, name, approved), factor=factor)


def test_a_passkey_approves_the_call_that_it_signed(bureau: Bureau) -> None:
    key, what = bureau.give_passkey("bob"), bureau.asked(PASSKEY._replace(proof=Proof.CREDENTIAL))
    assert "second factor" in str(bureau.desk.file(said(bureau.hire("bob"), what)))
    assert bureau.desk.file(with_factor(what, "bob", shown(key, what))) is None
    assert bureau.desk.look(what.id) is ApprovalState.APPROVED


def test_an_assertion_for_anything_else_is_no_second_factor(bureau: Bureau) -> None:
    bob, eve, what = bureau.give_passkey("bob"), bureau.give_passkey("eve"), bureau.asked(PASSKEY)
    for factor in (
        shown(eve, what),
        shown(bob, what, approved=False),
        shown(bob, what, binding="other"),
        shown(bob, what, request_id="other"),
        shown(SoftwareAuthenticator(), what),
        "",
        "{}",
        "x" * 100_000,
        "a.b.c",
    ):
        filed = with_factor(what, "bob", factor)
        assert "second factor" in str(bureau.desk.file(filed))
        signed = bureau.desk.proofs.attested(what, filed, now=NOW)
        bureau.store.file(what.id, f"bob{len(filed.factor)}", signed, now=NOW)  # past the desk
        assert bureau.desk.look(what.id) is ApprovalState.PENDING


def test_a_passkey_counts_while_it_is_enrolled_for_its_owner(bureau: Bureau) -> None:
    bob, what = bureau.give_passkey("bob"), bureau.asked(PASSKEY._replace(quorum=2))
    assert bureau.desk.file(with_factor(what, "bob", shown(bob, what))) is None
    assert bureau.registry.remove("bob", now=NOW) == 1
    carol = bureau.give_passkey("carol")
    assert bureau.desk.file(with_factor(what, "carol", shown(carol, what))) is None
    assert bureau.desk.look(what.id) is ApprovalState.PENDING


def test_who_writes_the_registry_cannot_give_a_passkey_to_somebody(bureau: Bureau) -> None:
    eve, what = bureau.give_passkey("eve"), bureau.asked(PASSKEY._replace(approvers=("user:bob",)))
    (row,) = bureau.registry.list(approver="eve")
    bureau.registry.add(Enrolled("stolen", "bob", row.kind, row.token, NOW))
    mine = FactorSigner(issuer="i", audience="a", key=SigningKey.generate())
    (claims,) = bureau.factors.of("eve", FactorKind.PASSKEY)
    forged = dataclasses.replace(claims, approver="bob", id="forged")
    bureau.registry.add(Enrolled("forged", "bob", row.kind, mine.factor(forged), NOW))
    assert "second factor" in str(bureau.desk.file(with_factor(what, "bob", shown(eve, what))))


def test_a_counter_that_stands_still_is_a_copy_and_one_that_is_never_used_is_not(bureau: Bureau) -> None:
    key, synced = bureau.give_passkey("bob"), bureau.give_passkey("carol", synced=True)
    first, second = bureau.asked(PASSKEY), bureau.asked(PASSKEY)
    second = dataclasses.replace(second, id="second", binding_hash=first.binding_hash)
    one = shown(key, first)
    assert bureau.desk.file(with_factor(first, "bob", one)) is None
    again = with_factor(first, "bob", one)
    assert "copy" in str(bureau.desk.file(dataclasses.replace(again, comment="once more")))
    assert bureau.factors.advance(first, with_factor(first, "carol", shown(synced, first)))
    assert bureau.factors.advance(first, with_factor(first, "carol", shown(synced, first)))


def test_a_passkey_has_one_owner(bureau: Bureau) -> None:
    bureau.give_passkey("bob")
    (claims,) = bureau.factors.of("bob", FactorKind.PASSKEY)
    with pytest.raises(ValueError, match="enrolled already"):
        bureau.factors.enrol("eve", claims.factor, now=NOW)


def test_a_code_counts_once_for_one_answer(bureau: Bureau) -> None:
    codes, what = bureau.give_codes("bob"), bureau.asked(TOTP)
    check = bureau.factors.check(what, "bob", codes.at(int(NOW)), approved=True, now=NOW)
    with pytest.raises(IdentityError, match="used already"):
        bureau.factors.check(what, "bob", codes.at(int(NOW)), approved=True, now=NOW)
    for other in (with_factor(what, "eve", check), with_factor(dataclasses.replace(what, id="other"), "bob", check)):
        assert bureau.factors.shown(dataclasses.replace(what, id="other"), other) is SecondFactor.NONE
    assert "second factor" in str(bureau.desk.file(with_factor(what, "eve", check)))
    assert bureau.desk.file(with_factor(what, "bob", check)) is None
    assert bureau.desk.look(what.id) is ApprovalState.APPROVED


def test_codes_cannot_be_guessed_and_guessing_ends(bureau: Bureau) -> None:
    codes, what = bureau.give_codes("bob"), bureau.asked(TOTP)
    good = {codes.at(int(NOW) + late) for late in (-30, 0, 30)}
    wrong = (code for code in map("{:06}".format, itertools.count()) if code not in good)
    for _ in range(5):
        with pytest.raises(IdentityError, match="not good"):
            bureau.factors.check(what, "bob", next(wrong), approved=True, now=NOW)
    with pytest.raises(IdentityError, match="too many"):
        bureau.factors.check(what, "bob", codes.at(int(NOW)), approved=True, now=NOW)
    later = NOW + 901
    assert bureau.factors.check(what, "bob", codes.at(int(later)), approved=True, now=later)


def test_a_code_is_no_passkey_and_neither_is_wanted_for_a_no(bureau: Bureau) -> None:
    codes, what = bureau.give_codes("bob"), bureau.asked(PASSKEY)
    check = bureau.factors.check(what, "bob", codes.at(int(NOW)), approved=True, now=NOW)
    assert "second factor" in str(bureau.desk.file(with_factor(what, "bob", check)))
    assert bureau.desk.file(answer(what, "bob", False)) is None
    assert bureau.desk.look(what.id) is ApprovalState.DENIED


def test_codes_are_enrolled_and_shown_at_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zt_agents.config import answer_proofs
    from zt_agents.identity.approving import one_time_codes

    monkeypatch.chdir(tmp_path)
    KEY.save(tmp_path / "signing.pem")
    secret = OneTimeSecret.generate()
    monkeypatch.setattr(one_time_codes.OneTimeSecret, "generate", staticmethod(lambda: secret))
    key = ("--signing-key", "signing.pem", "--trust-domain", "acme.example")
    run("approvers", "enrol", "bob", *key, code=2)
    run("approvers", "add", "bob", *key)
    codes = pyotp.TOTP(secret.base32)
    run("approvers", "enrol", "bob", *key, typed="12\n000\nabcdef\n", code=1)
    assert "can show one-time codes" in run("approvers", "enrol", "bob", *key, typed=f"{codes.now()}\n")
    bureau = Bureau(tmp_path)
    bureau.store = type(bureau.store)("zt-agents-approvals.db")
    desk = bureau.desk
    desk.store = bureau.store
    bureau.registry = type(bureau.registry).beside(bureau.store.path)
    desk.proofs = answer_proofs("acme.example", KEY, bureau.registry)
    desk.signer = desk.proofs.signer
    what = bureau.asked(TOTP._replace(proof=Proof.CREDENTIAL))
    now = time.time()
    call = what.call._replace(time=now)
    fresh = dataclasses.replace(what, id="fresh", call=call._replace(call_id="2"), expires_at=now + 60)
    fresh = dataclasses.replace(fresh, binding_hash=binding_hash(fresh.call))
    bureau.store.put(fresh)
    approve = ("approvals", "approve", "fresh", "--as", "bob.approver", "--yes")
    assert "second factor" in run(*approve, code=1)
    assert "not good" in run(*approve, *key, typed="000000\n", code=1)
    assert "is approved" in run(*approve, *key, typed=f"{codes.now()}\n")
