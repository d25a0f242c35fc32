"""A request as JSON, so that whoever reads it later is shown what whoever asked would have shown.

Request attributes set by the application (``ToolCall.attributes``) are left behind: they may be anything, and no
human is shown them.
"""

from __future__ import annotations

from typing import Any

import orjson

from zt_agents.approvals.requests import ApprovalRequest, binding_hash
from zt_agents.catalog.specs import Effect, Tier, ToolSpec
from zt_agents.decisions import (
    ApprovalTerms,
    ChainLink,
    Decision,
    Outcome,
    Proof,
    Reason,
    ReasonCode,
    SecondFactor,
    ToolCall,
)
from zt_agents.identity.principals import Agent, User
from zt_agents.provenance.labels import DataClass, Integrity, Label

_FOREVER = 253_402_300_800
"""The year 10000, which no calendar shows."""


def write_request(request: ApprovalRequest) -> bytes:
    """Return *request* as JSON."""
    call, decision = request.call, request.decision
    spec, agent, user = call.spec, call.agent, call.user
    return orjson.dumps(
        {
            "id": request.id,
            "binding_hash": request.binding_hash,
            "expires_at": request.expires_at,
            "terms": [list(each) for each in request.terms],
            "trace_id": request.trace_id,
            "span_id": request.span_id,
            "nonce": request.nonce,
            "signer": request.signer,
            "call": {
                "tool": call.tool,
                "spec": None
                if spec is None
                else {
                    "tier": spec.tier,
                    "effects": sorted(spec.effects),
                    "system": spec.system,
                    "resource": spec.resource,
                    "data_class": spec.data_class,
                    "integrity": spec.integrity,
                    "destinations": spec.destinations,
                    "content": spec.content,
                },
                "arguments": call.arguments,
                "agent": None if agent is None else [agent.name, agent.id, agent.version, agent.owner, agent.purpose],
                "user": None if user is None else [user.id, user.name, user.groups, user.roles],
                "session_id": call.session_id,
                "intent": call.intent,
                "task": call.task,
                "call_id": call.call_id,
                "resource": call.resource,
                "label": [call.label.integrity, call.label.data_class],
                "time": call.time,
                "environment": call.environment,
                "tenant": call.tenant,
                "chain": [list(link) for link in call.chain],
            },
            "decision": {
                "id": decision.id,
                "tier": decision.tier,
                "reasons": [list(reason) for reason in decision.reasons],
                "policy_id": decision.policy_id,
                "policy_version": decision.policy_version,
            },
        }
    )


def read_request(text: bytes) -> ApprovalRequest:
    """Return the request in *text*; raise ValueError, KeyError or TypeError when it is none.

    A request that shows one call and is bound to another is none.
    """
    values = orjson.loads(text)
    call, decision = values["call"], values["decision"]
    terms = tuple(_terms(each) for each in values["terms"])
    request = ApprovalRequest(
        id=values["id"],
        binding_hash=values["binding_hash"],
        call=_call(call),
        decision=Decision(
            id=decision["id"],
            outcome=Outcome.REQUIRE_APPROVAL,
            tool=call["tool"],
            tier=Tier(decision["tier"]),
            reasons=tuple(Reason(ReasonCode(code), words, rule) for code, words, rule in decision["reasons"]),
            policy_id=decision["policy_id"],
            policy_version=decision["policy_version"],
            terms=terms,
        ),
        expires_at=values["expires_at"],
        terms=terms,
        trace_id=values["trace_id"],
        span_id=values["span_id"],
        nonce=values["nonce"],
        signer=values["signer"],
    )
    _require_types(request)
    if binding_hash(request.call, nonce=request.nonce) != request.binding_hash:
        raise ValueError("the call is not the one that the request is bound to")
    return request


def _terms(values: list[Any]) -> ApprovalTerms:
    terms = ApprovalTerms._make(tuple(value) if isinstance(value, list) else value for value in values)
    terms = terms._replace(proof=Proof(terms.proof), second_factor=SecondFactor(terms.second_factor))
    for value, usual in zip(terms, ApprovalTerms(), strict=True):
        words = value if isinstance(value, tuple) else ()
        if type(value) is not type(usual) or not all(type(word) is str for word in words):
            raise TypeError("what is stored are no terms")
    return terms


def _require_types(request: ApprovalRequest) -> None:
    """Refuse what could not be shown: nobody's request may be in the way of the others in a list."""
    call, spec, agent, user = request.call, request.call.spec, request.call.agent, request.call.user
    texts: list[object] = [request.id, request.binding_hash, request.trace_id, request.span_id, request.nonce]
    texts += [request.signer, call.tool, call.session_id, call.intent, call.task, call.resource, call.environment]
    texts += [call.tenant, *(text for link in call.chain for text in link)]
    texts += [reason.text for reason in request.decision.reasons]
    texts += [value for value in (call.call_id, *(each.rule_id for each in request.decision.reasons)) if value]
    if spec is not None:
        texts += [spec.system, spec.resource, *spec.destinations, *spec.content]
    if agent is not None:
        texts += [agent.name, agent.id, agent.version, agent.owner, agent.purpose]
    if user is not None:
        texts += [user.id, user.name]
    numbers = [value for terms in request.terms for value in terms if isinstance(value, int)]
    if (
        not request.terms
        or not isinstance(call.arguments, dict)
        or not all(type(text) is str for text in texts)
        or not all(0 <= number < _FOREVER for number in numbers)
        or not all(0 <= moment < _FOREVER for moment in (call.time, request.expires_at))
    ):
        raise ValueError("what is stored is no request")


def _call(values: dict[str, Any]) -> ToolCall:
    agent, user, (integrity, data_class) = values["agent"], values["user"], values["label"]
    return ToolCall(
        tool=values["tool"],
        spec=_spec(values["tool"], values["spec"]) if values["spec"] else None,
        arguments=values["arguments"],
        agent=Agent(*agent) if agent else None,
        user=_user(*user) if user else None,
        session_id=values["session_id"],
        intent=values["intent"],
        task=values["task"],
        call_id=values["call_id"],
        resource=values["resource"],
        label=Label(Integrity(integrity), DataClass(data_class)),
        time=values["time"],
        environment=values["environment"],
        tenant=values["tenant"],
        chain=tuple(ChainLink(*link) for link in values["chain"]),
    )


def _user(name: str, shown: str, groups: list[str], roles: list[str]) -> User:
    return User(name, shown, tuple(groups), tuple(roles))


def _spec(tool: str, values: dict[str, Any]) -> ToolSpec:
    return ToolSpec(
        name=tool,
        tier=Tier(values["tier"]),
        effects=frozenset(Effect(effect) for effect in values["effects"]),
        system=values["system"],
        resource=values["resource"],
        data_class=DataClass(values["data_class"]),
        integrity=Integrity(values["integrity"]),
        destinations=tuple(values["destinations"]),
        content=tuple(values["content"]),
    )
