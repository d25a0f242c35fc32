"""Events against the attributes that the published schema requires and knows (``ocsf_schema.json`` says which)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.audit.calls import Call
from zt_agents.audit.ocsf import as_event

SCHEMA = json.loads(Path(__file__).with_name("ocsf_schema.json").read_text(encoding="utf-8"))


def decided(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "decision",
        "seq": 1,
        "hash": "ab" * 32,
        "time": 1_700_000_000.25,
        "decision_id": "d-1",
        "tool": "read_ticket",
        "outcome": "allow",
        "tier": "low",
        "reasons": [["rule", "Helpdesk may read.", "daily-work"]],
        "rule_id": "daily-work",
        "policy_id": "corp",
        "policy_version": "sha256:00",
        "effects": ["read"],
        "system": "tickets",
        "resource": "ticket/5",
        "data_class": "internal",
        "agent": "helpdesk",
        "agent_id": "spiffe://acme.example/agent/helpdesk",
        "agent_version": "1.0",
        "user_id": "alice@acme.example",
        "session_id": "s-1",
        "task": "t-1",
        "trace_id": "0af7" * 8,
        "span_id": "0af7" * 4,
        **changes,
    }


def ended(**changes: Any) -> dict[str, Any]:
    known = {"kind": "outcome", "seq": 9, "hash": "cd" * 32, "time": 1_700_000_001.5, "decision_id": "d-1"}
    return {**known, "status": "ok", "duration_ms": 1234.4, "result_bytes": 17, **changes}


def event_of(*records: dict[str, Any]) -> dict[str, Any]:
    call = Call()
    for record in records:
        call.add(record)
    return as_event(call, log_id="f0" * 16)


def faults(event: dict[str, Any]) -> Iterator[str]:
    """Yield how *event* breaks the schema."""
    allowed = {*SCHEMA["class"]["known"], *(name for names in SCHEMA["profiles"].values() for name in names)}
    yield from (f"unknown attribute {name}" for name in event.keys() - allowed)
    yield from (f"{name} is missing" for name in SCHEMA["class"]["required"] if name not in event)
    for name in ("activity_id", "severity_id", "status_id"):
        if event.get(name) not in SCHEMA["class"][name]:
            yield f"{name} is {event.get(name)}"
    for name in ("action_id", "disposition_id"):
        if event.get(name) not in SCHEMA[name]:
            yield f"{name} is {event.get(name)}"
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        yield "type_uid is not made of class_uid and activity_id"
    for name in ("time", "start_time", "end_time", "duration"):
        if name in event and type(event[name]) is not int:
            yield f"{name} is no integer"
    if sorted(event["metadata"]["profiles"]) != sorted(SCHEMA["profiles"]):
        yield "profiles differ"
    for path, rules in SCHEMA["objects"].items():
        for found in _at(event, path.split(".")):
            yield from (f"{path}.{name} is missing" for name in rules.get("required", ()) if name not in found)
            if "at_least_one" in rules and not found.keys() & set(rules["at_least_one"]):
                yield f"{path} has none of {rules['at_least_one']}"


def _at(value: Any, path: list[str]) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif not path:
        yield value
    elif path[0] in value:
        yield from _at(value[path[0]], path[1:])


REFUSAL = [["not_approved", "Dana said no.", None]]
CASES = {
    "allowed": ((decided(), ended()), (1, 1, 1)),
    "approved": (
        (decided(outcome="require_approval"), decided(time=1_700_000_010.25, approved_by="dana", seq=2), ended()),
        (1, 8, 1),
    ),
    "denied": ((decided(outcome="deny"),), (2, 2, 2)),
    "refused": ((decided(outcome="require_approval"), decided(outcome="deny", reasons=REFUSAL)), (2, 25, 2)),
    "guard broken": ((decided(outcome="deny", reasons=[["fault", "The guard failed.", None]]),), (2, 27, 2)),
    "body failed": ((decided(), ended(status="error", error_type="OSError")), (1, 1, 2)),
    "stopped": ((decided(), ended(status="cancelled")), (1, 1, 99)),
    "open": ((decided(),), (1, 1, 0)),
    "waiting": ((decided(outcome="require_approval"),), (99, 23, 0)),
    "no decision": ((ended(),), (0, 0, 0)),
    "unreadable": (({"seq": 4, "hash": "ee", "unreadable": True},), (0, 0, 0)),
    "nobody known": (
        (decided(outcome="deny", agent="", agent_id="", user_id="", session_id="", trace_id=""),),
        (2, 2, 2),
    ),
}


@pytest.mark.parametrize(("records", "expected"), CASES.values(), ids=CASES)
def test_every_kind_of_call_is_a_valid_event(records, expected) -> None:
    event = event_of(*records)
    assert list(faults(event)) == []
    assert (event["action_id"], event["disposition_id"], event["status_id"]) == expected


@pytest.mark.parametrize(
    ("effects", "type_uid"),
    [
        (["read"], 600302),
        (["read", "write"], 600303),
        (["write", "delete"], 600304),
        (["egress"], 600301),
        (["money"], 600303),
        (["execute"], 600399),
        ([], 600300),
        (["unheard of"], 600300),
    ],
)
def test_the_type_follows_the_gravest_effect(effects, type_uid) -> None:
    assert event_of(decided(effects=effects))["type_uid"] == type_uid


def test_an_event_says_who_for_whom_what_and_how_long() -> None:
    event = event_of(*CASES["approved"][0])
    assert event["message"] == "helpdesk for alice@acme.example: read_ticket ticket/5 was approved."
    assert event["actor"]["user"]["uid"] == "alice@acme.example"
    assert event["ai_agent"]["uid"] == "spiffe://acme.example/agent/helpdesk"
    assert event["resources"][0]["labels"] == ["data_class:internal"]
    assert (event["time"], event["duration"]) == (1_700_000_000_250, 1234)
    assert event["unmapped"]["approval_wait_ms"] == 10_000
    assert event["unmapped"]["approved_by"] == "dana"
    assert event["trace"] == {
        "uid": "0af7" * 8,
        "span": {"uid": "0af7" * 4, "start_time": 1_700_000_000_250, "end_time": 1_700_000_001_500},
    }
    assert set(event["unmapped"]["record_hashes"]) == {"1", "2", "9"}


def test_the_attestation_shows_any_change_of_the_event() -> None:
    def holds(event: dict[str, Any]) -> bool:
        bare = {name: value for name, value in event["attestation_list"][0].items() if name != "fingerprint"}
        canonical = rfc8785.dumps({**event, "attestation_list": [bare]})
        return event["attestation_list"][0]["fingerprint"]["value"] == hashlib.sha256(canonical).hexdigest()

    event = event_of(decided(user_id="Zoë 王 \u2028"), ended())
    assert holds(event)
    assert not holds({**event, "action_id": 2})


ODD = [
    None,
    True,
    -1,
    0,
    2**63 - 1,
    1e300,
    "",
    "x\x00",
    "\u202e",
    [],
    [[]],
    [["a", "b"]],
    [[1, None, {}]],
    {},
    {"a": [1]},
]
NAMES = sorted({*decided(), *ended(), "approved_by", "approval_id"} - {"seq", "hash"})


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(ODD)))
def test_no_record_can_stop_an_export(record: dict[str, Any]) -> None:
    event = event_of({**decided(), **record, "seq": 3, "hash": "00"})
    assert list(faults(event)) == []
    json.dumps(event, allow_nan=False)
