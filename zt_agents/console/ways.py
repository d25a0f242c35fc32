"""How a person can say yes to a request: plainly, with a one-time code, or with a passkey; or why they cannot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum

from zt_agents.approvals import Answer, ApprovalRequest, Holds, objection
from zt_agents.console.sessions import Person
from zt_agents.decisions import Proof, SecondFactor


class Way(StrEnum):
    """What an answer brings along."""

    PLAIN = "plain"
    """Nothing: the console vouches for who is signed in."""
    CODE = "code"
    """A one-time code."""
    PASSKEY = "passkey"
    """An assertion over the very call, which is also a signature of one's own."""


_SHOWS = {
    Way.PASSKEY: (Proof.CREDENTIAL, SecondFactor.PASSKEY),
    Way.PLAIN: (Proof.ATTESTED, SecondFactor.NONE),
    Way.CODE: (Proof.ATTESTED, SecondFactor.TOTP),
}
"""A touch of a passkey is no work and the best evidence; a code is work, so it is asked for where it has to be."""


def way_to_say_yes(
    request: ApprovalRequest, person: Person, *, ways: Collection[Way], now: float, holds: Holds
) -> tuple[Way | None, str]:
    """Return the first of *ways*, and a plain one, in which a yes of *person* counts; or None, and why none does."""
    yes = Answer(request.binding_hash, True, person.id, groups=person.groups)
    first = ""
    for way, (known, shown) in _SHOWS.items():
        if way is not Way.PLAIN and way not in ways:
            continue
        why = objection(request, replace(yes, known=known, shown=shown), now=now, holds=holds)
        if why is None:
            return way, ""
        first = why if way is Way.PLAIN else first
    return None, first
