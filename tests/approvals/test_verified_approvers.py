"""Approvers with credentials of their own: whose answers count, and what somebody else can do about it."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from approval_requests import NOW, answer, request
from typer.testing import CliRunner

from zt_agents.approvals import Answer, ApprovalRequest, ApprovalState, Enrolled, StoredApproval
from zt_agents.cli import app
from zt_agents.decisions import ApprovalTerms, Proof
from zt_agents.desk import ApprovalDesk
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.errors import ConfigurationError, IdentityError, StoreError, TokenExpiredError
from zt_agents.identity import ApprovalSigner, ApproverAuthority, ApproverKey, SigningKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry

KEY = SigningKey.generate()
AUTHORITY = ApproverAuthority(issuer="i", audience="a", key=KEY)
DAY = 86_400


class Office:
    """A desk, its store and its registry, with a clock that can be set."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.store = SqliteApprovalStore(folder / "approvals.db")
        self.registry = SqliteApproverRegistry.beside(self.store.path, create=True)
        self.desk = ApprovalDesk(
            store=self.store,
            proofs=AnswerProofs(ApprovalSigner(issuer="i", audience="a", key=KEY), AUTHORITY, self.registry),
            channel=None,
            clock=lambda: self.now,
            retention=3600,
        )

    def hire(
        self, name: str, *groups: str, authority: ApproverAuthority = AUTHORITY, listed: bool = True
    ) -> ApproverKey:
        key = SigningKey.generate()
        made = ApproverKey(authority.issue(name, groups=groups, key=key, now=NOW - 5, valid=DAY), key)
        if listed:
            self.registry.add(Enrolled(made.credential_id, name, "credential", made.credential, NOW))
        return made

    def asked(self, *terms: ApprovalTerms) -> ApprovalRequest:
        what = dataclasses.replace(request(*terms), signer=self.desk.signer.id)
        self.store.put(what)
        return what

    def stored(self, what: ApprovalRequest) -> StoredApproval:
        found = self.store.get(what.id)
        assert found is not None
        return found


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def said(by: ApproverKey, what: ApprovalRequest, approved: bool = True, now: float = NOW) -> Answer:
    proof = by.answer(what.binding_hash, approved=approved, now=now)
    return Answer(what.binding_hash, approved, by.name, groups=by.groups, proof=proof)


OWN = ApprovalTerms(("user:bob", "group:finance"), proof=Proof.CREDENTIAL)


def test_an_answer_signed_by_its_approver_counts(office: Office) -> None:
    for by in (office.hire("bob"), office.hire("carol", "finance")):
        what = dataclasses.replace(request(OWN, arguments={"to": by.name}), signer=office.desk.signer.id)
        office.store.put(what)
        assert office.desk.file(said(by, what)) is None
        assert office.desk.look(what.id) is ApprovalState.APPROVED


def test_nobody_can_vouch_where_a_credential_is_wanted_and_trying_does_not_shut_out_its_owner(office: Office) -> None:
    bob, what = office.hire("bob"), office.asked(OWN)
    assert "credential" in str(office.desk.file(answer(what, "bob")))
    boasting = dataclasses.replace(answer(what, "bob"), known=Proof.CREDENTIAL)
    assert "credential" in str(office.desk.file(boasting))
    # Whoever can write the store files it past the desk.
    vouched = office.desk.proofs.attested(what, answer(what, "bob"), now=NOW)
    assert office.store.file(what.id, "bob#attested#none", vouched, now=NOW)
    assert office.desk.look(what.id) is ApprovalState.PENDING
    assert office.desk.file(said(bob, what)) is None
    assert office.desk.look(what.id) is ApprovalState.APPROVED


def test_an_answer_that_counts_for_one_rule_does_not_stop_the_better_one_for_another(office: Office) -> None:
    bob, what = office.hire("bob"), office.asked(ApprovalTerms(("anyone",)), OWN)
    assert office.desk.file(answer(what, "bob")) is None
    assert office.desk.look(what.id) is ApprovalState.PENDING
    assert office.desk.file(said(bob, what)) is None
    assert office.desk.look(what.id) is ApprovalState.APPROVED


