"""Who takes part in a call: the human it is for, and the agent that acts.

*subject* means on whose behalf, *actor* means who acts (RFC 8693). An agent has an id of its own in SPIFFE format,
an accountable human owner, and a status. Without a SPIRE server such an id is SPIFFE-formatted, not attested.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from zt_agents._internal.hidden import Hidden

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_MAX_SPIFFE_ID_BYTES = 2048


def parse_spiffe_id(text: str) -> tuple[str, str]:
    """Return ``(trust_domain, path)`` of a SPIFFE ID.

    Follows the SPIFFE-ID specification, sections 2.1 to 2.4: lower-case trust domain; no query, fragment, port or
    user info; no empty, ``.`` or ``..`` segment; at most 2,048 bytes.

    Raises:
        ValueError: *text* breaks one of these rules; the message says which.
    """
    if len(text.encode("utf-8", "surrogatepass")) > _MAX_SPIFFE_ID_BYTES:
        raise ValueError("a SPIFFE ID is at most 2048 bytes long")
    if not text.startswith("spiffe://"):
        raise ValueError("a SPIFFE ID starts with 'spiffe://'")
    domain, slash, path = text.removeprefix("spiffe://").partition("/")
    if not _TRUST_DOMAIN.fullmatch(domain):
        raise ValueError("the trust domain is one to 255 of a-z, 0-9, '.', '-' and '_'")
    if not slash:
        raise ValueError("an agent's SPIFFE ID needs a path after the trust domain")
    for segment in path.split("/"):
        if segment in {"", ".", ".."} or not _SEGMENT.fullmatch(segment):
            raise ValueError(f"path segment {segment!r} is not one or more of letters, digits, '.', '-' and '_'")
    return domain, "/" + path


class AgentStatus(StrEnum):
    """Only an active agent may act."""

    REGISTERED = "registered"
    """Known, and not yet let act."""
    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRED = "retired"
    """For good. Its id is never given to another agent."""


class OnChange(StrEnum):
    """What happens to the calls of an agent that is not the one its owner has accepted."""

    DENY = "deny"
    RAISE_TIER = "raise_tier"
    """They are treated as one tier higher; in the high tier, a human decides about each."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A registered agent."""

    name: str
    """Short name, used in rules."""
    id: str
    """SPIFFE-format id, used in tokens, traces and audit."""
    version: str
    owner: str
    """The accountable human."""
    purpose: str
    status: AgentStatus = AgentStatus.ACTIVE
    tools: frozenset[str] | None = None
    """The only tools that it may ever call, whatever rules say; None leaves that to the rules."""
    on_change: OnChange | None = None
    """What the policy has for an agent that changed; None denies it once anything was accepted, and nothing before."""
    under_review: OnChange | None = None
    """What holds for its calls now, because its owner has not accepted what it is; None is nothing."""
    delegates: tuple[str, ...] = ()
    """Names of the agents that it may hand its task on to."""


def _words(name: str, value: Any) -> tuple[str, ...]:
    # A text is iterable too: groups="hr" would be the groups "h" and "r", and a rule that denies "hr" would not apply.
    if isinstance(value, str | bytes | Mapping):
        raise ValueError(f"a user's {name} are a list of texts")  # noqa: TRY004 - as for every other bad value here
    words = tuple(value)
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"a user's {name} are a list of texts")
    return words


@dataclass(frozen=True, slots=True)
class Login:
    """How an identity provider vouched for a user.

    It holds the very token, and no mark that says "verified": whoever opens a session verifies it again, so a copy of
    this, or one that somebody made up, proves what its token proves.
    """

    issuer: str
    subject: str
    """``sub``, whatever claim the user is called by."""
    expires_at: int
    """Seconds since the epoch, as for the next."""
    authenticated_at: int | None = None
    """When they last proved who they are (``auth_time``)."""
    acr: str = ""
    """How strongly, in the provider's words."""
    amr: tuple[str, ...] = ()
    """By which means (RFC 8176)."""
    token: Hidden[str] = field(default=Hidden(""), repr=False, compare=False)
    """The ID or access token; empty where only a session token is left of it."""
    nonce: Hidden[str | None] = field(default=Hidden(None), repr=False, compare=False)
    """Which an ID token was asked for with."""
    access: bool = field(default=False, repr=False, compare=False)
    """It is an access token."""

    def __post_init__(self) -> None:
        for name in ("token", "nonce"):
            object.__setattr__(self, name, Hidden.of(getattr(self, name)))

    def to_claim(self) -> dict[str, Any]:
        """Return what a session token says of this: all but the token."""
        said: dict[str, Any] = {"iss": self.issuer, "sub": self.subject, "exp": self.expires_at}
        if self.authenticated_at is not None:
            said["auth_time"] = self.authenticated_at
        if self.acr:
            said["acr"] = self.acr
        if self.amr:
            said["amr"] = list(self.amr)
        return said

    @classmethod
    def from_claim(cls, said: Mapping[str, Any]) -> Login:
        """Return what :meth:`to_claim` said, or raise ValueError."""
        numbers, texts, amr = ("exp", "auth_time"), ("iss", "sub", "acr"), said.get("amr", [])
        good = {"iss", "sub", "exp"} <= said.keys() <= {*numbers, *texts, "amr"}
        good = good and all(type(said[name]) is int for name in numbers if name in said)
        good = good and all(isinstance(said[name], str) and said[name] for name in texts if name in said)
        if not good or not isinstance(amr, list):
            raise ValueError("it does not say how the user logged in")
        return cls(
            issuer=said["iss"],
            subject=said["sub"],
            expires_at=said["exp"],
            authenticated_at=said.get("auth_time"),
            acr=said.get("acr", ""),
            amr=_words("amr", amr),
        )


@dataclass(frozen=True, slots=True)
class User:
    """The human on whose behalf an agent acts, as the application authenticated them."""

    id: str
    name: str = ""
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Further facts for conditions; set by the application, never by a model."""
    login: Login | None = None
    """How an identity provider vouched for them; :meth:`Guard.user` says so, or nobody."""

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id.strip():
            raise ValueError("a user needs an id, which is text")
        for name in ("groups", "roles"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
