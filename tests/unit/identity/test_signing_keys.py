"""Keys of both kinds, and what a header may not do: each attack is a token that some verifier has accepted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.errors import ConfigurationError, TokenInvalidError
from zt_agents.identity import KeyRing, SigningKey, VerificationKey
from zt_agents.identity.signing import jws

KIND = "zt-test+jwt"
NOW = 1_760_000_000.0
KEYS = {algorithm: SigningKey.generate(algorithm) for algorithm in ("ES256", "EdDSA")}
CLAIMS = {"iss": "i", "aud": "a", "sub": "alice"}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(key: SigningKey, **header: Any) -> str:
    """Return a token with a header of its own, signed as *key* signs whatever the header says."""
    values = {"alg": key.algorithm, "typ": KIND, "kid": key.thumbprint, **header}
    signed = f"{b64(json.dumps(values).encode())}.{b64(json.dumps(CLAIMS).encode())}"
    good = jws.sign(KIND, key, CLAIMS)
    if not header:
        return good
    algorithm = jwt.get_algorithm_by_name(key.algorithm)
    return f"{signed}.{b64(algorithm.sign(signed.encode(), key.private))}"


def verify(text: object, keys: VerificationKey | KeyRing) -> dict[str, Any]:
    return jws.verified(text, KIND, keys, issuer="i", audience="a", require=("sub",), now=NOW)


@pytest.fixture(params=sorted(KEYS))
def key(request: pytest.FixtureRequest) -> SigningKey:
    return KEYS[request.param]


def test_each_kind_of_key_signs_and_verifies_and_is_derived(key: SigningKey) -> None:
    assert verify(jws.sign(KIND, key, CLAIMS), key.verification) == CLAIMS
    ring = KeyRing.of(key).for_kind(KIND)
    signed = jws.sign(KIND, ring.current(NOW), CLAIMS)
    assert verify(signed, ring) == CLAIMS
    assert ring.current(NOW).algorithm == key.algorithm
    with pytest.raises(TokenInvalidError):
        verify(signed, KeyRing.of(key))
    with pytest.raises(TokenInvalidError):
        verify(signed, KeyRing.of(key).for_kind("zt-other+jwt"))


def test_a_key_survives_its_pem(key: SigningKey) -> None:
    again = SigningKey.from_pem(key.pem)
    assert (again.thumbprint, again.algorithm) == (key.thumbprint, key.algorithm)
    assert again.derived("x").thumbprint == key.derived("x").thumbprint


def test_a_jwk_has_nothing_private_and_is_read_back(key: SigningKey) -> None:
    assert set(key.jwk) <= {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert VerificationKey.from_jwk(key.jwk) == key.verification
    assert KeyRing.of(key).jwks(NOW) == {"keys": [key.jwk]}


def test_the_thumbprint_is_that_of_the_standard() -> None:
    # RFC 8037, appendix A.3.
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert VerificationKey.from_jwk(jwk).kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_signature_is_that_of_the_standard() -> None:
    # RFC 8037, appendix A.4: Ed25519 is deterministic, so that a mistake in what is signed shows.
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    assert b64(key.private.sign(signed)) == signature  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": KEYS["ES256"].jwk},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/x"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"], "exp": 1},
        {"b64": True},
        {"typ": "at+jwt"},
        {"typ": KIND.upper()},
        {"kid": "../../etc/passwd"},
        {"kid": ""},
        {"kid": None},
        {"kid": ["a"]},
        {"alg": "none"},
    ],
)
def test_a_header_brings_nothing_and_chooses_nothing(key: SigningKey, extra: dict[str, Any]) -> None:
    assert verify(token(key), key.verification) == CLAIMS
    with pytest.raises(TokenInvalidError):
        verify(token(key, **extra), key.verification)


def test_an_algorithm_is_not_taken_for_another(key: SigningKey) -> None:
    (other,) = (k for k in KEYS.values() if k is not key)
    for forged in (token(key, alg=other.algorithm), token(other, kid=key.thumbprint, alg=key.algorithm)):
        with pytest.raises(TokenInvalidError):
            verify(forged, key.verification)
    with pytest.raises(TokenInvalidError):
        verify(token(other, kid=key.thumbprint), key.verification)


def test_a_public_key_is_no_shared_secret(key: SigningKey) -> None:
    header = b64(json.dumps({"alg": "HS256", "typ": KIND, "kid": key.thumbprint}).encode())
    signed = f"{header}.{b64(json.dumps(CLAIMS).encode())}"
    for encoding in (Encoding.PEM, Encoding.DER):
        secret = key.public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        forged = f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"
        with pytest.raises(TokenInvalidError):
            verify(forged, key.verification)


def test_a_ring_is_asked_for_a_moment(key: SigningKey) -> None:
    with pytest.raises(ValueError, match="moment"):
        jws.verified(token(key), KIND, KeyRing.of(key), issuer="i", audience="a", require=())


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "text",
        {},
        {"kty": "oct", "k": "c2VjcmV0"},
        {**KEYS["ES256"].jwk, "d": "AAAA"},
        {**KEYS["EdDSA"].jwk, "d": "AAAA"},
        {**KEYS["EdDSA"].jwk, "y": "AAAA"},
        {**KEYS["EdDSA"].jwk, "x": KEYS["EdDSA"].jwk["x"] + "="},
        {**KEYS["EdDSA"].jwk, "x": "AAAA"},
        {**KEYS["EdDSA"].jwk, "alg": "ES256"},
        {**KEYS["ES256"].jwk, "alg": "HS256"},
        {**KEYS["ES256"].jwk, "use": "enc"},
        {**KEYS["ES256"].jwk, "crv": "secp256k1"},
        {**KEYS["ES256"].jwk, "x": 7},
        {**KEYS["ES256"].jwk, "y": KEYS["ES256"].jwk["x"]},
        {**KEYS["ES256"].jwk, "x5u": "https://evil.example"},
        {"kty": ["EC"], "crv": "P-256"},
    ],
)
def test_what_is_no_public_key_is_refused(wrong: object) -> None:
    with pytest.raises(TokenInvalidError):
        VerificationKey.from_jwk(wrong)


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize(
    "y",
    [
        pytest.param(0, id="order 4"),
        pytest.param(1, id="order 1"),
        pytest.param(2**255 - 20, id="order 2"),
        pytest.param(2**255 - 19, id="order 4, written otherwise"),
        pytest.param(2**255 - 18, id="order 1, written otherwise"),
        pytest.param(0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826, id="order 8"),
        pytest.param(0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7, id="order 8, the other"),
    ],
)
def test_a_key_for_which_anybody_can_sign_is_refused(y: int, sign: int) -> None:
    raw = (y | sign << 255).to_bytes(32, "little")
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(TokenInvalidError):
        VerificationKey.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": x})


def test_a_key_has_the_name_it_has_and_no_other() -> None:
    claimed = {**KEYS["ES256"].jwk, "kid": KEYS["EdDSA"].thumbprint}
    assert VerificationKey.from_jwk(claimed).kid == KEYS["ES256"].thumbprint


def test_other_curves_and_algorithms_are_refused() -> None:
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ConfigurationError):
        SigningKey.from_pem(pem)
    with pytest.raises(ValueError, match="ES256 or EdDSA"):
        SigningKey.generate("RS256")


@given(seed=st.binary(min_size=32, max_size=32), purposes=st.lists(st.text(max_size=20), min_size=2, unique=True))
def test_keys_for_two_purposes_are_never_the_same(seed: bytes, purposes: list[str]) -> None:
    key = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    derived = [key.derived(purpose).thumbprint for purpose in purposes]
    assert len({key.thumbprint, *derived}) == len(purposes) + 1
