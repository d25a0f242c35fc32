"""What a standing approval says: which calls of one agent somebody approves in advance, until when, and how many.

It is narrow by its shape: one agent, one tool, one user on whose behalf, and either one resource or a condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zt_agents.errors import TokenInvalidError
from zt_agents.identity.signing import jws

_NEVER = 253_402_300_800
"""The year 10000, which no calendar shows."""
_WORDS = ("agent", "user", "session", "tool", "resource", "when")


@dataclass(frozen=True, slots=True)
class StandingClaims:
    """A standing approval."""

    id: str
    approver: str
    groups: tuple[str, ...]
    agent: str
    """SPIFFE-format id."""
    user: str
    """On whose behalf the agent acts."""
    session: str
    """The one session in which it is good; an empty text is any."""
    tool: str
    resource: str
    """The one resource; an empty text where :attr:`when` says which calls are meant."""
    when: str
    """CEL condition over the call, or an empty text."""
    uses: int
    """For how many calls it is good."""
    issued_at: int
    expires_at: int
    """Seconds since the epoch; it is good strictly before that."""

    def __post_init__(self) -> None:
        if not (self.id and self.agent and self.user and self.tool):
            raise ValueError("a standing approval is for one agent, one user and one tool")
        if not self.resource and not self.when:
            raise ValueError("a standing approval is for one resource, or for the calls of a condition")
        if self.uses < 1 or not self.issued_at < self.expires_at < _NEVER:
            raise ValueError("a standing approval is for some calls, and for some time")

    @property
    def about(self) -> str:
        """What to look it up by."""
        return about(self.agent, self.user, self.tool, self.session)

    def to_claims(self) -> dict[str, Any]:
        """Return what its token says besides who has signed it."""
        return {
            "jti": self.id,
            **{name: getattr(self, name) for name in _WORDS},
            "uses": self.uses,
            "iat": self.issued_at,
            "exp": self.expires_at,
        }


def about(agent: str, user: str, tool: str, session: str) -> str:
    """Return what to look up standing approvals by; those for any session, if *session* is an empty text."""
    return " ".join((agent, user, tool, session))


STANDING_CLAIMS = ("jti", *_WORDS, "uses", "iat", "exp")


def standing_of(claims: Mapping[str, Any], approver: str, groups: tuple[str, ...]) -> StandingClaims:
    """Return what the verified *claims* of a token say.

    Raises:
        TokenInvalidError: it is no standing approval.
    """
    words = {name: claims.get(name) for name in _WORDS}
    if not all(isinstance(word, str) for word in words.values()):
        raise TokenInvalidError("The token is malformed.")
    try:
        return StandingClaims(
            id=jws.text(claims, "jti"),
            approver=approver,
            groups=groups,
            **words,  # type: ignore[arg-type]
            uses=jws.whole(claims, "uses"),
            issued_at=jws.whole(claims, "iat"),
            expires_at=jws.whole(claims, "exp"),
        )
    except ValueError as error:
        raise TokenInvalidError("The token is malformed.") from error
