"""Who a human is: tokens of a provider that a program is handed, good ones and the ways in which they are not."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import pickle
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
import loopback_provider
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from loopback_provider import AUDIENCE, CLIENT, LoopbackProvider, at_hash, jwk, send

from zt_agents.errors import IdentityProviderError, LoginRequiredError, TokenExpiredError, TokenInvalidError
from zt_agents.identity.provider.discovery import AGAIN, FRESH, GRACE, Discovery
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.provider.over_http import ProviderHttp
from zt_agents.identity.provider.terms import AccessTokenKind, ProviderTerms, UserClaim, checked_issuer

OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackProvider]:
    with loopback_provider.running() as provider:
        yield provider


@pytest.fixture
def idp(server: LoopbackProvider) -> LoopbackProvider:
    fresh = LoopbackProvider(int(server.issuer.rpartition(":")[2].partition("/")[0]))
    server.__dict__.update(fresh.__dict__)
    return server


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def timer() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def http() -> Iterator[ProviderHttp]:
    asks = ProviderHttp()
    yield asks
    asks.close()


@pytest.fixture
def make(idp: LoopbackProvider, timer: Clock, http: ProviderHttp) -> Any:
    def made(**terms: Any) -> IdentityProvider:
        all_terms = ProviderTerms(**{"issuer": idp.issuer, "client_id": CLIENT, "audience": AUDIENCE, **terms})
        return IdentityProvider(all_terms, http=http, discovery=Discovery(all_terms.issuer, http, timer=timer))

    return made


def by_id(provider: IdentityProvider, token: str, nonce: str | None = "n-1", **more: Any) -> Any:
    return provider.user_of_id_token(token, nonce=nonce, now=time.time(), **more)


def by_access(provider: IdentityProvider, token: str) -> Any:
    return provider.user_of_access_token(token, now=time.time())


def test_an_id_token_names_its_user(idp: LoopbackProvider, make: Any) -> None:
    token = idp.id_token(groups=["helpdesk"], roles=["agent"], acr="gold", amr=["pwd", "otp"], auth_time=1_700_000_000)
    user = by_id(make(), token)
    assert (user.id, user.name, user.groups, user.roles) == ("f1f2", "Alice", ("helpdesk",), ("agent",))
    login = user.login
    assert (login.issuer, login.acr, login.amr, login.authenticated_at) == (
        idp.issuer,
        "gold",
        ("pwd", "otp"),
        1_700_000_000,
    )
    assert token not in repr(user)


def test_an_access_token_names_its_user(idp: LoopbackProvider, make: Any) -> None:
    nested = {"realm_access": {"roles": ["agent"]}}
    user = by_access(make(roles=("realm_access", "roles")), idp.access_token(**nested))
    assert (user.id, user.roles, user.login.access) == ("f1f2", ("agent",), True)
    assert by_access(make(), idp.access_token(aud=[AUDIENCE, "account"])).id == "f1f2"
    bearer = make(access_tokens=AccessTokenKind.BEARER)
    claims = {"typ": "Bearer", "sid": "s-1", "client_id": None}
    assert by_access(bearer, idp.access_token({"typ": "JWT"}, **claims)).id == "f1f2"
    for change in ({"typ": None}, {"typ": "ID"}, {"typ": "Refresh"}, {"sid": None}, {"client_id": "batch"}):
        with pytest.raises(TokenInvalidError):
            by_access(bearer, idp.access_token({"typ": "JWT"}, **{**claims, **change}))


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        (OTHER, "PS256"),
    ],
    ids=["ES256", "EdDSA", "PS256"],
)
def test_each_configured_algorithm(idp: LoopbackProvider, make: Any, private: Any, algorithm: str) -> None:
    idp.keys = [("two", private)]
    assert by_id(make(algorithms=(algorithm,)), idp.id_token(alg=algorithm)).id == "f1f2"
    with pytest.raises(TokenInvalidError, match="not configured"):
        by_id(make(algorithms=("RS256",)), idp.id_token(alg=algorithm))


# -- attacks on tokens ------------------------------------------------------------------------------------------------

BAD_ID_TOKENS: dict[str, dict[str, Any]] = {
    "of another issuer": {"iss": "https://evil.example"},
    "for another client": {"aud": "other"},
    "for us and another client": {"aud": [CLIENT, "other"], "azp": CLIENT},
    "issued to another client": {"azp": "other"},
    "with another nonce": {"nonce": "n-2"},
    "without the nonce": {"nonce": None},
    "with a nonce of another type": {"nonce": 1},
    "of nobody": {"sub": None},
    "of an empty subject": {"sub": ""},
    "of a subject that looks like another": {"sub": "\u0430lice"},  # Cyrillic a
    "of a subject with a space": {"sub": "alice "},
    "of a subject too long": {"sub": "a" * 256},
    "that never expires": {"exp": None},
    "that expires in a text": {"exp": "9999999999"},
    "that expires in a fraction": {"exp": 9999999999.5},
    "without its time": {"iat": None},
    "from the future": {"iat": 4_000_000_000, "exp": 4_000_000_300},
    "not valid yet": {"nbf": 4_000_000_000},
    "that is an access token of Keycloak's": {"typ": "Bearer"},
    "with one text for groups": {"groups": "admin"},
    "with numbers for groups": {"groups": [1]},
    "with a mapping for groups": {"groups": {"admin": True}},
    "with no groups at all": {"groups": 0},
    "with groups elsewhere": {"_claim_names": {"groups": "src1"}},
    "with groups elsewhere, in no way": {"_claim_names": "groups"},
    "with more groups than it holds": {"hasgroups": True},
    "with more groups than it holds, as a text": {"hasgroups": "true"},
    "with more groups than it holds, and some": {"hasgroups": True, "groups": ["hr"]},
    "with a source of groups": {"groups:src1": "https://graph.example/groups"},
    "with roles elsewhere": {"_claim_names": {"roles": "src1"}},
    "with one text for means": {"amr": "pwd"},
    "with a number for the level": {"acr": 1},
    "that was logged in tomorrow": {"auth_time": 4_000_000_000},
}


@pytest.mark.parametrize("claims", BAD_ID_TOKENS.values(), ids=BAD_ID_TOKENS)
def test_an_id_token_is_refused(idp: LoopbackProvider, make: Any, claims: dict[str, Any]) -> None:
    token = idp.id_token(**claims)
    with pytest.raises(TokenInvalidError) as refusal:
        by_id(make(), token)
    assert token not in str(refusal.value)


BAD_ACCESS_TOKENS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "that is an ID token": ({"typ": "JWT"}, {"aud": CLIENT, "nonce": "n-1"}),
    "of the right audience with the type of ID tokens": ({"typ": "JWT"}, {}),
    "without a type": ({"typ": None}, {}),
    "for another audience": ({}, {"aud": "https://other.example"}),
    "for no audience": ({}, {"aud": None}),
    "without its client": ({}, {"client_id": None}),
    "without its id": ({}, {"jti": None}),
    "with a nonce": ({}, {"nonce": "n-1"}),
    "of a program": ({}, {"sub": "batch", "client_id": "batch"}),
    "of somebody else who acts": ({}, {"act": {"sub": "mallory"}}),
    "bound to a key": ({}, {"cnf": {"jkt": "x"}}),
    "of one role": ({}, {"roles": "admin"}),
}


@pytest.mark.parametrize(("headers", "claims"), BAD_ACCESS_TOKENS.values(), ids=BAD_ACCESS_TOKENS)
def test_an_access_token_is_refused(
    idp: LoopbackProvider, make: Any, headers: dict[str, Any], claims: dict[str, Any]
) -> None:
    with pytest.raises(TokenInvalidError):
        by_access(make(), idp.access_token(headers, **claims))


def test_neither_kind_of_token_passes_for_the_other(idp: LoopbackProvider, make: Any) -> None:
    for provider in (make(), make(access_tokens=AccessTokenKind.BEARER)):
        with pytest.raises(TokenInvalidError):
            by_access(provider, idp.id_token())
        with pytest.raises(TokenInvalidError):
            by_id(provider, idp.access_token(), None)
    with pytest.raises(TokenInvalidError):  # even with both audiences
        by_id(make(), idp.access_token(aud=[CLIENT, AUDIENCE]), None)
    with pytest.raises(TokenInvalidError, match="names no audience"):
        by_access(make(audience=""), idp.access_token(aud=""))


def test_an_expired_token_is_told_apart(idp: LoopbackProvider, make: Any) -> None:
    now = int(time.time())
    with pytest.raises(TokenExpiredError):
        by_id(make(), idp.id_token(iat=now - 300, exp=now - 1))


def test_a_header_chooses_nothing(idp: LoopbackProvider, make: Any) -> None:
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER.public_key()))
    for headers in (
        {"jku": "https://evil.example/keys"},
        {"jwk": public},
        {"x5u": "https://evil.example/cert"},
        {"crit": ["exp"]},
        {"kid": "nobody"},
    ):
        with pytest.raises(TokenInvalidError):
            by_id(make(), idp.id_token(headers))
    claims = jwt.decode(idp.id_token(), options={"verify_signature": False})
    unsigned = jwt.encode(claims, None, algorithm="none", headers={"kid": "one"})
    with pytest.raises(TokenInvalidError):
        by_id(make(), unsigned)
    idp.keys = [("one", OTHER)]
    forged = idp.id_token()
    idp.keys = [("one", loopback_provider.RSA_KEY)]
    with pytest.raises(TokenInvalidError):
        by_id(make(), forged)


def test_a_published_secret_signs_nothing(idp: LoopbackProvider, make: Any) -> None:
    secret = b"k" * 32
    idp.published = [{"kty": "oct", "k": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s", "kid": "one", "alg": "HS256"}]
    claims = jwt.decode(idp.id_token(), options={"verify_signature": False})
    forged = jwt.encode(claims, secret, algorithm="HS256", headers={"kid": "one"})
    with pytest.raises(TokenInvalidError):
        by_id(make(), forged)


def test_an_access_token_is_the_one_that_came_with_the_id_token(idp: LoopbackProvider, make: Any) -> None:
    access = idp.access_token()
    token = idp.id_token(at_hash=at_hash(access))
    assert by_id(make(), token, access_token=access).id == "f1f2"
    with pytest.raises(TokenInvalidError):
        by_id(make(), token, access_token=idp.access_token(jti="j-2"))


def test_an_email_counts_only_when_verified(idp: LoopbackProvider, make: Any) -> None:
    provider = make(user=UserClaim.EMAIL)
    assert by_id(provider, idp.id_token(email="alice@acme.example", email_verified=True)).id == "alice@acme.example"
    for claims in (
        {"email": "alice@acme.example"},
        {"email": "alice@acme.example", "email_verified": False},
        {"email": "alice@acme.example", "email_verified": "true"},
        {"email": "alice@\u0430cme.example", "email_verified": True},
        {"email_verified": True},
    ):
        with pytest.raises(TokenInvalidError):
            by_id(provider, idp.id_token(**claims))


def test_whoever_has_too_many_groups_is_told_the_way_out(idp: LoopbackProvider, make: Any) -> None:
    with pytest.raises(TokenInvalidError, match=r"groups out of the token.*assigned to the application"):
        by_id(make(), idp.id_token(hasgroups=True))
    elsewhere = idp.id_token(hasgroups=True, _claim_names={"groups": "src1"}, teams=["hr"])
    assert by_id(make(groups=("teams",)), elsewhere).groups == ("hr",)  # that claim is whole
    assert by_id(make(), idp.id_token(hasgroups=False, groups=["hr"])).groups == ("hr",)


def test_a_login_has_to_be_recent_and_strong_enough(idp: LoopbackProvider, make: Any) -> None:
    provider = make(max_age=60, acr=("gold", "platinum"))
    now = int(time.time())
    assert by_id(provider, idp.id_token(auth_time=now - 5, acr="gold"))
    for claims in ({"acr": "gold"}, {"acr": "gold", "auth_time": now - 61}, {"acr": "silver", "auth_time": now}):
        with pytest.raises(LoginRequiredError) as refusal:
            by_id(provider, idp.id_token(**claims))
        assert refusal.value.challenge == {"max_age": 60, "acr_values": "gold platinum"}


def test_a_login_is_not_pickled_and_a_copy_proves_what_its_token_proves(idp: LoopbackProvider, make: Any) -> None:
    user = by_id(make(), idp.id_token())
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(user.login)
    assert copy.copy(user).login == copy.deepcopy(user.login) == user.login
    assert copy.deepcopy(user.login).token is user.login.token


# -- attacks by providers ---------------------------------------------------------------------------------------------


def test_a_rotation_is_seen_with_its_first_token(idp: LoopbackProvider, make: Any, timer: Clock) -> None:
    provider = make()
    by_id(provider, idp.id_token())
    idp.keys = [("one", loopback_provider.RSA_KEY), ("two", OTHER)]
    timer.now += AGAIN
    assert by_id(provider, idp.id_token(key=1)).id == "f1f2"
    assert by_id(provider, idp.id_token(key=0)).id == "f1f2"  # both are published for a while
    idp.keys = [("two", OTHER)]
    timer.now += FRESH + 1
    idp.published = [jwk(OTHER, "two")]
    idp.keys = [("one", loopback_provider.RSA_KEY)]
    with pytest.raises(TokenInvalidError):
        by_id(provider, idp.id_token())


def test_unknown_names_do_not_make_us_ask_all_the_time(idp: LoopbackProvider, make: Any) -> None:
    provider = make()
    by_id(provider, idp.id_token())
    asked = idp.times_asked("jwks_uri")
    for number in range(20):
        with pytest.raises(TokenInvalidError):
            by_id(provider, idp.id_token({"kid": f"unknown-{number}"}))
    assert idp.times_asked("jwks_uri") == asked


def test_keys_go_on_for_a_while_when_the_provider_is_down(idp: LoopbackProvider, make: Any, timer: Clock) -> None:
    provider = make()
    by_id(provider, idp.id_token())
    idp.raw["openid-configuration"] = lambda handler: send(handler, 503, b"{}")
    timer.now += FRESH + 1
    assert by_id(provider, idp.id_token()).id == "f1f2"
    timer.now += GRACE
    with pytest.raises(IdentityProviderError):
        by_id(provider, idp.id_token())
    del idp.raw["openid-configuration"]
    timer.now += AGAIN
    assert by_id(provider, idp.id_token()).id == "f1f2"


def test_a_provider_that_hangs_holds_up_nobody_whose_key_is_known(
    idp: LoopbackProvider, make: Any, timer: Clock
) -> None:
    provider, asked, go_on = make(), threading.Event(), threading.Event()
    by_id(provider, idp.id_token())

    def hang(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        go_on.wait(5)
        send(handler, 503, b"{}")

    idp.raw["openid-configuration"] = hang
    timer.now += FRESH + 1
    first = threading.Thread(target=by_id, args=(provider, idp.id_token()))
    first.start()
    try:
        assert asked.wait(5)
        began = time.monotonic()
        assert by_id(provider, idp.id_token()).id == "f1f2"
        assert time.monotonic() - began < 1
    finally:
        go_on.set()
        first.join(5)


def test_a_provider_that_is_down_is_said_each_time_anew(idp: LoopbackProvider, make: Any) -> None:
    idp.raw["openid-configuration"] = lambda handler: send(handler, 503, b"{}")
    provider, errors = make(), list[IdentityProviderError]()
    for _ in range(3):
        with pytest.raises(IdentityProviderError) as refusal:
            provider.document()
        errors.append(refusal.value)
    assert len({id(error) for error in errors}) == 3  # one that is raised again keeps the frames of each time
    assert {error.error for error in errors} == {"http_503"}


def _redirect(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 302, b"", Location="http://127.0.0.1:1/keys")


def _huge(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b'{"keys": [' + b" " * 700_000 + b"]}")


def _packed(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, gzip.compress(b" " * 20_000_000), Content_Encoding="gzip")


BAD_ANSWERS = {
    "redirects": _redirect,
    "huge": _huge,
    "packed": _packed,
    "no JSON": lambda handler: send(handler, 200, b"<html>"),
    "no object": lambda handler: send(handler, 200, b"[]"),
    "gone": lambda handler: handler.close_connection,
    "an error": lambda handler: send(handler, 500, b"secret of the server"),
}


@pytest.mark.parametrize("name", ["openid-configuration", "jwks_uri"])
@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_provider_that_does_not_answer_as_one(idp: LoopbackProvider, make: Any, name: str, answer: Any) -> None:
    def closing(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        answer(handler)

    idp.raw[name] = closing
    with pytest.raises(IdentityProviderError) as refusal:
        by_id(make(), idp.id_token())
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b'HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"'])
def test_a_provider_that_answers_a_byte_at_a_time(
    idp: LoopbackProvider, make: Any, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zt_agents.identity.provider.over_http._LONGEST", 0.5)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(start)
        with contextlib.suppress(OSError):
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.05)

    idp.raw["openid-configuration"] = drip
    began = time.monotonic()
    with pytest.raises(IdentityProviderError):
        by_id(make(), idp.id_token())
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://keys.example/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://user@keys.example/jwks"},
        {"token_endpoint": "http://evil.example/token"},
        {"token_endpoint": 5},
    ],
    ids=str,
)
def test_a_document_that_is_wrong(idp: LoopbackProvider, make: Any, change: dict[str, Any]) -> None:
    idp.document.update(change)
    with pytest.raises(IdentityProviderError):
        by_id(make(), idp.id_token())


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_keys_that_are_not_for_this_are_passed_over(idp: LoopbackProvider, make: Any) -> None:
    good = jwk(loopback_provider.RSA_KEY, "one")
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER))
    idp.published = [
        {**good, "kid": "encrypts", "use": "enc"},
        jwk(small, "small"),
        {**private, "kid": "private"},
        {**jwk(OTHER, "leaking"), "p": private["p"]},
        {"kty": "RSA", "kid": "half", "n": "AQAB"},
        "no key",
        good,
    ]
    assert by_id(make(), idp.id_token()).id == "f1f2"
    unfit = [("encrypts", loopback_provider.RSA_KEY), ("private", OTHER), ("leaking", OTHER), ("small", small)]
    for kid, key in unfit:
        idp.keys = [(kid, key)]
        with pytest.raises(TokenInvalidError):
            by_id(make(), idp.id_token())


def test_too_many_keys_are_refused(idp: LoopbackProvider, make: Any) -> None:
    idp.published = [jwk(loopback_provider.RSA_KEY, "one"), *({"kty": "x"} for _ in range(64))]
    with pytest.raises(IdentityProviderError, match="no list of keys"):
        by_id(make(), idp.id_token())


@pytest.mark.parametrize("name", ["openid-configuration", "jwks_uri"])
def test_nobody_is_sent_elsewhere(idp: LoopbackProvider, make: Any, name: str) -> None:
    good = idp.document if name == "openid-configuration" else {"keys": [jwk(loopback_provider.RSA_KEY, "one")]}
    idp.raw[name] = lambda handler: send(handler, 302, b"", Location=f"{idp.issuer}/elsewhere")
    idp.raw["elsewhere"] = lambda handler: send(handler, 200, json.dumps(good).encode())
    with pytest.raises(IdentityProviderError):
        by_id(make(), idp.id_token())
    assert idp.times_asked("elsewhere") == 0


def test_no_proxy_is_taken_from_the_environment(idp: LoopbackProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    provider = IdentityProvider(ProviderTerms(issuer=idp.issuer, client_id=CLIENT))
    assert by_id(provider, idp.id_token()).id == "f1f2"
    provider.close()


def test_two_keys_of_one_name_are_refused(idp: LoopbackProvider, make: Any) -> None:
    idp.published = [jwk(loopback_provider.RSA_KEY, "one"), jwk(OTHER, "one")]
    with pytest.raises(IdentityProviderError, match="one name"):
        by_id(make(), idp.id_token())


def test_a_key_signs_only_what_it_says(idp: LoopbackProvider, make: Any) -> None:
    idp.published = [jwk(loopback_provider.RSA_KEY, "one", alg="PS256")]
    with pytest.raises(TokenInvalidError):
        by_id(make(algorithms=("RS256", "PS256")), idp.id_token())


@pytest.mark.parametrize(
    "issuer",
    [
        "http://login.acme.example",
        "http://127.0.0.1.evil.example",
        "ftp://x",
        "https://",
        "https://a@b",
        "https://x?y",
        "https://x#y",
        "x",
    ],
)
def test_an_issuer_that_may_not_be_one(issuer: str) -> None:
    with pytest.raises(ValueError, match="issuer"):
        checked_issuer(issuer)
