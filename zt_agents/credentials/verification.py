"""What a service does with a call's token before it does anything else.

::

    verifier = CallTokenVerifier(
        keys=HttpKeys("https://issuer.acme.example/jwks"),
        issuer="spiffe://acme.example/zt-agents",
        audience="https://tickets.acme.example",
    )
    claims = verifier.verify(token, tool="update_ticket", arguments={"ticket_id": 5, "status": "resolved"})

Rules (RFC 8725), in this order; the first that does not hold refuses, and says which it was:

1. The header says ``alg``, ``kid`` and ``typ`` and nothing else. It chooses one of our keys by its name, and neither
   the algorithm, which is the key's, nor where a key comes from.
2. The signature holds over exactly these characters. Issuer and audience are ours: one text each, compared as such.
3. It is complete, typed, says no name twice, and is good at this moment.
4. It is for this tool and these arguments.
5. Whoever brings it has the key (DPoP) or the certificate (mutual TLS) that it is bound to, if it is bound to one.
6. Nothing in it was revoked: agents, user, sessions, task, owner, the token itself.
7. It was not admitted before. This comes last, so that nobody uses up a token that they could not have used.

A token is good for one request: a body that makes several has one for each (``CallAuth`` sees to that), and a request
that is sent again is a new request. A service that cannot have it so says how often it admits one (``uses``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NoReturn

import jwt

from zt_agents._internal.clock import Clock, system_clock
from zt_agents.credentials.call_tokens import CALL_TOKEN_TYPE, MAX_CHARS, CallClaims, claims_of
from zt_agents.credentials.dpop import PROOF_SECONDS, Proof, verify_proof
from zt_agents.credentials.key_sources import KeySource, StaticKeys
from zt_agents.credentials.replays import MemoryReplays, Replays
from zt_agents.credentials.strict_encodings import read_base64url, read_object
from zt_agents.credentials.tls import certificate_thumbprint
from zt_agents.errors import ArgumentsError, CallTokenError, CallTokenReason, StoreError
from zt_agents.identity.revocations import Revocations
from zt_agents.identity.signing.public_keys import VerificationKey

MAX_LEEWAY = 30
_HEADER = {"alg", "kid", "typ"}
_HEADERS = 64
_REMEMBERED = 4_096
_jws = jwt.PyJWS()


class AnyArguments(Enum):
    """That a call's arguments are not compared: never None, which a request can state, as ``null``."""

    UNSAFE = "unsafe"


UNSAFE_ANY_ARGUMENTS = AnyArguments.UNSAFE


