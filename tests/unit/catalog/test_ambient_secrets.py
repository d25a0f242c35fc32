"""Secrets that lie about are found by place and reason, and never shown; what is no secret is left alone."""

from __future__ import annotations

import collections
import functools
import sys
import types
from typing import Any

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import BaseTool, StructuredTool, tool
from pydantic import PrivateAttr, SecretStr

from zt_agents._internal.secret_forms import form_of_secret
from zt_agents.catalog.ambient_secrets import in_document, in_environment, in_tool

KEY = "CANARY-4f9a8b7c6d5e"
STRIPE = "sk_live_CANARY4f9a8b7c6d5e4f3a"  # made up
API_KEY = KEY
SETTINGS = {"region": "eu", "db": {"password": KEY}}


def places(held: Any, name: str = "t") -> list[str]:
    found = in_tool(name, held)
    assert all("CANARY" not in f"{each.place} {each.why}" for each in found)
    return [f"{each.place} ({each.why})" for each in found]


def test_in_a_closure() -> None:
    def made(api_key: str, region: str) -> StructuredTool:
        def charge() -> str:
            """Charge."""
            return api_key + region

        return StructuredTool.from_function(charge)

    assert places(made(KEY, "eu-central")) == [
        "tool 't': attribute func, closure of charge, api_key (named like a secret)"
    ]


def test_in_a_default() -> None:
    def charge(amount: int, *, token: str = KEY) -> str:
        return token * amount

    assert places(charge) == ["tool 't': default of charge, token (named like a secret)"]


def test_in_a_global_and_in_a_setting_of_one() -> None:
    @tool
    def charge() -> str:
        """Charge."""
        return f"{API_KEY} {SETTINGS}"

    found = places(charge)
    assert len(found) == 2
    assert any("API_KEY (named like" in each for each in found)
    assert any("SETTINGS, db, password (named like" in each for each in found)


def test_in_a_settings_module(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = types.ModuleType(f"{__name__.partition('.')[0]}.settings")
    settings.STRIPE = STRIPE  # type: ignore[attr-defined]
    settings.UNUSED_SECRET = KEY  # type: ignore[attr-defined]

    def charge() -> str:
        return settings_of_the_module.STRIPE  # type: ignore[name-defined,no-any-return]  # noqa: F821

    monkeypatch.setattr(sys.modules[__name__], "settings_of_the_module", settings, raising=False)
    (found,) = places(charge)
    assert found.endswith("settings.STRIPE (looks like an API key)")


def test_in_partials_methods_and_objects() -> None:
    class Client:
        password = "CANARY-of-the-class"

        def __init__(self) -> None:
            self.session_token = KEY

        def call(self) -> str:
            return self.session_token

    def charge(key: str) -> str:
        return key

    assert len(places(functools.partial(charge, STRIPE))) == 1
    assert len(places(functools.partial(charge, key=STRIPE))) == 1
    method = places(Client().call)
    assert any("attribute session_token" in each for each in method)
    assert any("class Client, password" in each for each in method)


def test_in_the_fields_of_a_tool() -> None:
    class Charge(BaseTool):
        name: str = "charge"
        description: str = "Charge."
        api_key: str = ""
        wrapped: SecretStr = SecretStr("")
        _token: str = PrivateAttr(default=KEY)

        def _run(self) -> str:
            return self.api_key

    found = places(Charge(api_key=KEY, wrapped=SecretStr(KEY)))
    assert [each.partition("(")[0].rpartition(" ")[0].rpartition("attribute ")[2] for each in found] == [
        "api_key",
        "wrapped",
        "_token",
    ]
    assert len(places(Charge())) == 1


def test_in_the_url_of_a_database() -> None:
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: None)
    engine.url = sqlalchemy.make_url("postgresql://app:CANARY-7c6d5e@db.acme.example/shop")

    def query() -> str:
        return str(engine)

    (found,) = places(query)
    assert found.endswith("field password (named like a secret)")


def test_nothing_is_run_while_looking() -> None:
    class Trap:
        @property
        def api_key(self) -> str:
            raise AssertionError("a property was run")

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            raise AssertionError(f"{name} was computed")

    trap = Trap()

    def charge() -> str:
        return str(trap)

    assert places(charge) == []


class Slotted:
    __slots__ = ("key", "never_set")

    def __init__(self) -> None:
        self.key = STRIPE


class OwnList(list[str]):
    def __iter__(self) -> Any:
        raise AssertionError("it was run")


class OwnDict(dict[str, str]):
    def items(self) -> Any:
        raise AssertionError("it was run")


@pytest.mark.parametrize(
    "held",
    [
        Slotted(),
        collections.defaultdict(str, key=STRIPE),
        collections.OrderedDict(key=STRIPE),
        collections.deque([STRIPE]),
        OwnList([STRIPE]),
        OwnDict(key=STRIPE),
    ],
    ids=lambda held: type(held).__name__,
)
def test_in_slots_and_containers_of_every_kind(held: Any) -> None:
    def charge() -> str:
        return str(held)

    (found,) = in_tool("charge", charge)
    assert found.place.startswith("tool 'charge': closure of charge, held, ")


