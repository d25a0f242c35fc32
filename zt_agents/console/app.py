"""The console as an ASGI application. What goes wrong becomes a page with a sentence, and never more than that."""

from __future__ import annotations

import sys

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp

from zt_agents.console import answering, codes, entrance, keys
from zt_agents.console.gate import Gate
from zt_agents.console.parts import ONWARD, Console, the_console
from zt_agents.errors import ZeroTrustError

_HEADINGS = {404: "Not here", 429: "Too many tries"}


def application(console: Console) -> ASGIApp:
    """Return *console* as an ASGI application."""
    app = FastAPI(title="zt-agents console", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.console = console
    app.include_router(entrance.router)
    app.include_router(answering.router)
    app.include_router(keys.router)
    app.include_router(codes.router)
    app.exception_handler(401)(_sign_in_first)
    app.exception_handler(RequestValidationError)(_misunderstood)
    app.exception_handler(ZeroTrustError)(_unavailable)
    for status in (400, 403, 404, 405, 429):
        app.exception_handler(status)(_refused)
    return Gate(app, origin=console.origin)


def _refused(request: Request, error: HTTPException) -> Response:
    # What the framework itself says about an address is no sentence.
    sentence = error.detail if error.detail.endswith(".") else "There is nothing at this address."
    heading = _HEADINGS.get(error.status_code, "Refused")
    page = _sentence(request, error.status_code, heading, sentence)
    page.headers.update(error.headers or {})
    return page


def _misunderstood(request: Request, _: RequestValidationError) -> Response:
    return _sentence(request, 400, "Refused", "The console did not understand that.")


def _unavailable(request: Request, error: ZeroTrustError) -> Response:
    print(f"zt-agents console: {error.code}: {error.message}", file=sys.stderr)  # noqa: T201 - the operator's terminal
    sentence = "A part that the console needs cannot be used just now. Whoever runs it finds which on its terminal."
    return _sentence(request, 503, "Not available", sentence)


def _sign_in_first(request: Request, _: HTTPException) -> Response:
    path = request.url.path
    onward = ONWARD.fullmatch(path) is not None and request.method == "GET"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    # A browser withholds a SameSite cookie where a person follows a link from elsewhere. One step further, on a page of
    # the console's own, it sends it.
    if onward and request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return the_console(request).page("onward.html", session=None, path=path)
    return RedirectResponse(f"/login?next={path}" if onward and path != "/" else "/login", 303)


def _sentence(request: Request, status: int, heading: str, sentence: str) -> Response:
    console = the_console(request)
    if "hx-request" in request.headers:
        return Response(sentence, status, media_type="text/plain")
    session = console.session(request, acted=False) if status != 503 else None
    return console.page("gone.html", session=session, status=status, heading=heading, sentence=sentence)
