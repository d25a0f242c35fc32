"""Who a human is, as their identity provider says: ID tokens and access tokens, verified.

::

    provider = IdentityProvider(ProviderTerms(issuer="https://login.acme.example", client_id="desk", audience="agents"))
    user = provider.user_of_access_token(token, now=time.time())

Rules:

1. A token's algorithm is one of the configured ones and one that its key has; a header chooses nothing, brings no key
   along, nor where to get one (RFC 8725, 3.1 and 3.10).
2. An ID token is for our client and nobody else (OpenID Connect Core, section 3.1.3.7), with the nonce that it was
   asked for with, and with ``at_hash`` where an access token came along.
3. An access token is for our audience, which is never our client's id, and marked as configured (RFC 9068, section 4):
   so neither kind passes for the other.
4. A claim is of its type, or the token is refused: one text is no list of groups, and groups that the provider left
   elsewhere are not no groups.
5. Whoever logged in too long ago, or too weakly, is told to log in again (RFC 9470).
6. A token never shows itself in an error.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import jwt

from zt_agents._internal.hidden import Hidden
from zt_agents.errors import LoginRequiredError, TokenExpiredError, TokenInvalidError
from zt_agents.identity.principals import Login, User
from zt_agents.identity.provider.discovery import Discovery, ProviderDocument
from zt_agents.identity.provider.over_http import ProviderHttp
from zt_agents.identity.provider.terms import AccessTokenKind, ProviderTerms, UserClaim
from zt_agents.identity.signing.jws import MAX_TOKEN_CHARS

SKEW = 30
"""Seconds by which the provider's clock may be ahead of ours."""
_MOST_WORDS = 1_000
_LONGEST_WORD = 1_000
_LONGEST_SUBJECT = 255
_ID_TOKEN = (None, "JWT")
_FORBIDDEN_HEADERS = frozenset({"jku", "jwk", "x5u", "crit", "b64"})


