"""From the approvals of a file to the terms of a decision; terms that nobody could meet are refused."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from zt_agents.catalog.specs import Tier, ToolSpec
from zt_agents.decisions import ApprovalTerms, Outcome, Proof, SecondFactor, ToolCall
from zt_agents.identity.principals import User
from zt_agents.policy.conditions import Condition, ConditionCompiler
from zt_agents.policy.document import Trail
from zt_agents.policy.findings import Findings
from zt_agents.policy.mistakes import Mistake
from zt_agents.policy.models import (
    ApprovalsSection,
    EscalateSection,
    RuleApprovals,
    RuleEntry,
    StandingSection,
)
from zt_agents.policy.spelling import seconds
from zt_agents.policy.variables import ApprovedCall

_SESSION_USER = "session-user"
_WRITTEN = 1_000
"""Conditions written by approvers that are kept compiled."""


def approval_terms(section: RuleApprovals) -> ApprovalTerms:
    """Return what *section* says."""
    escalate: EscalateSection | None = section.escalate
    standing: StandingSection | None = section.standing
    return ApprovalTerms(
        approvers=tuple(dict.fromkeys(section.approvers)),
        quorum=section.quorum,
        timeout=seconds(section.timeout),
        proof=section.proof,
        second_factor=section.second_factor,
        exclude=tuple(dict.fromkeys(section.exclude)),
        when=section.when.strip(),
        escalate_after=seconds(escalate.after) if escalate else 0,
        escalate_to=tuple(dict.fromkeys(escalate.to)) if escalate else (),
        standing_uses=standing.uses if standing else 0,
        standing_within=seconds(standing.within) if standing else 0,
        grace=seconds(section.grace) if section.grace else 0,
        remember=section.remember == "session",
    )


def rule_terms(
    index: int,
    entry: RuleEntry,
    everywhere: ApprovalsSection,
    tools: Mapping[str, ToolSpec],
    findings: Findings,
) -> ApprovalTerms | None:
    """Return the terms of a rule that says something about approvals: what it leaves out is as *everywhere*."""
    if "approvals" not in entry.model_fields_set:
        return None
    if entry.outcome is not Outcome.REQUIRE_APPROVAL:
        message = "only a rule with the outcome require_approval says who approves."
        findings.add(("rules", index, "approvals"), message, at_key=True)
    given = {name: getattr(entry.approvals, name) for name in entry.approvals.model_fields_set}
    common = {name: getattr(everywhere, name) for name in RuleApprovals.model_fields}
    terms = approval_terms(RuleApprovals.model_construct(**common | given))
    trail = ("rules", index, "approvals")
    check_terms(trail, terms, findings)
    known = [tools[tool] for tool in entry.tools if tool in tools]
    own = entry.approvals.model_fields_set
    if "grace" in own and known and all(spec.tier is Tier.HIGH for spec in known):
        findings.add((*trail, "grace"), "its tools are of the high tier, where silence is never a yes.")
    for spec in known if "remember" in own else ():
        if spec.tier is Tier.HIGH or not spec.resource:
            why = "is of the high tier" if spec.tier is Tier.HIGH else "says no 'resource' by which calls are alike"
            findings.add((*trail, "remember"), f"nothing can be remembered of {spec.name!r}: it {why}.")
    return terms


def check_terms(trail: Trail, terms: ApprovalTerms, findings: Findings) -> None:
    """Note terms that nobody can meet."""
    everybody = terms.approvers + terms.escalate_to
    possible = [word for word in everybody if word not in terms.exclude]
    for word in dict.fromkeys(everybody):
        if word in terms.exclude:
            findings.add(trail, f"{word!r} is asked and excluded.")
    if _SESSION_USER in everybody and (terms.proof is Proof.CREDENTIAL or terms.second_factor is not SecondFactor.NONE):
        findings.add(trail, "session-user is whom nobody vouches for: they can show neither credential nor factor.")
    if _SESSION_USER in terms.escalate_to:
        findings.add(trail, "session-user is asked at once or not at all: it is nobody to escalate to.")
    if terms.escalate_after >= terms.timeout:
        findings.add(trail, "the time is over before it escalates: 'after' has to be less than 'timeout'.")
    shows = terms.second_factor is not SecondFactor.NONE
    if shows and (terms.standing_uses or terms.remember):
        findings.add(trail, "a second factor is for one call: with 'standing' or 'remember' say second_factor: none.")
    if terms.remember and terms.proof is Proof.CREDENTIAL:
        findings.add(trail, "what a session remembers is the guard's word: 'remember' does not go with a credential.")
    if terms.grace and (shows or terms.proof is Proof.CREDENTIAL):
        findings.add(trail, "silence is proof of nobody: with 'grace' say second_factor: none and proof: attested.")
    if terms.grace >= terms.timeout:
        findings.add(trail, "the time is over before silence is a yes: 'grace' has to be less than 'timeout'.")
    if any(word == "anyone" or word.startswith("group:") for word in possible):
        return
    people = len(dict.fromkeys(possible))
    if people < terms.quorum:
        names = "one person" if people == 1 else f"{people} people"
        findings.add(trail, f"a quorum of {terms.quorum} can never be reached: only {names} may approve.")


class Eligibility:
    """The conditions on approvers, compiled for each tool whose calls they may be asked about; and those that approvers
    write themselves, for the calls that they approve in advance."""

    def __init__(self, parameters: Mapping[str, Mapping[str, object]]) -> None:
        self._parameters = parameters
        self._compiler = ConditionCompiler(parameters, approver=True)
        self._conditions: dict[tuple[str, str], Condition] = {}
        self._calls = ConditionCompiler(parameters)
        self._written: dict[tuple[str, str], Condition | tuple[Mistake, ...]] = {}
        self._lock = threading.Lock()

    def add(self, trail: Trail, when: str, tools: Iterable[str], findings: Findings) -> None:
        """Compile *when* for *tools*, noting what is wrong with it."""
        for tool in tools if when else ():
            compiled = self._compiler.compile(when, tool)
            if isinstance(compiled, Condition):
                self._conditions[when, tool] = compiled
                continue
            for mistake in compiled:
                visible = sum(not character.isspace() for character in when[: mistake.offset])
                findings.add(trail, mistake.message, offset=visible)
            break  # the same condition is about as wrong for the other tools

    def holds(self, when: str, call: ToolCall, approver: User) -> bool:
        """Return whether the condition *when* holds; one that is not the policy's, or has no answer, does not."""
        condition = self._conditions.get((when, call.tool))
        return condition is not None and condition.evaluate(ApprovedCall(call, approver)) is True

    def mistakes(self, when: str, tool: str) -> tuple[str, ...]:
        """Return what is wrong with a condition that an approver writes for calls of *tool*."""
        compiled = self._compiled(when, tool)
        return () if isinstance(compiled, Condition) else tuple(mistake.message for mistake in compiled)

    def covers(self, when: str, call: ToolCall) -> bool:
        """Return whether the condition *when*, which an approver has written, holds for *call*."""
        compiled = self._compiled(when, call.tool)
        return isinstance(compiled, Condition) and compiled.evaluate(call) is True

    def _compiled(self, when: str, tool: str) -> Condition | tuple[Mistake, ...]:
        with self._lock:
            if (compiled := self._written.get((when, tool))) is None:
                if len(self._written) >= _WRITTEN:
                    self._written.clear()
                    self._calls = ConditionCompiler(self._parameters)
                compiled = self._written[when, tool] = self._calls.compile(when, tool)
            return compiled
