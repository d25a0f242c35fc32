"""Exports to real files and real servers on loopback; nothing is mocked."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import ipaddress
import json
import os
import re
import signal
import socket
import socketserver
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from serving import QuietHandler, serving
from typer.testing import CliRunner

from zt_agents.audit import AuditRecord, RecordKind
from zt_agents.cli import app
from zt_agents.stores.sqlite_audit import SqliteAuditSink

REPOSITORY = Path(__file__).parents[3]


def record(number: int, **changes: Any) -> AuditRecord:
    made = AuditRecord(
        RecordKind.DECISION,
        time=1_700_000_000.0 + number,
        decision_id=f"d-{number}",
        tool="read_ticket",
        outcome="allow",
        tier="low",
        reasons=(("rule", "Helpdesk may read.", "read"),),
        effects=("read",),
        agent="helpdesk",
        user_id="kim",
    )
    return made._replace(**changes)


def outcome_of(decision: AuditRecord, **changes: Any) -> AuditRecord:
    bare = AuditRecord(RecordKind.OUTCOME, decision.time + 1, decision.decision_id, decision.tool, decision.outcome)
    ended = bare._replace(agent=decision.agent, user_id=decision.user_id, status="ok", duration_ms=12.5)
    return ended._replace(**changes)


def append(path: Path, *records: AuditRecord) -> None:
    with closing(SqliteAuditSink(path)) as sink:
        sink.append(records)


def run(path: Path, *arguments: object, env: dict[str, str] | None = None, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["audit", "export", "--log", str(path), *map(str, arguments)], env=env)
    assert done.exit_code == code, done.output
    return done


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def ids(text: str) -> list[str]:
    return [event["metadata"]["uid"] for event in events(text)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Five records: a call that ran, one that was denied, one that was approved and is still running."""
    path = tmp_path / "audit.db"
    ran, denied = record(1), record(2, outcome="deny", tool="wipe", user_id="lee")
    held = record(3, outcome="require_approval")
    append(path, ran, outcome_of(ran), denied, held, record(3, time=1_700_000_013.0, approved_by="dana"))
    return path


# what is exported


def test_a_call_is_one_event(path) -> None:
    done = run(path)
    first, second, third = events(done.stdout)
    assert [event["metadata"]["uid"] for event in (first, second, third)] == ["d-1", "d-2", "d-3"]
    assert [event["status"] for event in (first, second, third)] == ["Success", "Failure", "Unknown"]
    assert third["unmapped"]["approval_wait_ms"] == 10_000
    assert "3 lines exported, up to record 5. Go on with --after 5." in done.stderr


def test_json_lines_are_the_records_from_which_the_chain_can_be_computed(path) -> None:
    from zt_agents.audit.chain import genesis, link
    from zt_agents.audit.tree import leaf_hash

    with SqliteAuditSink(path).snapshot() as snapshot:
        digest = genesis(snapshot.log_id)
    lines = events(run(path, "--format", "jsonl").stdout)
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]
    for line in lines:
        body = {name: value for name, value in line.items() if name not in ("seq", "hash")}
        digest = link(digest, leaf_hash(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()))
        assert line["hash"] == digest.hex()


def test_csv_has_a_heading_and_a_row_a_call(path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(path, "--format", "csv").stdout)))
    assert [(row["decision_id"], row["state"], row["duration_ms"]) for row in rows] == [
        ("d-1", "allowed", "12.5"),
        ("d-2", "denied", ""),
        ("d-3", "open", ""),
    ]
    assert rows[2]["approved_by"] == "dana"
    assert rows[2]["approval_wait_s"] == "10.000"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("--user", "lee"), ["d-2"]),
        (("--agent", "helpdesk", "--tool", "read_ticket"), ["d-1", "d-3"]),
        (("--agent", "nobody"), []),
        (("--since", "2023-11-14T22:13:22"), ["d-1", "d-2", "d-3"]),  # the first call's body ended then
        (("--since", "2023-11-14T22:13:23"), ["d-3"]),
        (("--until", "2023-11-14T22:13:22"), ["d-1"]),
        (("--after", "2"), ["d-2", "d-3"]),
        (("--after", "2", "--user", "kim"), ["d-3"]),
        (("--after", "5"), []),
    ],
)
def test_filters(path, filters, expected) -> None:
    assert ids(run(path, *filters).stdout) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        ("--format", "xml"),
        ("--since", "next tuesday"),
        ("--since", "today", "--until", "yesterday"),
        ("--follow", "--until", "today"),
        ("--after", "-1"),
        ("--after", "1", "--cursor", "c"),
        ("--out", "f", "--post", "http://localhost"),
        ("--format", "csv", "--post", "http://localhost"),
        ("--post", "ftp://localhost/x"),
        ("--post", "https://kim:secret@localhost/x"),
        ("--post", "http://"),
        ("--syslog", "udp://localhost:514"),
        ("--syslog", "localhost:99999"),
        ("--post", "https://localhost", "--ca", "no-such-file"),
    ],
)
def test_what_makes_no_sense_is_refused(path, wrong, monkeypatch) -> None:
    monkeypatch.chdir(path.parent)
    done = run(path, *wrong, code=2)
    assert "secret" not in done.output
    assert sorted(item.name for item in path.parent.iterdir()) == ["audit.db"]