def test_two_credentials_of_one_person_are_one_person(office: Office) -> None:
    what = office.asked(ApprovalTerms(("anyone",), quorum=2, proof=Proof.CREDENTIAL))
    assert office.desk.file(said(office.hire("bob"), what)) is None
    assert office.desk.file(said(office.hire("bob"), what)) is None, "the first one may be taken away"
    assert office.desk.file(answer(what, "bob")) is not None
    assert office.desk.look(what.id) is ApprovalState.PENDING
    assert office.desk.file(said(office.hire("carol"), what)) is None
    assert office.desk.look(what.id) is ApprovalState.APPROVED


def test_a_credential_that_ends_or_is_taken_away_voids_a_yes_and_never_a_no(office: Office) -> None:
    terms = ApprovalTerms(("anyone",), quorum=2, proof=Proof.CREDENTIAL, timeout=3600)
    bob, carol = office.hire("bob"), office.hire("carol")
    what = office.asked(terms)
    assert office.desk.file(said(bob, what)) is None
    office.registry.remove("bob", now=NOW)
    assert office.desk.file(said(carol, what)) is None
    assert office.desk.look(what.id) is ApprovalState.PENDING, "bob's yes is void"
    assert office.desk.file(said(bob, what, False)) is None
    assert office.desk.look(what.id) is ApprovalState.DENIED


def test_what_was_approved_and_not_used_is_void_when_its_approver_is_removed(office: Office) -> None:
    from test_approvals_attacked import Silent

    desk = office.desk
    desk.channel = Silent()
    bob, what = office.hire("bob"), office.asked(OWN)
    assert desk.file(said(bob, what)) is None
    assert desk.look(what.id) is ApprovalState.APPROVED
    office.registry.remove("bob", now=NOW)
    ruled = desk.ask(what, lambda _: False)
    assert ruled.refusal is not None
    assert office.stored(what).consumed_at is None


def _changed(token: str, **claims: object) -> str:
    """Return *token* with other claims, and the signature it had."""
    head, body, signature = token.split(".")
    values = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | claims
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(values).encode()).rstrip(b'=').decode()}.{signature}"


def _signed_again(token: str, key: SigningKey, **claims: object) -> str:
    values = jwt.decode(token, options={"verify_signature": False}) | claims
    header = jwt.get_unverified_header(token)
    return jwt.encode(values, key.private, algorithm="ES256", headers={**header, "kid": key.thumbprint})


def _parts(by: ApproverKey, what: ApprovalRequest) -> tuple[str, str]:
    credential, _, signed = by.answer(what.binding_hash, approved=True, now=NOW).partition("~")
    return credential, signed


