"""The list: what is in it, in which order, and how long it takes."""

from __future__ import annotations

import os
import re
import sqlite3
import statistics
import time
from dataclasses import replace
from pathlib import Path

import pytest
from reception import ALICE, HELPDESK, SPEC, MakeReception, Reception

from zt_agents.approvals import binding_hash, write_request
from zt_agents.audit import AuditLog, AuditRecord
from zt_agents.audit.records import BodyStatus, RecordKind
from zt_agents.console.inbox import ON_A_PAGE
from zt_agents.decisions import ApprovalTerms
from zt_agents.identity import User
from zt_agents.stores.sqlite_audit import SqliteAuditSink

DANA = "dana@acme.example"


def listed(page: str) -> list[str]:
    return re.findall(r'href="/requests/([0-9a-f]{32})"', page)


async def test_the_oldest_come_first_and_a_page_holds_fifty(reception: Reception) -> None:
    asked = [reception.ask(user=User(f"user{n}@acme.example")) for n in range(ON_A_PAGE + 7)]
    theirs = reception.ask(ApprovalTerms(("user:erin@acme.example",)))
    own = reception.ask(user=User(DANA))
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        first = (await browser.get("/")).text
        assert listed(first) == [each.id for each in asked[:ON_A_PAGE]]
        assert f"({len(asked)}) Approvals" in first
        assert listed((await browser.get("/?page=2")).text) == [each.id for each in asked[ON_A_PAGE:]]
        assert listed((await browser.get("/?page=99")).text) == [each.id for each in asked[ON_A_PAGE:]]
        everything = (await browser.get("/?show=all&page=2")).text
        assert listed(everything)[-2:] == [theirs.id, own.id]
        assert (await browser.get("/?page=x")).status_code == 400
        assert listed((await browser.get("/?page=-3")).text) == listed(first)


async def test_the_list_is_sent_again_when_it_has_changed(reception: Reception) -> None:
    async with reception.browser(**{"hx-request": "true"}) as browser:
        await browser.sign_in(reception.approver(DANA))
        page = (await browser.get("/")).text
        assert "Nothing waits for you." in page
        address = re.search(r'hx-get="([^"]+)"', page)[1].replace("&amp;", "&")  # type: ignore[index]
        assert (await browser.get(address)).status_code == 204
        asked = reception.ask()
        reception.clock.ahead += 0.25
        changed = await browser.get(address)
        assert listed(changed.text) == [asked.id]
        reception.say(asked, "erin@acme.example")
        reception.clock.ahead += 0.25
        assert listed((await browser.get(address.replace("seen=", "seen=x"))).text) == []


async def test_what_has_expired_is_not_listed(reception: Reception) -> None:
    reception.ask(timeout=5)
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert len(listed((await browser.get("/")).text)) == 1
        reception.clock.ahead = 6
        assert listed((await browser.get("/")).text) == []


async def test_what_cannot_be_read_is_tried_again(reception: Reception) -> None:
    asked = reception.ask()
    with sqlite3.connect(reception.store.path) as connection:
        (whole,) = connection.execute("SELECT body FROM request").fetchone()
        connection.execute("UPDATE request SET body = 'x'")
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert "1 more cannot be read" in (await browser.get("/")).text
        with connection:
            connection.execute("UPDATE request SET body = ?", (whole,))
        connection.close()
        reception.clock.ahead = 1
        assert listed((await browser.get("/")).text) == [asked.id]


async def test_what_another_guard_has_asked_is_nobodys_here(reception: Reception) -> None:
    asked = reception.ask()
    reception.desk.withdraw(asked.id)
    foreign = replace(asked, id="f" * 32, signer="another", nonce="n", binding_hash=binding_hash(asked.call, nonce="n"))
    reception.store.put(foreign)
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert "Nothing waits for you." in (await browser.get("/")).text
        assert listed((await browser.get("/?show=all")).text) == [foreign.id]


@pytest.mark.slow
async def test_ten_thousand_requests(reception: Reception) -> None:
    count = 10_000
    fill(reception, count)
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA, "finance"))
        times = []
        for _ in range(12):
            reception.clock.ahead += 1
            start = time.perf_counter()
            page = await browser.get("/")
            times.append(time.perf_counter() - start)
        assert "10,000" in page.text
        assert len(listed(page.text)) == ON_A_PAGE
    print(f"first {times[0] * 1e3:.0f} ms, then median {statistics.median(times[1:]) * 1e3:.0f} ms")
    assert statistics.median(times[1:]) < 0.3 * float(os.environ.get("ZT_AGENTS_SLOWNESS", "1"))


def fill(reception: Reception, count: int) -> None:
    """Put many requests into the store in one transaction."""
    first = reception.ask(ApprovalTerms(("group:finance",), 1, 6000), timeout=6000)
    body = write_request(first)
    with reception.store._file.writing() as connection:
        rows = []
        for number in range(1, count):
            request_id = f"{number:032x}"
            bound = binding_hash(first.call, nonce=request_id)
            own = body.replace(first.id.encode(), request_id.encode()).replace(
                first.binding_hash.encode(), bound.encode()
            )
            rows.append((request_id, bound, own, first.call.time + number / 1e3, first.expires_at))
        connection.executemany(
            "INSERT INTO request (id, binding, state, body, asked_at, expires_at, grant_token) "
            "VALUES (?, ?, 'pending', ?, ?, ?, '')",
            rows,
        )


def past(path: Path, *ends: str) -> SqliteAuditSink:
    sink = SqliteAuditSink(path)
    log = AuditLog(sink)
    now = time.time()
    for number, end in enumerate(ends):
        common = {
            "time": now - 3600 + number,
            "decision_id": f"d{number}",
            "tool": SPEC.name,
            "agent": HELPDESK.name,
            "user_id": ALICE.id,
            "resource": f"account/{number}",
            "approval_id": f"a{number}",
        }
        outcome = "deny" if end == "refused" else "allow"
        approver = "erin@acme.example" if end == "approved" else None
        log.append(AuditRecord(kind=RecordKind.DECISION, outcome=outcome, approved_by=approver, **common))  # type: ignore[arg-type]
        if end == "approved":
            log.append(AuditRecord(kind=RecordKind.OUTCOME, outcome="allow", status=BodyStatus.OK, **common))  # type: ignore[arg-type]
    log.close()
    return SqliteAuditSink(path, create=False)


async def test_similar_calls_are_told_by_the_log(make_reception: MakeReception, tmp_path: Path) -> None:
    log = past(tmp_path / "audit.db", "approved", "approved", "refused")
    reception = make_reception(log=log)
    asked, other = reception.ask(), reception.ask(tool="delete_user")
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert "Calls like this one" in (await browser.get(f"/requests/{asked.id}")).text
        page = " ".join((await browser.get(f"/requests/{asked.id}/past")).text.split())
        assert "3 in the last 30 days" in page
        assert '<span class="count">2</span> approved, and ran' in page
        assert '<span class="count">1</span> asked, and refused' in page
        assert "by erin@acme.example" in page
        assert "None in the last 30 days" in (await browser.get(f"/requests/{other.id}/past")).text
        (tmp_path / "audit.db").write_bytes(b"nonsense")
        assert "The log cannot be read." in (await browser.get(f"/requests/{asked.id}/past")).text


async def test_without_a_log_there_is_no_past(reception: Reception) -> None:
    asked = reception.ask()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert "Calls like this one" not in (await browser.get(f"/requests/{asked.id}")).text
        assert (await browser.get(f"/requests/{asked.id}/past")).status_code == 404
