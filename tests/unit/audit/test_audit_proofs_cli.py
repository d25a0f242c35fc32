"""``audit checkpoint``, ``verify --checkpoint``, ``prove`` and ``check-proof``, as a user would type them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from contextlib import closing
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from serving import QuietHandler, serving
from typer.testing import CliRunner

from zt_agents.audit import AuditLog, Head, verify
from zt_agents.audit.chain import genesis, link
from zt_agents.audit.tree import leaf_hash
from zt_agents.audit.verify import VerifyStatus
from zt_agents.cli import app
from zt_agents.stores.sqlite_audit import SqliteAuditSink

COLUMNS = "body, hash, time, agent, user, decision"


def run(*arguments: object):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def append(path: Path, make_record, count: int, **changes: object) -> None:
    sink = SqliteAuditSink(path)
    sink.append([make_record(**changes) for _ in range(count)])
    sink.close()


def rechain(path: Path) -> None:
    """Do what an attacker does who can write the file and knows how: compute the whole chain anew."""
    with closing(sqlite3.connect(path)) as connection, connection:
        ((log_id,),) = connection.execute("SELECT log_id FROM head")
        rows = connection.execute(f"SELECT {COLUMNS} FROM record ORDER BY seq").fetchall()
        connection.execute("DELETE FROM record")
        digest = genesis(log_id)
        for seq, (body, _, *columns) in enumerate(rows, 1):
            digest = link(digest, leaf_hash(body))
            connection.execute("INSERT INTO record VALUES (?,?,?,?,?,?,?)", (seq, body, digest, *columns))
        connection.execute("UPDATE head SET seq = ?, hash = ?", (len(rows), digest))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where somebody else keeps the checkpoint."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "checkpoint"


@pytest.fixture
def signed(path: Path, kept: Path, make_record) -> Path:
    """A log of 26 records, all of which are in the checkpoint that was kept."""
    append(path, make_record, 26)
    assert run("checkpoint", "--log", path, "--to", kept).exit_code == 0
    return path


def key_of(path: Path) -> str:
    done = run("checkpoint", "--log", path)
    assert done.exit_code == 0
    return next(line for line in done.stderr.splitlines() if line.startswith("Verifier key: ")).split(": ")[1]


# checkpoint


def test_the_first_checkpoint_makes_the_key_and_prints_its_public_half(path, kept, make_record) -> None:
    append(path, make_record, 1)
    done = run("checkpoint", "--log", path, "--to", kept)
    assert done.exit_code == 0
    assert "A checkpoint of 1 record went to" in done.stdout
    secret = path.with_name("audit.db.checkpoint-key")
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text().strip().split("+", 4)[4] not in done.output
    key = key_of(path)
    assert run("verify", "--log", path, "--checkpoint", kept, "--key", key).exit_code == 0
    assert run("checkpoint", "--log", path).stdout == kept.read_text(), "the same log, the same checkpoint"


def test_a_checkpoint_follows_the_log(signed, kept, make_record) -> None:
    append(signed, make_record, 4)
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert done.exit_code == 0
    assert "It continues the checkpoint of 26 records. Newer than that: 4." in done.stdout
    assert run("checkpoint", "--log", signed, "--to", kept).exit_code == 0
    assert kept.read_text().splitlines()[1] == "30"


def test_nothing_to_verify_is_not_signed_and_makes_no_key(path, kept) -> None:
    for _ in range(2):
        done = run("checkpoint", "--log", path, "--to", kept)
        assert done.exit_code == 3
        assert "NOTHING TO VERIFY" in done.stdout
        path.touch()
    path.unlink()
    SqliteAuditSink(path).close()
    assert run("checkpoint", "--log", path, "--to", kept).exit_code == 3
    assert not kept.exists()
    assert not path.with_name("audit.db.checkpoint-key").exists()


def test_a_broken_log_is_not_signed(signed, kept) -> None:
    before = kept.read_bytes()
    with closing(sqlite3.connect(signed)) as connection, connection:
        connection.execute("DELETE FROM record WHERE seq = 9")
    done = run("checkpoint", "--log", signed, "--to", kept)
    assert done.exit_code == 1
    assert "Record 9 is missing" in done.stdout
    assert "Nothing was signed." in done.stdout
    assert kept.read_bytes() == before


@pytest.mark.parametrize("remembered", ["elsewhere", "beside the log", "both"])
def test_two_histories_are_never_signed(path, kept, make_record, tmp_path, remembered) -> None:
    append(path, make_record, 20)
    shutil.copy(path, tmp_path / "copy.db")
    append(path, make_record, 6)
    assert run("checkpoint", "--log", path, "--to", kept).exit_code == 0
    before = kept.read_bytes()
    shutil.copy(tmp_path / "copy.db", path)
    append(path, make_record, 9, tool="another_history")
    assert verify(SqliteAuditSink(path)).status is VerifyStatus.VERIFIED, "by itself each history is flawless"
    if remembered == "elsewhere":
        path.with_name("audit.db.checkpoint").unlink()
    elif remembered == "beside the log":
        kept.unlink()
    done = run("checkpoint", "--log", path, "--to", kept)
    assert done.exit_code == 1
    assert "Records 1 to 26 are not what the checkpoint says" in done.stdout
    assert not kept.exists() if remembered == "beside the log" else kept.read_bytes() == before


def test_a_key_does_not_sign_for_the_log_that_took_the_others_place(signed, make_record) -> None:
    signed.unlink()
    signed.with_name("audit.db.checkpoint").unlink()
    append(signed, make_record, 26)
    done = run("checkpoint", "--log", signed)
    assert done.exit_code == 1
    assert "another log has taken its place" in done.stderr


def test_without_its_key_a_log_that_had_one_signs_nothing(signed, kept) -> None:
    signed.with_name("audit.db.checkpoint-key").unlink()
    done = run("checkpoint", "--log", signed, "--to", kept)
    assert done.exit_code == 1
    assert "the key of the log is gone" in done.stderr
    assert not signed.with_name("audit.db.checkpoint-key").exists()


def test_a_file_that_is_no_checkpoint_is_not_overwritten(signed, tmp_path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("ten years of work\n")
    done = run("checkpoint", "--log", signed, "--to", precious)
    assert done.exit_code == 1
    assert precious.read_text() == "ten years of work\n"


def test_a_log_that_is_gone_is_broken_when_it_was_signed(signed, kept) -> None:
    signed.unlink()
    for _ in range(2):
        assert run("checkpoint", "--log", signed, "--to", kept).exit_code == 1
        done = run("verify", "--log", signed, "--checkpoint", kept)
        assert done.exit_code == 1
        assert "The checkpoint has 26 records; there is no log." in done.stdout
        signed.touch()


def test_a_folder_that_is_not_there_and_a_key_that_cannot_be_read(signed, tmp_path) -> None:
    assert run("checkpoint", "--log", signed, "--to", tmp_path / "no" / "folder").exit_code == 2
    signed.with_name("audit.db.checkpoint-key").chmod(0o644)
    done = run("checkpoint", "--log", signed)
    assert done.exit_code == 2
    assert "chmod 600" in done.stderr


def test_a_checkpoint_never_takes_the_place_of_the_key_or_the_log(path, make_record) -> None:
    append(path, make_record, 2)
    for _ in range(2):
        for target in (path.with_name("audit.db.checkpoint-key"), path):
            before = target.read_bytes() if target.exists() else None
            assert run("checkpoint", "--log", path, "--to", target).exit_code in {1, 2}
            assert (target.read_bytes() if target.exists() else None) == before
        key_of(path)


def test_checkpoints_of_a_log_that_others_are_writing_to(path, kept, make_record) -> None:
    done = threading.Event()

    def write() -> None:
        with AuditLog(SqliteAuditSink(path)) as log:
            while not done.is_set():
                log.append(make_record()).wait(10)

    append(path, make_record, 1)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        sizes = []
        for _ in range(5):
            assert run("checkpoint", "--log", path, "--to", kept).exit_code == 0
            sizes.append(int(kept.read_text().splitlines()[1]))
    finally:
        done.set()
        writer.join()
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1], "nobody was writing"
    assert run("verify", "--log", path, "--checkpoint", kept).exit_code == 0


@pytest.fixture
def server():
    """A real server that takes notes, answering with the status its path names."""
    received: list[tuple[str, bytes]] = []

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers["Content-Type"], body))
            self.send_response(int(self.path.strip("/")))
            self.send_header("Location", "/200")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as listening:
        yield f"http://127.0.0.1:{listening.server_port}", received


def test_a_checkpoint_goes_to_a_server(signed, kept, server) -> None:
    url, received = server
    done = run("checkpoint", "--log", signed, "--to", f"{url}/201")
    assert done.exit_code == 0
    assert received == [("text/plain; charset=utf-8", kept.read_bytes())]


@pytest.mark.parametrize("status", [302, 303, 307, 403, 409, 500])
def test_a_server_that_does_not_take_it_is_an_error(signed, server, status) -> None:
    url, _ = server
    done = run("checkpoint", "--log", signed, "--to", f"{url}/{status}")
    assert done.exit_code == 2
    assert f"status {status}" in done.stderr


def test_a_server_that_is_not_there_is_an_error_and_the_checkpoint_is_remembered(path, server, make_record) -> None:
    append(path, make_record, 3)
    done = run("checkpoint", "--log", path, "--to", "http://127.0.0.1:1/")
    assert done.exit_code == 2
    assert path.with_name("audit.db.checkpoint").read_text().splitlines()[1] == "3"


# verify --checkpoint: what someone finds who kept one


def execute(*statements: str):
    def attack(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return attack


def move_up(after: int, by: int) -> list[str]:
    return [
        f"UPDATE record SET seq = -seq WHERE seq > {after}",
        f"UPDATE record SET seq = -seq + {by} WHERE seq < 0",
    ]


COPY = f"INSERT INTO record SELECT 10, {COLUMNS} FROM record WHERE seq ="
ATTACKS = {
    "changed": execute("UPDATE record SET body = CAST(replace(body, 'allow', 'deny') AS BLOB) WHERE seq = 7"),
    "removed": execute("DELETE FROM record WHERE seq = 7"),
    "inserted": execute(*move_up(9, 1), f"{COPY} 3", """UPDATE record SET body = '{"tool":"never"}' WHERE seq = 10"""),
    "reordered": execute(
        "UPDATE record SET seq = -1 WHERE seq = 7",
        "UPDATE record SET seq = 7 WHERE seq = 8",
        "UPDATE record SET seq = 8 WHERE seq = -1",
    ),
    "duplicated": execute(*move_up(9, 1), f"{COPY} 9"),
    "last one replaced": execute("DELETE FROM record WHERE seq = 26", COPY.replace("10", "26") + " 1"),
    "tail cut": execute("DELETE FROM record WHERE seq > 20"),
    "emptied": execute("DELETE FROM record"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_an_attacker_does_who_rewrites_the_whole_chain(signed, kept, attack) -> None:
    ATTACKS[attack](signed)
    with closing(sqlite3.connect(signed)) as connection, connection:
        connection.execute("UPDATE record SET body = CAST(body AS BLOB)")
    rechain(signed)
    alone = run("verify", "--log", signed)
    if attack == "emptied":
        assert alone.exit_code == 3
    elif attack != "inserted":  # whose columns this attacker forgot
        assert alone.exit_code == 0, "the chain alone cannot show it: " + alone.output
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert done.exit_code == 1
    assert "checkpoint: " in done.stdout


def test_a_cut_tail_is_named_exactly(signed, kept) -> None:
    ATTACKS["tail cut"](signed)
    rechain(signed)
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert "The checkpoint has 26 records, the log has 20: records 21 to 26 are gone." in done.stdout
    ATTACKS["emptied"](signed)
    rechain(signed)
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert done.exit_code == 1
    assert "The checkpoint has 26 records, the log has none: records 1 to 26 are gone." in done.stdout


def test_a_log_put_back_to_an_older_state_is_found(path, kept, make_record, tmp_path) -> None:
    append(path, make_record, 25)
    shutil.copy(path, tmp_path / "copy.db")
    append(path, make_record, 1)
    assert run("checkpoint", "--log", path, "--to", kept).exit_code == 0
    shutil.copy(tmp_path / "copy.db", path)
    done = run("verify", "--log", path, "--checkpoint", kept, "--json")
    assert done.exit_code == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["fault"], finding["seq"]) == ("checkpoint", 26)
    assert "record 26 is gone" in finding["text"]


def test_another_log_in_its_place_is_found(signed, kept, make_record) -> None:
    signed.unlink()
    append(signed, make_record, 40)
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert done.exit_code == 1
    assert "The checkpoint is of the log" in done.stdout


def test_a_forged_checkpoint_is_found(signed, kept, make_record, tmp_path) -> None:
    key = key_of(signed)
    kept.write_text(kept.read_text().replace("\n26\n", "\n20\n"))
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert done.exit_code == 1
    assert "forged" in done.stderr

    other = tmp_path / "other.db"
    append(other, make_record, 26)
    assert run("checkpoint", "--log", other, "--to", kept.with_name("new")).exit_code == 0
    done = run("verify", "--log", other, "--checkpoint", kept.with_name("new"), "--key", key)
    assert done.exit_code == 1, "a log, a key and a checkpoint that all belong together, and not to us"
    assert "not signed by" in done.stderr


def test_an_old_checkpoint_is_named_as_such_and_does_not_hide_a_cut(signed, kept, make_record) -> None:
    old = kept.read_bytes()
    append(signed, make_record, 14)
    assert run("checkpoint", "--log", signed, "--to", kept).exit_code == 0
    kept.write_bytes(old)
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert done.exit_code == 0
    assert "The given checkpoint is old: one of 40 records was signed later." in done.stdout
    execute("DELETE FROM record WHERE seq > 26")(signed)
    rechain(signed)
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert done.exit_code == 1
    assert "records 27 to 40 are gone" in done.stdout


def test_a_forged_checkpoint_beside_the_log_is_found_too(signed, kept) -> None:
    last = signed.with_name("audit.db.checkpoint")
    last.write_text(last.read_text().replace("\n26\n", "\n2\n"))
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert done.exit_code == 1
    assert "audit.db.checkpoint is not to be trusted" in done.stderr
    assert run("checkpoint", "--log", signed).exit_code == 1


def test_a_checkpoint_that_cannot_be_checked_is_no_pass(signed, kept, tmp_path) -> None:
    key = key_of(signed)
    for arguments in (
        ("--checkpoint", tmp_path / "none"),
        ("--checkpoint", kept, "--key", "nonsense"),
        ("--key", key),
    ):
        assert run("verify", "--log", signed, *arguments).exit_code == 2
    kept.write_text("")
    assert run("verify", "--log", signed, "--checkpoint", kept).exit_code == 1
    signed.with_name("audit.db.checkpoint-key").unlink()
    done = run("verify", "--log", signed, "--checkpoint", kept)
    assert done.exit_code == 2
    assert "--key" in done.stderr


# prove, check-proof


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "proof.json"


def test_a_record_is_proven_to_someone_without_the_log(signed, kept, proof, make_record) -> None:
    key = key_of(signed)
    append(signed, make_record, 5)  # the checkpoint stays what it was
    done = run("prove", "7", "--log", signed, "--json")
    assert done.exit_code == 0
    proof.write_text(done.stdout)
    with SqliteAuditSink(signed, create=False).snapshot() as snapshot:
        body = next(body for seq, body, *_ in snapshot.stored() if seq == 7).decode()
    signed.unlink()
    done = run("check-proof", proof, "--checkpoint", kept, "--key", key)
    assert done.exit_code == 0
    assert "PROVEN: this is record 7 of the 26 of zt-agents/audit/" in done.stdout
    assert body in done.stdout


def test_a_decision_is_proven_with_all_its_records(path, kept, proof, make_record) -> None:
    append(path, make_record, 3)
    append(path, make_record, 2, decision_id="wanted")
    assert run("checkpoint", "--log", path, "--to", kept).exit_code == 0
    proof.write_text(run("prove", "wanted", "--log", path, "--json").stdout)
    done = run("check-proof", proof, "--checkpoint", kept, "--key", key_of(path))
    assert done.exit_code == 0
    assert [line.split(" of ")[0] for line in done.stdout.splitlines()[::2]] == [
        "PROVEN: this is record 4",
        "PROVEN: this is record 5",
    ]
    shown = run("prove", "wanted", "--log", path).stdout
    assert "Record 4 is one of the 5" in shown
    assert '"decision_id":"wanted"' in shown


@pytest.mark.parametrize(("old", "new"), [("allow", "deny"), ('"seq":7', '"seq":8'), ('"hashes":["', '"hashes":["A')])
def test_a_proof_that_was_edited_proves_nothing(signed, kept, proof, old, new) -> None:
    text = run("prove", "7", "--log", signed, "--json").stdout
    assert old in text
    proof.write_text(text.replace(old, new, 1))
    done = run("check-proof", proof, "--checkpoint", kept, "--key", key_of(signed))
    assert done.exit_code == 1
    assert "PROVEN" not in done.output


def test_a_log_that_does_not_match_the_checkpoint_gives_no_proof(signed, kept) -> None:
    ATTACKS["changed"](signed)
    rechain(signed)
    for seq in (3, 7):
        done = run("prove", seq, "--log", signed, "--checkpoint", kept, "--json")
        assert (done.exit_code, done.stdout) == (1, "")
    ATTACKS["tail cut"](signed)
    assert run("prove", "3", "--log", signed, "--json").exit_code == 1


def test_a_later_checkpoint_is_proven_to_continue_an_earlier_one(signed, kept, proof, make_record) -> None:
    append(signed, make_record, 7)
    later = kept.with_name("later")
    assert run("checkpoint", "--log", signed, "--to", later).exit_code == 0
    done = run("prove", "--since", kept, "--log", signed, "--json")
    assert done.exit_code == 0
    proof.write_text(done.stdout)
    arguments = ("check-proof", proof, "--checkpoint", later, "--key", key_of(signed))
    assert "begin with the earlier 26" in run(*arguments, "--since", kept).stdout
    assert run(*arguments).exit_code == 2
    assert run(*arguments, "--since", later).exit_code == 1
    assert "continues that of 26" in run("prove", "--since", kept, "--log", signed).stdout
    assert run("prove", "--since", later, "--checkpoint", kept, "--log", signed).exit_code == 2


@pytest.mark.parametrize("wanted", [("0",), ("27",), ("9" * 30,), ("d-none",), (), ("--since", "none")])
def test_what_cannot_be_proven_is_refused(signed, wanted) -> None:
    done = run("prove", *wanted, "--log", signed)
    assert done.exit_code == 2


def test_without_a_checkpoint_there_is_nothing_to_prove_it_for(path, make_record) -> None:
    append(path, make_record, 2)
    done = run("prove", "1", "--log", path)
    assert done.exit_code == 2
    assert "zt-agents audit checkpoint" in done.stderr


def test_no_proofs_are_not_a_pass(signed, kept, proof) -> None:
    proof.write_text("\n")
    done = run("check-proof", proof, "--checkpoint", kept, "--key", key_of(signed))
    assert done.exit_code == 3
    assert run("check-proof", kept, "--checkpoint", kept, "--key", key_of(signed)).exit_code == 1


def test_a_log_of_one_record_is_proven_too(path, kept, proof, make_record) -> None:
    append(path, make_record, 1)
    assert run("checkpoint", "--log", path, "--to", kept).exit_code == 0
    proof.write_text(run("prove", "1", "--log", path, "--json").stdout)
    assert run("check-proof", proof, "--checkpoint", kept, "--key", key_of(path)).exit_code == 0


def test_nothing_in_a_proof_acts_on_the_terminal(path, kept, proof, make_record) -> None:
    append(path, make_record, 1, tool="\x1b[31m\u202e\x9b[red]", decision_id="\x07x")
    assert run("checkpoint", "--log", path, "--to", kept).exit_code == 0
    key = key_of(path)
    shown = [run("prove", "1", "--log", path), run("prove", "1", "--log", path, "--json")]
    proof.write_text(shown[1].stdout)
    shown.append(run("check-proof", proof, "--checkpoint", kept, "--key", key))
    for done in shown:
        assert done.exit_code == 0
        assert all(" " <= character <= "~" or character == "\n" for character in done.output)


def test_the_head_still_stands_beside_the_checkpoint(signed, kept) -> None:
    head = str(verify(SqliteAuditSink(signed)).head)
    assert Head.parse(head).seq == 26
    done = run("verify", "--log", signed, "--checkpoint", kept, "--expect", head)
    assert done.exit_code == 0
    assert "It contains the expected record 26" in done.stdout