MINE = SigningKey.generate()
FORGERIES: dict[str, Callable[[ApproverKey, ApproverKey, ApprovalRequest], str]] = {
    "no answer": lambda bob, eve, what: _parts(bob, what)[0] + "~",
    "no credential": lambda bob, eve, what: "~" + _parts(bob, what)[1],
    "only a credential": lambda bob, eve, what: _parts(bob, what)[0],
    "another's answer": lambda bob, eve, what: f"{_parts(bob, what)[0]}~{_parts(eve, what)[1]}",
    "another's credential": lambda bob, eve, what: f"{_parts(eve, what)[0]}~{_parts(bob, what)[1]}",
    "a key of one's own": lambda bob, eve, what: (
        f"{_parts(bob, what)[0]}~{_signed_again(_parts(bob, what)[1], MINE)}"
    ),
    "a credential signed by oneself": lambda bob, eve, what: (
        f"{_signed_again(bob.credential, MINE)}~{_parts(bob, what)[1]}"
    ),
    "a credential for oneself": lambda bob, eve, what: (
        ApproverKey(
            ApproverAuthority(issuer="i", audience="a", key=MINE).issue("bob", groups=(), key=MINE, now=NOW, valid=DAY),
            MINE,
        ).answer(what.binding_hash, approved=True, now=NOW)
    ),
    "another name": lambda bob, eve, what: f"{_changed(_parts(eve, what)[0], sub='bob')}~{_parts(eve, what)[1]}",
    "a no turned round": lambda bob, eve, what: (
        bob.credential
        + "~"
        + _changed(bob.answer(what.binding_hash, approved=False, now=NOW).partition("~")[2], approved=True)
    ),
    "another call's": lambda bob, eve, what: bob.answer("other", approved=True, now=NOW),
    "from before it was asked": lambda bob, eve, what: bob.answer(what.binding_hash, approved=True, now=NOW - 2),
    "from the far future": lambda bob, eve, what: bob.answer(what.binding_hash, approved=True, now=NOW + 3600),
    "a login": lambda bob, eve, what: bob.login("https://console", now=NOW),
    "a login there": lambda bob, eve, what: bob.login("a", now=NOW),
    "no signature": lambda bob, eve, what: (
        f"{_parts(bob, what)[0]}~" + jwt.encode({"binding": what.binding_hash}, "", algorithm="none")
    ),
    "something behind": lambda bob, eve, what: bob.answer(what.binding_hash, approved=True, now=NOW) + "~x",
    "far too long": lambda bob, eve, what: bob.answer(what.binding_hash, approved=True, now=NOW) + "A" * 20_000,
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_answer_does_not_count(
    forgery: Callable[[ApproverKey, ApproverKey, ApprovalRequest], str], office: Office
) -> None:
    bob, eve = office.hire("bob"), office.hire("eve")
    what = office.asked(OWN)
    forged = Answer(what.binding_hash, True, "bob", proof=forgery(bob, eve, what))
    assert office.desk.file(forged) is not None
    for place in ("bob", "eve", "x"):  # past the desk
        office.store.file(what.id, place, forged, now=NOW)
    assert office.desk.look(what.id) is ApprovalState.PENDING


def test_names_and_groups_are_the_credentials(office: Office) -> None:
    eve, what = office.hire("eve", "interns"), office.asked(OWN)
    honest = said(eve, what)
    for lie in ({"approver": "bob"}, {"groups": ("finance",)}, {"groups": ("interns", "finance")}):
        assert office.desk.file(dataclasses.replace(honest, **lie)) is not None  # type: ignore[arg-type]
    assert "not one of its approvers" in str(office.desk.file(honest))


def test_a_credential_that_is_not_listed_is_none(office: Office) -> None:
    what = office.asked(OWN)
    assert office.desk.file(said(office.hire("bob", listed=False), what)) is not None
    assert office.desk.look(what.id) is ApprovalState.PENDING


def test_who_writes_the_registry_cannot_make_an_approver(office: Office) -> None:
    eve, what = office.hire("eve"), office.asked(OWN)
    forger = ApproverAuthority(issuer="i", audience="a", key=MINE)
    made = office.hire("bob", authority=forger)
    assert office.desk.file(said(made, what)) is not None
    office.registry.add(Enrolled("another", "bob", "credential", eve.credential, NOW))
    assert office.desk.file(dataclasses.replace(said(eve, what), approver="bob")) is not None


def test_a_registry_that_is_gone_denies(office: Office) -> None:
    bob, what = office.hire("bob"), office.asked(OWN)
    office.registry.path.unlink()
    with pytest.raises(StoreError, match="registry of approvers"):
        office.desk.file(said(bob, what))


def test_an_answer_after_the_credential_has_expired_does_not_count(office: Office) -> None:
    key = SigningKey.generate()
    short = ApproverKey(AUTHORITY.issue("bob", groups=(), key=key, now=NOW - 10, valid=20), key)
    office.registry.add(Enrolled(short.credential_id, "bob", "credential", short.credential, NOW))
    what = office.asked(OWN._replace(quorum=2))
    assert office.desk.file(said(short, what)) is None
    office.now = NOW + 11
    assert office.desk.file(said(office.hire("carol", "finance"), what, now=office.now)) is None
    assert office.desk.look(what.id) is ApprovalState.PENDING


def test_a_login_is_for_one_place_and_one_minute() -> None:
    key = SigningKey.generate()
    bob = ApproverKey(AUTHORITY.issue("bob", groups=("finance",), key=key, now=NOW, valid=DAY), key)
    proof = bob.login("https://console.example", now=NOW)
    login = AUTHORITY.verify_login(proof, origin="https://console.example", now=NOW + 59)
    assert (login.approver.id, login.approver.groups) == ("bob", ("finance",))
    with pytest.raises(TokenExpiredError):
        AUTHORITY.verify_login(proof, origin="https://console.example", now=NOW + 60)
    for other in ("https://console.example.evil", "http://console.example", ""):
        with pytest.raises(IdentityError):
            AUTHORITY.verify_login(proof, origin=other, now=NOW)
    with pytest.raises(IdentityError):
        AUTHORITY.verify_login(bob.answer("hash", approved=True, now=NOW), origin="a", now=NOW)
    signed = proof.partition("~")[2]
    long = _signed_again(signed, key, exp=int(NOW) + DAY)
    with pytest.raises(IdentityError):
        AUTHORITY.verify_login(f"{bob.credential}~{long}", origin="https://console.example", now=NOW)


# -- the command line ------------------------------------------------------------------------------------------------


def run(*arguments: str | Path, code: int = 0, typed: str | None = None) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=typed)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    KEY.save(tmp_path / "signing.pem")
    return tmp_path


