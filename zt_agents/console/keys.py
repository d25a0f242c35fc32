"""The addresses under which passkeys are made, used to sign in, asked for an answer, and removed."""

from __future__ import annotations

import sys
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from zt_agents.console.parts import FRESH, Console, SignedIn, TheConsole, client
from zt_agents.console.passkeys import Passkeys
from zt_agents.console.sessions import Session
from zt_agents.errors import IdentityError

router = APIRouter()
Evidence = Annotated[str, Form(max_length=16_384)]
Challenge = Annotated[str, Form(max_length=100)]
Csrf = Annotated[str, Form(max_length=100)]


@router.post("/passkeys/login-options")
def login_options(request: Request, console: TheConsole) -> Response:
    """Return what a browser needs to sign in with a passkey."""
    console.count_login(client(request))
    return JSONResponse(_passkeys(console).login())


@router.post("/passkeys/login")
def login(request: Request, console: TheConsole, evidence: Evidence, challenge: Challenge) -> Response:
    """Sign in with a passkey."""
    console.count_login(client(request))
    try:
        person = _passkeys(console).sign_in(evidence, challenge)
    except IdentityError as error:
        print(f"zt-agents console: a login was refused: {error.message}", file=sys.stderr)  # noqa: T201
        return Response("The passkey does not sign you in.", 403, media_type="text/plain")
    console.count_login(person.id)
    response = Response(status_code=204)
    console.sign_in(request, response, person, "with a passkey")
    return response


@router.post("/passkeys/enrol-options")
def enrol_options(console: TheConsole, session: SignedIn, csrf: Csrf) -> Response:
    """Return what a browser needs to make a passkey."""
    require_fresh(console, session, csrf)
    return JSONResponse(_passkeys(console).enrolment(session.person))


@router.post("/passkeys/enrol")
def enrol(console: TheConsole, session: SignedIn, csrf: Csrf, evidence: Evidence, challenge: Challenge) -> Response:
    """Keep a passkey."""
    require_fresh(console, session, csrf)
    try:
        _passkeys(console).enrol(session.person, evidence, challenge)
    except IdentityError as error:
        print(f"zt-agents console: a passkey was refused: {error.message}", file=sys.stderr)  # noqa: T201
        return Response("The passkey could not be added.", 403, media_type="text/plain")
    return Response(status_code=204)


@router.post("/passkeys/{factor_id}/remove")
def remove(
    console: TheConsole, session: SignedIn, factor_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")], csrf: Csrf
) -> Response:
    """Remove a passkey of one's own."""
    require_fresh(console, session, csrf)
    if not _passkeys(console).remove(session.person, factor_id):
        raise HTTPException(404, "There is no such passkey.")
    return RedirectResponse("/account", 303)


def _passkeys(console: Console) -> Passkeys:
    if console.passkeys is None:
        raise HTTPException(404, "There are no passkeys at this console.")
    return console.passkeys


def require_fresh(console: Console, session: Session, csrf: str) -> None:
    """Refuse what would outlive the session, unless it has just begun: a stolen one must not make itself at home."""
    if not session.vouches(csrf):
        raise HTTPException(403, "The form is not from this session.")
    if console.clock() - session.started >= FRESH:
        raise HTTPException(403, "Sign in again: second factors can be changed in the first minutes after that.")
