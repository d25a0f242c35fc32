"""What is approved in advance, what a session remembers, and what silence is: how narrow each of them is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from approval_requests import NOW
from langchain_core.tools import tool
from test_verified_approvers import run
from typer.testing import CliRunner
from world import HEAD, World

from zt_agents import AccessDeniedError
from zt_agents.approvals import NOBODY_OBJECTED, STANDING, Answer, ApprovalRequest, Enrolled, StoreChannel, in_advance
from zt_agents.cli import app
from zt_agents.errors import StoreError, TokenInvalidError
from zt_agents.identity import SigningKey, StandingClaims

TOOLS = """
tools:
  reset: {tier: high, effects: [auth], resource: "account/{args.account}"}
  note: {tier: medium, effects: [write], resource: "ticket/{args.ticket}"}
rules:
  - {id: reset, agents: [helpdesk], tools: [reset], outcome: allow}
  - id: note
    agents: [helpdesk]
    tools: [note]
    outcome: require_approval
    reason: Notes are read by customers.
    approvals: NOTE
"""


class Desk:
    """A guard over two tools, and somebody who answers as they are told."""

    def __init__(self, folder: Path, everywhere: str, notes: str = "{}") -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.asked: list[ApprovalRequest] = []
        self.answers: list[Callable[[ApprovalRequest], Answer | None]] = []

        @tool
        def reset(account: str) -> str:
            """Reset a password."""
            self.ran.append(account)
            return "done"

        @tool
        def note(ticket: str, text: str) -> str:
            """Write a note."""
            self.ran.append(f"{ticket}:{text}")
            return "done"

        self.reset, self.note = reset, note
        self.key = SigningKey.generate()
        text = f"{HEAD}approvals: {everywhere}\n{TOOLS.replace('NOTE', notes)}"
        self.world = World(folder, text, [reset, note], self, signing_key=self.key)
        self.world.guard.protect([reset, note])

    def ask(self, request: ApprovalRequest) -> Answer | None:
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else silent
        return answer(request)

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        return self.ask(request)

    def claims(self, **changes: Any) -> StandingClaims:
        now = time.time()
        made = in_advance(self.asked[-1], approver="bob", groups=(), when="", uses=2, now=now, until=now + 600)
        return dataclasses.replace(made, **changes)

    def stand(self, **changes: Any) -> StandingClaims:
        """Make a standing approval of the last request, attested, and list it."""
        proofs = self.world.guard.desk.proofs
        claims = self.claims(**changes)
        token = proofs.signer.standing(claims)
        assert proofs._registry is not None
        proofs._registry.add(Enrolled(claims.id, claims.approver, STANDING, token, time.time(), claims.about))
        return claims


def silent(_: ApprovalRequest) -> Answer | None:
    return None


def yes(by: str) -> Callable[[ApprovalRequest], Answer]:
    return lambda request: Answer(request.binding_hash, True, by)


PERMITTED = "{standing: {uses: 2, within: 1h}}"


def made(folder: Path, everywhere: str = PERMITTED, note: str = "{}") -> Desk:
    return Desk(folder, everywhere, note)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    built = made(tmp_path)
    yield built
    built.world.guard.close()


def call(desk: Desk, account: str = "ext-1") -> bool:
    with desk.world.session():
        try:
            desk.reset.invoke({"account": account})
        except AccessDeniedError:
            return False
        return True


def test_calls_like_it_run_without_asking_as_often_as_was_said(desk: Desk) -> None:
    desk.answers = [yes("bob")]
    assert call(desk)
    desk.stand()
    assert [call(desk), call(desk), call(desk)] == [True, True, False]
    assert len(desk.asked) == 2, "the first, and the last, for which no use was left"
    records = [r for r in desk.world.records() if r.get("approved_by")]
    assert {record["approved_by"] for record in records} == {"bob"}
    assert any("in advance" in reason[1] for record in records for reason in record["reasons"])


@pytest.mark.parametrize(
    "changes",
    [
        {"agent": "spiffe://acme.example/agent/other"},
        {"user": "somebody@acme.example"},
        {"tool": "note"},
        {"resource": "account/ext-2"},
        {"session": "another"},
        {"resource": "", "when": "args.account == 'other'"},
        {"resource": "", "when": "args.acount == 'ext-1'"},
        {"resource": "", "when": "true ||"},
        {"issued_at": 1, "expires_at": 2},
        {"issued_at": "soon", "expires_at": "later"},
        {"uses": 3},
        {"expires_at": "much later"},
        {"approver": "session-user"},
        {"approver": "alice@acme.example"},
        {"approver": NOBODY_OBJECTED},
    ],
    ids=str,
)
def test_other_calls_are_asked_about(changes: dict[str, Any], desk: Desk) -> None:
    ahead = {"soon": 500, "later": 1000, "much later": 7200}
    assert not call(desk)
    desk.stand(**{key: int(time.time()) + ahead[value] if value in ahead else value for key, value in changes.items()})
    assert not call(desk)
    assert len(desk.asked) == 2


def test_a_condition_says_which_calls(desk: Desk) -> None:
    assert not call(desk)
    desk.stand(resource="", when="args.account.startsWith('ext-')")
    assert [call(desk, "ext-7"), call(desk, "ceo")] == [True, False]


def test_taking_it_back_ends_it_at_once_and_so_does_taking_the_approver_away(desk: Desk) -> None:
    registry = desk.world.guard.desk.proofs._registry
    assert registry is not None
    assert not call(desk)
    claims = desk.stand()
    assert call(desk)
    registry.remove("bob", now=NOW, enrolled_id=claims.id)
    assert not call(desk)
    desk.stand()
    registry.remove("bob", now=NOW)
    assert not call(desk)


def test_what_a_policy_does_not_permit_is_not_approved_in_advance(tmp_path: Path) -> None:
    desk = made(tmp_path, "{}")
    assert not call(desk)
    desk.stand()
    assert not call(desk)
    desk.world.guard.close()


def test_an_approver_has_to_be_one_for_each_call(tmp_path: Path) -> None:
    desk = made(tmp_path, "{approvers: [owner], standing: {uses: 2, within: 1h}}")
    assert not call(desk)
    desk.stand()
    assert not call(desk)
    desk.stand(approver="dana@acme.example")
    assert call(desk)
    desk.world.guard.close()


def test_two_people_are_two_people_in_advance_too(tmp_path: Path) -> None:
    desk = made(tmp_path, "{quorum: 2, standing: {uses: 9, within: 1h}}")
    assert not call(desk)
    desk.stand(uses=9)
    desk.stand(uses=9, id="another")
    assert not call(desk)
    desk.answers = [yes("carol")]
    assert call(desk), "one in advance, one asked"
    desk.stand(uses=9, approver="carol")
    assert call(desk)
    desk.world.guard.close()


def test_who_writes_the_registry_makes_no_standing_approval(desk: Desk) -> None:
    from zt_agents.identity import ApprovalSigner

    proofs = desk.world.guard.desk.proofs
    assert proofs._registry is not None
    assert not call(desk)
    name = "spiffe://acme.example/zt-agents"
    mine = ApprovalSigner(issuer=name, audience=f"{name}/guard", key=SigningKey.generate())
    claims = desk.claims()
    for token in (mine.standing(claims), "x", "a~b", proofs.signer.standing(dataclasses.replace(claims, id="other"))):
        proofs._registry.add(Enrolled(f"{len(token)}{claims.id}", "bob", STANDING, token, time.time(), claims.about))
    proofs._registry.add(Enrolled(claims.id, "bob", STANDING, mine.standing(claims), time.time(), claims.about))
    assert not call(desk)


def test_a_registry_that_cannot_be_read_denies(desk: Desk) -> None:
    registry = desk.world.guard.desk.proofs._registry
    assert registry is not None
    assert not call(desk)
    desk.stand()
    registry.path.write_bytes(b"no database")  # type: ignore[attr-defined]
    assert not call(desk)
    with pytest.raises(StoreError):
        registry.list()


def test_it_is_narrow_by_its_shape(desk: Desk) -> None:
    assert not call(desk)
    claims = desk.claims()
    for wide in ({"resource": ""}, {"agent": ""}, {"user": ""}, {"tool": ""}, {"uses": 0}, {"expires_at": 1}):
        with pytest.raises(ValueError, match="a standing approval is"):
            dataclasses.replace(claims, **wide)  # type: ignore[arg-type]
    signer = desk.world.guard.desk.signer
    for word, value in (("uses", 0), ("uses", True), ("resource", ""), ("agent", 5), ("exp", 1), ("jti", "")):
        token = signer._sign("zt-standing+jwt", {"sub": "bob", "groups": [], **claims.to_claims(), word: value})
        with pytest.raises(TokenInvalidError):
            signer.verify_standing(token)


# -- what a session remembers ----------------------------------------------------------------------------------------


def write(desk: Desk, ticket: str, text: str) -> bool:
    try:
        desk.note.invoke({"ticket": ticket, "text": text})
    except AccessDeniedError:
        return False
    return True


def write_once(desk: Desk) -> bool:
    with desk.world.session():
        return write(desk, "1", "a")


def test_a_yes_is_remembered_for_the_session_and_the_resource(tmp_path: Path) -> None:
    desk = made(tmp_path, "{}", "{approvers: [session-user, anyone], remember: session}")
    desk.answers = [yes("session-user")]
    with desk.world.session():
        assert write(desk, "1", "a")
        assert write(desk, "1", "b")
        assert len(desk.asked) == 1
        assert not write(desk, "2", "a"), "another ticket"
    assert not write_once(desk), "another session"
    assert desk.ran == ["1:a", "1:b"]
    desk.world.guard.close()


def test_nothing_is_remembered_that_no_rule_wants_remembered(tmp_path: Path) -> None:
    desk = made(tmp_path, "{}", "{approvers: [anyone]}")
    desk.answers = [yes("bob")]
    with desk.world.session():
        assert write(desk, "1", "a")
        assert not write(desk, "1", "b")
    desk.world.guard.close()


def test_a_no_is_not_remembered_as_a_yes(tmp_path: Path) -> None:
    desk = made(tmp_path, "{}", "{approvers: [anyone], remember: session}")
    desk.answers = [lambda request: Answer(request.binding_hash, False, "bob")]
    with desk.world.session():
        assert not write(desk, "1", "a")
        assert not write(desk, "1", "b")
    assert len(desk.asked) == 2
    desk.world.guard.close()


# -- silence ---------------------------------------------------------------------------------------------------------


def waiting(tmp_path: Path, note: str) -> Desk:
    desk = made(tmp_path, "{timeout: 5s}", note)
    guard_desk = desk.world.guard.desk
    channel = StoreChannel()
    channel.bind(guard_desk)
    guard_desk.channel = channel
    return desk


def test_silence_is_a_yes_some_time_after_somebody_was_told(tmp_path: Path) -> None:
    import threading

    desk = waiting(tmp_path, "{grace: 1s, timeout: 20s}")
    store = desk.world.guard.desk.store
    told: list[float] = []

    def tell() -> None:
        while not store.path.exists() or not store.pending():  # type: ignore[attr-defined]
            time.sleep(0.02)
        time.sleep(1.2)
        assert store.pending(), "nobody was told"
        told.append(time.time())
        assert CliRunner().invoke(app, ["approvals", "list", "--store", str(store.path)]).exit_code == 0  # type: ignore[attr-defined]

    thread = threading.Thread(target=tell)
    thread.start()
    assert write_once(desk)
    assert time.time() - told[0] >= 1
    thread.join()
    assert {r["approved_by"] for r in desk.world.records() if r.get("approved_by")} == {NOBODY_OBJECTED}
    desk.world.guard.close()


def test_one_no_ends_the_silence(tmp_path: Path) -> None:
    desk = made(tmp_path, "{}", "{grace: 1s, approvers: [owner]}")

    def object_then_wait(request: ApprovalRequest) -> Answer | None:
        assert desk.world.guard.desk.file(Answer(request.binding_hash, False, "eve")) is None
        time.sleep(1.1)
        return None

    desk.answers = [object_then_wait]
    assert not write_once(desk)
    desk.world.guard.close()


def test_silence_is_remembered_if_the_rule_says_so(tmp_path: Path) -> None:
    desk = made(tmp_path, "{}", "{grace: 1s, remember: session}")

    def wait(_: ApprovalRequest) -> None:
        time.sleep(1.1)

    desk.answers = [wait]
    with desk.world.session():
        assert write(desk, "1", "a")
        assert write(desk, "1", "b")
    assert len(desk.asked) == 1
    desk.world.guard.close()


def test_silence_is_never_a_yes_in_the_high_tier(tmp_path: Path) -> None:
    desk = made(tmp_path, "{grace: 1s}")

    def wait(request: ApprovalRequest) -> None:
        time.sleep(1.1)

    desk.answers = [wait]
    assert not call(desk)
    assert write_once(desk) is False, "nobody waited"
    desk.world.guard.close()


def test_nobody_can_say_that_nobody_objected(tmp_path: Path) -> None:
    desk = made(tmp_path, "{}", "{grace: 30s, approvers: [owner, anyone]}")
    desk.answers = [yes(NOBODY_OBJECTED)]
    assert not write_once(desk)
    desk.world.guard.close()


# -- the command line ------------------------------------------------------------------------------------------------


def test_standing_approvals_are_given_listed_and_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    desk = made(tmp_path, "{proof: credential, standing: {uses: 5, within: 8h}}")
    desk.key.save(tmp_path / "signing.pem")
    store = ("--store", desk.world.guard.desk.store.path)  # type: ignore[attr-defined]
    run("approvers", "add", "bob", "--signing-key", "signing.pem", "--trust-domain", "acme.example", *store)
    assert not call(desk)
    request_id = desk.asked[-1].id
    policy = next(tmp_path.glob("*.yaml"))
    ahead = ("approvals", "ahead", request_id, "--uses", "2", "--until", "2h", "--as", "bob.approver", *store)
    run(*ahead, "--when", "args.acount == 'x'", "--policy", policy, code=2)
    run(*ahead, "--when", "args.account == 'x'", "--policy", policy, code=2)
    out = run(*ahead, "--when", "args.account.startsWith('ext-')", "--policy", policy)
    assert "2 times until" in out
    assert [call(desk, "ext-9"), call(desk, "ceo")] == [True, False]
    assert "1 of 2" in run("approvals", "standing", *store)
    assert '"used": 1' in run("approvals", "standing", "--json", *store)
    run("approvals", "revoke", "nothing", *store, code=1)
    run("approvers", "add", "eve", "--signing-key", "signing.pem", "--trust-domain", "acme.example", *store)
    run("approvers", "remove", "eve", *store)
    removed = ("approvals", "ahead", request_id, "--uses", "2", "--until", "2h", "--as", "eve.approver", *store)
    assert "is not listed" in run(*removed, code=1)
    assert "revoked" in run("approvals", "revoke", out[:8], *store)
    assert not call(desk, "ext-9")
    desk.world.guard.close()
