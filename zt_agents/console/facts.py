"""What a person needs to decide on one request, in words: who asks, for whom, why, with what, and who must say yes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from zt_agents._internal.folding import fold
from zt_agents.approvals import (
    SESSION_USER,
    Answer,
    ApprovalRequest,
    ApprovalState,
    Holds,
    StoredApproval,
    objection,
)
from zt_agents.approvals.rulings import silent_yes_after
from zt_agents.catalog.specs import Effect
from zt_agents.console.sessions import Person
from zt_agents.console.showing import Shown, show, show_line, sort, written
from zt_agents.console.ways import Way, way_to_say_yes
from zt_agents.decisions import ApprovalTerms, Proof, SecondFactor
from zt_agents.provenance.labels import DataClass, Integrity

MOST_ARGUMENTS = 40
_EFFECTS = {
    Effect.READ: "reads",
    Effect.WRITE: "writes",
    Effect.DELETE: "deletes",
    Effect.EGRESS: "sends data out of the organisation",
    Effect.MONEY: "moves money",
    Effect.AUTH: "changes who may do what",
    Effect.EXECUTE: "runs code or commands",
}
_SEEN = {
    Integrity.USER: "Nothing but the user’s own words.",
    Integrity.TRUSTED: "Data of systems that the organisation answers for.",
    Integrity.UNTRUSTED: "Text that anybody may have written.",
}
_FACTORS = {
    SecondFactor.ANY: "a second factor",
    SecondFactor.TOTP: "a one-time code",
    SecondFactor.PASSKEY: "a passkey",
}
_ENDS = {
    ApprovalState.PENDING: "It waits for an answer.",
    ApprovalState.APPROVED: "It was approved.",
    ApprovalState.DENIED: "It was denied. That is final.",
    ApprovalState.EXPIRED: "It expired before it was answered.",
    ApprovalState.CANCELLED: "It was withdrawn by whoever asked.",
    ApprovalState.FAILED: "It was not approved: nobody who may answer it could be asked.",
}
_NOBODY_OBJECTED = "Nobody objected in time, and so it was approved."


class View(NamedTuple):
    """From where a request is looked at."""

    person: Person
    signer: str
    """Who signs this console's answers."""
    ways: Collection[Way]
    """In which this person can answer."""
    now: float
    holds: Holds


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of the call."""

    number: int
    """Its place, from 0."""
    name: Shown
    value: Shown
    sort: str
    role: str
    """Why to look at it twice; empty for most."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Who has to say yes, by one rule or the whole policy."""

    who: tuple[str, ...]
    quorum: int
    yes: tuple[str, ...]
    """Who has said so."""
    more: tuple[str, ...]
    """What else is asked of them, in sentences."""


@dataclass(frozen=True, slots=True)
class Said:
    """One answer that was given."""

    approver: str
    approved: bool
    comment: Shown
    in_advance: bool
    """Whether it was given before the call was made."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One request, as one person is shown it."""

    id: str
    binding_hash: str
    state: ApprovalState
    request: ApprovalRequest
    effects: str
    resource: Shown
    user: Shown
    intent: Shown
    seen: str
    data_class: DataClass
    more: int
    """Arguments that are not shown."""
    demands: tuple[Demand, ...]
    said: tuple[Said, ...]
    end: str
    """Where it stands, in a sentence."""
    silence: int | None
    """Seconds of silence after notice that are a yes, or None."""
    used: bool
    """Whether the approval was used."""
    objection: str
    """Why this person may not answer it; empty where they may."""
    way: Way | None
    """How they can say yes."""
    with_passkey: bool
    """Whether they could if they had a passkey."""
    plainly: bool
    """Whether they can with nothing besides."""
    own: bool | None
    """What this person has answered."""
    good_for: int
    """Seconds for which an approval is good."""

    @property
    def arguments(self) -> list[Argument]:
        """What the call is made with: made on demand, for it may be long, and who waits asks every second."""
        return _arguments(self.request)

    @property
    def wants_factor(self) -> bool:
        """Whether this person lacks nothing but a passkey."""
        return self.way is None and self.with_passkey

    @property
    def open(self) -> bool:
        """Whether this person may answer now."""
        return self.state is ApprovalState.PENDING and not self.objection and self.own is None


