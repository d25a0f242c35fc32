"""A governed call as an event of the Open Cybersecurity Schema Framework: API Activity (6003), version 1.9.0.

Profiles: ``security_control``, ``ai_operation``, ``record_integrity`` and ``trace``. What the schema has no place for
is in ``unmapped``. The attestation is a SHA-256 over the RFC 8785 form of the event without it: it shows damage on the
way. Who wants proof compares ``unmapped.record_hashes`` with the log itself.

``metadata.uid`` is the decision id: an event that comes again with the same one tells more of the same call.
"""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson

from zt_agents.audit.calls import Call, CallState, number, text

VERSION = "1.9.0"
CLASS_UID = 6003
_PROFILES = ["security_control", "ai_operation", "record_integrity", "trace"]

_OTHER, _UNKNOWN = 99, 0
_ACTIVITIES = {"delete": 4, "write": 3, "money": 3, "auth": 3, "egress": 1, "execute": _OTHER, "read": 2}
"""By effect, the gravest first. What leaves the house is a creation: a message, a file elsewhere."""
_ACTIVITY_NAMES = {_UNKNOWN: "Unknown", 1: "Create", 2: "Read", 3: "Update", 4: "Delete", _OTHER: "Other"}

_STARTED = {CallState.ALLOWED, CallState.APPROVED, CallState.FAILED, CallState.STOPPED, CallState.OPEN}
_STATUS = {
    CallState.ALLOWED: (1, "Success"),
    CallState.APPROVED: (1, "Success"),
    CallState.FAILED: (2, "Failure"),
    CallState.DENIED: (2, "Failure"),
    CallState.REFUSED: (2, "Failure"),
    CallState.STOPPED: (_OTHER, "Other"),
    CallState.OPEN: (_UNKNOWN, "Unknown"),
    CallState.WAITING: (_UNKNOWN, "Unknown"),
    CallState.UNCLEAR: (_UNKNOWN, "Unknown"),
}
_FAULTS = {"fault", "audit"}
"""Reason codes of calls that were denied because the guard itself was broken."""


def as_event(call: Call, *, log_id: str) -> dict[str, Any]:
    """Return *call* as an event, in the types of JSON. *log_id* says which log it is from."""
    said = call.said
    seq = said.get("seq")
    activity = _activity(call)
    status_id, status = _STATUS[call.state]
    start, end = _milliseconds(call.start), _milliseconds(call.end)
    event: dict[str, Any] = {
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": CLASS_UID,
        "class_name": "API Activity",
        "activity_id": activity,
        "activity_name": _ACTIVITY_NAMES[activity],
        "type_uid": CLASS_UID * 100 + activity,
        "type_name": f"API Activity: {_ACTIVITY_NAMES[activity]}",
        "time": start,
        "start_time": start,
        "end_time": end,
        "duration": _integer(number(call.outcome or {}, "duration_ms")),
        "timezone_offset": 0,
        "message": _message(call),
        "status_id": status_id,
        "status": status,
        "status_code": call.reasons[0][0] if call.reasons else str(call.state),
        "status_detail": " ".join(sentence for _, sentence, _ in call.reasons),
        **_severity(call),
        "metadata": {
            "version": VERSION,
            "product": {"name": "zt_agents", "vendor_name": "zt_agents", "version": _product_version()},
            "profiles": _PROFILES,
            "log_name": "audit",
            "uid": text(said, "decision_id") or f"{log_id}:{seq}",
            "sequence": _integer(number(said, "seq")),
            "correlation_uid": text(said, "task"),
        },
        "actor": {
            "user": {"uid": text(said, "user_id") or "unknown", "type_id": 1 if said.get("user_id") else _UNKNOWN},
            "session": {"uid": text(said, "session_id")},
            "app_name": text(said, "agent") or "unknown",
            "app_uid": text(said, "agent_id"),
        },
        "src_endpoint": {"svc_name": text(said, "agent") or "unknown", "uid": text(said, "agent_id")},
        "api": {
            "operation": text(said, "tool") or "unknown",
            "service": {"name": text(said, "system")},
            "request": {"uid": text(said, "call_id") or text(said, "decision_id") or "unknown"},
            "response": {"error": text(call.outcome or {}, "error_type")},
        },
        "resources": _resources(call),
        **_security_control(call),
        "ai_agent": {
            "uid": text(said, "agent_id"),
            "name": text(said, "agent") or "unknown",
            "version": text(said, "agent_version"),
            "instance_uid": text(said, "session_id"),
            "type_id": 2,
            "type": "LangChain",
        },
        "trace": _trace(said, start, end),
        "unmapped": _unmapped(call, log_id),
    }
    event = _without_blanks(event)
    event["attestation_list"] = [_attestation(event)]
    return event


def _activity(call: Call) -> int:
    known = [_ACTIVITIES[effect] for effect in _ACTIVITIES if effect in call.effects]
    return known[0] if known else _UNKNOWN


