"""CallTokens against PyJWT alone, on the same tokens in turns: ``python -m tests.benchmarks tokens``.

What PyJWT is asked to do is what it can: the signature, issuer, audience, the times, and that the claims are there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jwt

from tests.benchmarks.tables import Table, comparison
from tests.benchmarks.timing import ROUNDS, Subject, take_turns
from tests.call_token_parts import ARGUMENTS, AUDIENCE, CLAIMS, ISSUER
from zt_agents._internal.canonical import encode
from zt_agents.credentials import UNSAFE_ANY_ARGUMENTS, CallClaims, CallTokenSigner, CallTokenVerifier
from zt_agents.credentials.call_tokens import CALL_TOKEN_TYPE, hash_of_arguments
from zt_agents.identity import SigningKey

CALLS = 1_000


def tables(folder: Path, *, quick: bool) -> Iterator[Table]:
    """Measure."""
    calls = 50 if quick else CALLS
    for algorithm in ("ES256", "EdDSA"):
        root = SigningKey.generate(algorithm)
        yield _table(algorithm, root, CallTokenSigner(issuer=ISSUER, keys=root), calls)


def _table(algorithm: str, root: SigningKey, signer: CallTokenSigner, calls: int) -> Table:
    key = root.derived(CALL_TOKEN_TYPE)
    claims = _claims("t-0")
    first = signer.mint(claims, now=time.time())
    said = jwt.decode(first, options={"verify_signature": False})
    headers = {"typ": CALL_TOKEN_TYPE, "kid": key.thumbprint}

    def decode(token: str) -> object:
        return jwt.decode(
            token, key.public, algorithms=[algorithm], audience=AUDIENCE, issuer=ISSUER, options={"require": list(said)}
        )

    def verify(service: CallTokenVerifier) -> Callable[[str], object]:
        return lambda token: service.verify(token, tool="update_ticket", arguments=ARGUMENTS)

    once = CallTokenVerifier(keys=signer.jwks(0), issuer=ISSUER, audience=AUDIENCE)
    often = CallTokenVerifier(keys=signer.jwks(0), issuer=ISSUER, audience=AUDIENCE, uses=10**9)
    alone = Subject("PyJWT", lambda: decode(first))
    service = verify(often)
    pairs = [
        take_turns(
            Subject("jwt.encode", lambda: jwt.encode(said, key.private, algorithm=algorithm, headers=headers)),
            Subject("mint", lambda: signer.mint(claims, now=0)),
            calls,
        ),
        take_turns(
            alone,
            Subject("verify, each once", _each(verify(once), signer, (1 + ROUNDS) * calls)),
            calls,
        ),
        take_turns(alone, Subject("verify, again", lambda: service(first)), calls),
        take_turns(
            alone,
            Subject("verify, again, arguments not asked",
                    lambda: often.verify(first, tool="update_ticket", arguments=UNSAFE_ANY_ARGUMENTS)),
            calls,
        ),
    ]  # fmt: skip
    return comparison(f"CallTokens, {algorithm}", pairs, "against jwt.encode and jwt.decode of PyJWT, in turns")


def _claims(token_id: str) -> CallClaims:
    now = int(time.time())
    hashed = hash_of_arguments(token_id, encode(ARGUMENTS))
    return replace(CLAIMS, token_id=token_id, args_hash=hashed, issued_at=now, expires_at=now + 60)


def _each(verify: Callable[[str], object], signer: CallTokenSigner, count: int) -> Callable[[], object]:
    tokens = itertools.cycle([signer.mint(_claims(f"t-{number}"), now=0) for number in range(count)])
    return lambda: verify(next(tokens))
