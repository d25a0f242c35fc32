"""Approvers who prove who they are: a credential issued to them, and answers signed with their own key.

::

    proof = <credential>~<answer>

Rules:

1. The credential says who they are, in which groups, until when, and which key is theirs (``cnf``, RFC 7800). It is
   signed by an authority whose key is derived from the guard's signing key for that purpose.
2. The answer is signed with the approver's key, and names the one call it is about. No other key may sign it, least of
   all one that the answer itself brings along.
3. Who and in which groups is read from the credential alone.
4. Whether a credential is still good is the registry's part: a signature cannot be taken back. Each caller compares
   :attr:`Approver.expires_at` with its own clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from zt_agents._internal.display import visible
from zt_agents._internal.key_files import write_once
from zt_agents.errors import ConfigurationError, TokenExpiredError, TokenInvalidError
from zt_agents.identity.approving.attestations import AnswerClaims
from zt_agents.identity.approving.standing import STANDING_CLAIMS, StandingClaims, standing_of
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.keys import SigningKey, read_private_file
from zt_agents.identity.signing.public_keys import VerificationKey

CREDENTIAL_TYPE = "zt-approver+jwt"
ANSWER_TYPE = "zt-approver-answer+jwt"
LOGIN_TYPE = "zt-approver-login+jwt"
STANDING_TYPE = "zt-approver-standing+jwt"
SEPARATOR = "~"
LOGIN_SECONDS = 60
"""For how long a login can be used."""
_MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class Approver:
    """What a credential says."""

    id: str
    groups: tuple[str, ...]
    credential_id: str
    """``jti``: one per credential."""
    issued_at: int
    expires_at: int
    """Seconds since the epoch; the credential is good strictly before it."""
    key: VerificationKey
    """The public half of theirs."""


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody who signs in somewhere."""

    approver: Approver
    id: str
    """``jti``: whoever lets them in, does so once."""
    expires_at: int


class ApproverAuthority:
    """Issues credentials, and verifies those it issued and what was signed with their keys."""

    def __init__(self, *, issuer: str, audience: str, key: SigningKey) -> None:
        """Sign with a key that is derived from *key*, for credentials alone.

        Args:
            issuer: the ``iss`` of its credentials; no other's are accepted.
            audience: the one ``aud`` of credentials and of what is signed with their keys.
            key: the guard's key that does not rotate.
        """
        self._issuer = issuer
        self._audience = audience
        self._key = key.derived(CREDENTIAL_TYPE)

    def issue(self, name: str, *, groups: Sequence[str], key: SigningKey, now: float, valid: int) -> str:
        """Return a credential for the approver *name*, whose key is *key*, good for *valid* seconds.

        Raises:
            ValueError: *name* or a group cannot be one; see :func:`checked_name`.
        """
        return jws.sign(
            CREDENTIAL_TYPE,
            self._key,
            {
                "iss": self._issuer,
                "aud": self._audience,
                "sub": checked_name(name),
                "groups": [checked_name(group) for group in dict.fromkeys(groups)],
                "cnf": {"jwk": dict(key.verification.members)},
                "iat": int(now),
                "exp": int(now) + valid,
                "jti": uuid.uuid4().hex,
            },
        )

    def verify(self, credential: str) -> Approver:
        """Return who *credential* was issued to; whether it has expired is not looked at.

        Raises:
            TokenInvalidError: it is malformed, forged, or of another authority.
        """
        claims = jws.verified(
            credential,
            CREDENTIAL_TYPE,
            self._key.verification,
            issuer=self._issuer,
            audience=self._audience,
            require=("sub", "groups", "cnf", "iat", "exp", "jti"),
        )
        held = claims["cnf"]
        if not isinstance(held, Mapping):
            raise TokenInvalidError("The credential is malformed.")
        return Approver(
            id=jws.text(claims, "sub"),
            groups=jws.texts(claims, "groups"),
            credential_id=jws.text(claims, "jti"),
            issued_at=jws.whole(claims, "iat"),
            expires_at=jws.whole(claims, "exp"),
            key=VerificationKey.from_jwk(held.get("jwk")),
        )

    def verify_answer(self, proof: str) -> tuple[Approver, AnswerClaims]:
        """Return who answered, and what.

        Raises:
            TokenInvalidError: *proof* is no credential with an answer that its key has signed.
        """
        approver, claims = self._with_key(proof, ANSWER_TYPE, self._audience, ("binding", "approved", "iat"))
        return approver, AnswerClaims(
            binding_hash=jws.text(claims, "binding"),
            approver=approver.id,
            groups=approver.groups,
            approved=jws.flag(claims, "approved"),
            issued_at=jws.whole(claims, "iat"),
        )

    def verify_login(self, proof: str, *, origin: str, now: float) -> Login:
        """Return who signs in at *origin*, such as ``https://approvals.acme.example``.

        Raises:
            TokenInvalidError: *proof* is no credential with a login that its key has signed, for *origin*.
            TokenExpiredError: the login, or the credential, is too old.
        """
        approver, claims = self._with_key(proof, LOGIN_TYPE, origin, ("iat", "exp", "jti"))
        issued_at, expires_at = jws.whole(claims, "iat"), jws.whole(claims, "exp")
        if expires_at - issued_at > LOGIN_SECONDS or issued_at > now + LOGIN_SECONDS:
            raise TokenInvalidError("The login is for a longer time than a login may be.")
        if now >= min(expires_at, approver.expires_at):
            raise TokenExpiredError("The login has expired.")
        return Login(approver, jws.text(claims, "jti"), expires_at)

    def verify_standing(self, proof: str) -> tuple[Approver, StandingClaims]:
        """Return who approves some calls in advance, and which; whether it is still good is not looked at.

        Raises:
            TokenInvalidError: *proof* is no credential with a standing approval that its key has signed.
        """
        approver, claims = self._with_key(proof, STANDING_TYPE, self._audience, STANDING_CLAIMS)
        return approver, standing_of(claims, approver.id, approver.groups)

    def _with_key(
        self, proof: object, kind: str, audience: str, require: Sequence[str]
    ) -> tuple[Approver, dict[str, Any]]:
        credential, separator, signed = proof.partition(SEPARATOR) if isinstance(proof, str) else ("", "", "")
        if not separator:
            raise TokenInvalidError("There is no credential in it.")
        approver = self.verify(credential)
        claims = jws.verified(
            signed,
            kind,
            approver.key,
            issuer=approver.id,
            audience=audience,
            require=("credential", *require),
        )
        if claims["credential"] != approver.credential_id:
            raise TokenInvalidError("It was signed under another credential.")
        return approver, claims


