"""Whatever holds a token, a key, a password or a one-time value shows it to nobody: not as text, not as JSON, not in a
pickle, a copy, a traceback or a checkpoint.

Each object is rendered in the ways in which logs, traces, error reports and stores render what they are given.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pydantic
import pytest
import rich.pretty
from cryptography.hazmat.primitives import serialization
from langchain_core.load import dumps
from langchain_core.tools import tool
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from world import World

from zt_agents import User
from zt_agents._internal.hidden import Hidden
from zt_agents.catalog.secret_specs import VaultSpec
from zt_agents.cli.connections import HttpPoster
from zt_agents.cli.destinations import MailServer, Webhook, WebhookFormat
from zt_agents.console.sessions import Person
from zt_agents.console.sessions import Session as SignedIn
from zt_agents.credentials.dpop import Proof
from zt_agents.credentials.over_http import Presented, presented
from zt_agents.credentials.secret_files import EnvironmentSecret, _taken
from zt_agents.credentials.secrets import Fetched, Secret
from zt_agents.credentials.vault import Vault
from zt_agents.identity import SigningKey
from zt_agents.identity.approving.factors import FactorClaims
from zt_agents.identity.approving.one_time_codes import OneTimeSecret
from zt_agents.identity.checkpoint_keys import CheckpointKey
from zt_agents.identity.principals import Login
from zt_agents.identity.provider.client_registration import Registration
from zt_agents.identity.provider.login_file import StoredLogin
from zt_agents.identity.provider.login_flows import DeviceLogin, LoginRequest
from zt_agents.identity.provider.oauth_client import Tokens
from zt_agents.identity.provider.over_http import ProviderAnswer
from zt_agents.identity.provider.terms import ProviderTerms
from zt_agents.identity.x509.authority import CertificateAuthority
from zt_agents.issuer.exchanges import Exchanged

MakeWorld = Callable[..., World]
CANARY = "canary-4711-secret-0"
"""20 characters: as long as the secret of one-time codes."""
TERMS = ProviderTerms(issuer="https://login.acme.example", client_id="desk")
_LOGIN = {"issuer": TERMS.issuer, "subject": "f1", "expires_at": 9}


def _vault() -> Vault:
    vault = Vault(VaultSpec("http://127.0.0.1:1", "", None, Path("t"), "", None, ""))
    vault.close()
    vault._token = Hidden(CANARY)
    return vault


def _environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ZT_TEST_CANARY", CANARY)
    assert EnvironmentSecret("ZT_TEST_CANARY").fetch().fields.reveal() == {"value": CANARY}
    return {"ZT_TEST_CANARY": _taken.pop("ZT_TEST_CANARY")}


def _pem(key: Any) -> list[str]:
    number = getattr(key.private_numbers(), "private_value") if hasattr(key, "private_numbers") else 0  # noqa: B009
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return [text.splitlines()[1][20:60], str(number)]


KEY = SigningKey.generate()
AUTHORITY = CertificateAuthority.new("acme.example", now=1e9)
IDENTITY = AUTHORITY.issue("spiffe://acme.example/agent/helpdesk", now=1e9)
CHECKPOINT = CheckpointKey("log", CANARY.encode().ljust(32, b"x"))

HOLDERS: dict[str, Callable[[], Any]] = {
    "itself": lambda: Hidden(CANARY),
    "login": lambda: Login(**_LOGIN, token=Hidden(CANARY), nonce=Hidden(CANARY)),
    "login, made up": lambda: Login(**_LOGIN, token=CANARY, nonce=CANARY),  # type: ignore[arg-type]
    "user": lambda: User("alice", login=Login(**_LOGIN, token=Hidden(CANARY))),
    "tokens": lambda: Tokens(Hidden(CANARY), 60, Hidden(CANARY), Hidden(CANARY)),
    "stored login": lambda: StoredLogin(TERMS, Hidden(CANARY), Hidden(CANARY), Hidden(CANARY)),
    "login by a browser": lambda: LoginRequest("http://127.0.0.1:1/", Hidden(CANARY), Hidden(CANARY), Hidden(CANARY)),
    "login by a device": lambda: DeviceLogin("AB-12", "https://x", "", Hidden(CANARY), Hidden(CANARY), 5, 60),
    "client at the provider": lambda: Registration(TERMS.issuer, "c", "https://x", Hidden(CANARY)),
    "answer of the provider": lambda: ProviderAnswer(200, Hidden({"access_token": CANARY})),
    "secret of one-time codes": lambda: OneTimeSecret(CANARY.encode()),
    "factor": lambda: FactorClaims("1", "dana", OneTimeSecret(CANARY.encode()), 1),
    "session at the console": lambda: SignedIn(Person("dana", (), "c", 9.0), 1.0, 1.0, "passkey", Hidden(CANARY)),
    "proof of a key": lambda: Proof(CANARY, "GET", "https://x/"),
    "what a request presents": lambda: presented(
        "GET", "/", [(b"authorization", f"DPoP {CANARY}".encode()), (b"dpop", CANARY.encode())], origin="https://x"
    ),
    "exchanged token": lambda: Exchanged(Hidden(CANARY), None, None),  # type: ignore[arg-type]
    "fetched secret": lambda: Fetched(Hidden({"value": CANARY})),
    "lent secret": lambda: Secret("s", Fetched(Hidden({"value": CANARY}))),
    "vault": _vault,
    "signing key": lambda: KEY,
    "derived key": lambda: KEY.derived("zt-call+jwt"),
    "checkpoint key": lambda: CHECKPOINT,
    "authority": lambda: AUTHORITY,
    "root of an authority": lambda: AUTHORITY._roots[0],
    "certificate with its key": lambda: IDENTITY,
    "webhook": lambda: Webhook(f"https://hooks.example/{CANARY}", WebhookFormat.JSON, secrets=[CANARY.encode()]),
    "connection to a webhook": lambda: HttpPoster(urlsplit(f"https://hooks.example/{CANARY}?{CANARY}")),
    "mail server": lambda: MailServer("mail", 25, user="zt", password=Hidden(CANARY)),
}
FORMS = [
    CANARY,
    base64.b64encode(CANARY.encode()).decode().rstrip("=")[:24],
    base64.b32encode(CANARY.encode()).decode(),
    CANARY.encode().hex(),
    str(list(CANARY.encode()))[1:-1],
    *_pem(KEY.private),
    *_pem(KEY.derived("zt-call+jwt").private),
    *_pem(AUTHORITY._roots[0].key),
    *_pem(IDENTITY.key),
]


def _attributes(value: Any) -> dict[str, Any]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(value, name, None) for name in (*slots, *getattr(value, "__dict__", ()))}


def _traceback(value: Any) -> str:
    try:
        raise RuntimeError("it failed")  # noqa: TRY301
    except RuntimeError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def _logged(value: Any) -> str:
    record = logging.LogRecord("x", 10, "x", 1, "%s %r", (value, value), None)
    return f"{record.getMessage()} {record.__dict__}"


def _checkpointed(value: Any) -> str:
    return str(JsonPlusSerializer(pickle_fallback=True).dumps_typed({"channel": value}))


RENDERERS: dict[str, Callable[[Any], object]] = {
    "repr": repr,
    "str": str,
    "f-string": lambda value: f"{value} {value!r} {value!s}",
    "percent": lambda value: "%s %r" % (value, value),  # noqa: UP031
    "within a container": lambda value: repr({"a": [value]}),
    "attributes": lambda value: repr(_attributes(value)),
    "attributes of attributes": lambda value: repr([_attributes(each) for each in _attributes(value).values()]),
    "vars": lambda value: repr(vars(value)),
    "asdict": lambda value: repr(dataclasses.asdict(value)),
    "astuple": lambda value: repr(dataclasses.astuple(value)),
    "named tuple": lambda value: repr(value._asdict()),
    "asdict as JSON": lambda value: json.dumps(dataclasses.asdict(value), default=str),
    "json": lambda value: json.dumps(value, default=str),
    "json of attributes": lambda value: json.dumps(value, default=_attributes),
    "orjson": orjson.dumps,
    "orjson with a default": lambda value: orjson.dumps(value, default=repr),
    "orjson of attributes": lambda value: orjson.dumps(value, default=_attributes),
    "pydantic": lambda value: pydantic.TypeAdapter(Any).dump_json(value, fallback=repr),
    "pydantic by type": lambda value: pydantic.TypeAdapter(type(value)).dump_json(value, fallback=repr),
    "pickle": lambda value: pickle.dumps(value),
    "state": lambda value: repr(value.__getstate__()),
    "copy": lambda value: repr(copy.copy(value)),
    "deepcopy": lambda value: repr(_attributes(copy.deepcopy(value))),
    "pprint": pprint.pformat,
    "rich": lambda value: rich.pretty.pretty_repr(value),
    "logging": _logged,
    "traceback with locals": _traceback,
    "checkpoint of LangGraph": _checkpointed,
    "LangChain": dumps,
}


def _shown(value: Any) -> Iterator[tuple[str, str]]:
    for way, render in RENDERERS.items():
        with suppress(Exception):  # what cannot be rendered so is not shown
            shown: Any = render(value)
            yield way, shown.decode("latin-1") if isinstance(shown, bytes) else str(shown)


@pytest.mark.parametrize("holder", HOLDERS)
def test_it_is_not_shown(holder: str) -> None:
    for way, text in _shown(HOLDERS[holder]()):
        for secret in FORMS:
            assert secret not in text, way


@dataclasses.dataclass
class _Naive:
    token: str = CANARY


def test_a_naive_holder_would_be_seen() -> None:
    seen = {way for way, text in _shown(_Naive()) if CANARY in text}
    assert RENDERERS.keys() - seen == {"named tuple", "attributes of attributes"}


def test_what_was_taken_out_of_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CANARY not in repr(_environment(monkeypatch))


def test_a_session_does_not_show_its_token(make_world: MakeWorld) -> None:
    @tool
    def ping() -> str:
        """Answer."""
        return "pong"

    with make_world(ping).session() as session:
        signature = session.token.rpartition(".")[2]
        assert all(signature not in text for _, text in _shown(session))


def test_a_hidden_value_is_there_for_who_asks_and_compares_as_itself() -> None:
    held = Hidden(CANARY)
    assert held.reveal() == CANARY
    assert (held == Hidden(CANARY), held == Hidden("x"), held == CANARY) == (True, False, False)
    assert hash(held) == hash(Hidden(CANARY))
    assert (bool(held), bool(Hidden("")), bool(Hidden(None))) == (True, False, False)
    assert copy.deepcopy(held) is copy.copy(held) is Hidden.of(held) is held
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(held)
    with pytest.raises(TypeError):
        orjson.dumps({"token": held})
    assert Presented(Hidden(None), None) == Presented(Hidden(None), None)
