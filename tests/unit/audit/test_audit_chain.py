from __future__ import annotations

import hashlib
import json
import math

import pytest

from zt_agents.audit.chain import Head, columns, encode, genesis, link


def test_the_chain_is_what_the_documentation_says() -> None:
    log_id = bytes(range(16))
    start = hashlib.sha256(b"zt-agents audit genesis v1\0" + log_id).digest()
    assert genesis(log_id) == start
    assert link(start, b"{}") == hashlib.sha256(b"zt-agents audit record v1\0" + start + b"{}").digest()


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
    filed, body = encode(make_record(**changes))
    assert columns(json.loads(body)) == filed


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
    assert link(genesis(b"a" * 16), body) != link(genesis(b"b" * 16), body)
