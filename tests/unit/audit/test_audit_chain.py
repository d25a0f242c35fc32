from __future__ import annotations

import hashlib
import json
import math

import pytest

from zt_agents.audit import RecordKind
from zt_agents.audit.chain import Head, complete, decode, encode, genesis, link
from zt_agents.audit.tree import leaf_hash
from zt_agents.stores.sqlite_audit_file import filing


def test_the_chain_is_what_the_documentation_says() -> None:
    log_id = bytes(range(16))
    start = hashlib.sha256(b"zt-agents audit genesis v2\0" + log_id).digest()
    assert genesis(log_id) == start
    leaf = hashlib.sha256(b"\0{}").digest()
    assert link(start, leaf) == hashlib.sha256(b"zt-agents audit record v2\0" + start + leaf).digest()


def test_a_record_is_sorted_json_without_empty_fields(make_record) -> None:
    _, body = encode(make_record(duration_ms=0.0))
    values = json.loads(body)
    assert list(values) == sorted(values)
    assert values["duration_ms"] == 0.0
    assert "approval_id" not in values
    assert "trace_id" not in values


@pytest.mark.parametrize(
    "changes",
    [
        {"tool": "a\ud800b"},
        {"reasons": (("rule", "\udfff", None),)},
        {"result_bytes": 2**80},
        {"time": math.nan},
        {"time": math.inf},
        {"task": object()},
        {"task": {"\ud800": {1, 2}}},
        {"tool": "nul\0 and \x1b"},
    ],
)
def test_every_record_has_bytes_and_is_filed_under_what_they_say(make_record, changes) -> None:
    said, body = encode(make_record(**changes))
    assert filing(json.loads(body)) == filing(said)


def test_a_head_survives_being_written_down() -> None:
    head = Head(42, bytes(range(32)))
    assert Head.parse(f" {head}\n") == head
    assert Head.parse(str(head).upper()) == head


@pytest.mark.parametrize("text", ["", "1", "1:", "1:ab", "-1:" + "a" * 64, "01:" + "a" * 64, "1:" + "g" * 64])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Head.parse(text)


def test_logs_with_the_same_records_share_no_hash(make_record) -> None:
    _, body = encode(make_record()._replace(decision_id="same"))
    leaf = leaf_hash(body)
    assert link(genesis(b"a" * 16), leaf) != link(genesis(b"b" * 16), leaf)


@pytest.mark.parametrize("session", ["", "s-1"])
@pytest.mark.parametrize("task", ["", "s-1", "t-1"])
@pytest.mark.parametrize("jti", ["", "s-1", "j-1"])
def test_a_decision_is_read_back_whole(make_record, session, task, jti) -> None:
    record = make_record(session_id=session, task=task, token_jti=jti)
    assert complete(decode(encode(record)[1])) == json.loads(json.dumps(record.to_dict()))


def test_an_outcome_does_not_repeat_its_decision(make_record) -> None:
    decision = make_record(session_id="s-1", trace_id="0" * 32, span_id="0" * 16, call_id="c")
    outcome = decision._replace(kind=RecordKind.OUTCOME, reasons=(), rule_id=None, status="ok")
    said = json.loads(encode(outcome)[1])
    assert sorted(said) == ["agent", "decision_id", "kind", "status", "time", "tool", "user_id"]


@pytest.mark.parametrize("body", [None, 7, "{}", b"", b"[]", b"{", b"\xff"])
def test_what_is_no_record_is_not_decoded(body) -> None:
    assert decode(body) is None
