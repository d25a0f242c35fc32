"""From the approvals of a file to the terms of a decision; terms that nobody could meet are refused."""

from __future__ import annotations

from zt_agents.decisions import ApprovalTerms, Outcome
from zt_agents.policy.document import Trail
from zt_agents.policy.findings import Findings
from zt_agents.policy.models import ApprovalsSection, RuleApprovals, RuleEntry, seconds


def approval_terms(section: RuleApprovals) -> ApprovalTerms:
    """Return what *section* says."""
    return ApprovalTerms(tuple(dict.fromkeys(section.approvers)), section.quorum, seconds(section.timeout))


def rule_terms(index: int, entry: RuleEntry, everywhere: ApprovalsSection, findings: Findings) -> ApprovalTerms | None:
    """Return the terms of a rule that says something about approvals: what it leaves out is as *everywhere*."""
    if "approvals" not in entry.model_fields_set:
        return None
    if entry.outcome is not Outcome.REQUIRE_APPROVAL:
        message = "only a rule with the outcome require_approval says who approves."
        findings.add(("rules", index, "approvals"), message, at_key=True)
    given = {name: getattr(entry.approvals, name) for name in entry.approvals.model_fields_set}
    common = {name: getattr(everywhere, name) for name in RuleApprovals.model_fields}
    terms = approval_terms(RuleApprovals.model_validate(common | given))
    check_quorum(("rules", index, "approvals"), terms, findings)
    return terms


def check_quorum(trail: Trail, terms: ApprovalTerms, findings: Findings) -> None:
    """Note a quorum that is larger than the number of people who may approve."""
    if any(word == "anyone" or word.startswith("group:") for word in terms.approvers):
        return
    people = len(terms.approvers)
    if people < terms.quorum:
        names = "one person" if people == 1 else f"{people} people"
        findings.add(trail, f"a quorum of {terms.quorum} can never be reached: only {names} may approve.")
