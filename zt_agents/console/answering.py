"""The list of what waits, one request whole, and the answer to it.

Rules:

1. An answer names the binding hash of the request that was shown; another one is refused.
2. The desk decides whether an answer counts. Who may not answer gets no buttons, and is refused all the same.
3. Whoever was faster, what came of it is the request's own page with a sentence on it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from zt_agents.approvals import Answer, ApprovalRequest, ApprovalState, StoredApproval
from zt_agents.console.facts import Facts, View, argument, facts
from zt_agents.console.history import past_calls
from zt_agents.console.parts import Console, LookingOn, SignedIn, TheConsole
from zt_agents.console.sessions import Session
from zt_agents.console.showing import written
from zt_agents.console.ways import Way
from zt_agents.errors import AuditIntegrityError, StoreError, TokenInvalidError
from zt_agents.identity.approving.passkeys import MAX_EVIDENCE_CHARS

router = APIRouter()
RequestId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
_COMMENT = 500
"""Characters."""


@router.get("/")
def inbox(console: TheConsole, session: SignedIn, show: str = "mine", page: int = 1) -> Response:
    """Show what waits."""
    mine = show != "all"
    found = console.inbox.page(session.person, mine=mine, number=page, ways=console.ways(session.person))
    return console.page("inbox.html", session=session, page=found, show="mine" if mine else "all")


@router.get("/list")
def inbox_list(console: TheConsole, session: LookingOn, show: str = "mine", page: int = 1, seen: str = "") -> Response:
    """Return the list alone, if it is not as it was *seen*."""
    mine = show != "all"
    found = console.inbox.page(session.person, mine=mine, number=page, ways=console.ways(session.person))
    if found.mark == seen:
        return Response(status_code=204)
    return console.page("list.html", session=session, page=found, show="mine" if mine else "all")


@router.get("/requests/{request_id}")
def request_page(console: TheConsole, session: SignedIn, request_id: RequestId) -> Response:
    """Show one request whole."""
    return _request_page(console, session, request_id)


@router.get("/requests/{request_id}/standing")
def standing(console: TheConsole, session: LookingOn, request_id: RequestId, seen: str = "") -> Response:
    """Return where the request stands, if it is not as it was *seen*."""
    shown = _facts(console, session, request_id)
    mark = _mark(shown)
    if mark == seen:
        return Response(status_code=204)
    return console.page("standing.html", session=session, facts=shown, mark=mark, next=_next(console, session, shown))


@router.get("/requests/{request_id}/past")
def past(console: TheConsole, session: LookingOn, request_id: RequestId) -> Response:
    """Return what came of calls like this one."""
    request = _whole(console, request_id)
    if console.log is None:
        raise HTTPException(404)
    try:
        found = past_calls(console.log, request.call, request.id)
    except (StoreError, AuditIntegrityError):
        found = None
    return console.page("past.html", session=session, past=found)


@router.get("/requests/{request_id}/arguments")
def all_arguments(console: TheConsole, session: SignedIn, request_id: RequestId) -> Response:
    """Return all arguments, as JSON to download."""
    return _download(written(dict(_whole(console, request_id).call.arguments)), "arguments")


@router.get("/requests/{request_id}/arguments/{place}")
def one_argument(
    console: TheConsole, session: SignedIn, request_id: RequestId, place: Annotated[int, Path(ge=0)]
) -> Response:
    """Return one argument whole, to download."""
    try:
        value = argument(_whole(console, request_id), place)
    except IndexError:
        raise HTTPException(404) from None
    return _download(written(value), f"argument-{place}")


@router.post("/requests/{request_id}/answer")
def answer(
    http: Request,
    console: TheConsole,
    session: SignedIn,
    request_id: RequestId,
    csrf: Annotated[str, Form(max_length=100)],
    binding: Annotated[str, Form(max_length=100)],
    approved: Annotated[str, Form(pattern="^(yes|no)$")],
    comment: Annotated[str, Form(max_length=2 * _COMMENT)] = "",
    factor: Annotated[str, Form(max_length=MAX_EVIDENCE_CHARS)] = "",
    code: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """File this person's answer."""
    if not session.vouches(csrf):
        raise HTTPException(403, "The form is not from this session. Open the request again.")
    console.count_answer(http, session.person)
    request = _whole(console, request_id)
    if not hmac.compare_digest(binding.encode(), request.binding_hash.encode()):
        raise HTTPException(403, "The answer was given for another call than the one at this address.")
    shown, yes = _facts(console, session, request_id), approved == "yes"
    if shown.own is yes:  # a second click, or a page that was sent again
        return RedirectResponse(f"/requests/{request_id}", 303)
    if shown.objection:
        return _request_page(console, session, request_id, status=403, notice=shown.objection)
    if shown.state is not ApprovalState.PENDING:
        return _request_page(console, session, request_id, status=409, notice=f"Too late. {shown.end}")
    person = session.person
    try:
        shown_factor = _factor(console, session, request, shown.way, factor, code) if yes else ""
    except TokenInvalidError as error:
        return _request_page(console, session, request_id, status=403, notice=error.message)
    words = comment.strip()[:_COMMENT]
    said = Answer(binding, yes, person.id, words, groups=person.groups, factor=shown_factor)
    why = console.desk.file(said)
    if why is not None:
        return _request_page(console, session, request_id, status=409, notice=why)
    return RedirectResponse(f"/requests/{request_id}", 303)


