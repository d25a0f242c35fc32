"""What the log says of a result: a keyed hash and a size, where there is one form to take them of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from world import ONE_AGENT, records_of

from zt_agents import Guard
from zt_agents._internal.canonical import MAX_BYTES, KeyedHash
from zt_agents.config import hash_key
from zt_agents.testing import write_policy

POLICY = (
    ONE_AGENT
    + """
tools:
  look: {tier: low, effects: [read]}
rules:
  - {id: look, agents: [helpdesk], tools: [look], outcome: allow}
"""
)
Outcome = Callable[[Any], tuple[Any, dict[str, Any]]]


@dataclass
class Broken:
    """Whoever reads its field is sorry."""

    value: int

    def __getattribute__(self, name: str) -> Any:
        if name == "value":
            raise RuntimeError("not now")
        return object.__getattribute__(self, name)


@pytest.fixture
def outcome(tmp_path: Path) -> Iterator[Outcome]:
    """Return a function: what a call returned whose body returns a value, and the record of how it ended."""
    returned: list[Any] = []

    @tool
    def look() -> Any:
        """Look."""
        return returned[-1]

    guard = Guard.from_config(write_policy(tmp_path, POLICY, [look]))
    guard.protect([look])

    def ended(value: Any) -> tuple[Any, dict[str, Any]]:
        returned.append(value)
        with guard.session(agent="helpdesk", on_behalf_of="alice@acme.example"):
            got = look.func()
        return got, [record for record in records_of(guard) if record["kind"] == "outcome"][-1]

    with guard:
        yield ended


@pytest.mark.parametrize(
    ("result", "form"),
    [
        ("a ticket", b'"a ticket"'),
        ("", b'""'),
        ("\u00e9", '"\u00e9"'.encode()),
        ({"b": 1, "a": [True, None, 1.0]}, b'{"a":[true,null,1],"b":1}'),
        (7, b"7"),
        (False, b"false"),
        (None, b"null"),
    ],
)
def test_a_result_is_hashed_with_the_logs_key(outcome: Outcome, tmp_path: Path, result: Any, form: bytes) -> None:
    got, record = outcome(result)
    assert got == result
    assert record["result_hash"] == KeyedHash(hash_key(tmp_path / "zt-agents-audit.db.key"))(form)
    assert record["result_bytes"] == len(form)


def test_a_message_of_langchain_has_a_form(outcome: Outcome) -> None:
    assert len(outcome(ToolMessage("seen", tool_call_id="c-1"))[1]["result_hash"]) == 32


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(b"bytes", id="bytes"),
        pytest.param(object(), id="an object"),
        pytest.param(float("nan"), id="no number"),
        pytest.param("\ud800", id="no Unicode"),
        pytest.param("x" * (MAX_BYTES + 1), id="too long"),
        pytest.param(list(range(1_001)), id="too many values"),
        pytest.param(Broken(1), id="an object that breaks when read"),
    ],
)
def test_what_has_no_form_has_no_hash_and_is_returned_as_it_is(outcome: Outcome, result: Any) -> None:
    got, record = outcome(result)
    assert got is result
    assert record["status"] == "ok"
    assert not record.keys() & {"result_hash", "result_bytes"}
