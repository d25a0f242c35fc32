"""What is kept of calls: only what the policy says, as the log commits to it, until it is erased; the proofs stay."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from typer.testing import CliRunner
from world import records_of

from zt_agents import AccessDeniedError, Guard
from zt_agents.audit.content import MAX_BYTES, Choice, ContentKeeper, Erasure, erasure_hash
from zt_agents.audit.records import AuditRecord, RecordKind
from zt_agents.cli import app
from zt_agents.errors import StoreError
from zt_agents.provenance.labels import DataClass
from zt_agents.stores.sqlite_content import SqliteContentStore
from zt_agents.testing import write_policy

CANARY, SECRET = "canary-of-alice", "canary-of-nobody"
POLICY = """
version: 1
trust_domain: acme.example
environment: test
audit: {content: {keep: internal, redact: [$..iban]}}
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  look: {tier: medium, effects: [read], data_class: internal}
  salaries: {tier: medium, effects: [read], data_class: restricted}
  forbidden: {tier: medium, effects: [read]}
rules:
  - {id: look, agents: [helpdesk], tools: [look, salaries], outcome: allow}
"""


class Office:
    """A guard that keeps content, and what a new user would ask about it."""

    def __init__(self, folder: Path) -> None:
        self.returns: Any = "seen"

        @tool
        def look(what: Any) -> Any:
            """Look."""
            return self.returns

        @tool
        def salaries(what: Any) -> Any:
            """Look at salaries."""
            return self.returns

        @tool
        def forbidden(what: Any) -> Any:
            """Nobody may."""
            return self.returns

        self.tools = {each.name: each for each in (look, salaries, forbidden)}
        self.guard = Guard.from_config(write_policy(folder, POLICY, list(self.tools.values())))
        self.guard.protect(list(self.tools.values()))
        self.log = self.guard.policy.audit_path
        self.store = SqliteContentStore.beside(self.log)

    def call(self, name: str = "look", what: Any = "x", user: str = "alice") -> Any:
        with self.guard.session(agent="helpdesk", on_behalf_of=user):
            return self.tools[name].invoke({"what": what})

    def records(self) -> list[dict[str, Any]]:
        return records_of(self.guard)

    def run(self, *arguments: str, typed: str | None = None) -> Any:
        self.guard.audit.flush(5)
        return CliRunner().invoke(app, ["audit", *arguments, "--log", str(self.log)], input=typed)

    def kept(self, number: int = 0) -> dict[str, Any]:
        """Return what is kept of a call, by part: its content, or the state it is in."""
        ids = list(dict.fromkeys(record["decision_id"] for record in self.records() if "decision_id" in record))
        lines = self.run("content", ids[number], "--json").stdout.splitlines()
        shown = [json.loads(line) for line in lines]
        return {each["part"]: each["content"] if each["state"] == "kept" else each["state"] for each in shown}

    def bytes_on_disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.log.parent.iterdir() if path.is_file())


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    with made.guard:
        yield made


def test_arguments_and_results_are_kept_without_what_is_redacted(office: Office) -> None:
    office.returns = {"iban": CANARY, "name": "Bo", "token": SECRET}
    office.call(what={"card": {"iban": CANARY}, "url": f"https://a:{SECRET}@b/", "n": 1})

    assert office.kept() == {
        "arguments": {
            "what": {"card": {"iban": {"redacted": "policy"}}, "url": {"redacted": "looks like a secret"}, "n": 1}
        },
        "result": {"iban": {"redacted": "policy"}, "name": "Bo", "token": {"redacted": "named like a secret"}},
    }
    on_disk = office.bytes_on_disk()
    assert CANARY.encode() not in on_disk
    assert SECRET.encode() not in on_disk


def test_nothing_is_kept_of_graver_data(office: Office) -> None:
    office.call("salaries")
    with office.guard.session(agent="helpdesk", on_behalf_of="alice"):
        office.tools["look"].invoke({"what": "before"})
        office.tools["salaries"].invoke({"what": CANARY})
        office.tools["look"].invoke({"what": CANARY})  # written by a model that has seen salaries
    committed = [record["tool"] for record in office.records() if "content_hash" in record]
    assert committed == ["look", "look"]
    assert CANARY.encode() not in office.bytes_on_disk()


def test_of_a_denied_call_the_arguments_are_kept(office: Office) -> None:
    with pytest.raises(AccessDeniedError):
        office.call("forbidden", "please")
    assert office.kept() == {"arguments": {"what": "please"}}


def test_nothing_is_kept_of_a_call_without_a_verified_session(office: Office) -> None:
    with pytest.raises(AccessDeniedError):
        office.tools["look"].invoke({"what": CANARY})
    assert not any("content_hash" in record for record in office.records())
    assert CANARY.encode() not in office.bytes_on_disk()


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(b"\x00\xff", id="bytes"),
        pytest.param(object(), id="an object"),
        pytest.param("x" * MAX_BYTES, id="too large"),
    ],
)
def test_what_cannot_be_kept_says_so_and_the_call_goes_on(office: Office, result: Any) -> None:
    office.returns = result
    assert office.call() is result or office.call() == str(result)
    assert list(office.kept()["result"]) == ["not kept"]


def test_a_redaction_that_breaks_keeps_nothing() -> None:
    keeper = ContentKeeper(DataClass.INTERNAL)
    keeper._redaction = None  # type: ignore[assignment]
    record = AuditRecord(RecordKind.DECISION, 1.0, "d-1", "look", "allow")
    kept = keeper.of(record, b'{"what": "canary"}')
    assert json.loads(kept.body) == {"not kept": "redaction failed (TypeError)"}


def test_a_store_that_cannot_be_written_denies_as_a_log_that_cannot(office: Office) -> None:
    office.call()
    away = office.store.path.with_name("away")
    office.store.path.rename(away)
    with pytest.raises(AccessDeniedError, match="could not be recorded: The store of content"):
        office.call()
    away.rename(office.store.path)
    time.sleep(0.6)  # the log looks again after a quarter of a second
    assert office.call() == "seen"
    assert office.run("verify").exit_code == 0


def test_the_log_verifies_with_what_is_kept(office: Office) -> None:
    office.call()
    office.call()
    done = office.run("verify")
    assert done.exit_code == 0
    assert "Content: 4 kept as it was, 0 erased and accounted for." in done.output


FORGED = Erasure("e-1", 5.0, "os:mallory", "", {"user": "alice"}, 2, "")


def tamper(store: SqliteContentStore, sql: str) -> None:
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute(sql)
        connection.commit()


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE content SET body = '{}'", "was changed"),
        ("UPDATE content SET salt = x'00'", "was changed"),
        ("UPDATE content SET hash = x'00' || hash", "is missing"),
        ("UPDATE content SET body = (SELECT body FROM content c WHERE c.hash != content.hash)", "was changed"),
        ("DELETE FROM content", "is missing"),
        ("UPDATE content SET salt = NULL, body = NULL, erasure = 'e-1'", "by an erasure e-1 that was never noted"),
        ("UPDATE content SET body = NULL", "was changed"),
    ],
)
def test_what_was_changed_or_removed_is_found(office: Office, sql: str, says: str) -> None:
    office.call()
    office.kept()
    tamper(office.store, sql)
    done = office.run("verify")
    assert done.exit_code in {1, 2}
    assert says in done.output
    shown = office.run("content", office.records()[0]["decision_id"])
    assert shown.exit_code in {1, 2}
    assert '"x"' not in shown.stdout


def test_a_store_that_is_gone_is_found(office: Office) -> None:
    office.call()
    office.kept()
    for path in office.log.parent.glob("*.content*"):
        path.unlink()
    done = office.run("verify")
    assert done.exit_code == 1
    assert "it is missing" in done.output


def test_a_store_that_is_gone_is_found_however_much_came_after(office: Office) -> None:
    office.call()
    for _ in range(1_100):
        office.guard.audit.append(AuditRecord(RecordKind.DECISION, time.time(), "d", tool="look", outcome="deny"))
    office.kept()
    for path in office.log.parent.glob("*.content*"):
        path.unlink()
    assert office.run("verify").exit_code == 1


def test_an_erasure_leaves_nothing_but_that_it_was_and_every_proof_holds(office: Office, tmp_path: Path) -> None:
    office.call(what=CANARY)
    office.call(what="of bob", user="bob")
    held, proof = tmp_path / "held", tmp_path / "proof"
    assert office.run("checkpoint", "--to", str(held)).exit_code == 0
    proof.write_text(office.run("prove", "1", "--json").stdout)
    key = office.run("checkpoint", "--to", str(held)).stderr.split("Verifier key: ")[1].split()[0]
    assert CANARY.encode() in office.bytes_on_disk()

    done = office.run("erase", "--user", "alice", "--reason", "She asked for it", "--yes")

    assert done.exit_code == 0, done.output
    assert "Erased: 2 of user alice. Record 5 says so." in done.output
    assert CANARY.encode() not in office.bytes_on_disk()
    assert office.kept(0) == {"arguments": "erased", "result": "erased"}
    assert office.kept(1)["arguments"] == {"what": "of bob"}
    erased = office.run("content", office.records()[0]["decision_id"])
    assert "by os:" in erased.stdout
    assert "(She asked for it)" in erased.stdout
    verified = office.run("verify", "--checkpoint", str(held))
    assert verified.exit_code == 0, verified.output
    assert "Content: 2 kept as it was, 2 erased and accounted for." in verified.output
    checked = CliRunner().invoke(
        app, ["audit", "check-proof", str(proof), "--checkpoint", str(held), "--key", key]
    )
    assert checked.exit_code == 0, checked.output
    (record,) = [each for each in office.records() if each["kind"] == "erasure"]
    assert record["erasure"]["what"] == {"user": "alice"}
    assert office.call() == "seen", "the guard goes on"


def test_of_two_who_erase_at_once_the_second_claims_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.call()
    monkeypatch.setattr(SqliteContentStore, "count", lambda *_: 2)  # as it was a moment ago
    assert office.run("erase", "--user", "alice", "--yes").exit_code == 0
    assert office.run("erase", "--user", "alice", "--yes").exit_code == 3
    assert [record["kind"] for record in office.records()].count("erasure") == 1
    assert office.run("verify").exit_code == 0


def test_an_erasure_is_asked_about_and_no_is_no(office: Office) -> None:
    office.call()
    done = office.run("erase", "--user", "alice", typed="n\n")
    assert done.exit_code == 2
    assert office.kept()["result"] == "seen"


@pytest.mark.parametrize("chosen", [["--user", "nobody"], ["--decision", "d-0"], ["--before", "2001-01-01"]])
def test_nothing_to_erase_has_its_own_exit_code(office: Office, chosen: list[str]) -> None:
    office.call()
    assert office.run("erase", *chosen, "--yes").exit_code == 3
    assert len(office.records()) == 2


def test_one_call_or_what_is_old_can_be_erased(office: Office) -> None:
    office.call()
    office.call(what=CANARY)
    first = office.records()[0]["decision_id"]
    assert office.run("erase", "--decision", first, "--yes").exit_code == 0
    assert office.kept(0)["arguments"] == "erased"
    assert office.kept(1)["arguments"] == {"what": CANARY}
    assert office.run("erase", "--before", "1 day ago", "--yes").exit_code == 3
    assert office.run("erase", "--before", "2100-01-01", "--yes", "--json").exit_code == 0
    assert office.kept(1)["arguments"] == "erased"
    assert office.run("verify").exit_code == 0


@pytest.mark.parametrize("chosen", [[], ["--user", "a", "--decision", "b"]])
def test_an_erasure_needs_one_choice(office: Office, chosen: list[str]) -> None:
    assert office.run("erase", *chosen, "--yes").exit_code == 2


def test_readers_of_calls_do_not_take_an_erasure_for_one(office: Office) -> None:
    office.call()
    assert office.run("erase", "--user", "alice", "--yes").exit_code == 0
    for command in (["show"], ["timeline"], ["export", "--format", "csv"], ["export", "--format", "ocsf"]):
        done = office.run(*command)
        assert done.exit_code == 0, done.output
        assert "erasure" not in done.stdout
        assert "look" in done.stdout
    assert '"kind":"erasure"' in office.run("export", "--format", "jsonl").stdout


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE erasure SET said = replace(said, 'alice', 'bob')", "is not the one that the log tells of"),
        ("DELETE FROM erasure", "that the store does not know"),
        ("UPDATE content SET erasure = 'other' WHERE rowid = 1", "did not take what is filed under it"),
        ("UPDATE content SET salt = x'00', body = '{}' WHERE rowid = 1", "did not take what is filed under it"),
    ],
)
def test_an_erasure_that_was_changed_is_found(office: Office, sql: str, says: str) -> None:
    office.call()
    assert office.run("erase", "--user", "alice", "--yes").exit_code == 0
    tamper(office.store, sql)
    done = office.run("verify")
    assert done.exit_code == 1
    assert says in done.output


@pytest.mark.parametrize(
    "said", ["no JSON", "[]", "{}", *(FORGED._replace(**odd) for odd in ({"id": []}, {"time": "x"}, {"what": 5}))]
)
def test_an_erasure_that_is_none_is_a_damaged_store(office: Office, said: Any) -> None:
    office.call()
    assert office.run("erase", "--user", "alice", "--yes").exit_code == 0
    said = said if isinstance(said, str) else json.dumps(said._asdict())
    tamper(office.store, f"UPDATE erasure SET noted = 0, said = '{said}'")
    for command in (["verify"], ["erase", "--user", "alice", "--yes"]):
        done = office.run(*command)
        assert done.exit_code == 2
        assert "it is damaged" in done.output


def test_content_that_somebody_removed_as_if_erased_is_found(office: Office) -> None:
    office.call()
    office.call(user="bob")
    assert office.run("erase", "--user", "alice", "--yes").exit_code == 0
    (taken,) = office.store.erasures()
    tamper(office.store, f"UPDATE content SET body = NULL, salt = NULL, erasure = '{taken.id}'")
    done = office.run("verify")
    assert done.exit_code == 1
    assert "did not take what is filed under it" in done.output


def test_content_that_is_back_is_not_taken_for_erased(office: Office) -> None:
    office.call(what=CANARY)
    office.records()
    with closing(sqlite3.connect(office.store.path)) as connection:
        rows = connection.execute("SELECT salt, body, hash FROM content").fetchall()
    assert office.run("erase", "--user", "alice", "--yes").exit_code == 0
    with closing(sqlite3.connect(office.store.path)) as connection, connection:
        connection.executemany("UPDATE content SET salt = ?, body = ? WHERE hash = ?", rows)
    done = office.run("verify")
    assert done.exit_code == 1
    assert "did not take what is filed under it" in done.output


def forge(office: Office, *, noted: bool) -> None:
    """File an erasure of all there is, which nobody ordered."""
    with closing(sqlite3.connect(office.store.path)) as connection, connection:
        hashes = [row[0] for row in connection.execute("SELECT hash FROM content")]
        said = FORGED._replace(parts=len(hashes), hash=erasure_hash(hashes))._asdict()
        connection.execute("INSERT INTO erasure VALUES ('e-1', ?, ?)", (json.dumps(said).encode(), noted))


def test_the_log_is_not_told_of_an_erasure_that_did_not_happen(office: Office) -> None:
    office.call()
    office.records()
    forge(office, noted=False)
    done = office.run("erase", "--user", "nobody", "--yes")
    assert done.exit_code == 2
    assert "did not happen" in done.output
    tamper(office.store, "UPDATE content SET erasure = 'e-1'")
    assert office.run("erase", "--user", "nobody", "--yes").exit_code == 2
    assert [record["kind"] for record in office.records()].count("erasure") == 0


def test_a_segment_that_is_away_does_not_vouch_for_an_erasure_of_what_came_after(
    office: Office, tmp_path: Path
) -> None:
    office.call()
    office.records()
    folder = tmp_path / "segments"
    folder.mkdir()
    assert office.run("seal", "--upto", "2", "--to", str(folder), "--yes").exit_code == 0
    office.call()
    office.records()
    forge(office, noted=True)
    tamper(office.store, "UPDATE content SET salt = NULL, body = NULL, erasure = 'e-1'")
    done = office.run("verify")
    assert done.exit_code == 1
    assert "The log does not say that e-1 was erased" in done.output


ERASE_AND_DIE = """
import os, sys
from pathlib import Path
from zt_agents.audit.content import Choice, Erasure
from zt_agents.stores.sqlite_content import SqliteContentStore
store = SqliteContentStore.beside(Path(sys.argv[1]))
store.erase(Choice(user="alice"), Erasure("e-1", 5.0, "os:x", "", {"user": "alice"}, 0, ""))
os._exit(9)
"""


def test_an_erasure_that_a_reader_holds_up_is_completed_by_the_next_one(office: Office) -> None:
    office.call(what=CANARY)
    office.records()
    store = SqliteContentStore(office.store.path, busy_timeout=0.1)
    with closing(sqlite3.connect(office.store.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM content").fetchall()
        store.erase(Choice(user="alice"), Erasure("e-1", 5.0, "os:x", "", {"user": "alice"}, 0, ""))
        with pytest.raises(StoreError, match="another process is reading it"):
            store.wipe()
    assert office.run("erase", "--user", "alice", "--yes").exit_code == 0
    assert CANARY.encode() not in office.bytes_on_disk()
    assert office.run("verify").exit_code == 0


def test_an_erasure_cut_short_is_completed_by_the_next_one(office: Office) -> None:
    office.call(what=CANARY)
    office.records()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", ERASE_AND_DIE, str(office.log)]
    assert subprocess.run(command, env=environment, check=False).returncode == 9
    assert CANARY.encode() not in office.bytes_on_disk()
    found = office.run("verify")
    assert found.exit_code == 1
    assert "run zt-agents audit erase again" in found.output

    done = office.run("erase", "--user", "alice", "--yes")
    assert done.exit_code == 0, done.output
    assert office.run("verify").exit_code == 0
    again = office.run("erase", "--user", "alice", "--yes")
    assert again.exit_code == 3
    assert [record["kind"] for record in office.records()].count("erasure") == 1


def test_sealed_records_keep_their_content_and_it_can_be_erased(office: Office, tmp_path: Path) -> None:
    office.call(what=CANARY)
    office.call()
    first = office.records()[0]["decision_id"]
    folder = tmp_path / "segments"
    folder.mkdir()
    assert office.run("seal", "--upto", "2", "--to", str(folder), "--yes").exit_code == 0
    assert office.run("verify").exit_code == 0
    shown = office.run("content", first, "--segments", str(folder))
    assert CANARY in shown.stdout
    assert office.run("erase", "--user", "alice", "--yes").exit_code == 0
    whole = office.run("verify", "--segments", str(folder))
    assert whole.exit_code == 0, whole.output
    assert "0 kept as it was, 4 erased" in whole.output
    records = office.records()
    assert office.run("seal", "--upto", str(records[-1]["seq"]), "--to", str(folder), "--yes").exit_code == 0
    assert office.run("verify").exit_code == 0, "the record of the erasure lies in a segment, too"
    assert office.run("verify", "--segments", str(folder)).exit_code == 0


def test_the_store_is_its_owners_alone(office: Office) -> None:
    office.call()
    office.records()
    assert office.store.path.stat().st_mode & 0o777 == 0o600


def test_what_is_shown_does_nothing_to_a_terminal(office: Office) -> None:
    office.call(what="\x1b[2Jgone\u202e")
    shown = office.run("content", office.records()[0]["decision_id"]).stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_a_choice_is_one(tmp_path: Path) -> None:
    store = SqliteContentStore(tmp_path / "none.content", create=False)
    with pytest.raises(ValueError, match="choose by one"):
        Choice()
    with pytest.raises(StoreError, match="could not be used"):
        store.erase(Choice(user="a"), Erasure("e", 1.0, "x", "", {}, 0, ""))
