"""The nouns all mechanisms share: the question (:class:`ToolCall`) and the answer (:class:`Decision`)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from zt_agents.catalog.specs import Tier, ToolSpec
from zt_agents.identity.principals import Agent, User
from zt_agents.provenance.labels import Label


class Outcome(StrEnum):
    """The answer, in one word."""

    ALLOW = "allow"
    DENY = "deny"
    REQUIRE_APPROVAL = "require_approval"


class ReasonCode(StrEnum):
    """Why, in one word: stable, and safe to count, trace and alert on."""

    RULE = "rule"
    """A rule of the policy said so; see the reason's rule id."""
    NO_RULE = "no_rule"
    """Default deny: no allow rule applied."""
    HIGH_TIER = "high_tier"
    """A high-tier tool always needs a human."""
    NO_SESSION = "no_session"
    WRONG_GUARD = "wrong_guard"
    IDENTITY = "identity"
    """Token invalid or expired, or its session has ended; agent unknown or inactive; or nobody can tell."""
    SCOPE = "scope"
    """The call is outside of what the session's task may touch."""
    UNDER_REVIEW = "under_review"
    """The agent is not what its owner has accepted."""
    REVOKED = "revoked"
    """The agent, its owner, the user, the session, the task, the token, or everything was revoked."""
    UNKNOWN_TOOL = "unknown_tool"
    UNSEALED_TOOL = "unsealed_tool"
    DRIFT = "drift"
    """Name, description or parameters differ from what was accepted."""
    TAMPERED = "tampered"
    """The sealed tool was changed after sealing."""
    ARGUMENTS = "arguments"
    """Arguments that are invalid, forged, or cannot be decided on."""
    REPLAY = "replay"
    """This very call already ran, or is running."""
    APPROVED = "approved"
    NOT_APPROVED = "not_approved"
    """A human said no, did not answer in time, or the answer was for another call."""
    PENDING = "pending"
    """A human was asked and has not answered yet: the same call can be made again later."""
    NO_CHANNEL = "no_channel"
    """A human is needed and there is no way to reach one."""
    CANCELLED = "cancelled"
    """The caller went away before the body could begin."""
    AUDIT = "audit"
    """The decision could not be recorded."""
    FAULT = "fault"
    """The guard itself failed."""


class Reason(NamedTuple):
    """One reason for a decision."""

    code: ReasonCode
    text: str
    """One sentence for the operator; no argument values."""
    rule_id: str | None = None


CHANGED_AGENT = Reason(
    ReasonCode.UNDER_REVIEW,
    "The agent is not what its owner has accepted; they look at it with: zt-agents agents review",
)


@dataclass(frozen=True, slots=True)
class Obligation:
    """Something the guard must do for an answer to hold. One that it does not know means deny."""

    id: str
    type: str
    properties: Mapping[str, Any] = field(default_factory=dict)


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class ChainLink(NamedTuple):
    """One agent on whose word a call is made, and the session in which it acts."""

    agent: str
    """Its name."""
    agent_id: str
    """SPIFFE-format id."""
    owner: str
    user: str
    """Id of the user on whose behalf."""
    session_id: str
    task: str


# These are made for every call. Named tuples are immutable, and several times cheaper to make than frozen dataclasses.
class ToolCall(NamedTuple):
    """The question. Built once from parsed, validated, copied arguments: what is decided is what runs."""

    tool: str
    spec: ToolSpec | None
    """The catalog's entry; None for a tool nobody catalogued."""
    arguments: Mapping[str, Any]
    """Canonical JSON values of the arguments a model may supply; injected arguments are not part of the question."""
    agent: Agent | None = None
    """The actor, from the verified token."""
    user: User | None = None
    """The subject, from the verified token."""
    session_id: str = ""
    intent: str = ""
    """What the user asked for, in the user's own words."""
    task: str = ""
    call_id: str | None = None
    """The model's tool_call_id, where the framework passes one."""
    resource: str = ""
    """The resource template filled in."""
    label: Label = Label()
    """Label of everything the session has seen before this call."""
    time: float = 0.0
    """Seconds since the epoch at which the question was asked."""
    environment: str = ""
    attributes: Mapping[str, Any] = _NOTHING
    """Request attributes set by the application, never by a model."""
    tenant: str = ""
    """Whose data it is about, where an organisation serves several; from the verified token."""
    chain: tuple[ChainLink, ...] = ()
    """The agents on whose word it is made, the acting one first."""

    @property
    def callers(self) -> list[str]:
        """Names of the agents on whose word the acting one goes on, the nearest first."""
        return [link.agent for link in self.chain[1:]]


_MODEL_TEXT: dict[ReasonCode, str] = {
    ReasonCode.NOT_APPROVED: "A human was asked to approve this call and it was not approved.",
    ReasonCode.NO_CHANNEL: "This call needs a human's approval and nobody can be asked here.",
    ReasonCode.ARGUMENTS: "The arguments of this call were refused.",
    ReasonCode.REPLAY: "This exact call was already made.",
    ReasonCode.NO_SESSION: "There is no verified session for this call.",
    ReasonCode.IDENTITY: "The identity behind this call could not be verified.",
    ReasonCode.REVOKED: "Permission was taken back. Stop working on this task.",
    ReasonCode.AUDIT: "The call could not be recorded, so it was not made.",
    ReasonCode.FAULT: "The security layer is unavailable, so the call was not made.",
}
_MODEL_DEFAULT = "You are not permitted to make this call."


