"""Conditions: what each variable is, how arguments are typed, and how an expression is read."""

# ruff: noqa: E501 - a table reads best with one row on a line
from __future__ import annotations

from typing import Any

import pytest
from policy_example import PARAMETERS, call_for, load

from zt_agents.identity.principals import User
from zt_agents.policy.arguments import DYNAMIC, STRING, Kind, ValueType, argument_types
from zt_agents.policy.conditions import Condition, ConditionCompiler
from zt_agents.policy.expressions import chains, clauses, tokenize
from zt_agents.provenance.labels import DataClass, Integrity, Label

POLICY = load()
CALL = call_for(
    POLICY,
    "finance",
    "pay",
    user=User("alice", "Alice", ("staff",), ("payer",), {"level": 3, "teams": ("a", {"b": 1})}),
    session_id="s-1",
    intent="Pay the rent",
    task="rent",
    resource="account/DE02",
    environment="production",
    attributes={"ip": "10.0.0.1", "nested": {"deep": [1, 2.5, None]}},
    label=Label(Integrity.TRUSTED, DataClass.CONFIDENTIAL),
)


def compiled(source: str, tool: str = "pay") -> Condition:
    condition = ConditionCompiler(PARAMETERS).compile(source, tool)
    assert isinstance(condition, Condition), condition
    return condition


@pytest.mark.parametrize(
    "source",
    [
        "user.id == 'alice' && user.name == 'Alice'",
        "'staff' in user.groups && 'payer' in user.roles",
        "user.attributes.level == 3 && size(user.attributes.teams) == 2",
        "has(user.attributes.level) && !has(user.attributes.clearance)",
        "agent.name == 'finance' && agent.id.startsWith('spiffe://acme.example/')",
        "agent.version == '2' && agent.owner.endsWith('@acme.example') && agent.purpose.contains('approved')",
        "session.id == 's-1' && session.intent.contains('rent') && session.task == 'rent'",
        "tool.name == 'pay' && tool.tier == 'medium' && tool.system == 'bank' && 'money' in tool.effects",
        "resource.id == 'account/DE02' && resource.data_class == 'confidential'",
        "context.time > timestamp('2020-01-01T00:00:00Z') && context.environment == 'production'",
        "context.attributes.ip == '10.0.0.1' && context.attributes.nested.deep[1] == 2.5",
        "provenance.integrity == 'trusted' && provenance.data_class == 'confidential'",
        "args.amount == 50.0 && args.amount < 50.5",
        "args.note == null && (args.note == null || args.note.size() < 10)",
        "args.tags.exists(tag, tag == 'rent') && args.payee.city == 'Berlin'",
        "args.payee.account.iban == 'DE02' && has(args.payee.account.iban)",
        "args.`to` == 'DE02' && .args.to == 'DE02' && args . to == 'DE02'",
        "args.urgent ? false : true",
        "args.to.matches('^[A-Z]{2}[0-9]+$') // a comment",
        "args.to in ['DE01', r'DE02', \"DE03\"] && type(args.count) == int",
        "context.time - duration('1h') < context.time",
        "args.to.lowerAscii() == 'de02'",
    ],
)
def test_true(source: str) -> None:
    assert compiled(source).evaluate(CALL) is True
    assert all(clause.held for clause in compiled(source).clauses(CALL))


@pytest.mark.parametrize(
    "source",
    ["user.attributes.clearance > 1", "args.payee.account.bic == 'x'", "context.attributes.ip > 5", "args.count / 0 == 1",
     "args.count + 9223372036854775807 > 0", "args.note.size() > 0", "user.id.matches(args.to + '(')"],
)  # fmt: skip
def test_unknown(source: str) -> None:
    assert compiled(source).evaluate(CALL) is None


def test_clauses_tell_what_held() -> None:
    condition = compiled("args.amount < 10.0 && args.urgent == false || user.attributes.nothing == 1")
    first, second, third = condition.clauses(CALL)
    assert (first.text, first.held) == ("args.amount < 10.0", False)
    assert (second.text, second.held) == ("args.urgent == false", True)
    assert (third.text, third.held) == ("user.attributes.nothing == 1", None)
    assert "nothing" in third.problem


def test_equal_conditions_share_a_program() -> None:
    twin = dict(PARAMETERS) | {
        "pay_2": PARAMETERS["pay"],
        "other": {"properties": {"count": {"type": "integer"}}, "required": ["count"]},
    }
    compiler = ConditionCompiler(twin)
    shared = {
        id(compiler.compile("args.count > 1 && user.id == 'a'", tool)) for tool in ("pay", "pay_2", "other")
    }
    assert len(shared) == 1
    assert isinstance(compiler.compile("args.count > 1", "read_ticket"), tuple)


