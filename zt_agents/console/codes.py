"""One-time codes as a second factor: a QR code to scan, and a code that shows it was scanned."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup

from zt_agents.console.keys import Csrf, require_fresh
from zt_agents.console.parts import Console, SignedIn, TheConsole
from zt_agents.console.sessions import Session
from zt_agents.desk.factors import SecondFactors
from zt_agents.errors import IdentityError
from zt_agents.identity.approving.one_time_codes import qr_svg

router = APIRouter()


@router.post("/codes")
def offer(console: TheConsole, session: SignedIn, csrf: Csrf) -> Response:
    """Show a new secret, as a QR code and as text."""
    require_fresh(console, session, csrf)
    return _page(console, session)


@router.post("/codes/confirm")
def confirm(
    request: Request,
    console: TheConsole,
    session: SignedIn,
    csrf: Csrf,
    offered: Annotated[str, Form(max_length=4_096)],
    code: Annotated[str, Form(max_length=20)],
) -> Response:
    """Keep the secret whose code was given."""
    require_fresh(console, session, csrf)
    console.count_answer(request, session.person)
    try:
        _factors(console).confirm(session.person.id, offered, code, now=console.clock())
    except IdentityError:
        return _page(console, session, status=403, problem="That was not its code. Scan this one, and try again.")
    return RedirectResponse("/account", 303)


@router.post("/codes/{factor_id}/remove")
def remove(
    console: TheConsole, session: SignedIn, factor_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")], csrf: Csrf
) -> Response:
    """Remove an authenticator app of one's own."""
    require_fresh(console, session, csrf)
    if not _factors(console).remove_codes(session.person.id, factor_id, now=console.clock()):
        raise HTTPException(404, "There is no such authenticator app.")
    return RedirectResponse("/account", 303)


def _page(console: Console, session: Session, *, status: int = 200, problem: str = "") -> Response:
    secret, offered = _factors(console).offer(session.person.id, now=console.clock())
    uri = secret.uri(approver=session.person.id, trust_domain=console.origin.name)
    picture = Markup(qr_svg(uri))  # noqa: S704 - drawn here, of paths and numbers
    values = {"picture": picture, "secret": secret.base32, "offered": offered, "problem": problem}
    return console.page("codes.html", session=session, status=status, **values)


def _factors(console: Console) -> SecondFactors:
    factors = console.desk.proofs.factors
    if factors is None:
        raise HTTPException(404, "There are no second factors at this console.")
    return factors
