"""``zt-agents audit content`` and ``erase``: what is kept of calls, and its erasure.

What is kept was chosen by models and by strangers: it is shown, never obeyed.
"""

from __future__ import annotations

import json
import secrets
from time import time
from typing import Annotated, Any

import typer

from zt_agents._internal.clock import rfc3339
from zt_agents._internal.display import visible
from zt_agents._internal.login import login
from zt_agents.audit.content import Choice, Content, Erasure
from zt_agents.audit.records import RecordKind
from zt_agents.cli.audit import BROKEN, CANNOT_OPEN, DEFAULT_LOG, LogOption, audit_app, or_exit, print_json
from zt_agents.cli.display import confirmed, say
from zt_agents.cli.moments import moment_option
from zt_agents.cli.sources import SegmentsOption, searchable
from zt_agents.errors import StoreError
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_content import SqliteContentStore

NOTHING = 3
"""Exit code where there is nothing to show or to erase."""


@audit_app.command("content")
def show_content(
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="The call's decision id.")],
    log: LogOption = DEFAULT_LOG,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per part and line.")] = False,
    segments: SegmentsOption = None,
) -> None:
    """Show what was kept of one call's arguments and result, once it is proven to be what the log commits to.

    Exit code 0: shown, or erased and accounted for, 1: it is missing or was changed, 2: it cannot be opened, 3: no such
    call, or nothing of it was kept.
    """
    with or_exit(), searchable(log, segments) as source, source.snapshot() as snapshot:
        records = [each for each in snapshot.read(decision_id=decision) if each.get("content_hash")]
        hashes = [_digest(record["content_hash"]) for record in records]
        store = SqliteContentStore.beside(log)
        found = store.find(hashes) if hashes else {}
        erasures = {erasure.id: erasure for erasure in store.erasures()} if hashes else {}
    if not records:
        say("NOTHING KEPT: the log has no such call, or commits to nothing of it.", style="yellow", stderr=True)
        raise typer.Exit(NOTHING)
    wrong = False
    for record, digest in zip(records, hashes, strict=True):
        part = "result" if record.get("kind") == RecordKind.OUTCOME else "arguments"
        there = found.get(digest)
        state, content = _state(there, erasures)
        wrong |= state in {"missing", "changed"}
        if as_json:
            print_json({"part": part, "seq": record["seq"], "state": state, "content": content})
            continue
        say(f"{part} (record {record['seq']}): {_sentence(state, there, erasures)}", style="bold")
        if state == "kept":
            say(visible(json.dumps(content, indent=2, ensure_ascii=False), keep_newlines=True))
    if wrong:
        raise typer.Exit(BROKEN)


@audit_app.command()
def erase(
    log: LogOption = DEFAULT_LOG,
    user: Annotated[str | None, typer.Option(help="What is kept of calls for this user.")] = None,
    decision: Annotated[str | None, typer.Option(metavar="ID", help="What is kept of this one call.")] = None,
    before: Annotated[
        str | None, typer.Option(metavar="WHEN", help="What is older, such as '90 days ago' or 2026-01-31; UTC.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the log.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The erasures as one JSON object per line.")] = False,
) -> None:
    """Erase what is kept of calls, for good, and note it in the log. The log's records and proofs stay as they are.

    Exit code 0: erased, 2: it could not be done, 3: there is nothing to erase.
    """
    moment = moment_option(before, "--before")
    try:
        choice = Choice(user, decision, moment)
    except ValueError:
        raise typer.BadParameter("give one of --user, --decision and --before", param_hint="erase") from None
    with or_exit():
        sink = SqliteAuditSink(log, create=False)
        store = SqliteContentStore.beside(log)
        if not store.path.exists():
            raise StoreError(f"Nothing was ever kept beside {log}.", hint="See the policy's key audit.content.")
        unfinished = [_noted(sink, store, erasure) for erasure in store.erasures(noted=False)]
        count = store.count(choice)
        if count:
            what = f"{count} argument{'s or results' if count != 1 else ' or result'}"
            if not yes and not confirmed(f"Erase {what} for good?", otherwise="Nothing was erased."):
                raise typer.Exit(CANNOT_OPEN)
            wanted = Erasure(secrets.token_hex(8), time(), f"os:{login()}", reason, choice.said, 0, "")
            done = store.erase(choice, wanted)
            unfinished += [_noted(sink, store, done)] if done.parts else []  # another process may have been first
        sink.close()
    for erasure, seq in unfinished:
        if as_json:
            print_json({**erasure._asdict(), "seq": seq})
        else:
            say(f"Erased: {erasure.parts} of {_chosen(erasure)}. Record {seq} says so.", style="green")
    if not unfinished:
        say("NOTHING TO ERASE: nothing is kept of that.", style="yellow", stderr=True)
        raise typer.Exit(NOTHING)


def _noted(sink: SqliteAuditSink, store: SqliteContentStore, erasure: Erasure) -> tuple[Erasure, int]:
    """Complete an erasure and note it in the log, unless it is there: a crash may have come in between."""
    store.wipe()
    if store.erased_by(erasure) != (erasure.parts, erasure.hash):
        raise StoreError(f"The erasure {erasure.id} did not happen as {store.path} has it: the log is not told of it.")
    with sink.snapshot() as snapshot:
        there = [
            int(record["seq"])
            for record in snapshot.read(since=erasure.time, until=erasure.time + 1)
            if record.get("erasure") == erasure.record.to_dict()["erasure"]
        ]
    (seq,) = there[:1] or sink.append([erasure.record])
    store.note(erasure)
    return erasure, seq


def _digest(text: object) -> bytes:
    try:
        return bytes.fromhex(str(text))
    except ValueError:
        return b""


def _state(there: Content | str | None, erasures: dict[str, Erasure]) -> tuple[str, Any]:
    if there is None or (isinstance(there, str) and there not in erasures):
        return "missing", None
    if isinstance(there, str):
        return "erased", None
    return ("kept", json.loads(there.body)) if there.sound else ("changed", None)


def _sentence(state: str, there: Content | str | None, erasures: dict[str, Erasure]) -> str:
    if state == "erased" and isinstance(there, str):
        erasure = erasures[there]
        why = f" ({visible(erasure.reason)})" if erasure.reason else ""
        return f"erased on {rfc3339(erasure.time)} by {visible(erasure.by)}{why}."
    return {
        "kept": "kept, and what the log commits to.",
        "missing": "MISSING: the log commits to it, and no erasure took it.",
        "changed": "CHANGED: what is there is not what the log commits to, and is not shown.",
    }[state]


def _chosen(erasure: Erasure) -> str:
    ((name, value),) = erasure.what.items()
    if name == "before":
        return f"what is older than {rfc3339(float(value))}"
    return f"{'user' if name == 'user' else 'call'} {visible(str(value))}"