def test_a_log_that_ends_before_the_place_to_go_on_is_refused(path) -> None:
    assert "it ends at record 5" in run(path, "--after", "6", code=2).stderr


HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", '"=1', "a\n=1", "a,b"]


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path) -> None:
    path = tmp_path / "hostile.db"
    append(path, *(record(n, tool=text, user_id=text, reasons=((text, text, text),)) for n, text in enumerate(HOSTILE)))
    rows = list(csv.reader(io.StringIO(run(path, "--format", "csv").stdout)))
    assert len(rows) == 1 + len(HOSTILE)
    for row in rows:
        assert len(row) == len(rows[0])
        for cell in row:
            assert not cell.lstrip(' "').startswith(("=", "+", "-", "@", "\t", "\r", "＝")) or cell == '"=1'
            assert "\n" not in cell


@pytest.mark.parametrize("form", ["ocsf", "jsonl", "csv"])
def test_nothing_in_an_export_acts_on_a_terminal(tmp_path, form) -> None:
    path, text = tmp_path / "hostile.db", "\x1b[31m\x07\r\n\x9b\u202e\u2066\u200b\x7f\ud800"
    append(path, record(1, tool=text, agent=text, user_id=text, reasons=((text, text, text),), decision_id=text))
    shown = run(path, "--format", form).stdout
    assert all(" " <= character <= "~" or character == "\n" for character in shown)
    assert shown.count("\n") == (2 if form == "csv" else 1)


# to a file, going on


def test_a_file_is_private_and_never_overwritten(path, tmp_path) -> None:
    out = tmp_path / "out"
    run(path, "--out", out)
    before = out.read_bytes()
    assert ids(before.decode()) == ["d-1", "d-2", "d-3"]
    assert out.stat().st_mode & 0o777 == 0o600
    assert "exists" in run(path, "--out", out, code=2).stderr
    assert out.read_bytes() == before


def test_a_cursor_goes_on_where_the_last_run_ended(path, tmp_path) -> None:
    out, cursor = tmp_path / "out", tmp_path / "cursor"
    run(path, "--out", out, "--cursor", cursor)
    run(path, "--out", out, "--cursor", cursor)
    append(path, outcome_of(record(3)), record(4))
    run(path, "--out", out, "--cursor", cursor)
    assert ids(out.read_text()) == ["d-1", "d-2", "d-3", "d-3", "d-4"]
    assert [event["status"] for event in events(out.read_text()) if event["metadata"]["uid"] == "d-3"] == [
        "Unknown",
        "Success",
    ]


def test_a_line_that_was_cut_by_a_crash_does_not_spoil_the_next(path, tmp_path) -> None:
    out = tmp_path / "out"
    out.write_text('{"half')
    run(path, "--out", out, "--after", "0")
    assert ids(out.read_text().partition("\n")[2]) == ["d-1", "d-2", "d-3"]


def test_a_cursor_refuses_another_log_a_changed_one_and_nonsense(path, tmp_path) -> None:
    cursor = tmp_path / "cursor"
    run(path, "--cursor", cursor)
    other = tmp_path / "other.db"
    append(other, *(record(n) for n in range(9)))
    assert "another log" in run(other, "--cursor", cursor, code=2).stderr
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE record SET hash = zeroblob(32) WHERE seq = 5")
    assert "Record 5 is not the one" in run(path, "--cursor", cursor, code=2).stderr
    for nonsense in ("", "[]", '{"seq": -1, "hash": "", "log_id": ""}', '{"seq": 1, "hash": 2, "log_id": ""}'):
        cursor.write_text(nonsense)
        assert "not a cursor" in run(path, "--cursor", cursor, code=2).stderr


