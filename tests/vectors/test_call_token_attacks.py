"""The attacks on JWTs that are in the books, each against a service that verifies calls' tokens, each with its answer.

Sources: RFC 8725 (sections 2 and 3), RFC 7515 (10), RFC 7800, RFC 8693, and the advisories of JWT libraries.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from call_token_parts import (
    ARGUMENTS,
    AUDIENCE,
    CLAIMS,
    ISSUER,
    KEY,
    NOW,
    ROOT,
    SIGNER,
    b64,
    changed,
    check,
    claims,
    header,
    mint,
    signed,
    verifier,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from zt_agents.credentials import CallTokenError, CallTokenReason, KeySource, MemoryReplays, StaticKeys
from zt_agents.identity import Agent, BaggageSigner, SigningKey, TokenIssuer, User
from zt_agents.identity.signing.public_keys import VerificationKey
from zt_agents.stores.sqlite_replays import SqliteReplays

R = CallTokenReason
STRANGER = SigningKey.generate()
AGENT = Agent("helpdesk", "spiffe://acme.example/agent/helpdesk", "1", "dana@acme.example", "tests")


def hmac_signed(head: dict[str, Any], secret: bytes) -> str:
    text = f"{b64(head)}.{b64(claims())}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def with_public_pem() -> bytes:
    return KEY.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def session_token(key: SigningKey) -> str:
    issuer = TokenIssuer(issuer=ISSUER, audience=AUDIENCE, keys=key)
    return issuer.issue(agent=AGENT, user=User("alice@acme.example"), task="", ttl=60, now=NOW)[0]


def baggage() -> str:
    issuer = TokenIssuer(issuer=ISSUER, audience=AUDIENCE, keys=ROOT)
    _, said = issuer.issue(agent=AGENT, user=User("alice@acme.example"), task="", ttl=60, now=NOW)
    return BaggageSigner(issuer=ISSUER, key=ROOT).sign(said)


def twice(name: str, value: str) -> bytes:
    """Return the claims with *name* there twice: the true value last, which most readers take."""
    return b"{" + f'"{name}":{value},'.encode() + json.dumps(claims()).encode()[1:]


def actors(count: int) -> dict[str, Any]:
    act = claims()["act"]
    inner = {name: value for name, value in act.items() if name != "act"}
    built = dict(inner, sub="spiffe://acme.example/agent/first")
    for _ in range(count - 2):
        built = dict(inner, act=built)
    return dict(inner, act=built)


def other_signature(token: str) -> str:
    """Return *token* with spare bits set at its end: the same bytes, in another text."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


HUGE = "A" * 9_000

