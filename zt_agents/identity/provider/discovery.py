"""Where an identity provider's parts are, and by which keys its signatures are known.

Rules:

1. The document at ``<issuer>/.well-known/openid-configuration`` names exactly the issuer that was asked for (OpenID
   Connect Discovery, section 4.3), and no address that is less protected than the issuer's own.
2. Keys come from its ``jwks_uri`` and from nowhere else: no token brings one along, nor says where to get one.
3. A key is good while it is published. They are fetched again after five minutes, and at once, though not more often
   than every ten seconds, for a name that is not known: so a rotation is seen when its first token is.
4. While the provider cannot be asked, its keys go on for one hour, and then nobody is known any more.
5. A document with two keys of one name is refused; keys that are private, too short or not for signatures are passed
   over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from zt_agents.errors import IdentityProviderError, TokenInvalidError
from zt_agents.identity.provider.over_http import ProviderHttp
from zt_agents.identity.provider.terms import ALGORITHMS, checked_address, stays_here

FRESH = 300.0
"""Seconds until what the provider publishes is fetched again."""
AGAIN = 10.0
"""Seconds between two attempts to fetch it."""
GRACE = 3600.0
"""Seconds for which what it published goes on while it cannot be asked."""
_PATIENCE = 20.0
"""Seconds that one waits for what another is fetching: two answers."""
_MOST_KEYS = 64
_RSA_BITS = 2048
_NOT_ASKED = ("The identity provider cannot be asked.", "unreachable")
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_BY_TYPE = {"EC": ("ES256",), "RSA": ("RS256", "PS256"), "OKP": ("EdDSA",)}

ProviderKeyMaterial = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A public key of the provider's."""

    public: ProviderKeyMaterial
    algorithms: tuple[str, ...]
    """That it may have signed with: the one it names, or those of its type."""


@dataclass(frozen=True, slots=True)
class ProviderDocument:
    """What a provider says about itself (OpenID Connect Discovery, section 3). Empty texts are not there."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    device_authorization_endpoint: str = ""
    registration_endpoint: str = ""
    revocation_endpoint: str = ""
    names_itself: bool = False
    """Its answers to browsers say whose they are (RFC 9207)."""

    def address(self, name: str) -> str:
        """Return the endpoint *name*, or raise IdentityProviderError where the provider has none."""
        address = str(getattr(self, name))
        if not address:
            raise IdentityProviderError(f"The identity provider has no {name}.", error="no_endpoint")
        return address


_ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "device_authorization_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
)


class Discovery:
    """What one provider publishes, as it was lately. Safe to share between threads."""

    def __init__(self, issuer: str, http: ProviderHttp, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._http = http
        self._timer = timer
        self._document: ProviderDocument | None = None
        self._keys: dict[str, ProviderKey] = {}
        self._fetched = self._tried = float("-inf")
        self._failure = _NOT_ASKED
        """What the next exception says. No exception is kept: it would grow with each time that it is raised."""
        self._lock = threading.Lock()

    def document(self) -> ProviderDocument:
        """Return what the provider says about itself.

        Raises:
            IdentityProviderError: it cannot be asked, or speaks for another issuer.
        """
        document, _ = self._current(self._timer() - self._fetched > FRESH)
        return document

    def key(self, kid: str) -> ProviderKey:
        """Return the published key named *kid*.

        Raises:
            TokenInvalidError: there is none.
            IdentityProviderError: the provider cannot be asked, and what it published is too old.
        """
        _, keys = self._current(self._timer() - self._fetched > FRESH)
        if kid not in keys:
            _, keys = self._current(True, wait=True)
        if kid not in keys:
            raise TokenInvalidError("The token was signed by no key that the identity provider publishes.")
        return keys[kid]

    def _current(self, again: bool, *, wait: bool = False) -> tuple[ProviderDocument, Mapping[str, ProviderKey]]:
        # One asks. The others wait for it if they need the answer, but not for longer than one may take.
        wait = wait or self._document is None or self._timer() - self._fetched > GRACE
        if (again and self._due()) or self._document is None:
            got = self._lock.acquire(timeout=_PATIENCE if wait else 0)
            try:
                if got and self._due():
                    self._fetch()
            finally:
                if got:
                    self._lock.release()
        document, keys = self._document, self._keys
        if document is None or self._timer() - self._fetched > GRACE:
            said, code = self._failure
            raise IdentityProviderError(said, error=code)
        return document, keys

    def _due(self) -> bool:
        return self._timer() - self._tried >= AGAIN

    def _fetch(self) -> None:
        self._failure = _NOT_ASKED
        try:
            base = self._issuer.removesuffix("/")
            document = read_document(self._http.get(f"{base}/.well-known/openid-configuration"), self._issuer)
            self._keys = read_keys(self._http.get(document.jwks_uri))
            self._document = document
            self._fetched = self._timer()
        except IdentityProviderError as error:
            self._failure = error.message, error.error
        finally:
            self._tried = self._timer()


def read_document(body: Mapping[str, Any], issuer: str) -> ProviderDocument:
    """Return the discovery document in *body*, which has to be of *issuer*.

    Raises:
        IdentityProviderError: it is another's, or names an address that may not be asked.
    """
    if body.get("issuer") != issuer:
        raise IdentityProviderError("The identity provider speaks for another issuer.", error="issuer")
    here = stays_here(urlsplit(issuer).hostname or "")
    try:
        return ProviderDocument(
            issuer=issuer,
            jwks_uri=checked_address(body.get("jwks_uri"), what="jwks_uri", loopback=here),
            names_itself=body.get("authorization_response_iss_parameter_supported") is True,
            **{
                name: checked_address(body[name], what=name, loopback=here)
                for name in _ENDPOINTS
                if body.get(name) is not None
            },
        )
    except ValueError as error:
        raise IdentityProviderError(f"The identity provider's document is wrong: {error}.", error="document") from None


def read_keys(body: Mapping[str, Any]) -> dict[str, ProviderKey]:
    """Return the keys in a JWK set (RFC 7517, section 5) that may sign tokens, by name.

    Raises:
        IdentityProviderError: it is none, or two of its keys have one name.
    """
    published = body.get("keys")
    if not isinstance(published, list) or len(published) > _MOST_KEYS:
        raise IdentityProviderError("The identity provider's keys are no list of keys.", error="keys")
    keys: dict[str, ProviderKey] = {}
    for jwk in published:
        key = _key(jwk)
        if key is None:
            continue
        if jwk["kid"] in keys:
            raise IdentityProviderError("Two of the identity provider's keys have one name.", error="keys")
        keys[jwk["kid"]] = key
    return keys


def _key(jwk: object) -> ProviderKey | None:
    """Return the key in *jwk* where it is one that may sign tokens."""
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str) or jwk.get("use", "sig") != "sig":
        return None
    of_type = _BY_TYPE.get(str(jwk.get("kty")), ())
    algorithms = tuple(name for name in of_type if jwk.get("alg", name) == name)
    if not algorithms or _PRIVATE & set(jwk) or not set(algorithms) <= set(ALGORITHMS):
        return None
    try:
        public = jwt.PyJWK(jwk, algorithm=algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    match public:
        case ec.EllipticCurvePublicKey() if isinstance(public.curve, ec.SECP256R1):
            return ProviderKey(public, algorithms)
        case rsa.RSAPublicKey() if public.key_size >= _RSA_BITS:
            return ProviderKey(public, algorithms)
        case ed25519.Ed25519PublicKey():
            return ProviderKey(public, algorithms)
    return None