class Settings:
    url = "https://pay.acme.example"
    key = STRIPE


def test_in_an_attribute_of_a_class_that_a_function_uses() -> None:
    def charge() -> str:
        return Settings.key

    (found,) = in_tool("charge", charge)
    assert found.place.endswith("Settings.key")


def test_in_the_text_of_a_function() -> None:
    def charge(order: str) -> str:
        return f"https://app:hunter22@pay.acme.example/{order}"

    (found,) = in_tool("charge", charge)
    assert (found.place, found.why) == ("tool 'charge': text in charge", "looks like a URL with a password")


def test_a_password_in_capitals_is_no_name_of_a_variable() -> None:
    (found,) = in_environment({"DB_PASSWORD": "HUNTER22"}, declared=())
    assert found.why == "named like a secret"


def test_what_goes_round_in_circles_or_is_huge_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = KEY
    for _ in range(500):
        deep = {"token": deep}
    wide = {f"key{index}": [index] for index in range(50_000)}

    def charge() -> Any:
        return circle, deep, wide

    assert places(charge) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("next_page_token", ""),
        ("max_tokens", "100000000"),
        ("tokenizer", "cl100k_base"),
        ("api_key", "STRIPE_API_KEY"),
        ("api_key", "<your key>"),
        ("api_key", "your-api-key"),
        ("api_key", "${STRIPE}"),
        ("password", "********"),
        ("token_file", "/run/secrets/token"),
        ("signing_key", "signing.pem"),
        ("token_url", "https://login.acme.example/token"),
        ("prompt", "Never say a password: it is a secret. Ask for the token with 'api_key: ...'."),
        ("fingerprint", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
        ("id", "123e4567-e89b-12d3-a456-426614174000"),
        ("database", "postgresql://app@db.acme.example/shop"),
        ("template", "postgresql://{user}:{password}@{host}/shop"),
        ("help", "Send it as Authorization: Bearer TOKEN, or as a query: ?password=..."),
        ("template", "host={host} user={user} password={password}"),
        ("template", "Server=%s;UID=%s;PWD=%s;"),
        ("path", "/usr/lib/python3/dist-packages/Some/Package/With/A/Long/Name2"),
    ],
)
def test_what_is_no_secret_is_left_alone(name: str, value: str) -> None:
    assert in_tool("t", functools.partial(print, **{name: value})) == []
    assert in_environment({name: value}, declared=()) == []


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49", "a private key"),
        ("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "a JSON Web Token"),
        ("AKIA" + "IOSFODNN7EXAMPLE", "an access key of Amazon"),
        ("ghp_" + "a1" * 18, "a token of GitHub or GitLab"),
        ("xoxb-" + "1234567890-abc", "a token of Slack"),
        (STRIPE, "an API key"),
        ("hvs." + "CAESIJlU9JMYEhOPYv4igdhm", "a token of Vault"),
        ("postgresql://app:hunter2@db.acme.example/shop", "a URL with a password"),
        ("-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49", "a private key"),
        ("xapp-" + "1-A0123-456-abcdef0123", "a token of Slack"),
        ("pypi-" + "AgEIcHlwaS5vcmcC" * 4, "a token of PyPI"),
        ("SG." + "ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYzr", "an API key"),
        ("dop_v1_" + "0123456789abcdef" * 4, "an API key"),
        ("lsv2_pt_" + "0123456789abcdef" * 2 + "_0123456789", "an API key"),
        ("Bearer 4f9c0a3bd1e2f3a4b5c6d7e8", "a header of HTTP with a credential"),
        ("Basic dXNlcjpodW50ZXIyMg==", "a header of HTTP with a credential"),
        ("host=db.acme.example user=app password=hunter22", "a connection string with a password"),
        ("Server=db;UID=app;PWD=hunter22;", "a connection string with a password"),
        ("AccountName=acme;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50", "a connection string with a password"),
        ("kJ8vQ2xR7mZ4pL9wT3nB6yD1sF5hG0cVaEuIoPq", "a random text"),
    ],
)
def test_what_looks_like_a_secret_is_found_whatever_its_name(value: str, why: str) -> None:
    assert form_of_secret(value) == why
    (found,) = in_environment({"X": value}, declared=())
    assert found.place == "environment: X"
    assert value not in found.why


def test_variables_that_the_guard_takes_are_not_warned_of() -> None:
    environment = {"STRIPE_KEY": STRIPE, "DB_PASSWORD": KEY}
    assert [each.place for each in in_environment(environment, declared={"STRIPE_KEY"})] == [
        "environment: DB_PASSWORD"
    ]


def test_in_a_policy_file_by_form_alone() -> None:
    data = {"secrets": {"stripe_key": {"source": "env"}}, "rules": [{"when": f"args.key == '{STRIPE}'"}]}
    (found,) = in_document(data)
    assert (found.place, found.why) == ("policy: rules[0].when", "looks like an API key")


@given(st.recursive(st.text() | st.binary() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_looking_never_fails(held: Any) -> None:
    in_tool("t", functools.partial(print, held))
    in_document(held)
