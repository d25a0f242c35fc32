"""Who has logged in on this machine: a file in the user's own configuration folder.

Rules:

1. Nobody but its owner may read or write the file, or it is not read. A link is not followed.
2. It is replaced as a whole, or stays as it was; and by one process at a time: of two that refresh a login at once,
   a provider takes the second for a thief, and ends the login of both (RFC 9700, section 4.14.2).
3. It says nothing that is believed: the ID token in it is verified each time, by the keys that the provider publishes.
4. A token that is about to expire is refreshed; the provider may refuse, and then nobody is logged in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from zt_agents._internal.hidden import Hidden
from zt_agents._internal.key_files import replace_whole
from zt_agents.errors import ConfigurationError, IdentityProviderError, LoginRequiredError, TokenInvalidError
from zt_agents.identity.principals import User
from zt_agents.identity.provider.oauth_client import OAuthClient, Tokens
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.provider.terms import ALGORITHMS, ProviderTerms, UserClaim, checked_issuer
from zt_agents.identity.signing import jws

_DUE = 60.0
"""Seconds before its end from which on a token is refreshed."""
_LARGEST = 256 * 1024
AGAIN = "Run: zt-agents login"


def login_path() -> Path:
    """Return where the login of whoever runs this is kept."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative path is ignored (XDG Base Directory Specification).
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".config") / "zt-agents" / "login.json"


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """A login, and at which provider."""

    terms: ProviderTerms
    id_token: Hidden[str]
    nonce: Hidden[str | None]
    refresh_token: Hidden[str]

    @classmethod
    def begun(
        cls, provider: IdentityProvider, tokens: Tokens, *, nonce: str | None, now: float
    ) -> tuple[StoredLogin, User]:
        """Return what *tokens* prove. Raises as :meth:`IdentityProvider.user_of_id_token`."""
        if not tokens.id_token:
            raise IdentityProviderError("The identity provider does not say who logged in.", error="answer")
        id_token, access_token = tokens.id_token.reveal(), tokens.access_token.reveal()
        user = provider.user_of_id_token(id_token, nonce=nonce, now=now, access_token=access_token)
        return cls(provider.terms, tokens.id_token, Hidden(nonce), tokens.refresh_token), user

    def fresh(self, provider: IdentityProvider, *, now: float) -> tuple[StoredLogin, User]:
        """Return this login as it is now, refreshed if that is due, and its user.

        Raises:
            LoginRequiredError: it has ended.
            IdentityError: the provider cannot be asked, or its token is not good.
        """
        before = jws.unverified(self.id_token.reveal())
        expires = before.get("exp")
        if type(expires) is int and now < expires - _DUE:
            return self, provider.user_of_id_token(self.id_token.reveal(), nonce=self.nonce.reveal(), now=now)
        if not self.refresh_token:
            raise LoginRequiredError("The login has ended.", hint=AGAIN)
        try:
            tokens = OAuthClient(provider, self.terms.client_id).refresh(self.refresh_token.reveal(), now=now)
        except IdentityProviderError as error:
            if error.error == "invalid_grant":
                raise LoginRequiredError("The identity provider has ended the login.", hint=AGAIN) from error
            raise
        # A new ID token may come without the nonce, but not with another (OpenID Connect Core, section 12.2).
        said = jws.unverified(tokens.id_token.reveal()) if tokens.id_token else {}
        nonce = self.nonce.reveal() if "nonce" in said else None
        renewed, user = StoredLogin.begun(provider, tokens, nonce=nonce, now=now)
        if said.get("sub") != before.get("sub"):
            raise TokenInvalidError("The refreshed login is somebody else's.")
        return replace(renewed, refresh_token=renewed.refresh_token or self.refresh_token), user

    def save(self, path: Path) -> None:
        """Keep it in *path*, in place of what was there.

        Raises:
            ConfigurationError: it cannot be written.
        """
        terms = self.terms
        document = {
            "version": 1,
            "issuer": terms.issuer,
            "client_id": terms.client_id,
            "algorithms": list(terms.algorithms),
            "user": str(terms.user),
            "groups": list(terms.groups),
            "roles": list(terms.roles),
            "id_token": self.id_token.reveal(),
            "nonce": self.nonce.reveal(),
            "refresh_token": self.refresh_token.reveal(),
        }
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_whole(path, orjson.dumps(document))
        except OSError as error:
            raise ConfigurationError(f"The login cannot be kept in {path}.") from error


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Keep other processes from the login in *path* for as long as the block runs."""
    with ExitStack() as held:
        with suppress(ImportError, OSError):  # another kind of system, or nobody has logged in
            import fcntl

            opened = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, opened)
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def read_login(path: Path) -> StoredLogin | None:
    """Return the login in *path*, or None where nobody has logged in.

    Raises:
        ConfigurationError: others can read or write the file, or it is none of ours.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigurationError(f"{path} is no file.")
            if os.name == "posix" and (found.st_mode & 0o077 or found.st_uid != os.geteuid()):
                raise ConfigurationError(
                    f"The login in {path} can be read or written by others.", hint=f"Run: chmod 600 {path}"
                )
            content = file.read(_LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"The login in {path} cannot be read.") from error
    try:
        return _stored(orjson.loads(content))
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{path} is no login.", hint="Run: zt-agents logout") from error


def _stored(document: Any) -> StoredLogin:
    if document["version"] != 1:
        raise ValueError("another version")
    texts = ("client_id", "id_token", "refresh_token")
    lists = ("algorithms", "groups", "roles")
    if not all(isinstance(document[name], str) for name in texts) or not isinstance(document["nonce"], str | None):
        raise ValueError("it is damaged")
    if not all(isinstance(document[name], list) and document[name] for name in lists):
        raise ValueError("it is damaged")
    if not all(isinstance(each, str) for name in lists for each in document[name]):
        raise ValueError("it is damaged")
    terms = ProviderTerms(
        issuer=checked_issuer(document["issuer"]),
        client_id=document["client_id"],
        algorithms=tuple(document["algorithms"]),
        user=UserClaim(document["user"]),
        groups=tuple(document["groups"]),
        roles=tuple(document["roles"]),
    )
    if not set(terms.algorithms) <= set(ALGORITHMS):
        raise ValueError("an algorithm that is not safe")
    held = (Hidden(document[name]) for name in ("id_token", "nonce", "refresh_token"))
    return StoredLogin(terms, *held)