class IdentityProvider:
    """Verifies what one provider signed for us. Safe to share between threads."""

    def __init__(
        self, terms: ProviderTerms, *, http: ProviderHttp | None = None, discovery: Discovery | None = None
    ) -> None:
        """Name the provider; nobody is asked before it is needed.

        Args:
            terms: which provider, and how its tokens may look.
            http: by which it is asked; connections of its own by default, which :meth:`close` ends.
            discovery: what it publishes, cached; read from the issuer of *terms* by default.
        """
        self.terms = terms
        self.http = http or ProviderHttp()
        self._discovery = discovery or Discovery(terms.issuer, self.http)

    def document(self) -> ProviderDocument:
        """Return what the provider says about itself, or raise IdentityProviderError."""
        return self._discovery.document()

    def close(self) -> None:
        """End the connections to the provider."""
        self.http.close()

    def user_of_id_token(
        self, token: str, *, nonce: str | None, now: float, access_token: str | None = None
    ) -> User:
        """Return the user that an ID token names.

        Args:
            token: as it came from the provider.
            nonce: that the login was asked for with; None where there was none, and then the token has none.
            now: seconds since the epoch.
            access_token: that came with it, and has to be the one it came with.

        Raises:
            TokenInvalidError: it is not good, or not for us.
            TokenExpiredError: it was good.
            LoginRequiredError: the login is too old or too weak.
            IdentityProviderError: the provider's keys cannot be had.
        """
        header, claims = self._verified(token, audience=self.terms.client_id, now=now)
        audience = claims["aud"]
        if header.get("typ") not in _ID_TOKEN or claims.get("typ", "ID") != "ID":
            raise TokenInvalidError("The token is no ID token.")
        if audience not in (self.terms.client_id, [self.terms.client_id]):
            raise TokenInvalidError("The ID token is for somebody else, too.")
        if claims.get("azp", self.terms.client_id) != self.terms.client_id:
            raise TokenInvalidError("The ID token was issued to another client.")
        if not _same(claims.get("nonce"), nonce):
            raise TokenInvalidError("The ID token is from another login: its nonce is not ours.")
        if access_token is not None and "at_hash" in claims:
            expected = _left_half(access_token, header["alg"])
            if not _same(claims["at_hash"], expected):
                raise TokenInvalidError("The access token is not the one that the ID token came with.")
        return self._user(claims, token, nonce=nonce, access=False, now=now)

    def user_of_access_token(self, token: str, *, now: float) -> User:
        """Return the user on whose behalf an access token was issued. Raises as :meth:`user_of_id_token`."""
        terms = self.terms
        if not terms.audience:
            raise TokenInvalidError("No access tokens are taken: the policy names no audience.")
        header, claims = self._verified(token, audience=terms.audience, now=now)
        kind = header.get("typ")
        if terms.access_tokens is AccessTokenKind.RFC_9068:
            # The media type may be written in full (RFC 9068, section 4).
            good = isinstance(kind, str) and kind.lower() in {"at+jwt", "application/at+jwt"}
            good = good and isinstance(claims.get("client_id"), str) and "jti" in claims
        else:
            # A login has a session there; a program's own token names the program instead.
            good = kind == "JWT" and claims.get("typ") == "Bearer" and "sid" in claims and "client_id" not in claims
        if not good or "nonce" in claims or "at_hash" in claims:
            raise TokenInvalidError("The token is no access token of the configured kind.")
        if claims["sub"] in (claims.get("client_id"), claims.get("azp")):
            raise TokenInvalidError("The access token is a program's own: no human is behind it.")
        if "act" in claims or "cnf" in claims:
            # Whoever acts for the user, or holds a key, would go unseen.
            raise TokenInvalidError("The access token is delegated, or bound to a key.")
        return self._user(claims, token, nonce=None, access=True, now=now)

    def user_again(self, login: Login, *, now: float) -> User:
        """Return the user whom the token in *login* proves. Raises as :meth:`user_of_id_token`."""
        if not login.token:
            raise LoginRequiredError("Nothing proves this user here: their login was in another process.")
        if login.access:
            return self.user_of_access_token(login.token.reveal(), now=now)
        return self.user_of_id_token(login.token.reveal(), nonce=login.nonce.reveal(), now=now)

    def ends(self, login: Login) -> int:
        """Return from when on, in seconds since the epoch, *login* is not good any more."""
        if not self.terms.max_age or login.authenticated_at is None:
            return login.expires_at
        return min(login.expires_at, login.authenticated_at + self.terms.max_age)

    def check_exchanged(
        self, token: str, *, audience: str, subject: str, scopes: frozenset[str] | None, now: float
    ) -> None:
        """Refuse a token that was exchanged (RFC 8693) and is not what was asked for.

        Args:
            audience: of the back end, and of nobody else.
            subject: ``sub`` of the user.
            scopes: that it may have at most; None is any.

        Raises:
            TokenInvalidError: it is no token of the provider's, for somebody else, or for more.
        """
        _, claims = self._verified(token, audience=audience, now=now)
        if claims["aud"] not in (audience, [audience]) or claims["sub"] != subject:
            raise TokenInvalidError("The exchanged token is for somebody else.")
        said = claims.get("scope", "")
        if scopes is not None and not (isinstance(said, str) and scopes >= set(said.split())):
            raise TokenInvalidError("The exchanged token is for more than it may be.")

    def _verified(self, token: object, *, audience: str, now: float) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Return header and claims of a token of this provider's; what kind it is of is the caller's to see."""
        if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS:
            raise TokenInvalidError("The token is not a token.")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise TokenInvalidError("The token is malformed.") from error
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self.terms.algorithms or not isinstance(kid, str) or _FORBIDDEN_HEADERS & set(header):
            raise TokenInvalidError("The token is signed in a way that is not configured.")
        key = self._discovery.key(kid)
        if algorithm not in key.algorithms:
            raise TokenInvalidError("The token is signed in a way that its key is not for.")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=[algorithm],
                audience=audience,
                issuer=self.terms.issuer,
                options={
                    "require": ["iss", "aud", "sub", "exp", "iat"],
                    "verify_exp": False,  # by the guard's clock, below
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            raise TokenInvalidError("The token could not be verified.") from error
        for name in ("exp", "iat", "nbf", "auth_time"):
            if type(claims.get(name, 0)) is not int:
                raise TokenInvalidError(f"The token's {name} is no whole number.")
        if now >= claims["exp"]:
            raise TokenExpiredError("The user's token has expired.", hint="Have it refreshed, or log in again.")
        if now < max(claims["iat"], claims.get("nbf", 0), claims.get("auth_time", 0)) - SKEW:
            raise TokenInvalidError("The user's token is not valid yet: a clock is wrong.")
        return header, claims

    def _user(self, claims: Mapping[str, Any], token: str, *, nonce: str | None, access: bool, now: float) -> User:
        terms, subject = self.terms, _subject(claims.get("sub"))
        user_id = subject
        if terms.user is UserClaim.EMAIL:
            if claims.get("email_verified") is not True:
                raise TokenInvalidError("The identity provider does not say that it has verified the e-mail address.")
            user_id = _subject(claims.get("email"))
        login = Login(
            issuer=terms.issuer,
            subject=subject,
            expires_at=claims["exp"],
            authenticated_at=claims.get("auth_time"),
            acr=_text(claims.get("acr", ""), "acr"),
            amr=_words(claims.get("amr", []), "amr"),
            token=Hidden(token),
            nonce=Hidden(nonce),
            access=access,
        )
        self._strong_enough(login, now)
        name = claims.get("name", "")
        return User(
            user_id,
            name=name if isinstance(name, str) and len(name) <= _LONGEST_SUBJECT and name.isprintable() else "",
            groups=_words(_claim(claims, terms.groups), "groups"),
            roles=_words(_claim(claims, terms.roles), "roles"),
            login=login,
        )

    def _strong_enough(self, login: Login, now: float) -> None:
        terms = self.terms
        at = login.authenticated_at
        old = bool(terms.max_age) and (at is None or now > at + terms.max_age)
        weak = bool(terms.acr) and login.acr not in terms.acr
        if old or weak:
            challenge: dict[str, Any] = {"max_age": terms.max_age} if terms.max_age else {}
            if terms.acr:
                challenge["acr_values"] = " ".join(terms.acr)
            what = "not lately enough" if old else "not strongly enough"
            raise LoginRequiredError(
                f"The user has logged in, but {what}.", hint="Have them log in again.", challenge=challenge
            )


def _same(one: object, other: str | None) -> bool:
    if not isinstance(one, str) or other is None:
        return one is None and other is None
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _left_half(access_token: str, algorithm: str) -> str:
    """Return the ``at_hash`` of a token (OpenID Connect Core, section 3.1.3.6); Ed25519 hashes with SHA-512."""
    digest = (hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256)(access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _subject(value: object) -> str:
    # At most 255 ASCII characters (OpenID Connect Core, section 2): no two look alike and differ.
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_SUBJECT:
        raise TokenInvalidError("The token names nobody.")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise TokenInvalidError("The token names somebody in characters that could be taken for others.")
    return value


def _claim(claims: Mapping[str, Any], path: tuple[str, ...]) -> object:
    """Return the list at *path*; none where there is no such claim."""
    elsewhere = claims.get("_claim_names")  # OpenID Connect Core, section 5.6.2
    left = elsewhere is not None and (not isinstance(elsewhere, Mapping) or path[0] in elsewhere)
    # Entra ID, of a user with more groups than a token holds: in implicit flows, and in the names of sources.
    left = left or (path[0] == "groups" and claims.get("hasgroups", False) is not False)
    if left or any(name.startswith(f"{path[0]}:src") for name in claims):
        raise TokenInvalidError(
            f"The identity provider left the user's {path[0]} out of the token, and rules cannot do without.",
            hint="Users may have too many: at the provider, have tokens name only those that are assigned to the "
            "application (Entra ID: 'Groups assigned to the application'), or its roles.",
        )
    found: Any = claims
    for name in path:
        if not isinstance(found, Mapping):
            raise TokenInvalidError(f"The token's {path[0]} is not what it is configured to be.")
        if name not in found:
            return []
        found = found[name]
    return found


def _words(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_WORDS:
        raise TokenInvalidError(f"The token's {name} are no list of texts.")
    return tuple(_text(word, name) for word in value)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_WORD or not value.isprintable():
        raise TokenInvalidError(f"The token's {name} is no text.")
    return value