ADD = ("approvers", "add", "--signing-key", "signing.pem", "--trust-domain", "acme.example")


def test_an_approver_is_added_answers_and_is_removed(folder: Path) -> None:
    from zt_agents.config import answer_proofs

    assert "Hand it over" in run(*ADD, "bob", "--group", "finance", "--valid", "30d")
    assert (folder / "bob.approver").stat().st_mode & 0o077 == 0
    assert "bob" in run("approvers", "list")
    assert json.loads(run("approvers", "list", "--json"))[0]["kind"] == "credential"
    store = SqliteApprovalStore("zt-agents-approvals.db")
    desk = ApprovalDesk(
        store=store,
        proofs=answer_proofs("acme.example", KEY, SqliteApproverRegistry.beside(store.path)),
        channel=None,
        clock=time.time,
        retention=3600,
    )
    now = time.time()
    asked = [
        dataclasses.replace(
            base := request(OWN, arguments={"to": name}),
            call=base.call._replace(time=now),
            expires_at=now + 60,
            signer=desk.signer.id,
        )
        for name in ("a", "b")
    ]
    for what in asked:
        store.put(what)
    listed = json.loads(run("approvals", "list", "--json"))
    assert [(each["tool"], each["state"], each["answers"]) for each in listed] == [("pay", "pending", [])] * 2
    whole = json.loads(run("approvals", "show", asked[0].id, "--json"))
    assert (whole["call"]["arguments"], whole["terms"][0]["approvers"]) == ({"to": "a"}, ["user:bob", "group:finance"])
    shown = run("approvals", "approve", asked[0].id, "--as", "bob.approver", "--yes")
    assert "is noted" in shown
    assert desk.look(asked[0].id) is ApprovalState.APPROVED
    assert "is approved already" in run("approvals", "deny", asked[0].id, "--as", "bob.approver", code=1)
    run("approvals", "approve", asked[1].id, code=2)
    assert "1 removed" in run("approvers", "remove", "bob")
    run("approvers", "remove", "bob", code=1)
    assert "not listed" in run("approvals", "approve", asked[1].id, "--as", "bob.approver", "--yes", code=1)
    assert desk.look(asked[1].id) is ApprovalState.PENDING, "a credential that was taken away"
    assert "cancelled" in run("approvals", "withdraw", asked[1].id)
    run("approvals", "withdraw", asked[0].id, code=1)