class ApproverKey:
    """What an approver keeps to themselves: their private key, and the credential that says whose it is."""

    def __init__(self, credential: str, key: SigningKey) -> None:
        """Join a *credential*, which is read and not verified, and the private *key* that it names.

        Raises:
            TokenInvalidError: the credential cannot be read.
        """
        self.credential = credential
        self._key = key
        claims = jws.unverified(credential)
        self.name, self.groups = jws.text(claims, "sub"), jws.texts(claims, "groups")
        self.credential_id, self.expires_at = jws.text(claims, "jti"), jws.whole(claims, "exp")
        self._audience = jws.text(claims, "aud")

    @classmethod
    def from_file(cls, path: Path) -> ApproverKey:
        """Load what :meth:`save` has written.

        Raises:
            ConfigurationError: the file is unreadable, readable by others, or holds something else.
        """
        try:
            values = orjson.loads(read_private_file(path))
            return cls(values["credential"], SigningKey.from_pem(values["private_key"].encode()))
        except (ValueError, KeyError, TypeError, AttributeError, TokenInvalidError) as error:
            raise ConfigurationError(f"The file {path} is not the credential of an approver.") from error

    def save(self, path: Path) -> None:
        """Write it to a new file, readable by its owner alone.

        Raises:
            ConfigurationError: there is such a file, or it cannot be written.
        """
        values = {"approver": self.name, "credential": self.credential, "private_key": self._key.pem.decode()}
        try:
            write_once(path, orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            raise ConfigurationError(f"The file {path} could not be written: {error.strerror}.") from error

    def answer(self, binding_hash: str, *, approved: bool, now: float) -> str:
        """Return the proof of an answer to the call with *binding_hash*."""
        claims = {"binding": binding_hash, "approved": approved, "iat": int(now)}
        return self._signed(ANSWER_TYPE, self._audience, claims)

    def login(self, origin: str, *, now: float) -> str:
        """Return the proof with which to sign in at *origin*, once, within a minute."""
        claims = {"iat": int(now), "exp": int(now) + LOGIN_SECONDS, "jti": uuid.uuid4().hex}
        return self._signed(LOGIN_TYPE, origin, claims)

    def standing(self, claims: StandingClaims) -> str:
        """Return the proof of a standing approval."""
        return self._signed(STANDING_TYPE, self._audience, claims.to_claims())

    def _signed(self, kind: str, audience: str, claims: Mapping[str, Any]) -> str:
        own = {"iss": self.name, "aud": audience, "credential": self.credential_id, **claims}
        return f"{self.credential}{SEPARATOR}{jws.sign(kind, self._key, own)}"


def checked_name(name: str) -> str:
    """Return *name* if it can be the name of an approver or a group: one printable word.

    Raises:
        ValueError: it cannot; the message says why.
    """
    if not name or len(name) > _MAX_NAME or visible(name) != name or any(character.isspace() for character in name):
        raise ValueError(f"a name is one printable word of at most {_MAX_NAME} characters")
    return name