class CallTokenVerifier:
    """Verifies the tokens for one service. Safe to share between threads; build one, and keep it."""

    def __init__(
        self,
        *,
        keys: KeySource | Mapping[str, Any],
        issuer: str,
        audience: str,
        replays: Replays | None = None,
        uses: int = 1,
        bound: bool = False,
        revocations: Revocations | None = None,
        leeway: int = 5,
        clock: Clock = system_clock,
    ) -> None:
        """Name what is trusted.

        Args:
            keys: the guard's keys for calls' tokens; a mapping is a JWK Set. Never from a request.
            issuer: whose tokens they are: ``spiffe://TRUST_DOMAIN/zt-agents``.
            audience: URI of this service, as the policy names it.
            replays: where it is kept what was admitted; this process's memory by default. Workers share a store.
            uses: how often a token is admitted.
            bound: whether a token has to be bound to a key or a certificate.
            revocations: what was taken back; None knows of nothing, and a token ends by its expiry alone.
            leeway: seconds, at most 30, by which the clocks of guard and service may differ.
            clock: seconds since the epoch.

        Raises:
            ValueError: *uses* or *leeway* is out of bounds.
            TokenInvalidError: the JWK Set is none.
        """
        if uses < 1 or not 0 <= leeway <= MAX_LEEWAY:
            raise ValueError(f"a token is used at least once, and leeway is 0 to {MAX_LEEWAY} seconds")
        self._keys: KeySource = StaticKeys(keys) if isinstance(keys, Mapping) else keys
        self._issuer = issuer
        self.audience = audience
        self._replays = MemoryReplays() if replays is None else replays
        self._uses = uses
        self._bound = bound
        self._revocations = revocations
        self._leeway = leeway
        self._clock = clock
        self._kids: dict[str, tuple[str, str]] = {}
        """Headers that were read: the name of the key, and the algorithm."""
        self._verified: dict[str, tuple[CallClaims, str]] = {}
        """Tokens that may come again, with the names of their keys; what can change is looked at each time."""

    def verify(
        self,
        token: str | None,
        *,
        tool: str,
        arguments: Mapping[str, Any] | AnyArguments,
        proof: Proof | None = None,
        certificate: bytes | None = None,
    ) -> CallClaims:
        """Return what a good token says; it is used by that.

        Args:
            token: what came with the request, or None.
            tool: the tool whose calls may do what is asked for.
            arguments: those of the call, by name, as the service is about to act on them. Only
                ``UNSAFE_ANY_ARGUMENTS`` compares none: then a call may do whatever its tool may.
            proof: the request's DPoP proof, if it has one.
            certificate: the client certificate of the connection (DER), if it has one: as TLS verified it, never as a
                header claims it.

        Raises:
            CallTokenError: it is not good; :attr:`CallTokenError.reason` says what is wrong with it.
        """
        now = self._clock()
        known = self._verified.get(token) if type(token) is str else None
        if known is None:
            claims = self._authenticated(token, now)
        else:
            claims, kid = known
            self._found(kid, now)
        if now >= claims.expires_at + self._leeway:
            _refuse(CallTokenReason.EXPIRED, "The call's token has expired.")
        if now < claims.issued_at - self._leeway:
            _refuse(CallTokenReason.NOT_YET_VALID, "The call's token is not valid yet: a clock is wrong.")
        if claims.tool != tool:
            _refuse(CallTokenReason.WRONG_TOOL, "The call's token is for another tool.")
        if arguments is not UNSAFE_ANY_ARGUMENTS:
            _compare(claims, arguments)
        assert token is not None
        used_proof = self._holder(claims, token, proof, certificate, now)
        if self._revocations is not None:
            self._unrevoked(claims, self._revocations, now)
        # By the most that clocks may differ: services that share a store need not agree on it.
        self._admit(claims.token_id, self._uses, claims.expires_at + MAX_LEEWAY, now)
        if used_proof:
            until = now + PROOF_SECONDS + 2 * MAX_LEEWAY
            self._admit(f"{claims.key_thumbprint} {used_proof}", 1, until, now)
        return claims

    def _authenticated(self, token: str | None, now: float) -> CallClaims:
        if not token:
            _refuse(CallTokenReason.MISSING, "The request has no token of a call.")
        if type(token) is not str or len(token) > MAX_CHARS or token.count(".") != 2 or not token.isascii():
            _refuse(CallTokenReason.MALFORMED, "This is no token of a call.")
        key = self._key(token[: token.index(".")], now)
        try:
            read_base64url(token.rpartition(".")[2])
            signed = _jws.decode_complete(token, key.public, algorithms=[key.algorithm])
            said = read_object(signed["payload"])
        except jwt.InvalidSignatureError as error:
            _refuse(CallTokenReason.BAD_SIGNATURE, "The token was not signed with the key that it names.", error)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            _refuse(CallTokenReason.MALFORMED, "The token of a call could not be read.", error)
        if said.get("iss") != self._issuer:
            _refuse(CallTokenReason.UNKNOWN_ISSUER, "The token is from another issuer.")
        if said.get("aud") != self.audience:
            _refuse(CallTokenReason.WRONG_AUDIENCE, "The token is for another service.")
        try:
            claims = claims_of(said)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            _refuse(CallTokenReason.MALFORMED, "The token does not say what a call's token says.", error)
        if self._uses > 1:
            self._remember(token, claims, key.kid)
        return claims

    def _remember(self, token: str, claims: CallClaims, kid: str) -> None:
        if len(self._verified) >= _REMEMBERED:
            self._verified = {}
        self._verified[token] = claims, kid

    def _key(self, head: str, now: float) -> VerificationKey:
        known = self._kids.get(head)
        if known is None:
            known = _read_header(head)
        kid, algorithm = known
        key = self._found(kid, now)
        if algorithm != key.algorithm:
            _refuse(CallTokenReason.WRONG_ALGORITHM, "The token says another algorithm than its key has.")
        if len(self._kids) >= _HEADERS:
            self._kids = {}
        self._kids[head] = known
        return key

    def _found(self, kid: str, now: float) -> VerificationKey:
        try:
            key = self._keys.find(kid, now)
        except StoreError as error:
            _refuse(CallTokenReason.UNAVAILABLE, "The keys of the tokens' issuer cannot be had.", error)
        if key is None:
            _refuse(CallTokenReason.UNKNOWN_KEY, "The token was signed with a key that is not known here.")
        return key

    def _holder(
        self, claims: CallClaims, token: str, proof: Proof | None, certificate: bytes | None, now: float
    ) -> str:
        """Check that whoever brings the token may. Returns the name of the proof, if there was one."""
        if claims.key_thumbprint:
            if proof is None:
                _refuse(CallTokenReason.DPOP_MISSING, "The token is bound to a key, and there is no proof of it.")
            return verify_proof(
                proof, token=token, thumbprint=claims.key_thumbprint, now=now, leeway=self._leeway
            )
        if proof is not None:
            _refuse(CallTokenReason.DPOP_WRONG, "There is a proof of a key, and the token is bound to none.")
        if claims.certificate_thumbprint:
            shown = certificate_thumbprint(certificate) if certificate else ""
            if shown != claims.certificate_thumbprint:
                _refuse(CallTokenReason.CERTIFICATE_WRONG, "The token is bound to another client certificate.")
        elif self._bound:
            _refuse(CallTokenReason.UNBOUND, "The token is bound neither to a key nor to a certificate.")
        return ""

    def _unrevoked(self, claims: CallClaims, revocations: Revocations, now: float) -> None:
        try:
            found = revocations.find(claims.bearing(), now=now)
        except StoreError as error:
            _refuse(CallTokenReason.UNAVAILABLE, "What was revoked cannot be looked up.", error)
        if found is not None:
            _refuse(CallTokenReason.REVOKED, f"The token was taken back, by {found.kind}.")

    def _admit(self, name: str, uses: int, until: float, now: float) -> None:
        try:
            admitted = self._replays.admit(f"{self._issuer} {name}", uses=uses, until=until, now=now)
        except StoreError as error:
            _refuse(CallTokenReason.UNAVAILABLE, "What was admitted before cannot be looked up.", error)
        if not admitted:
            _refuse(CallTokenReason.REPLAYED, "The token was used before: each request needs one of its own.")