def test_equal_texts_on_other_types_do_not_share() -> None:
    compiler = ConditionCompiler(
        {kind: {"properties": {"x": {"type": kind}}, "required": ["x"]} for kind in ("integer", "string")}
    )
    assert isinstance(compiler.compile("args.x > 1", "integer"), Condition)
    assert isinstance(compiler.compile("args.x > 1", "string"), tuple)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, STRING),
        ({"type": "integer"}, ValueType(Kind.INT)),
        ({"type": ["integer", "null"]}, ValueType(Kind.INT, nullable=True)),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, ValueType(Kind.BOOL, nullable=True)),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, DYNAMIC),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}, ValueType(Kind.DYNAMIC, nullable=True)),
        ({"allOf": [{"$ref": "#/$defs/Name"}]}, STRING),
        ({"$ref": "#/$defs/Name"}, STRING),
        ({"$ref": "#/$defs/Missing"}, DYNAMIC),
        ({"$ref": "https://example.com/x.json"}, DYNAMIC),
        ({"$ref": "#/$defs/Loop"}, DYNAMIC),
        ({"enum": ["a", "b"]}, ValueType(Kind.STRING, choices=("a", "b"))),
        ({"enum": ["a", None]}, ValueType(Kind.STRING, nullable=True, choices=("a",))),
        ({"enum": [1, 2]}, ValueType(Kind.INT)),
        ({"enum": [1, "a"]}, DYNAMIC),
        ({"const": True}, ValueType(Kind.BOOL)),
        ({"type": "array", "items": {"type": "number"}}, ValueType(Kind.LIST, ValueType(Kind.DOUBLE))),
        ({"type": "array"}, ValueType(Kind.LIST, DYNAMIC)),
        ({"type": "array", "items": {"type": ["string", "null"]}}, ValueType(Kind.LIST, DYNAMIC)),
        ({"type": "array", "prefixItems": [{"type": "string"}]}, ValueType(Kind.LIST, DYNAMIC)),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ValueType(Kind.MAP, ValueType(Kind.INT))),
        ({"type": "object"}, ValueType(Kind.MAP, DYNAMIC)),
        ({}, DYNAMIC), (True, DYNAMIC), (None, DYNAMIC), ({"type": 5}, DYNAMIC), ({"type": "strnig"}, DYNAMIC),
    ],
)  # fmt: skip
def test_argument_types(schema: Any, expected: ValueType) -> None:
    definitions = {"Name": {"type": "string"}, "Loop": {"$ref": "#/$defs/Loop"}}
    root = {"properties": {"x": schema}, "required": ["x"], "$defs": definitions}
    assert argument_types(root) == {("x",): expected}


def test_objects_are_flattened_and_recursion_ends() -> None:
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/Node"}},
        "required": ["name"],
    }
    root = {"properties": {"head": {"$ref": "#/$defs/Node"}}, "required": ["head"], "$defs": {"Node": node}}
    assert argument_types(root) == {
        ("head", "name"): STRING,
        ("head", "next"): ValueType(Kind.DYNAMIC, optional=True),
    }


def test_hostile_schemas_end() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    assert argument_types({"properties": {"x": deep}})[("x",)].kind is Kind.LIST
    wide = {
        f"D{n}": {"type": "object", "properties": {f"p{i}": {"$ref": f"#/$defs/D{n + 1}"} for i in range(20)}}
        for n in range(8)
    }
    assert len(argument_types({"$ref": "#/$defs/D0", "$defs": wide})) <= 1000


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("args.a + args.b.c", ["args.a", "args.b.c"]),
        ("f(args.a).b.c", ["args.a"]),
        ("args.a.size() > x[args.i].y", ["args.a", "x", "args.i"]),
        ("'args.a' + \"args.b\" + r'args.c\\' + '''args.d'''", []),
        ("args.a // args.b\n == 'it''s' || 'a\\'args.c'.x == b", ["args.a", "b"]),
        ("true && null == .a.b", ["a.b"]),
        ("x in y.z", ["x", "y.z"]),
    ],
)  # fmt: skip
def test_chains(source: str, names: list[str]) -> None:
    assert [chain.name for chain in chains(tokenize(source))] == names


@pytest.mark.parametrize(
    ("source", "pieces"),
    [
        ("a && b || c", ["a", "b", "c"]),
        ("(a && b) || [c && d][0]", ["(a && b)", "[c && d][0]"]),
        ("a && b ? c : d || e", ["a && b ? c : d || e"]),
        ("a == '&&' && b // && c", ["a == '&&'", "b // && c"]),
        ("a", ["a"]),
    ],
)
def test_clauses(source: str, pieces: list[str]) -> None:
    assert clauses(source) == pieces