ATTACKS: list[tuple[str, Callable[[], str | None], CallTokenReason]] = [
    ("no token", lambda: None, R.MISSING),
    ("an empty one", lambda: "", R.MISSING),
    ("noise", lambda: "not a token", R.MALFORMED),
    ("two parts", lambda: ".".join(mint().split(".")[:2]), R.MALFORMED),
    ("four parts", lambda: mint() + ".e30", R.MALFORMED),
    ("five parts, as if encrypted", lambda: mint() + ".e30.e30", R.MALFORMED),
    ("letters beyond ASCII", lambda: mint() + "é", R.MALFORMED),
    ("white space before it", lambda: " " + mint(), R.MALFORMED),
    ("white space after it", lambda: mint() + "\n", R.MALFORMED),
    ("padding at its end", lambda: mint() + "==", R.MALFORMED),
    ("spare bits at its end", lambda: other_signature(mint()), R.MALFORMED),
    ("a header of nothing", lambda: "." + mint().split(".", 1)[1], R.MALFORMED),
    ("a header that is a list", lambda: signed(b"[]", claims()), R.MALFORMED),
    ("claims that are a list", lambda: signed(header(), b"[]"), R.MALFORMED),
    ("claims that are no JSON", lambda: signed(header(), b"{"), R.MALFORMED),
    ("claims that are no Unicode", lambda: signed(header(), b'{"a":"\xff"}'), R.MALFORMED),
    ("claims nested without end", lambda: signed(header(), nested(1_000)), R.MALFORMED),
    ("claims with NaN", lambda: signed(header(), twice("x", "NaN")), R.MALFORMED),
    ("a number of 5,000 digits", lambda: signed(header(), twice("x", "9" * 5_000)), R.MALFORMED),
    ("larger than a token may be", lambda: changed(owner=HUGE), R.MALFORMED),
    # -- the algorithm
    ("alg none", lambda: f"{b64(header(alg='none'))}.{b64(claims())}.", R.WRONG_ALGORITHM),
    ("alg None", lambda: f"{b64(header(alg='None'))}.{b64(claims())}.", R.WRONG_ALGORITHM),
    ("alg none, the signature kept", lambda: signed(header(alg="none"), claims()), R.WRONG_ALGORITHM),
    ("no alg", lambda: signed(header(alg=None), claims()), R.MALFORMED),
    ("alg that is no text", lambda: signed(header(alg=256), claims()), R.MALFORMED),
    ("HS256 with the public key", lambda: hmac_signed(header(alg="HS256"), with_public_pem()), R.WRONG_ALGORITHM),
    ("HS256 behind ES256", lambda: hmac_signed(header(), with_public_pem()), R.BAD_SIGNATURE),
    ("RS256", lambda: signed(header(alg="RS256"), claims()), R.WRONG_ALGORITHM),
    ("ES384", lambda: signed(header(alg="ES384"), claims()), R.WRONG_ALGORITHM),
    ("EdDSA for a P-256 key", lambda: signed(header(alg="EdDSA"), claims()), R.WRONG_ALGORITHM),
    ("es256 in small letters", lambda: signed(header(alg="es256"), claims()), R.WRONG_ALGORITHM),
    ("no signature", lambda: mint().rpartition(".")[0] + ".", R.BAD_SIGNATURE),
    ("a signature of zeros", lambda: mint().rpartition(".")[0] + "." + b64(bytes(64)), R.BAD_SIGNATURE),
    ("another token's signature", lambda: mint().rpartition(".")[0] + "." + changed(tool="x").split(".")[2],
     R.BAD_SIGNATURE),
    # -- the key
    ("a key nobody knows", lambda: signed(header(kid=STRANGER.thumbprint), claims(), STRANGER), R.UNKNOWN_KEY),
    ("another key under our name", lambda: signed(header(), claims(), STRANGER), R.BAD_SIGNATURE),
    ("no kid", lambda: signed(header(kid=None), claims()), R.MALFORMED),
    ("kid that is a path", lambda: signed(header(kid="../../dev/null"), claims()), R.UNKNOWN_KEY),
    ("kid that is SQL", lambda: signed(header(kid="' UNION SELECT 'x"), claims()), R.UNKNOWN_KEY),
    ("kid that is a list", lambda: signed(header(kid=[KEY.thumbprint]), claims()), R.MALFORMED),
    ("jwk in the header", lambda: signed(header(jwk=STRANGER.jwk), claims(), STRANGER), R.MALFORMED),
    ("jku in the header", lambda: signed(header(jku="https://evil.example/jwks"), claims(), STRANGER), R.MALFORMED),
    ("x5u in the header", lambda: signed(header(x5u="https://evil.example/cert"), claims(), STRANGER), R.MALFORMED),
    ("x5c in the header", lambda: signed(header(x5c=["MII"]), claims(), STRANGER), R.MALFORMED),
    ("crit in the header", lambda: signed(header(crit=["exp"], exp=1), claims()), R.MALFORMED),
    ("b64 false in the header", lambda: signed(header(b64=False, crit=["b64"]), claims()), R.MALFORMED),
    ("zip in the header", lambda: signed(header(zip="DEF"), claims()), R.MALFORMED),
    ("cty JWT: one within another", lambda: signed(header(cty="JWT"), b64(mint().encode()).encode()), R.MALFORMED),
    ("one token as another's claims", lambda: signed(header(), mint().encode()), R.MALFORMED),
    ("a name twice in the header", lambda: signed(b'{"typ":"x",' + json.dumps(header()).encode()[1:], claims()),
     R.MALFORMED),
    # -- the kind
    ("no typ", lambda: signed(header(typ=None), claims()), R.WRONG_TYPE),
    ("typ JWT", lambda: signed(header(typ="JWT"), claims()), R.WRONG_TYPE),
    ("typ of a session's token", lambda: signed(header(typ="at+jwt"), claims()), R.WRONG_TYPE),
    ("typ with its prefix", lambda: signed(header(typ="application/zt-call+jwt"), claims()), R.WRONG_TYPE),
    ("typ in capitals", lambda: signed(header(typ="ZT-CALL+JWT"), claims()), R.WRONG_TYPE),
    ("a session's token", lambda: session_token(ROOT), R.WRONG_TYPE),
    ("a session's token of the call key", lambda: session_token(KEY), R.WRONG_TYPE),
    ("a session's claims as a call's", lambda: signed(header(kid=ROOT.thumbprint), claims(), ROOT), R.UNKNOWN_KEY),
    ("baggage", baggage, R.WRONG_TYPE),
    ("a DPoP proof", lambda: signed(header(typ="dpop+jwt"), claims()), R.WRONG_TYPE),
    # -- issuer and audience
    ("another issuer", lambda: changed(iss="spiffe://evil.example/zt-agents"), R.UNKNOWN_ISSUER),
    ("no issuer", lambda: changed(iss=None), R.UNKNOWN_ISSUER),
    ("two issuers", lambda: changed(iss=[ISSUER, "x"]), R.UNKNOWN_ISSUER),
    ("another audience", lambda: mint(audience="https://hr.acme.example"), R.WRONG_AUDIENCE),
    ("no audience", lambda: changed(aud=None), R.WRONG_AUDIENCE),
    ("a list of audiences", lambda: changed(aud=[AUDIENCE, "https://hr.acme.example"]), R.WRONG_AUDIENCE),
    ("a list of one audience", lambda: changed(aud=[AUDIENCE]), R.WRONG_AUDIENCE),
    ("an audience that begins like ours", lambda: mint(audience=AUDIENCE + ".evil.example"), R.WRONG_AUDIENCE),
    ("an audience with a slash more", lambda: mint(audience=AUDIENCE + "/"), R.WRONG_AUDIENCE),
    # -- time
    ("expired", lambda: mint(issued_at=int(NOW) - 66, expires_at=int(NOW) - 6), R.EXPIRED),
    ("expired, by a moment beyond the leeway", lambda: mint(issued_at=int(NOW) - 65, expires_at=int(NOW) - 5),
     R.EXPIRED),
    ("not valid yet", lambda: mint(issued_at=int(NOW) + 6, expires_at=int(NOW) + 66), R.NOT_YET_VALID),
    ("good for an hour", lambda: changed(exp=int(NOW) + 3_600), R.MALFORMED),
    ("good for 61 seconds", lambda: changed(exp=int(NOW) + 61), R.MALFORMED),
    ("ends before it begins", lambda: changed(exp=int(NOW) - 1), R.MALFORMED),
    ("no expiry", lambda: changed(exp=None), R.MALFORMED),
    ("expiry as text", lambda: changed(exp=str(int(NOW) + 60)), R.MALFORMED),
    ("expiry as a fraction", lambda: changed(exp=NOW + 59.5), R.MALFORMED),
    ("expiry that is true", lambda: changed(iat=0, nbf=0, exp=True), R.MALFORMED),
    ("no nbf", lambda: changed(nbf=None), R.MALFORMED),
    ("nbf another than iat", lambda: changed(nbf=int(NOW) - 60), R.MALFORMED),
    # -- what it says
    ("another tool", lambda: mint(tool="delete_ticket"), R.WRONG_TOOL),
    ("the tool in capitals", lambda: mint(tool="Update_Ticket"), R.WRONG_TOOL),
    ("the hash of other arguments", lambda: mint(args_hash="x"), R.OTHER_ARGUMENTS),
    ("another token's hash", lambda: mint(token_id="t-2"), R.OTHER_ARGUMENTS),
    ("aud there twice", lambda: signed(header(), twice("aud", '"https://hr.acme.example"')), R.MALFORMED),
    ("exp there twice", lambda: signed(header(), twice("exp", "9999999999")), R.MALFORMED),
    ("a name twice, once escaped", lambda: signed(header(), twice("\\u0061ud", '"x"')), R.MALFORMED),
    ("no jti", lambda: changed(jti=None), R.MALFORMED),
    ("an empty jti", lambda: changed(jti=""), R.MALFORMED),
    ("a claim nobody knows", lambda: changed(admin=True), R.MALFORMED),
    ("sub that is a list", lambda: changed(sub=["alice@acme.example", "bob@acme.example"]), R.MALFORMED),
    ("authorization for two things", lambda: changed(authorization_details=claims()["authorization_details"] * 2),
     R.MALFORMED),
    ("authorization of another type", lambda: changed(authorization_details=[{"type": "payment"}]), R.MALFORMED),
    ("authorization with more in it",
     lambda: changed(authorization_details=[{**claims()["authorization_details"][0], "datatypes": ["all"]}]),
     R.MALFORMED),
    # -- who acts
    ("no actor", lambda: changed(act=None), R.MALFORMED),
    ("an actor who is not the client", lambda: changed(client_id="spiffe://acme.example/agent/other"), R.MALFORMED),
    ("the session of another", lambda: changed(sid="s-9"), R.MALFORMED),
    ("an actor of another issuer", lambda: changed(act={**claims()["act"], "iss": "https://evil.example"}),
     R.MALFORMED),
    ("an actor who says more", lambda: changed(act={**claims()["act"], "roles": ["admin"]}), R.MALFORMED),
    ("an actor within that is nothing", lambda: changed(act={**claims()["act"], "act": None}), R.MALFORMED),
    ("nine actors", lambda: changed(act=actors(9)), R.MALFORMED),
    # -- who may bring it
    ("bound to a key, no proof", lambda: mint(key_thumbprint=STRANGER.thumbprint), R.DPOP_MISSING),
    ("bound to a certificate, none shown", lambda: mint(certificate_thumbprint="x"), R.CERTIFICATE_WRONG),
    ("bound in a way nobody knows", lambda: changed(cnf={"kid": "x"}), R.MALFORMED),
    ("bound twice", lambda: changed(cnf={"jkt": "x", "x5t#S256": "y"}), R.MALFORMED),
    ("bound to nothing", lambda: changed(cnf={}), R.MALFORMED),
    ("bound to an empty thumbprint", lambda: changed(cnf={"jkt": ""}), R.MALFORMED),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "reason"), [pytest.param(forge, why, id=name) for name, forge, why in ATTACKS])
