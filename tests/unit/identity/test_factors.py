"""Signed factors and checks: what they say comes back, and each single fault is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.decisions import SecondFactor
from zt_agents.errors import TokenInvalidError
from zt_agents.identity import AnswerClaims, ApprovalSigner, SigningKey
from zt_agents.identity.approving.factors import (
    CHECK_TYPE,
    FACTOR_TYPE,
    CheckClaims,
    FactorClaims,
    FactorKind,
    FactorSigner,
)
from zt_agents.identity.approving.one_time_codes import OneTimeSecret
from zt_agents.identity.approving.passkeys import Passkey

WORLD = {"issuer": "https://guard.acme.example", "audience": "guard"}
KEY = SigningKey.generate()
SIGNER = FactorSigner(**WORLD, key=KEY)
NOW = 1_800_000_000
SECRET = OneTimeSecret(b"12345678901234567890")
PASSKEY = Passkey(b"credential", b"key", "ES256", "acme.example", "https://approvals.acme.example", 7)
TOTP_FACTOR = FactorClaims("f-1", "dana", SECRET, NOW)
PASSKEY_FACTOR = FactorClaims("f-2", "dana", PASSKEY, NOW)
ANSWER: dict[str, Any] = {"request_id": "r-1", "binding_hash": "b-1", "approver": "dana", "approved": True}
CHECK = CheckClaims(**ANSWER, kind=FactorKind.TOTP, factor_id="f-1", issued_at=NOW)

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
moments = st.integers(0, 2**53)
secrets = st.binary(min_size=20, max_size=20).map(OneTimeSecret)
passkeys = st.builds(
    Passkey,
    credential_id=st.binary(min_size=1, max_size=64),
    public_key=st.binary(min_size=1, max_size=100),
    algorithm=st.sampled_from(["ES256", "EdDSA", "RS256"]),
    rp_id=ids,
    origin=ids,
    sign_count=st.integers(0, 2**32 - 1),
)
factors = st.builds(FactorClaims, ids, ids, secrets | passkeys, moments)


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def resigned(token: str, key: SigningKey, header: dict[str, Any] | None = None, /, **changes: Any) -> str:
    """Return *token* with other claims (``...`` leaves one out), signed as only a holder of *key* can."""
    claims = {name: value for name, value in {**claims_of(token), **changes}.items() if value is not ...}
    headers = {**jwt.get_unverified_header(token), **(header or {})}
    headers["kid"] = key.thumbprint if header is None or "kid" not in header else header["kid"]
    return jwt.encode(claims, key.private, algorithm="ES256", headers=headers)


@given(factors)
def test_what_a_factor_says_comes_back(claims: FactorClaims) -> None:
    assert SIGNER.verify_factor(SIGNER.factor(claims), approver=claims.approver) == claims


@given(ids, ids, ids, st.booleans(), ids, moments)
def test_what_a_check_says_comes_back(
    request: str, binding: str, approver: str, approved: bool, factor: str, moment: int
) -> None:
    claims = CheckClaims(request, binding, approver, approved, FactorKind.TOTP, factor, moment)
    again = SIGNER.verify_check(
        SIGNER.check(claims), request_id=request, binding_hash=binding, approver=approver, approved=approved
    )
    assert again == claims


def test_a_process_with_the_same_key_verifies_and_opens() -> None:
    other = FactorSigner(**WORLD, key=KEY)
    assert other.verify_factor(SIGNER.factor(TOTP_FACTOR), approver="dana") == TOTP_FACTOR
    assert other.verify_check(SIGNER.check(CHECK), **ANSWER) == CHECK


def test_a_factor_says_its_kind() -> None:
    assert (TOTP_FACTOR.kind, PASSKEY_FACTOR.kind) == (FactorKind.TOTP, FactorKind.PASSKEY)
    assert claims_of(SIGNER.factor(TOTP_FACTOR))["kind"] == "totp"
    assert claims_of(SIGNER.factor(PASSKEY_FACTOR))["kind"] == "passkey"


def test_the_kinds_are_those_that_a_policy_asks_for() -> None:
    assert [SecondFactor(kind) for kind in FactorKind] == [SecondFactor.TOTP, SecondFactor.PASSKEY]


def test_the_secret_is_in_no_token_and_no_two_tokens_are_alike() -> None:
    tokens = [SIGNER.factor(TOTP_FACTOR) for _ in range(3)]
    assert len({claims_of(token)["secret"] for token in tokens}) == 3
    for token in tokens:
        payload = json.dumps(claims_of(token))
        sealed = base64.urlsafe_b64decode(claims_of(token)["secret"])
        assert SECRET.reveal() not in sealed
        assert SECRET.base32 not in payload
    assert "1234" not in repr(TOTP_FACTOR)


@pytest.mark.parametrize("claims", [TOTP_FACTOR, PASSKEY_FACTOR], ids=["totp", "passkey"])
def test_a_factor_belongs_to_its_approver(claims: FactorClaims) -> None:
    with pytest.raises(TokenInvalidError, match="another approver"):
        SIGNER.verify_factor(SIGNER.factor(claims), approver="eve")


@pytest.mark.parametrize(
    "other",
    [{"request_id": "r-2"}, {"binding_hash": "b-2"}, {"approver": "eve"}, {"approved": False}],
    ids=lambda other: next(iter(other)),
)
def test_a_check_is_good_for_its_answer_alone(other: dict[str, Any]) -> None:
    token = SIGNER.check(CHECK)
    with pytest.raises(TokenInvalidError, match="another answer"):
        SIGNER.verify_check(token, **{**ANSWER, **other})


def test_no_check_is_signed_or_believed_for_a_passkey() -> None:
    with pytest.raises(ValueError, match="one-time code"):
        SIGNER.check(CheckClaims(**ANSWER, kind=FactorKind.PASSKEY, factor_id="f-2", issued_at=NOW))
    with pytest.raises(TokenInvalidError):
        SIGNER.verify_check(resigned(SIGNER.check(CHECK), KEY.derived(CHECK_TYPE), kind="passkey"), **ANSWER)


def verify(token: Any) -> None:
    SIGNER.verify_factor(token, approver="dana")


def verify_check(token: Any) -> None:
    SIGNER.verify_check(token, **ANSWER)


GOOD: dict[str, tuple[str, Callable[[Any], None], SigningKey]] = {
    "totp": (SIGNER.factor(TOTP_FACTOR), verify, KEY.derived(FACTOR_TYPE)),
    "passkey": (SIGNER.factor(PASSKEY_FACTOR), verify, KEY.derived(FACTOR_TYPE)),
    "check": (SIGNER.check(CHECK), verify_check, KEY.derived(CHECK_TYPE)),
}
each = pytest.mark.parametrize(("token", "use", "key"), GOOD.values(), ids=GOOD.keys())


@each
@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": ...},
        {"aud": "another"},
        {"aud": ["guard"]},
        {"aud": ...},
        {"sub": ...},
        {"sub": 1},
        {"iat": ...},
        {"iat": str(NOW)},
        {"iat": NOW + 0.5},
        {"iat": True},
        {"kind": ...},
        {"kind": "none"},
        {"kind": "TOTP"},
        {"kind": ["totp"]},
        {"exp": NOW + 60},
        {"exp": 1},
        {"nbf": NOW},
        {"anything": None},
    ],
    ids=str,
)
def test_one_wrong_claim_is_enough(
    token: str, use: Callable[[Any], None], key: SigningKey, changes: dict[str, Any]
) -> None:
    use(token)
    use(resigned(token, key))
    with pytest.raises(TokenInvalidError):
        use(resigned(token, key, **changes))


@each
def test_another_type_key_or_algorithm_is_refused(token: str, use: Callable[[Any], None], key: SigningKey) -> None:
    forger = SigningKey.generate()
    unsigned = jwt.encode(
        claims_of(token), None, algorithm="none", headers=jwt.get_unverified_header(token) | {"alg": "none"}
    )
    header, payload, signature = token.split(".")
    for wrong in (
        resigned(token, key, {"typ": "JWT"}),
        resigned(token, key, {"typ": "zt-answer+jwt"}),
        resigned(token, key, {"kid": KEY.thumbprint}),
        resigned(token, forger),
        resigned(token, forger, {"kid": key.thumbprint}),
        resigned(token, KEY),
        resigned(token, KEY, {"kid": key.thumbprint}),
        unsigned,
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature[:-4]}AAAA",
        f"{header}.{payload}",
        token + "." + signature,
        "",
        "a.b.c",
        "x" * 100_000,
        token.encode(),
        None,
    ):
        with pytest.raises(TokenInvalidError):
            use(wrong)


def test_no_kind_of_token_passes_for_another() -> None:
    approvals = ApprovalSigner(**WORLD, key=KEY)
    answer = approvals.answer(AnswerClaims("b-1", "dana", (), True, NOW))
    factor, check = SIGNER.factor(TOTP_FACTOR), SIGNER.check(CHECK)
    for wrong, use in (
        (check, verify),
        (answer, verify),
        (factor, verify_check),
        (answer, verify_check),
        (factor, approvals.verify_answer),
        (check, approvals.verify_answer),
    ):
        with pytest.raises(TokenInvalidError):
            use(wrong)


FACTOR_KEY = KEY.derived(FACTOR_TYPE)
TOTP_TOKEN, PASSKEY_TOKEN = SIGNER.factor(TOTP_FACTOR), SIGNER.factor(PASSKEY_FACTOR)
SEALED = claims_of(TOTP_TOKEN)["secret"]
SAID = claims_of(PASSKEY_TOKEN)["passkey"]


@pytest.mark.parametrize(
    ("token", "changes"),
    [
        (TOTP_TOKEN, {"kind": "passkey"}),
        (PASSKEY_TOKEN, {"kind": "totp"}),
        (TOTP_TOKEN, {"kind": "passkey", "passkey": SAID}),
        (PASSKEY_TOKEN, {"kind": "totp", "secret": SEALED}),
        (TOTP_TOKEN, {"passkey": SAID}),
        (TOTP_TOKEN, {"secret": ...}),
        (TOTP_TOKEN, {"secret": None}),
        (TOTP_TOKEN, {"secret": ""}),
        (TOTP_TOKEN, {"secret": SEALED[:-4]}),
        (TOTP_TOKEN, {"secret": SEALED[:16]}),
        (TOTP_TOKEN, {"secret": SEALED + "\n"}),
        (TOTP_TOKEN, {"secret": "ü" + SEALED}),
        (TOTP_TOKEN, {"jti": ""}),
        (PASSKEY_TOKEN, {"jti": ""}),
        (TOTP_TOKEN, {"jti": ...}),
        (TOTP_TOKEN, {"jti": 1}),
        (PASSKEY_TOKEN, {"passkey": ...}),
        (PASSKEY_TOKEN, {"passkey": "credential"}),
        (PASSKEY_TOKEN, {"passkey": {}}),
        *((PASSKEY_TOKEN, {"passkey": {name: value for name, value in SAID.items() if name != left}}) for left in SAID),
        *((PASSKEY_TOKEN, {"passkey": {**SAID, name: None}}) for name in SAID),
        (PASSKEY_TOKEN, {"passkey": {**SAID, "alg": "none"}}),
        (PASSKEY_TOKEN, {"passkey": {**SAID, "alg": "HS256"}}),
        (PASSKEY_TOKEN, {"passkey": {**SAID, "count": True}}),
        (PASSKEY_TOKEN, {"passkey": {**SAID, "count": 7.0}}),
        (PASSKEY_TOKEN, {"passkey": {**SAID, "id": "not base64!"}}),
        (PASSKEY_TOKEN, {"passkey": {**SAID, "more": 1}}),
    ],
    ids=lambda value: "of" if isinstance(value, str) else None,
)
def test_a_factor_says_one_thing_in_one_form(token: str, changes: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalidError):
        verify(resigned(token, FACTOR_KEY, **changes))


@pytest.mark.parametrize("name", ["request", "binding", "sub", "factor"])
@pytest.mark.parametrize("value", [..., None, 1, [], ""])
def test_a_check_says_everything(name: str, value: Any) -> None:
    with pytest.raises(TokenInvalidError):
        verify_check(resigned(SIGNER.check(CHECK), KEY.derived(CHECK_TYPE), **{name: value}))


@pytest.mark.parametrize("value", [..., None, 1, "true", "True", [True]])
def test_a_check_s_decision_is_a_boolean(value: Any) -> None:
    with pytest.raises(TokenInvalidError):
        verify_check(resigned(SIGNER.check(CHECK), KEY.derived(CHECK_TYPE), approved=value))


def test_a_secret_opens_nowhere_but_in_its_place() -> None:
    """Also for who got hold of the key that signs, and moves the ciphertext: it is bound by the encryption itself."""
    for changes in ({"sub": "eve"}, {"jti": "f-9"}):
        moved = resigned(TOTP_TOKEN, FACTOR_KEY, **changes)
        with pytest.raises(TokenInvalidError, match="does not open"):
            SIGNER.verify_factor(moved, approver=changes.get("sub", "dana"))
    elsewhere = FactorSigner(issuer="https://other.example", audience="guard", key=KEY)
    with pytest.raises(TokenInvalidError, match="does not open"):
        elsewhere.verify_factor(resigned(TOTP_TOKEN, FACTOR_KEY, iss="https://other.example"), approver="dana")
    stranger = SigningKey.generate()
    copied = resigned(TOTP_TOKEN, stranger.derived(FACTOR_TYPE))
    with pytest.raises(TokenInvalidError, match="does not open"):
        FactorSigner(**WORLD, key=stranger).verify_factor(copied, approver="dana")


@given(st.data())
def test_any_changed_bit_of_a_secret_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(base64.urlsafe_b64decode(SEALED))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    changed = base64.urlsafe_b64encode(bytes(raw)).decode()
    with pytest.raises(TokenInvalidError, match="does not open"):
        verify(resigned(TOTP_TOKEN, FACTOR_KEY, secret=changed))


@given(st.sampled_from([TOTP_TOKEN, PASSKEY_TOKEN, GOOD["check"][0]]), st.data())
def test_any_changed_character_of_a_token_is_noticed(token: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(token) - 3))  # the last two may carry bits that base64url leaves unused
    other = data.draw(st.sampled_from(sorted(set("ABCDwxyz0189-_.=") - {token[at]})))
    use = verify_check if token == GOOD["check"][0] else verify
    with pytest.raises(TokenInvalidError):
        use(token[:at] + other + token[at + 1 :])


def test_a_factor_too_large_for_a_token_is_not_signed() -> None:
    """Else it would be enrolled, and refused each time it is needed."""
    large = Passkey(b"x" * 20_000, b"key", "ES256", "acme.example", "https://approvals.acme.example", 0)
    with pytest.raises(ValueError, match="room"):
        SIGNER.factor(FactorClaims("f-3", "dana", large, NOW))