def _message(call: Call) -> str:
    said = call.said
    who = text(said, "agent") or "an unknown agent"
    whom = text(said, "user_id") or "nobody known"
    return f"{who} for {whom}: {text(said, 'tool')} {text(said, 'resource')}".rstrip() + f" was {call.state}."


def _severity(call: Call) -> dict[str, Any]:
    if call.state not in {CallState.DENIED, CallState.REFUSED}:
        return {"severity_id": 1, "severity": "Informational"}
    if call.said.get("tier") == "high":
        return {"severity_id": 3, "severity": "Medium"}
    return {"severity_id": 2, "severity": "Low"}


def _security_control(call: Call) -> dict[str, Any]:
    said, state = call.said, call.state
    if state in _STARTED:
        answer = (1, "Allowed", 8, "Approved") if said.get("approved_by") else (1, "Allowed", 1, "Allowed")
    elif state is CallState.WAITING:
        answer = (_OTHER, "Held for approval", 23, "Challenge")
    elif state is CallState.UNCLEAR:
        answer = (_UNKNOWN, "Unknown", _UNKNOWN, "Unknown")
    elif call.reasons and call.reasons[0][0] in _FAULTS:
        answer = (2, "Denied", 27, "Error")
    else:
        answer = (2, "Denied", 25, "Rejected") if state is CallState.REFUSED else (2, "Denied", 2, "Blocked")
    action_id, action, disposition_id, disposition = answer
    policy = {"uid": text(said, "policy_id"), "version": text(said, "policy_version"), "is_applied": True}
    return {
        "action_id": action_id,
        "action": action,
        "disposition_id": disposition_id,
        "disposition": disposition,
        "is_alert": state in {CallState.DENIED, CallState.REFUSED},
        "policy": policy if policy["uid"] else {},
        "firewall_rule": {"uid": text(said, "rule_id")},
    }


def _resources(call: Call) -> list[dict[str, Any]]:
    said = call.said
    if not (name := text(said, "resource") or text(said, "system")):
        return []
    data_class = text(said, "data_class")
    labels = [f"data_class:{data_class}"] if data_class else []
    return [{"name": name, "uid": name, "type": text(said, "system"), "role_id": 1, "role": "Target", "labels": labels}]


def _trace(said: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    if not text(said, "trace_id"):
        return {}
    span = {"uid": text(said, "span_id"), "start_time": start, "end_time": end}
    return {"uid": text(said, "trace_id"), "span": span if span["uid"] else {}}


_APPROVAL = ("approver", "answer", "proof", "second_factor", "standing", "evidence")


def _unmapped(call: Call, log_id: str) -> dict[str, Any]:
    said, parts = call.said, [*call.earlier, call.decision, call.outcome]
    names = ("tier", "task", "owner", "args_hash", "tool_fingerprint", "approval_id", "approved_by", "risk_state")
    return {
        "log_id": log_id,
        "record_hashes": {str(part["seq"]): text(part, "hash") for part in parts if part and "seq" in part},
        "effects": call.effects,
        "reason_codes": [code for code, _, _ in call.reasons],
        "delegation": [{"agent_id": agent_id, "user_id": user_id} for agent_id, user_id in call.delegators],
        "approvals": [dict(zip(_APPROVAL, each, strict=True)) for each in call.approvals],
        "body_status": text(call.outcome or {}, "status"),
        "result_hash": text(call.outcome or {}, "result_hash"),
        "result_bytes": _integer(number(call.outcome or {}, "result_bytes")),
        "approval_wait_ms": _integer(None if call.waited is None else call.waited * 1000),
        **{name: text(said, name) for name in names},
    }


def _attestation(event: dict[str, Any]) -> dict[str, Any]:
    uid = event["metadata"]["uid"]
    # The same bytes as RFC 8785 asks for: no float is in an event, and all keys are ASCII.
    canonical = orjson.dumps({**event, "attestation_list": [{"uid": uid}]}, option=orjson.OPT_SORT_KEYS)
    fingerprint = {
        "value": hashlib.sha256(canonical).hexdigest(),
        "algorithm_id": 3,
        "algorithm": "SHA-256",
        "encoding_id": 1,
        "serialization_id": 2,
    }
    return {"uid": uid, "fingerprint": fingerprint}


def _milliseconds(seconds: float | None) -> int:
    return _integer(None if seconds is None else seconds * 1000) or 0


def _integer(value: float | None) -> int | None:
    """Return *value* rounded, or None if no JSON number holds it exactly."""
    return round(value) if value is not None and abs(value) < 2**53 else None


def _without_blanks(value: Any) -> Any:
    """Return *value* without empty texts, lists and objects: in a record, they mean that nothing is known."""
    if isinstance(value, dict):
        kept = {name: _without_blanks(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in ("", None, [], {})}
    if isinstance(value, list):
        return [_without_blanks(item) for item in value]
    return value


@functools.cache
def _product_version() -> str:
    try:
        return version("zt-agents")
    except PackageNotFoundError:
        return "unknown"
