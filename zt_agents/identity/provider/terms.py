"""What an organisation says about its identity provider: whom it believes, and about what.

Nothing here is learned from the provider itself, nor guessed from a token.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

ALGORITHMS = ("ES256", "RS256", "PS256", "EdDSA")
"""Signatures that anybody can check and nobody but the provider can make (RFC 8725, section 3.2)."""

REGISTRATIONS = "zt-agents-idp"
"""The folder beside the policy file with agents' clients and keys."""


class AccessTokenKind(StrEnum):
    """How the provider marks its access tokens."""

    RFC_9068 = "at+jwt"
    """The header's ``typ`` is ``at+jwt`` (RFC 9068, section 2.1)."""
    BEARER = "bearer"
    """The header's ``typ`` is ``JWT``, and a claim ``typ`` says ``Bearer``, as Keycloak has it."""


class UserClaim(StrEnum):
    """What a user is called by. OpenID Connect Core, section 5.7: nothing but ``sub`` is stable and unique."""

    SUBJECT = "sub"
    EMAIL = "email"
    """Only while the provider says ``email_verified: true``."""


@dataclass(frozen=True, slots=True)
class ExchangeTerms:
    """For which back end a tool may get a token of the provider's."""

    audience: str
    tools: frozenset[str]
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class ProviderTerms:
    """One identity provider, as the policy has it."""

    issuer: str
    """Its ``iss``, compared exactly."""
    client_id: str
    """Under which people log in; ``aud`` of ID tokens."""
    audience: str = ""
    """``aud`` of access tokens; an empty text takes none."""
    algorithms: tuple[str, ...] = ("RS256",)
    access_tokens: AccessTokenKind = AccessTokenKind.RFC_9068
    user: UserClaim = UserClaim.SUBJECT
    groups: tuple[str, ...] = ("groups",)
    """Names that lead to the claim, the outermost first."""
    roles: tuple[str, ...] = ("roles",)
    required: bool = False
    """Nobody has a session who did not log in there."""
    max_age: int = 0
    """Seconds since somebody last proved who they are; 0 is any (RFC 9470, ``max_age``)."""
    acr: tuple[str, ...] = ()
    """One of which the login has to be; empty is any (RFC 9470, ``acr_values``)."""
    exchange: tuple[ExchangeTerms, ...] = ()
    registrations: Path = Path(REGISTRATIONS)
    """The folder with agents' keys there, beside the policy file."""


def stays_here(host: str) -> bool:
    """Return whether what is sent to *host* does not leave the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_address(address: object, *, what: str, loopback: bool = True) -> str:
    """Return *address* if it may be asked: https, or http that does not leave the machine.

    Args:
        what: name of the address in the error.
        loopback: whether http is good enough for an address on this machine.

    Raises:
        ValueError: it is something else, or carries a user, a password or a fragment.
    """
    if not isinstance(address, str) or not address.isascii() or not address.isprintable() or " " in address:
        raise ValueError(f"{what} is not an address")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{what} is not an address") from None
    if not host or "@" in parts.netloc or "#" in address:
        raise ValueError(f"{what} is an address with a host, without user and fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback and stays_here(host)):
        raise ValueError(f"{what} has to be https")
    return address


def checked_issuer(issuer: object) -> str:
    """Return *issuer* if it may be one (OpenID Connect Discovery, section 2), or raise ValueError."""
    text = checked_address(issuer, what="the issuer")
    if "?" in text:
        raise ValueError("an issuer has no query")
    return text