@pytest.mark.parametrize("count", [10, 6000])  # few new records are read from the end, many from the start
def test_however_the_log_grows_nothing_is_left_out_or_twice(tmp_path, count) -> None:
    path, cursor, out = tmp_path / "audit.db", tmp_path / "cursor", tmp_path / "out"
    for part in range(3):
        append(path, *(record(part * count + n) for n in range(count)))
        run(path, "--format", "jsonl", "--out", out, "--cursor", cursor)
    assert [line["seq"] for line in events(out.read_text())] == list(range(1, 3 * count + 1))


@contextlib.contextmanager
def following(path: Path, *arguments: object, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    # Whoever starts the tests in the background may have them, and this, ignore interrupts.
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "from zt_agents.cli import main; main()"
    command = [sys.executable, "-c", start, "audit", "export", "--follow", "--every", "0.05", "--log", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})}
    with subprocess.Popen(
        [*command, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def eventually(condition: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_following_a_log_survives_being_killed(path, tmp_path) -> None:
    out, cursor = tmp_path / "out", tmp_path / "cursor"
    with following(path, "--out", out, "--cursor", cursor) as process:
        eventually(cursor.exists)
        append(path, record(4))
        eventually(lambda: '"d-4"' in out.read_text())
        process.kill()
    append(path, record(5))
    with following(path, "--out", out, "--cursor", cursor) as process:
        # Between the delivery and the cursor an interruption may come as well: the batch then comes twice.
        eventually(lambda: json.loads(cursor.read_text())["seq"] == 7)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "Go on with --after 7" in said
    assert list(dict.fromkeys(ids(out.read_text()))) == ["d-1", "d-2", "d-3", "d-4", "d-5"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ocsf", "jsonl"])
def test_memory_does_not_grow_with_the_log(tmp_path, form) -> None:
    def peak(path: Path) -> int:
        code = (
            "import resource, sys; from zt_agents.cli import app; "
            f"app(['audit', 'export', '--format', {form!r}, '--log', {str(path)!r}, '--out', {str(path) + '.out'!r}], "
            "standalone_mode=False); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout) // 1024

    sizes = {}
    many = 50_000 if os.environ.get("ZT_AGENTS_SERVERS") == "1" else 20_000
    for calls in (500, many):
        path = tmp_path / f"{calls}.db"
        with closing(SqliteAuditSink(path)) as sink:
            for start in range(0, calls, 500):
                decisions = [record(n) for n in range(start, start + 500)]
                sink.append([part for decision in decisions for part in (decision, outcome_of(decision))])
        sizes[calls] = peak(path)
        lines = Path(f"{path}.out").read_bytes().count(b"\n")
        assert lines == (calls if form == "ocsf" else 2 * calls)
    assert sizes[many] - sizes[500] < 12, sizes  # megabytes; the large log has 40,000 records, or 100,000


# to an HTTP endpoint


class Endpoint(ThreadingHTTPServer):
    """Keeps what it is sent, and answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.requests: list[tuple[dict[str, str], bytes, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/collect?source=zt"

    def accepted(self) -> list[str]:
        bodies = [body for _, body, status in self.requests if 200 <= status < 300]
        return [event["metadata"]["uid"] for body in bodies for event in json.loads(body)]


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        status = server.answers.pop(0) if server.answers else 204
        server.requests.append(({**self.headers, "path": self.path}, body, status))
        if status == 0:  # the connection breaks before an answer
            self.close_connection = True
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_batch_is_a_json_array(path) -> None:
    with serving(Endpoint()) as endpoint:
        run(path, "--post", endpoint.url, env={"ZT_AGENTS_EXPORT_AUTHORIZATION": "Bearer t0ken"})
    ((headers, body, _),) = endpoint.requests
    assert [event["metadata"]["uid"] for event in json.loads(body)] == ["d-1", "d-2", "d-3"]
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer t0ken"
    assert headers["path"] == "/collect?source=zt"


def test_a_credential_does_not_leave_the_machine_unencrypted(path) -> None:
    done = run(path, "--post", "http://siem.example/x", env={"ZT_AGENTS_EXPORT_AUTHORIZATION": "Bearer t0ken"}, code=2)
    assert "unencrypted" in done.stderr
    assert "t0ken" not in done.output


def test_only_an_answer_of_2xx_moves_the_cursor(path, tmp_path) -> None:
    cursor = tmp_path / "cursor"
    with serving(Endpoint()) as endpoint:
        for status in (400, 401, 302):
            endpoint.answers = [status]
            assert f"answered {status}" in run(path, "--post", endpoint.url, "--cursor", cursor, code=2).stderr
            assert not cursor.exists()
        assert len(endpoint.requests) == 3
        endpoint.answers = [503, 0]
        done = run(path, "--post", endpoint.url, "--cursor", cursor)
        assert done.stderr.count("tried again") == 2
        assert endpoint.accepted() == ["d-1", "d-2", "d-3"]
        assert json.loads(cursor.read_text())["seq"] == 5
        run(path, "--post", endpoint.url, "--cursor", cursor)
        assert len(endpoint.requests) == 6


def test_following_outlives_an_endpoint_that_goes_away(path, tmp_path) -> None:
    cursor = tmp_path / "cursor"
    with serving(Endpoint()) as endpoint:
        endpoint.answers = [500, 0]
        with following(path, "--post", endpoint.url, "--cursor", cursor):
            eventually(lambda: endpoint.accepted() == ["d-1", "d-2", "d-3"])
            eventually(cursor.exists)
            append(path, record(4))
            eventually(lambda: "d-4" in endpoint.accepted())


# to a syslog server


class SyslogServer(socketserver.ThreadingTCPServer):
    """Reads messages framed by their length, as RFC 5425 says."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.context = context
        self.messages: list[bytes] = []
        self.hang_up_after: int | None = None
        super().__init__(("127.0.0.1", port), _SyslogHandler)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that refuses our certificate


class _SyslogHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        connection = self.request
        if server.context is not None:
            connection = server.context.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rb") as stream:
            while digits := _until_space(stream):
                server.messages.append(stream.read(int(digits)))
                if server.hang_up_after == len(server.messages):
                    return


def _until_space(stream: Any) -> bytes:
    digits = b""
    while (byte := stream.read(1)) not in (b" ", b""):
        digits += byte
    return digits


MESSAGE = re.compile(
    rb"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]+) zt-agents (\d+) call - (.*)", re.DOTALL
)


def test_syslog_messages_are_framed_and_headed_as_the_standards_say(path) -> None:
    with serving(SyslogServer()) as server:
        run(path, "--syslog", f"tcp://{server.address}")
        eventually(lambda: len(server.messages) == 3)
    matches = [MESSAGE.fullmatch(message) for message in server.messages]
    assert [match and int(match[1]) for match in matches] == [13 * 8 + 6, 13 * 8 + 4, 13 * 8 + 6]
    assert [json.loads(match[5])["metadata"]["uid"] for match in matches if match] == ["d-1", "d-2", "d-3"]
    assert matches[0] is not None
    assert matches[0][2] == b"2023-11-14T22:13:21.000000Z"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    ca, secret = tmp_path / "ca.pem", tmp_path / "key.pem"
    ca.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, secret)
    return ca, context


def test_syslog_over_tls_is_the_default_and_checks_the_certificate(path, certificate, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules["zt_agents.cli.export"], "_ATTEMPTS", 1)
    ca, context = certificate
    with serving(SyslogServer(context)) as server:
        run(path, "--syslog", server.address, "--ca", ca)
        eventually(lambda: len(server.messages) == 3)
        refused = run(path, "--syslog", server.address, code=2)
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        port = server.server_address[1]
        other_name = run(path, "--syslog", f"localhost:{port}", "--ca", ca, code=2)
        assert "did not take the batch" in other_name.stderr
        assert len(server.messages) == 3


@pytest.mark.parametrize("over_tls", [False, True])
def test_following_reconnects_to_a_syslog_server_that_hung_up(path, tmp_path, certificate, over_tls) -> None:
    ca, context = certificate
    cursor = tmp_path / "cursor"
    with serving(SyslogServer(context if over_tls else None)) as server:
        server.hang_up_after = 3
        address = server.address if over_tls else f"tcp://{server.address}"
        with following(path, "--syslog", address, "--ca", ca, "--cursor", cursor):
            eventually(lambda: len(server.messages) == 3)
            time.sleep(0.3)  # the server's farewell is on its way
            append(path, record(4))
            eventually(lambda: any(b'"d-4"' in message for message in server.messages))


def test_a_server_that_is_not_there_is_an_error_and_the_cursor_stays(path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules["zt_agents.cli.export"], "_ATTEMPTS", 2)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for target in (("--syslog", f"tcp://127.0.0.1:{port}"), ("--post", f"http://127.0.0.1:{port}/")):
        done = run(path, *target, "--cursor", tmp_path / "cursor", code=2)
        assert "tried 2 times" in done.stderr
    assert not (tmp_path / "cursor").exists()