class Proof(StrEnum):
    """How it is known who gave an answer."""

    ATTESTED = "attested"
    """Whoever holds the guard's signing key says so: the application, the console, an operator."""
    CREDENTIAL = "credential"
    """They have signed it: with the key of their credential, or a passkey."""


class SecondFactor(StrEnum):
    """What an approver has to show besides."""

    NONE = "none"
    ANY = "any"
    """One of those that follow."""
    TOTP = "totp"
    """A one-time code (RFC 6238)."""
    PASSKEY = "passkey"
    """A WebAuthn assertion over the very call."""


class ApprovalTerms(NamedTuple):
    """Who has to say yes, as one rule or the whole policy has it."""

    approvers: tuple[str, ...] = ("anyone",)
    """``anyone``, ``owner``, ``session-user``, ``user:ID``, ``group:NAME``; being one of them is enough."""
    quorum: int = 1
    """How many different people have to say yes."""
    timeout: int = 120
    """Seconds that they have."""
    proof: Proof = Proof.ATTESTED
    """How well it has to be known who they are."""
    second_factor: SecondFactor = SecondFactor.NONE
    exclude: tuple[str, ...] = ()
    """``owner``, ``user:ID``, ``group:NAME``: who may not, whatever else they are."""
    when: str = ""
    """CEL condition over the call and ``approver``, which has to hold for whoever says yes."""
    escalate_after: int = 0
    """Seconds after which the next may answer, too; 0 is never."""
    escalate_to: tuple[str, ...] = ()
    """Like ``approvers``."""
    standing_uses: int = 0
    """For how many calls somebody may approve in advance; 0 is not at all."""
    standing_within: int = 0
    """For how many seconds at most."""
    grace: int = 0
    """Seconds after notice was given in which a no has to come, or it is a yes; 0 is never. Not for the high tier."""
    remember: bool = False
    """Whether a yes is remembered for the session, for the same tool and resource. Not for the high tier."""


class Approval(NamedTuple):
    """How one person answered, as it goes on record."""

    approver: str
    answer: str
    """yes or no."""
    proof: Proof
    second_factor: SecondFactor
    standing: str
    """Id of the standing approval that it comes from, or an empty text."""
    evidence: str
    """Hex SHA-256 over what was signed: whoever has kept that can show it."""


class Decision(NamedTuple):
    """The answer, complete: enough to enforce, to explain and to record."""

    id: str
    outcome: Outcome
    tool: str
    tier: Tier
    reasons: tuple[Reason, ...]
    obligations: tuple[Obligation, ...] = ()
    policy_id: str = ""
    policy_version: str = ""
    """Hash over the policy that decided."""
    approval_id: str | None = None
    approved_by: str | None = None
    terms: tuple[ApprovalTerms, ...] = ()
    """What a held call needs: all of these."""
    approvals: tuple[Approval, ...] = ()
    """What people answered."""

    @property
    def allowed(self) -> bool:
        """True for an explicit ALLOW, and for nothing else."""
        return self.outcome is Outcome.ALLOW

    @property
    def rule_id(self) -> str | None:
        """The first rule named by the reasons, if any."""
        for reason in self.reasons:
            if reason.rule_id:
                return reason.rule_id
        return None

    def denied(self, code: ReasonCode, text: str) -> Decision:
        """Return this decision turned into a denial, the new reason first."""
        return self._replace(outcome=Outcome.DENY, reasons=(Reason(code, text), *self.reasons))

    def explain(self) -> str:
        """Return what was decided and why, for the operator."""
        verb = {Outcome.ALLOW: "allowed", Outcome.DENY: "denied", Outcome.REQUIRE_APPROVAL: "held for approval"}
        lines = [f"{self.tool} ({self.tier} tier) was {verb[self.outcome]}."]
        lines += [f"{r.text} [{f'rule {r.rule_id}' if r.rule_id else r.code}]" for r in self.reasons]
        return " ".join(lines)

    def message_for_model(self, *, named: bool = True) -> str:
        """Return what the model may know: that it was refused and what to do, never which rule or threshold.

        Args:
            named: the model is known to have called this very tool, so that its name may be said.
        """
        if self.reasons and self.reasons[0].code is ReasonCode.PENDING:
            return (
                f"Not executed yet: {self.tool if named else 'the call'} waits for a human's approval (ticket "
                f"{(self.approval_id or '')[:8]}). Go on with other work. To get its result, make exactly this call "
                "again later, and no other call in its place."
            )
        why = _MODEL_TEXT.get(self.reasons[0].code, _MODEL_DEFAULT) if self.reasons else _MODEL_DEFAULT
        return (
            f"Access denied: {self.tool if named else 'the call'} was not executed. {why} "
            "Do not repeat this call or look for another way to do the same; tell the user that it was refused."
        )


_prefix = os.urandom(6).hex()
_counter = itertools.count(1)


def _reseed() -> None:
    global _prefix, _counter
    _prefix, _counter = os.urandom(6).hex(), itertools.count(1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reseed)


def new_decision_id() -> str:
    """Return an id that no other decision has, in this process or another."""
    return f"{_prefix}-{next(_counter):x}"