NO_NAMES = ["session-user", "Session-User", "anyone", "owner", "os:root", "OS:root", "a b", "a\u202eb", ""]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_means_somebody_else_is_refused(name: str, folder: Path) -> None:
    run(*ADD, name, "--out", "x.approver", code=2)
    assert not (folder / "x.approver").exists()


def test_a_name_that_looks_like_anothers_is_refused(folder: Path) -> None:
    run(*ADD, "bob")
    run(*ADD, "BOB", code=2)
    run(*ADD, "ｂob", code=2)
    run(*ADD, "bob", "--out", "second.approver")
    run(*ADD, "bob", "--out", "second.approver", code=2)
    run(*ADD, "carol", "--valid", "forever", code=2)


def test_a_credential_that_others_can_read_is_not_used(folder: Path) -> None:
    run(*ADD, "bob")
    (folder / "bob.approver").chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by other users"):
        ApproverKey.from_file(folder / "bob.approver")
    (folder / "bob.approver").chmod(0o600)
    assert "private" not in repr(ApproverKey.from_file(folder / "bob.approver")).lower()
    for text in ("", "{}", '{"credential": 1, "private_key": 2}', "[]"):
        (folder / "bob.approver").write_text(text)
        with pytest.raises(ConfigurationError, match="not the credential"):
            ApproverKey.from_file(folder / "bob.approver")


def test_a_login_link_is_printed(folder: Path) -> None:
    run(*ADD, "bob")
    link = run("approvals", "login", "--as", "bob.approver", "--console", "http://localhost:8765/").strip()
    origin, _, proof = link.replace("\n", "").partition("/login#")
    authority = ApproverAuthority(
        issuer="spiffe://acme.example/zt-agents", audience="spiffe://acme.example/zt-agents/guard", key=KEY
    )
    assert authority.verify_login(proof, origin=origin, now=time.time()).approver.id == "bob"


def test_a_credential_that_was_taken_away_is_refused_and_holds_up_no_other(folder: Path) -> None:
    store = SqliteApprovalStore("zt-agents-approvals.db")
    what = request(OWN)
    now = time.time()
    call = what.call._replace(time=now)
    store.put(dataclasses.replace(what, call=call, expires_at=now + 60))
    run(*ADD, "bob")
    approve = ("approvals", "approve", what.id, "--yes", "--as")
    assert "is noted" in run(*approve, "bob.approver")
    assert "has answered it already" in run(*approve, "bob.approver", code=1)
    run("approvers", "remove", "bob")
    assert "is not listed" in run(*approve, "bob.approver", code=1)
    run(*ADD, "bob", "--out", "new.approver")
    assert "is noted" in run(*approve, "new.approver")
    shown = run("approvals", "show", what.id)
    assert "needs 1 of: user:bob, group:finance; with a credential of their own" in shown


def test_a_key_in_the_environment_is_not_in_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteApprovalStore("zt-agents-approvals.db")
    what = request(OWN)
    now = time.time()
    store.put(dataclasses.replace(what, call=what.call._replace(time=now), expires_at=now + 60))
    run(*ADD, "bob")
    monkeypatch.setenv("ZT_AGENTS_SIGNING_KEY", "signing.pem")
    assert "is noted" in run("approvals", "approve", what.id, "--yes", "--as", "bob.approver")


@pytest.mark.parametrize("place", ["ftp://x", "http://example.com", "localhost:8765", "https://", "http://localhost.evil"])
def test_nobody_is_sent_to_sign_in_unencrypted(place: str, folder: Path) -> None:
    run(*ADD, "bob")
    run("approvals", "login", "--as", "bob.approver", "--console", place, code=2)
