"""A response to a question, signed in the name of who gave it: for applications that resume graphs themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zt_agents._internal.canonical import canonical, encode
from zt_agents._internal.folding import fold
from zt_agents.approvals import RESERVED, Answer, binding_hash
from zt_agents.approvals.questions import (
    ANSWER_KEY,
    EDIT_KEY,
    FACTOR_KEY,
    REQUEST_KEY,
    approves,
    edited,
    question,
    understood,
)
from zt_agents.catalog.resources import fill_resource
from zt_agents.desk.answers import AnswerDesk
from zt_agents.errors import ArgumentsError
from zt_agents.identity import User


def signed_response(
    desk: AnswerDesk,
    asked: Mapping[str, Any],
    response: Mapping[str, Any],
    approver: User,
    *,
    factor: str,
    now: float,
) -> dict[str, Any]:
    """Return *response* with a signed answer to the question *asked*; see :meth:`Guard.answer`."""
    named = asked.get(REQUEST_KEY)
    binding = named.get("binding_hash") if isinstance(named, Mapping) else None
    if not isinstance(binding, str) or not binding:
        raise ValueError("this is no question of zt_agents: pass the value of the interrupt")
    stored = desk.store.find(binding)
    if stored is None or stored.request is None:
        raise ValueError("no such question was asked here, or it was decided long ago")
    if not _same(asked.get("action_requests"), question(stored.request)["action_requests"]):
        raise ValueError("the question is not as it was asked: somebody has changed what the approver saw")
    if fold(approver.id) in RESERVED:
        raise ValueError(f"{approver.id!r} is a word of the policy and nobody's id")
    if not understood(response):
        raise ValueError("the response is none that is known: its one decision is approve, reject or edit")
    said = Answer(binding, approves(response), approver.id, groups=approver.groups)
    signed = {**response, ANSWER_KEY: desk.proofs.attested(stored.request, said, now=now).proof}
    if factor:
        signed[FACTOR_KEY] = factor
    call = stored.request.call
    arguments = edited(response, call.tool)
    if arguments is not None:
        wanted = canonical(arguments)
        resource = fill_resource(call.spec.resource, wanted) if call.spec and call.spec.resource else ""
        other = binding_hash(call._replace(arguments=wanted, resource=resource))
        yes = replace(said, binding_hash=other, approved=True)
        signed[EDIT_KEY] = desk.proofs.attested(stored.request, yes, now=now).proof
    return signed


def _same(one: object, other: object) -> bool:
    """Return whether two values are the same JSON: to Python, true is 1."""
    try:
        return encode(canonical({"": one})) == encode(canonical({"": other}))
    except ArgumentsError:
        return False
