"""Money as ``Decimal``: conditions compare it as a number, and nothing that is not surely below a limit passes it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from langchain_core.tools import tool

from zt_agents import AccessDeniedError, Guard, PolicyFileError
from zt_agents.testing import write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  clerk: {id: spiffe://acme.example/agent/clerk, version: "1", owner: bo@acme.example, purpose: Pays.}
tools:
  pay: {tier: medium, effects: [money]}
rules:
  - {id: small, agents: [clerk], tools: [pay], outcome: allow, when: args.amount <= LIMIT}
"""


@tool
def pay(amount: Decimal) -> str:
    """Pay an amount."""
    assert isinstance(amount, Decimal)
    return str(amount)


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    path = write_policy(tmp_path_factory.mktemp("policy"), POLICY.replace("LIMIT", "500.0"), [pay])
    with Guard.from_config(path) as guard:
        guard.protect(pay)
        yield guard


@pytest.mark.parametrize("amount", ["500", "499.99", "-3", 12, 0.5, "0.1"])
def test_small_amounts_pass(guard: Guard, amount: object) -> None:
    with guard.session(agent="clerk", on_behalf_of="alice"):
        assert pay.invoke({"amount": amount}) == str(Decimal(str(amount)))


@pytest.mark.parametrize(
    "amount", ["500.01", 501, "500.0000000000000000001", "1E+3", "1e400", "999999999999999999999", "-1E+3"]
)
def test_what_is_not_surely_small_does_not(guard: Guard, amount: object) -> None:
    with guard.session(agent="clerk", on_behalf_of="alice"), pytest.raises(AccessDeniedError):
        pay.invoke({"amount": amount})


def test_a_limit_of_another_type_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r":\d+:\d+: "):
        Guard.from_config(write_policy(tmp_path, POLICY.replace("LIMIT", "'500'"), [pay]))
