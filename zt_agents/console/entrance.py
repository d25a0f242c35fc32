"""Signing in and out, who one is, and the static files that need no session."""

from __future__ import annotations

import sys
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from zt_agents.console.gate import KEPT
from zt_agents.console.parts import FRESH, ONWARD, SignedIn, TheConsole, client
from zt_agents.errors import IdentityError
from zt_agents.identity.approving.factors import FactorKind

router = APIRouter()
_TOKEN = 16_384
"""Characters of a login token."""


@router.get("/login")
def login_page(console: TheConsole, next: str = "") -> Response:
    """Say how to sign in."""
    onward = next if ONWARD.fullmatch(next) else "/"
    usable = console.passkeys is not None
    return console.page("login.html", session=None, next=onward, origin=console.origin.text, passkeys=usable)


@router.post("/login")
def login(request: Request, console: TheConsole, token: Annotated[str, Form(max_length=_TOKEN)]) -> Response:
    """Sign in by a token."""
    console.count_login(client(request))
    try:
        person = console.logins.verify(token, now=console.clock())
    except IdentityError as error:
        print(f"zt-agents console: a login was refused: {error.message}", file=sys.stderr)  # noqa: T201
        return Response("The link is not good, or no longer. Make another.", 403, media_type="text/plain")
    console.count_login(person.id)
    before = console.session(request, acted=False)
    if before is not None and before.person.id != person.id:
        sentence = f"You are signed in as {before.person.id}, and the link is of {person.id}. Sign out first."
        return Response(sentence, 403, media_type="text/plain")
    response = Response(status_code=204)
    console.sign_in(request, response, person, "with the approver’s file")
    return response


@router.post("/logout")
def logout(
    request: Request,
    console: TheConsole,
    session: SignedIn,
    csrf: Annotated[str, Form(max_length=100)],
    everywhere: Annotated[str, Form(max_length=3)] = "",
) -> Response:
    """End this session, or all of this person."""
    if not session.vouches(csrf):
        raise HTTPException(403, "The form is not from this session.")
    if everywhere:
        console.sessions.close_all(session.person.id)
    else:
        console.sessions.close(request.cookies.get(console.cookie, ""))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(console.cookie, path="/", httponly=True, samesite="strict", secure=console.origin.secure)
    return response


@router.get("/account")
def account(console: TheConsole, session: SignedIn) -> Response:
    """Show who is signed in."""
    person, factors = session.person, console.desk.proofs.factors
    return console.page(
        "account.html",
        session=session,
        browsers=console.sessions.count(person.id),
        passkeys=console.passkeys.of(person.id) if console.passkeys else None,
        fresh=console.clock() - session.started < FRESH,
        codes=factors.of(person.id, FactorKind.TOTP) if factors is not None else None,
    )


@router.get("/static/{name}")
def static(console: TheConsole, name: str) -> Response:
    """Return a file of the console's own; its address names its content."""
    if name not in console.pages.files:
        raise HTTPException(404)
    content, media_type = console.pages.files[name]
    response = Response(content, media_type=media_type)
    response.raw_headers.append(KEPT)
    return response
