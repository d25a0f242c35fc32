"""``zt-agents certs``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner
from world import HEAD

from zt_agents.cli import app
from zt_agents.identity.x509.workload import FiledIdentity
from zt_agents.stores.sqlite_audit import SqliteAuditSink

POLICY = (
    HEAD
    + """
  retired: {id: spiffe://acme.example/agent/old, version: "1", owner: dana@acme.example, purpose: t, status: retired}
tools:
  read_ticket: {tier: low, effects: [read]}
rules: []
"""
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "zt-agents.yaml").write_text(POLICY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["certs", *words])
    assert done.exit_code == code, done.output
    return done.output


def changes(folder: Path) -> list[str]:
    with SqliteAuditSink(folder / "zt-agents-audit.db").snapshot() as snapshot:
        return [record["change"]["what"] for record in snapshot.read()]


def test_an_authority_issues_for_agents_and_services(folder: Path) -> None:
    assert "Whoever can read it can be anybody" in run("ca")
    assert (folder / "zt-agents-ca.pem").stat().st_mode & 0o777 == 0o600
    said = json.loads(run("issue", "helpdesk", "--out", "helpdesk", "--ttl", "600", "--json"))
    assert said["spiffe_id"] == "spiffe://acme.example/agent/helpdesk"
    run("issue", "spiffe://acme.example/service/tickets", "--out", "tickets")
    identity = FiledIdentity(
        "acme.example", identity=folder / "helpdesk/identity.pem", bundle=folder / "helpdesk/bundle.pem"
    )
    assert identity.svid().spiffe_id == said["spiffe_id"]
    shown = json.loads(run("show", "helpdesk/identity.pem", "--bundle", "tickets/bundle.pem", "--json"))
    assert shown == {**shown, "verified": "yes", "thumbprint": said["thumbprint"]}
    assert changes(folder) == ["authority.made", "certificate.issued", "certificate.issued"]


def test_the_bundle_is_printed_as_pem_and_as_spiffe_writes_it(folder: Path) -> None:
    run("ca")
    assert run("bundle").startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in run("bundle")
    (key,) = json.loads(run("bundle", "--spiffe"))["keys"]
    assert key["use"] == "x509-svid"


def test_a_new_key_is_in_the_bundle_before_it_issues(folder: Path) -> None:
    run("ca")
    run("issue", "helpdesk")
    assert json.loads(run("ca", "--rotate", "--json"))["authorities"] == 2
    run("issue", "helpdesk", "--out", "again")
    run("show", "again/identity.pem", "--bundle", "bundle.pem")  # the bundle from before knows it
    assert changes(folder)[2] == "authority.rotated"


def test_what_another_authority_issued_is_not_accepted(folder: Path) -> None:
    run("ca")
    run("issue", "helpdesk")
    run("ca", "--ca", "other.pem")
    (folder / "other-bundle.pem").write_text(run("bundle", "--ca", "other.pem"))
    assert "no: " in run("show", "identity.pem", "--bundle", "other-bundle.pem", code=1)


def test_who_may_not_act_gets_no_certificate(folder: Path) -> None:
    run("ca")
    for who, said in {
        "retired": "is retired",
        "spiffe://acme.example/agent/old": "is retired",
        "nobody": "nobody",
        "spiffe://evil.example/agent/helpdesk": "trust domain",
        "spiffe://acme.example/../x": "segment",
    }.items():
        assert said in run("issue", who, code=2)
    assert not (folder / "identity.pem").exists()
    assert changes(folder) == ["authority.made"]


def test_a_revoked_agent_gets_no_certificate(folder: Path) -> None:
    run("ca")
    done = CliRunner().invoke(app, ["revoke", "--agent", "helpdesk", "--reason", "a test"])
    assert done.exit_code in {0, 1}, done.output
    assert "was revoked" in run("issue", "helpdesk", code=2)


def test_an_authority_is_never_overwritten_nor_used_for_another_trust_domain(folder: Path) -> None:
    run("ca")
    before = (folder / "zt-agents-ca.pem").read_bytes()
    assert "--rotate" in run("ca", code=2)
    assert (folder / "zt-agents-ca.pem").read_bytes() == before
    policy = (folder / "zt-agents.yaml").read_text().replace("acme.example/", "evil.example/")
    (folder / "zt-agents.yaml").write_text(policy.replace("trust_domain: acme.example", "trust_domain: evil.example"))
    assert "is the authority of 'acme.example'" in run("issue", "helpdesk", code=2)


def test_without_an_authority_the_error_says_so(folder: Path) -> None:
    assert "Make one: zt-agents certs ca" in run("issue", "helpdesk", code=2)
    assert "Make one: zt-agents certs ca" in run("ca", "--rotate", code=2)
    assert "could not be read" in run("show", "absent.pem", code=2)
    (folder / "text.pem").write_text("no certificate")
    assert "could not be read" in run("show", "text.pem", code=2)