def test_each_attack_is_refused_for_its_own_reason(attack: Callable[[], str | None], reason: CallTokenReason) -> None:
    replays = MemoryReplays()
    with pytest.raises(CallTokenError) as refusal:
        check(attack(), verifier(replays=replays))
    assert refusal.value.reason is reason
    assert not replays._admitted, "a token that was refused is used up"


def test_the_good_token_is_good() -> None:
    assert check(mint()) == CLAIMS


def test_eight_actors_are_not_too_many() -> None:
    assert len(check(changed(act=actors(8))).agents) == 8


def test_a_token_is_used_once() -> None:
    service, token = verifier(), mint()
    check(token, service)
    with pytest.raises(CallTokenError) as refusal:
        check(token, service)
    assert refusal.value.reason is R.REPLAYED


def test_services_that_share_a_store_need_not_agree_about_their_clocks(tmp_path: Path) -> None:
    replays, token = SqliteReplays(tmp_path / "replays.db"), mint()
    check(token, verifier(replays=replays, leeway=0))
    with pytest.raises(CallTokenError) as refusal:
        check(token, verifier(replays=replays, leeway=30, clock=lambda: NOW + 75))
    assert refusal.value.reason is R.REPLAYED


def test_a_key_that_was_withdrawn_lets_nothing_in_that_was_let_in_before() -> None:
    class Keys:
        known: KeySource = StaticKeys(SIGNER.jwks(NOW))

        def find(self, kid: str, now: float) -> VerificationKey | None:
            return self.known.find(kid, now)

    keys, token = Keys(), mint()
    service = verifier(keys=keys, uses=5)
    check(token, service)
    check(token, service)
    keys.known = StaticKeys({"keys": []})
    with pytest.raises(CallTokenError) as refusal:
        check(token, service)
    assert refusal.value.reason is R.UNKNOWN_KEY


