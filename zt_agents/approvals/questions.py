"""A request as the question that LangChain's ``HumanInTheLoopMiddleware`` asks, and its response.

Existing user interfaces show the one and send the other. Beside LangChain's keys a question carries ``zt_approval``,
which names the request and what it needs, and a response ``zt_answer``, the signed token that says who gave it, and
``zt_factor``, what they showed besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zt_agents._internal.clock import rfc3339
from zt_agents._internal.display import visible
from zt_agents.approvals.requests import ApprovalRequest

REQUEST_KEY = "zt_approval"
ANSWER_KEY = "zt_answer"
EDIT_KEY = "zt_edit"
"""In a response that edits: the signed yes to the edited call."""
FACTOR_KEY = "zt_factor"
"""In a response: the evidence of a second factor."""


def question(request: ApprovalRequest, *, editable: bool = False, objection: str | None = None) -> dict[str, Any]:
    """Return *request* as LangChain's ``HITLRequest``; *editable* says that somebody here can make an edited call.

    An *objection* says why the last answer to it did not count.
    """
    call = request.call
    allowed = ["approve", "edit", "reject"] if editable else ["approve", "reject"]
    return {
        "action_requests": [{"name": call.tool, "args": dict(call.arguments), "description": describe(request)}],
        "review_configs": [{"action_name": call.tool, "allowed_decisions": allowed}],
        REQUEST_KEY: {
            "id": request.id,
            "binding_hash": request.binding_hash,
            "expires_at": request.expires_at,
            "needs": [
                {"quorum": terms.quorum, "proof": terms.proof.value, "second_factor": terms.second_factor.value}
                for terms in request.terms
            ],
            **({"not_counted": objection} if objection else {}),
        },
    }


def approves(response: object) -> bool:
    """Return whether *response* is LangChain's way to approve one call, and nothing else."""
    return _decision(response).get("type") == "approve"


def understood(response: object) -> bool:
    """Return whether *response* is one of LangChain's to one call."""
    return _decision(response).get("type") in {"approve", "reject", "edit", "respond"}


def edited(response: object, tool: str) -> Mapping[str, Any] | None:
    """Return the arguments that *response* wants *tool* to be called with; None also where it wants another tool."""
    decision = _decision(response)
    action = decision.get("edited_action") if decision.get("type") == "edit" else None
    if not isinstance(action, Mapping) or action.get("name") != tool:
        return None
    arguments = action.get("args")
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        return None
    return arguments


def _decision(response: object) -> Mapping[str, Any]:
    if isinstance(response, Mapping) and "decisions" in response:
        decisions = response["decisions"]
        response = decisions[0] if isinstance(decisions, list | tuple) and len(decisions) == 1 else None
    return response if isinstance(response, Mapping) else {}


def describe(request: ApprovalRequest) -> str:
    """Return what a human needs to decide besides the arguments, one fact a line."""
    call, decision = request.call, request.decision
    facts = [f"tool: {visible(call.tool)} ({decision.tier} tier)"]
    if call.spec is not None:
        facts.append(f"effect: {', '.join(sorted(call.spec.effects))}")
    if call.resource:
        facts.append(f"resource: {visible(call.resource)}")
    if call.agent is not None:
        facts.append(f"agent: {visible(f'{call.agent.name} {call.agent.version}, owner {call.agent.owner}')}")
    if call.callers:
        facts.append(f"on the word of: {visible(', '.join(call.callers))}")
    facts.append(f"for: {visible(call.user.id) if call.user else 'unknown'}")
    facts.append(f"asked for: {visible(call.intent) or '(no words recorded)'}")
    facts.append(f"has seen: {call.label.integrity} / {call.label.data_class}")
    facts += [f"why you: {reason.text}" for reason in decision.reasons]
    facts.append(f"until: {rfc3339(request.expires_at)}")
    return "\n".join(facts)
