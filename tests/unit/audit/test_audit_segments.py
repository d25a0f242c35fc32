"""Moving the oldest records into segments: what a user sees, what a crash leaves, what an attacker tries."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zt_agents.audit import Head, RecordKind, verify
from zt_agents.audit.segments import WholeLog
from zt_agents.audit.verify import Fault, VerifyStatus
from zt_agents.cli import app
from zt_agents.errors import AuditIntegrityError
from zt_agents.stores import segment_files
from zt_agents.stores.segment_files import SegmentFolder
from zt_agents.stores.sqlite_audit import SqliteAuditSink


def run(*arguments: object):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


@pytest.fixture
def ten(path: Path, make_record) -> Path:
    sink = SqliteAuditSink(path)
    for day in range(5):
        decision = make_record(time=1_700_000_000.0 + day * 86_400)
        sink.append([decision, decision._replace(kind=RecordKind.OUTCOME, status="ok", reasons=())])
    sink.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "segments").mkdir()
    return tmp_path / "segments"


@pytest.fixture
def sealed(ten: Path, folder: Path) -> Path:
    """Ten records and two sealings: 1 to 4 and 5 to 8 are in segments."""
    for upto in (4, 8):
        done = run("seal", "--log", ten, "--upto", upto, "--to", folder, "--yes")
        assert done.exit_code == 0, done.output
    return ten


def faults(path: Path, folder: Path | None = None) -> list[tuple[Fault, int | None, str]]:
    sink = SqliteAuditSink(path, create=False)
    report = verify(sink if folder is None else WholeLog(sink, SegmentFolder(folder)))
    assert report.status is VerifyStatus.BROKEN
    return [(finding.fault, finding.seq, finding.text) for finding in report.findings]


# What a user sees


def test_sealing_says_what_it_did_and_what_remains_verifies(sealed, folder) -> None:
    done = run("verify", "--log", sealed)
    assert done.exit_code == 0
    assert "12 records." in done.stdout
    assert "Records 1 to 8 lie in segments and were not looked at." in done.stdout
    done = run("verify", "--log", sealed, "--segments", folder)
    assert done.exit_code == 0
    assert "not looked at" not in done.stdout


def test_what_is_older_than_a_moment_is_sealed(ten, folder) -> None:
    done = run("seal", "--log", ten, "--before", "2023-11-16", "--to", folder, "--yes", "--json")
    (said,) = map(json.loads, done.stdout.splitlines())
    assert (said["first"], said["last"]) == (1, 4)
    assert (folder / said["file"]).is_file()


def test_a_human_is_asked_and_no_is_no(ten, folder) -> None:
    asked = ["audit", "seal", "--log", str(ten), "--upto", "4", "--to", str(folder)]
    done = CliRunner().invoke(app, asked, input="n\n")
    assert "Move records 1 to 4 of 10" in done.output
    assert done.exit_code == 2
    assert not list(folder.iterdir())


def test_nothing_to_seal_has_its_own_exit_code(sealed, folder) -> None:
    assert run("seal", "--log", sealed, "--upto", 8, "--to", folder, "--yes").exit_code == 3


def test_a_missing_folder_is_an_error_and_nothing_is_sealed(ten, tmp_path) -> None:
    assert run("seal", "--log", ten, "--upto", 4, "--to", tmp_path / "nowhere", "--yes").exit_code == 2
    assert verify(SqliteAuditSink(ten)).not_looked_at == 0


def test_a_broken_log_is_not_sealed(ten, folder) -> None:
    with closing(sqlite3.connect(ten)) as connection, connection:
        connection.execute("UPDATE record SET hash = zeroblob(32) WHERE seq = 9")
    done = run("seal", "--log", ten, "--upto", 4, "--to", folder, "--yes")
    assert done.exit_code == 1
    assert not list(folder.iterdir())


def test_an_old_checkpoint_needs_the_segments_and_never_passes_without(ten, folder, tmp_path) -> None:
    kept = tmp_path / "kept"
    assert run("checkpoint", "--log", ten, "--to", kept).exit_code == 0
    run("seal", "--log", ten, "--upto", 10, "--to", folder, "--yes")
    run("seal", "--log", ten, "--upto", 11, "--to", folder, "--yes")
    done = run("verify", "--log", ten, "--checkpoint", kept)
    assert done.exit_code == 4
    assert "NOT VERIFIED" in done.stdout
    assert "The checkpoint of 10 records ends within a segment." in done.stdout
    assert json.loads(run("verify", "--log", ten, "--checkpoint", kept, "--json").stdout)["status"] == "not verified"
    assert run("verify", "--log", ten, "--checkpoint", kept, "--segments", folder).exit_code == 0
    assert run("checkpoint", "--log", ten, "--to", kept).exit_code == 4, "what it would continue cannot be compared"
    assert run("checkpoint", "--log", ten, "--to", kept, "--segments", folder).exit_code == 0
    assert run("prove", "1", "--log", ten).exit_code == 2
    assert run("prove", "1", "--log", ten, "--segments", folder).exit_code == 0
    assert run("prove", "d-1", "--log", ten, "--segments", folder).exit_code == 0


def test_a_head_that_was_noted_before_the_cut_is_not_taken_for_proven(sealed) -> None:
    assert run("verify", "--log", sealed, "--expect", f"3:{'0' * 64}").exit_code == 4
    assert run("verify", "--log", sealed, "--expect", f"8:{'0' * 64}").exit_code == 1


@pytest.mark.parametrize("command", [["show", "--json"], ["timeline"], ["export", "--format", "jsonl"]])
def test_readers_say_that_there_is_more_and_read_it_when_given(sealed, folder, command) -> None:
    without = run(*command, "--log", sealed)
    assert without.exit_code == 0, without.output
    assert "Records 1 to 8 lie in segments" in without.stderr
    whole = run(*command, "--log", sealed, "--segments", folder)
    assert whole.exit_code == 0, whole.output
    assert "lie in segments" not in whole.stderr
    assert len(whole.stdout.splitlines()) > len(without.stdout.splitlines())


def test_a_sealing_is_no_call(sealed, folder) -> None:
    lines = run("show", "--json", "--log", sealed, "--segments", folder).stdout.splitlines()
    assert [json.loads(line)["decision"]["decision_id"] for line in lines] == [f"d-{n}" for n in range(1, 6)]


def test_an_export_that_stands_before_the_cut_needs_the_segments(sealed, folder) -> None:
    done = run("export", "--log", sealed, "--format", "jsonl", "--after", 3)
    assert done.exit_code == 2
    done = run("export", "--log", sealed, "--format", "jsonl", "--after", 3, "--segments", folder)
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == list(range(4, 13))
    done = run("export", "--log", sealed, "--format", "jsonl", "--after", 8)
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == list(range(9, 13))


# Others append meanwhile


def test_a_process_that_appends_goes_on_over_a_sealing(ten, folder, make_record) -> None:
    sink = SqliteAuditSink(ten)
    sink.append([make_record()])
    assert run("seal", "--log", ten, "--upto", 11, "--to", folder, "--yes").exit_code == 0
    assert list(sink.append([make_record()])) == [13]
    sink.close()
    assert verify(sink).status is VerifyStatus.VERIFIED


def test_sealing_while_others_append_loses_nothing(path, folder, make_record, monkeypatch) -> None:
    monkeypatch.setattr(segment_files, "RECORDS", 40)
    sink, other, stop = SqliteAuditSink(path), SqliteAuditSink(path), threading.Event()
    sink.append([make_record() for _ in range(200)])
    appended = 200

    def append() -> None:
        nonlocal appended
        while not stop.is_set():
            appended += len(sink.append([make_record() for _ in range(7)]))

    thread = threading.Thread(target=append)
    thread.start()
    sealings = 0
    while sealings < 10:
        with other.snapshot() as snapshot:
            upto = snapshot.head.seq
        sealings += SegmentFolder(folder).seal(other, upto, 2.0) is not None
    stop.set()
    thread.join()
    sink.close()
    other.close()
    report = verify(WholeLog(sink, SegmentFolder(folder)))
    assert report.status is VerifyStatus.VERIFIED
    assert report.records == appended + sealings


def test_of_two_who_seal_at_once_one_comes_too_late_and_harms_nothing(ten, folder, monkeypatch) -> None:
    late, sink = SegmentFolder(folder), SqliteAuditSink(ten)
    seal = sink.seal

    def overtaken(*arguments):
        monkeypatch.undo()
        assert SegmentFolder(folder).seal(SqliteAuditSink(ten), 6, 2.0) is not None
        return seal(*arguments)

    monkeypatch.setattr(sink, "seal", overtaken)
    with pytest.raises(AuditIntegrityError, match="no longer holds records 1 to 4"):
        late.seal(sink, 4, 3.0)
    sink.close()
    assert [file.suffix for file in folder.iterdir()] == [".zst"]
    assert verify(WholeLog(sink, late)).status is VerifyStatus.VERIFIED


def test_space_comes_back(path, folder, make_record) -> None:
    sink = SqliteAuditSink(path)
    sink.append([make_record(resource="x" * 900) for _ in range(5000)])
    sink.release()
    before = path.stat().st_size
    assert run("seal", "--log", path, "--upto", 5000, "--to", folder, "--yes").exit_code == 0
    sink.close()
    assert path.stat().st_size < before / 20
    assert verify(sink).status is VerifyStatus.VERIFIED


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize("at", ["open", "fsync", "replace", "_sync_folder", "COMMIT", "after COMMIT"])
def test_kill_9_at_any_point_loses_nothing(ten, folder, at) -> None:
    program = Path(__file__).with_name("seal_and_die.py")
    done = subprocess.run([sys.executable, program, ten, folder, at], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    sink = SqliteAuditSink(ten)
    whole = WholeLog(sink, SegmentFolder(folder))
    report = verify(whole)
    assert report.status is VerifyStatus.VERIFIED
    assert report.records == (11 if at == "after COMMIT" else 10)
    while SegmentFolder(folder).seal(sink, 10, 3.0):
        pass
    sink.close()
    assert verify(whole).status is VerifyStatus.VERIFIED
    with sink.snapshot() as snapshot:
        assert snapshot.begin.seq == 10


# Attacks


def names(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_missing_segment_is_named(sealed, folder) -> None:
    gone = names(folder)[1]
    gone.unlink()
    fault, seq, text = faults(sealed, folder)[0]
    assert (fault, seq) == (Fault.DAMAGED, 5)
    assert f"The segment {gone.name} with records 5 to 8 is missing" in text


def test_a_changed_segment_is_named(sealed, folder) -> None:
    raw = bytearray((path := names(folder)[0]).read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert f"{path.name} was changed" in faults(sealed, folder)[0][2]


def test_swapped_segments_are_named(sealed, folder) -> None:
    one, other = names(folder)
    one.rename(folder / "x")
    other.rename(one)
    (folder / "x").rename(other)
    assert f"{one.name} holds records 5 to 8, and records 1 to 4 belong there" in faults(sealed, folder)[0][2]


def test_a_segment_of_another_log_is_named(sealed, folder, tmp_path, make_record) -> None:
    sink = SqliteAuditSink(tmp_path / "other.db")
    sink.append([make_record() for _ in range(4)])
    (tmp_path / "others").mkdir()
    sealing = SegmentFolder(tmp_path / "others").seal(sink, 4, 2.0)
    sink.close()
    shutil.copy(tmp_path / "others" / sealing.name, names(folder)[0])
    assert "is of another log" in faults(sealed, folder)[0][2]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM segment WHERE first = 5",
        "DELETE FROM segment",
        "UPDATE segment SET hash = zeroblob(32) WHERE first = 5",
        "UPDATE segment SET frontier = zeroblob(32) WHERE first = 5",
        "UPDATE segment SET frontier = x'00' WHERE first = 5",
        "UPDATE segment SET last = 7 WHERE first = 5",
        "UPDATE segment SET last = 'x' WHERE first = 5",
        "UPDATE segment SET sha256 = zeroblob(32) WHERE first = 5",
        "UPDATE segment SET name = '../../etc/passwd' WHERE first = 5",
        "UPDATE segment SET noted = 9 WHERE first = 5",
        "UPDATE segment SET noted = 2.5 WHERE first = 5",
        "UPDATE segment SET first = 4 WHERE first = 5",
        "UPDATE segment SET sha256 = zeroblob(32) WHERE first = 1",
        "DELETE FROM segment WHERE first = 1",
        "DELETE FROM record WHERE seq = 12; UPDATE head SET seq = 11, hash = (SELECT hash FROM record WHERE seq = 11)",
    ],
)
def test_an_edit_of_what_was_noted_is_found(sealed, folder, edit, whole) -> None:
    with closing(sqlite3.connect(sealed)) as connection:
        connection.executescript(edit)
    faults(sealed, folder if whole else None)


def test_records_that_were_just_deleted_are_not_taken_for_sealed(ten) -> None:
    """An attacker cuts the start off and notes a segment that never was; no record confirms it."""
    with SqliteAuditSink(ten).snapshot() as snapshot:
        rows = list(snapshot.stored())
    from zt_agents.audit.tree import Tree, leaf_hash

    tree = Tree()
    for _, body, *_ in rows[:4]:
        tree.append(leaf_hash(body))
    with closing(sqlite3.connect(ten)) as connection, connection:
        connection.execute("DELETE FROM record WHERE seq <= 4")
        row = (1, 4, rows[3][2], b"".join(tree.frontier()), "x", bytes(32), 9)
        connection.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    assert faults(ten) == [(Fault.SEGMENT, 1, "No record confirms that records 1 to 4 were sealed into x.")]


def test_the_head_before_and_after_a_sealing_can_be_expected(ten, folder) -> None:
    before = verify(SqliteAuditSink(ten)).head
    assert isinstance(before, Head)
    run("seal", "--log", ten, "--upto", 10, "--to", folder, "--yes")
    assert verify(SqliteAuditSink(ten), expect=before).status is VerifyStatus.VERIFIED


def test_a_segment_is_json_lines_that_are_the_records(sealed, folder) -> None:
    zstandard = pytest.importorskip("zstandard")
    lines = zstandard.ZstdDecompressor().stream_reader(names(folder)[0].read_bytes()).read().splitlines()
    first, *bodies, last = map(json.loads, lines)
    assert (first["first"], first["last"], last["records"], len(bodies)) == (1, 4, 4, 4)
    assert bodies[0]["decision_id"] == "d-1"
    assert names(folder)[0].stat().st_mode & 0o077 == 0
