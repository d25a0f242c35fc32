"""Secrets are taken out whatever the policy says; a path that is none is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from zt_agents._internal.json_paths import parse_path
from zt_agents.audit.redaction import Redaction

CANARY = "hunter2-canary"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def kept(value: Any, *paths: str, part: str = "arguments") -> str:
    return json.dumps(Redaction(("", parse_path(path)) for path in paths)("pay", part, value))


@pytest.mark.parametrize(
    "value",
    [
        {"password": CANARY},
        {"Pass-Word": CANARY},
        {"db_passwd": CANARY},
        {"X-API-Key": CANARY},
        {"apiKey": [CANARY, {"a": CANARY}]},
        {"client.secret": {"deep": CANARY}},
        {"refresh_token": CANARY},
        {"Set-Cookie": CANARY},
        {"AUTHORIZATION": CANARY},
        {"pin": 12345678901},
        {"a": {"b": [{"private_key": CANARY}]}},
        {"headers": [["Authorization", CANARY]]},
        {"headers": [{"name": "Cookie", "value": CANARY}]},
        {"env": [{"Key": "DB_PASSWORD", "Value": CANARY}]},
        {"text": json.dumps({"password": CANARY})},
        {"text": json.dumps(json.dumps([{"x": json.dumps({"secret": CANARY})}]))},
        {"url": f"postgres://app:{CANARY}@db/x"},
        {"header": f"Bearer {CANARY}-and-more"},
        {"text": f"the password is {CANARY}"},
        {"text": f"PASSWORD={CANARY}"},
        {"text": f"https://x.example/?api_key={CANARY}"},
        {"text": f"-----BEGIN EC PRIVATE KEY-----\n{CANARY}"},
        {"text": f'{{"token": "{CANARY}", "x": NaN}}'},
        {"text": str({"otp": CANARY})},
        {"text": f'{{"a": 1}}\n{{"token": "{CANARY}"}}'},
        {"text": "[" * 2_000 + f'{{"cookie": "{CANARY}"}}' + "]" * 2_000},
        {"text": "\ufeff" + json.dumps({"a": {"credential": {"b": CANARY}}})},
        {"text": f"Found {json.dumps(json.dumps({'token': CANARY}))}"},
        {"text": f"Cookie: sid={CANARY}"},
        {"text": f"error=token={CANARY}"},
        {"text": f"https://x.example/?a=b&token={CANARY}"},
        {"text": f"mysql --user app --password {CANARY}"},
        {"argv": ["mysql", "--user", "app", "--password", CANARY]},
        [f"the password is {CANARY}", "x"],
        [json.dumps({"token": CANARY}), "x"],
        {f"sk-live-{CANARY}-0123456789": 1},
    ],
)
def test_a_secret_is_never_kept(value: Any) -> None:
    shown = kept(value)
    assert CANARY not in shown
    assert "12345678901" not in shown
    assert "redacted" in shown


@pytest.mark.parametrize(
    "text",
    [
        *(JWT, "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1" * 18, "xoxb-123456789012-abc"),
        *("sk-proj-" + "b2" * 20, "AIza" + "c" * 35),
    ],
)
def test_what_looks_like_a_secret_is_never_kept(text: str) -> None:
    assert text not in kept({"note": f"use {text}, please"})


@pytest.mark.parametrize(
    "value",
    [
        {"max_tokens": 500, "total_tokens": 7},
        {"note": "Ticket 5: the printer is on fire.", "to": "bo@acme.example", "url": "https://acme.example/a:b/c@d"},
        {"password": None, "secret": False},
        {"pinned": "yes", "spinner": 1, "author": "Bo", "description": "is on sick leave", "task-list": ["a", "b"]},
        ["keys", "values"],
        ["a", "- reset the password", "- call Bo"],
        {"text": "tokens=5 --verbose x, a token of thanks: see https://acme.example/?page=2&q=a:b"},
    ],
)
def test_what_is_no_secret_is_kept(value: Any) -> None:
    assert json.loads(kept(value)) == value


def test_two_secrets_among_the_names_are_both_said_to_be_gone() -> None:
    assert kept({f"sk-{'a' * 20}": 1, f"sk-{'b' * 20}": 2}).count("redacted") == 2


def test_a_text_in_which_a_path_can_find_nothing_is_not_kept() -> None:
    assert CANARY not in kept(f"iban {CANARY}", "$.result.iban", part="result")
    assert CANARY in kept(f"iban {CANARY}", "$.arguments.iban", part="result")
    assert CANARY not in kept(json.dumps({"iban": CANARY}), "$.result.iban", part="result")


@pytest.mark.parametrize("path", ["$.arguments[*]", "$.arguments[0]", "$.arguments[1]"])
def test_what_looks_like_a_name_and_its_secret_is_no_way_around_a_path(path: str) -> None:
    assert CANARY not in kept([f"token {CANARY}", "x"] if path != "$.arguments[1]" else ["token", CANARY], path)
    assert "policy" in kept(["token", True], path)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"customer": f"iban {CANARY}"}, "$.arguments.customer.iban"),
        ({"a": [{"customer": f"iban {CANARY}"}]}, "$..customer.iban"),
        ({"rows": [f"iban {CANARY}"]}, "$.arguments.rows[*].iban"),
        ({"text": f'{{"iban": "{CANARY}", "x": NaN}}'}, "$..iban"),
        ({"text": str([{"iban": CANARY}])}, "$..iban"),
    ],
)
def test_nor_is_one_further_down(value: Any, path: str) -> None:
    assert CANARY not in kept(value, path)
    assert CANARY in kept({"other": f"iban {CANARY}"}, path)


def test_paths_of_one_tool_are_for_that_tool() -> None:
    redaction = Redaction([("pay", parse_path("$.arguments.to"))])
    assert redaction("pay", "arguments", {"to": "x"}) == {"to": {"redacted": "policy"}}
    assert redaction("mail", "arguments", {"to": "x"}) == {"to": "x"}


def test_a_whole_part_can_be_named() -> None:
    assert kept({"a": CANARY}, "$.arguments") == '{"redacted": "policy"}'


@pytest.mark.parametrize(
    "unit",
    [
        *("eyJ-", "eyJ", "://:", "bearer ", "-----BEGIN A", "password ", "['", '{"a":', "[["),
        *("a", "a ", "a\\", "a=", "-", "--a ", "\ufeff", " "),
    ],
)
def test_no_text_takes_long(unit: str) -> None:
    began = time.thread_time()  # what it costs, however busy the machine
    kept({"a": (unit * 65_536)[:65_536]})
    assert time.thread_time() - began < 1.0


@pytest.mark.parametrize(
    "text", ["", "a", "$", "$.", "$a", "$.a[-1]", "$.a[1:2]", "$.a[?@.b]", "$['a','b']", "$...a", "$.a ", "$['it\\'s']"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\$|step"):
        parse_path(text)


@pytest.mark.parametrize("first", [f"the password is {CANARY}", json.dumps({"password": CANARY})])
def test_the_first_of_two_texts_is_looked_at_too(first: str) -> None:
    assert CANARY not in kept({"messages": [first, "thanks"]})


def test_a_path_reaches_both_of_a_pair_named_like_a_secret() -> None:
    assert "password" not in kept({"pair": ["password", "x"]}, "$.arguments.pair[0]")
    assert "true" not in kept({"pair": ["password", True]}, "$.arguments.pair[1]")