@router.post("/requests/{request_id}/passkey-options")
def passkey_options(
    http: Request,
    console: TheConsole,
    session: SignedIn,
    request_id: RequestId,
    csrf: Annotated[str, Form(max_length=100)],
) -> Response:
    """Return what a browser needs to approve with a passkey."""
    if not session.vouches(csrf):
        raise HTTPException(403, "The form is not from this session. Open the request again.")
    console.count_answer(http, session.person)
    if console.passkeys is None:
        raise HTTPException(404)
    return JSONResponse(console.passkeys.answer(session.person, _whole(console, request_id), True))


def _factor(
    console: Console, session: Session, request: ApprovalRequest, way: Way | None, evidence: str, code: str
) -> str:
    """Return the evidence of a second factor that a yes brings along."""
    if way is Way.PASSKEY:
        return evidence
    factors = console.desk.proofs.factors
    if way is Way.CODE and factors is not None:
        return factors.check(request, session.person.id, code, approved=True, now=console.clock())
    return ""


def _request_page(
    console: Console, session: Session, request_id: str, *, status: int = 200, notice: str = ""
) -> Response:
    shown = _facts(console, session, request_id)
    if shown.open and shown.silence is not None:
        console.desk.notice(request_id)
    changed = bool(console.policy_version) and console.policy_version != shown.request.decision.policy_version
    return console.page(
        "request.html",
        session=session,
        status=status,
        facts=shown,
        mark=_mark(shown),
        notice=notice,
        next=_next(console, session, shown),
        policy_changed=changed,
        has_log=console.log is not None,
    )


def _facts(console: Console, session: Session, request_id: str) -> Facts:
    state = console.desk.look(request_id)
    stored = _stored(console, request_id)
    view = View(
        session.person, console.desk.signer.id, console.ways(session.person), console.clock(), console.desk.proofs.holds
    )
    return facts(stored, console.desk.proven(stored), state, view)


def _stored(console: Console, request_id: str) -> StoredApproval:
    stored = console.desk.store.get(request_id)
    if stored is None:
        raise HTTPException(404, "There is no such request.")
    if stored.request is None:
        raise HTTPException(404, "It was decided long ago; what was decided is no longer kept.")
    return stored


def _whole(console: Console, request_id: str) -> ApprovalRequest:
    request = _stored(console, request_id).request
    assert request is not None
    return request


def _next(console: Console, session: Session, shown: Facts) -> str | None:
    return (
        None
        if shown.open
        else console.inbox.next_for(session.person, after=shown.id, ways=console.ways(session.person))
    )


def _mark(shown: Facts) -> str:
    """Return what differs when the standing does."""
    said = [f"{each.approver}{each.approved:d}" for each in shown.said]
    return hashlib.sha256("|".join([shown.state, f"{shown.used:d}", *said]).encode()).hexdigest()[:24]


def _download(text: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}.txt"'}
    return Response(text.encode("utf-8", "backslashreplace"), media_type="text/plain; charset=utf-8", headers=headers)