@pytest.mark.parametrize("forged", [["x"], {"a": 1}, 5, b"x", True])
def test_what_is_no_text_is_no_token(forged: Any) -> None:
    with pytest.raises(CallTokenError) as refusal:
        check(forged)
    assert refusal.value.reason is R.MALFORMED


def test_a_second_signature_over_the_same_claims_is_a_replay_too() -> None:
    service = verifier()
    check(signed(header(), claims()), service)
    with pytest.raises(CallTokenError) as refusal:
        check(signed(header(), claims()), service)
    assert refusal.value.reason is R.REPLAYED


def test_a_token_that_was_not_for_this_call_can_still_be_used_for_its_own() -> None:
    service, token = verifier(), mint()
    for wrong in ({"tool": "delete_ticket"}, {"arguments": {**ARGUMENTS, "ticket_id": 6}}):
        with pytest.raises(CallTokenError):
            check(token, service, **wrong)
    check(token, service)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"ticket_id": 6, "note": "naïve"}, id="another value"),
        pytest.param({"ticket_id": "5", "note": "naïve"}, id="text for a number"),
        pytest.param({"ticket_id": True, "note": "naïve"}, id="true for a number"),
        pytest.param({"ticket_id": 5}, id="one less"),
        pytest.param({"ticket_id": 5, "note": "naïve", "force": False}, id="one more"),
        pytest.param({"ticket_id": 5, "note": "nai\u0308ve"}, id="another spelling of the same letter"),
        pytest.param({}, id="none"),
        pytest.param({"ticket_id": float("nan"), "note": "naïve"}, id="NaN"),
    ],
)
def test_other_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(CallTokenError) as refusal:
        check(mint(), arguments=arguments)
    assert refusal.value.reason is R.OTHER_ARGUMENTS


def test_arguments_are_the_same_in_any_order() -> None:
    assert check(mint(), arguments=dict(reversed(ARGUMENTS.items())))


def test_a_service_that_wants_bound_tokens_takes_no_other() -> None:
    with pytest.raises(CallTokenError) as refusal:
        check(mint(), verifier(bound=True))
    assert refusal.value.reason is R.UNBOUND