_here = MemoryReplays()


def verify(
    token: str | None,
    *,
    tool: str,
    arguments: Mapping[str, Any] | AnyArguments,
    keys: KeySource | Mapping[str, Any],
    issuer: str,
    audience: str,
    proof: Proof | None = None,
    certificate: bytes | None = None,
    revocations: Revocations | None = None,
) -> CallClaims:
    """Return what a good token says, once in this process; see :class:`CallTokenVerifier`, which services keep.

    Raises:
        CallTokenError: it is not good; :attr:`CallTokenError.reason` says what is wrong with it.
        TokenInvalidError: *keys* is no JWK Set.
    """
    verifier = CallTokenVerifier(
        keys=keys, issuer=issuer, audience=audience, replays=_here, revocations=revocations
    )
    return verifier.verify(token, tool=tool, arguments=arguments, proof=proof, certificate=certificate)


def _refuse(reason: CallTokenReason, text: str, cause: Exception | None = None) -> NoReturn:
    raise CallTokenError(reason, text) from cause


def _read_header(head: str) -> tuple[str, str]:
    try:
        header = read_object(read_base64url(head))
    except ValueError as error:
        _refuse(CallTokenReason.MALFORMED, "The token's header could not be read.", error)
    if header.get("typ") != CALL_TOKEN_TYPE:
        _refuse(CallTokenReason.WRONG_TYPE, "This is a token of another kind.")
    kid, algorithm = header.get("kid"), header.get("alg")
    if header.keys() != _HEADER or not isinstance(kid, str) or not isinstance(algorithm, str):
        _refuse(CallTokenReason.MALFORMED, "The token's header says less or more than it may.")
    return kid, algorithm


def _compare(claims: CallClaims, arguments: object) -> None:
    if not isinstance(arguments, Mapping):
        _refuse(CallTokenReason.OTHER_ARGUMENTS, "The request does not state the arguments of a call, by name.")
    try:
        same = claims.is_for(arguments)
    except ArgumentsError as error:
        _refuse(CallTokenReason.OTHER_ARGUMENTS, "The arguments have no canonical form.", error)
    if not same:
        _refuse(CallTokenReason.OTHER_ARGUMENTS, "The call was decided on with other arguments.")