def facts(stored: StoredApproval, answers: Sequence[Answer], state: ApprovalState, view: View) -> Facts:
    """Return *stored*, whose contents are there, as it is shown.

    Args:
        answers: those to it whose proof holds.
        state: where it stands now.
        view: from where it is looked at.
    """
    request = stored.request
    if request is None:
        raise ValueError("of a request that was purged there are no facts")
    call, spec = request.call, request.call.spec
    person = view.person
    way, with_passkey, plainly = None, False, False
    if request.signer != view.signer:
        why = "It was asked by a guard with another signing key, or in another trust domain, than this console’s."
    else:
        now = _in_time(request, view.now)
        way, why = way_to_say_yes(request, person, ways=view.ways, now=now, holds=view.holds)
        with_passkey = way_to_say_yes(request, person, ways={Way.PASSKEY}, now=now, holds=view.holds)[0] is not None
        plainly = way_to_say_yes(request, person, ways=(), now=now, holds=view.holds)[0] is not None
    own = next((each.approved for each in answers if fold(each.approver) == fold(person.id)), None)
    return Facts(
        id=request.id,
        binding_hash=request.binding_hash,
        state=state,
        request=request,
        effects=", ".join(_EFFECTS[effect] for effect in sorted(spec.effects)) if spec else "",
        resource=show_line(call.resource),
        user=show_line(call.user.id if call.user else "an unknown user"),
        intent=show(call.intent, lines=True),
        seen=_SEEN[call.label.integrity],
        data_class=call.label.data_class,
        more=max(0, len(call.arguments) - MOST_ARGUMENTS),
        demands=tuple(_demand(request, terms, answers, view) for terms in request.terms),
        said=tuple(
            Said(each.approver, each.approved, show(each.comment, lines=True), each.standing is not None)
            for each in answers
        ),
        end=_NOBODY_OBJECTED if state is ApprovalState.APPROVED and not answers else _ENDS[state],
        silence=silent_yes_after(request),
        used=stored.consumed_at is not None,
        objection=why,
        way=way,
        with_passkey=with_passkey,
        plainly=plainly,
        own=own,
        good_for=min((terms.timeout for terms in request.terms), default=0),
    )


def argument(request: ApprovalRequest, place: int) -> Any:
    """Return the value of the argument at *place*; raises IndexError."""
    return list(request.call.arguments.values())[place]


def _arguments(request: ApprovalRequest) -> list[Argument]:
    """Return the arguments that are shown; those to look at twice come first, wherever they stand in the call."""
    placed = [(_role(request, name), place, name) for place, name in enumerate(request.call.arguments)]
    shown = sorted(placed, key=lambda each: (not each[0], each[1]))[:MOST_ARGUMENTS]
    values = request.call.arguments
    return [
        Argument(place, show_line(name, 80), show(written(values[name]), lines=True), sort(values[name]), role)
        for role, place, name in shown
    ]


def _role(request: ApprovalRequest, name: str) -> str:
    spec = request.call.spec
    if spec is not None and name in spec.destinations:
        return "where it goes"
    return "what is sent" if spec is not None and name in spec.content else ""


def _demand(request: ApprovalRequest, terms: ApprovalTerms, answers: Sequence[Answer], view: View) -> Demand:
    alone = replace(request, terms=(terms,))
    now = _in_time(request, view.now)
    yes = [
        each.approver for each in answers if each.approved and objection(alone, each, now=now, holds=view.holds) is None
    ]
    return Demand(
        tuple(_who(request, word) for word in terms.approvers),
        max(1, terms.quorum),
        tuple(yes),
        tuple(_more(request, terms)),
    )


def _more(request: ApprovalRequest, terms: ApprovalTerms) -> Iterator[str]:
    """Yield what else *terms* ask for, in words."""
    if terms.exclude:
        yield f"Not {_listed(request, terms.exclude)}."
    if terms.proof is Proof.CREDENTIAL:
        yield "Each signs with a credential of their own."
    if terms.second_factor is not SecondFactor.NONE:
        yield f"Each shows {_FACTORS[terms.second_factor]}."
    if terms.escalate_to:
        yield f"After {terms.escalate_after} seconds also {_listed(request, terms.escalate_to)}."
    if terms.when:
        yield f"Only if {terms.when}"


def _listed(request: ApprovalRequest, words: Sequence[str]) -> str:
    return ", or ".join(_who(request, word) for word in words)


def _in_time(request: ApprovalRequest, now: float) -> float:
    """Return *now*, or the last moment in which an answer would have come in time."""
    return min(now, math.nextafter(request.expires_at, 0.0))


def _who(request: ApprovalRequest, word: str) -> str:
    kind, _, name = word.partition(":")
    if word == "anyone":
        return "anyone but the user it is for"
    if word == "owner":
        agent = request.call.agent
        return f"the agent’s owner, {agent.owner}" if agent else "the agent’s owner"
    if word == SESSION_USER:
        return "the user it is for"
    return f"the group {name}" if kind == "group" else name
