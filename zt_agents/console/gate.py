"""What every request to the console passes before anything else sees it, and every response on its way out.

Rules:

1. The ``Host`` is the console's own, so that a name which somebody points at this address reaches nothing.
2. A request that another site makes gets nothing, unless a person followed a link. One that changes something comes
   from the console's own pages: the browser says so (``Origin``, ``Sec-Fetch-Site``), or it is refused.
3. A page that a browser fetches before anybody wants it is not given: whoever gets one has been shown it.
4. A body is a small form, read whole before the console sees any of it.
5. No response is kept, framed, guessed about or let load anything from elsewhere, and none runs an inline script.
6. A fault becomes a page with one sentence. What failed is written to standard error by type and place; a message
   could hold an argument.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zt_agents.console.origins import Origin

MAX_BODY = 65_536
"""Bytes of a form."""
_BODY_TIME = 10.0
"""Seconds in which a body has to arrive."""
_METHODS = frozenset({"GET", "HEAD", "POST"})
_FORM = "application/x-www-form-urlencoded"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
KEPT = (b"cache-control", b"public, max-age=31536000, immutable")
"""The header of a response that may be kept: its address names its content."""
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": (
        "camera=(), geolocation=(), microphone=(), payment=(), usb=(), "
        "publickey-credentials-create=(self), publickey-credentials-get=(self)"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Gate:
    """Wraps the console's application."""

    def __init__(self, app: ASGIApp, *, origin: Origin) -> None:
        self._app = app
        self._origin = origin
        headers = dict(_HEADERS)
        if origin.secure:
            headers["strict-transport-security"] = "max-age=31536000"
        self._names = {name.encode() for name in headers}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": self._outgoing(message["headers"])}
            await send(message)

        try:
            refusal = self._refusal(scope)
            body = b"" if refusal else await _body(scope, receive)
            if body is None:
                refusal = 413, "That is more than this console takes."
            if refusal is not None:
                await _page(guarded, *refusal)
                return
            await self._app(scope, _replay(body or b"", receive), guarded)
        except Exception as error:  # noqa: BLE001 - the last place that could keep a traceback from a browser
            _note(error)
            if not started:
                await _page(guarded, 500, "Something failed. Whoever runs this console finds what on its terminal.")

    def _outgoing(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return *headers* with the gate's own in the place of theirs; a file that never changes may be kept."""
        kept = [header for header in headers if header == KEPT or header[0].lower() not in self._names]
        names = {name for name, _ in kept}
        return [*kept, *(header for header in self._headers if header[0] not in names)]

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        if _headers(scope, b"host") != [self._origin.host]:
            return 421, f"This console is at {self._origin.text}."
        if scope["method"] not in _METHODS:
            return 405, "This console knows no such method."
        if any("prefetch" in purpose for purpose in _headers(scope, b"sec-purpose")):
            return 503, "Open the page to see it."
        sites, posts = _headers(scope, b"sec-fetch-site"), scope["method"] == "POST"
        if sites not in ([], ["same-origin"], ["none"]):
            followed = _headers(scope, b"sec-fetch-mode") == ["navigate"]
            framed = _headers(scope, b"sec-fetch-dest") not in ([], ["document"])
            if posts or not followed or framed:
                return 403, "Another site asked for this, so it was refused."
        if posts:
            # Browsers send the origin "null" with a form where the referrer policy is no-referrer.
            origins = [origin for origin in _headers(scope, b"origin") if origin != "null"]
            vouched = origins == [self._origin.text] or (not origins and sites == ["same-origin"])
            if not vouched:
                return 403, "It is not known which page sent this, so it was refused."
            if [kind.partition(";")[0].strip().lower() for kind in _headers(scope, b"content-type")] != [_FORM]:
                return 415, "This console takes forms only."
        return None


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """Return the request's body, or None where it is too large or does not come."""
    if scope["method"] != "POST":
        return b""
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(_BODY_TIME):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                size += len(part)
                if size > MAX_BODY:
                    return None
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        return None


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _page(send: Send, status: int, sentence: str) -> None:
    """Send *sentence*, which nobody but the console has words in."""
    body = f'<!doctype html><html lang="en"><title>Approvals</title><p>{sentence}</p></html>\n'.encode()
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _note(error: Exception) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].name}, line {frames[-1].lineno}" if frames else "an unknown place"
    print(f"zt-agents console: {type(error).__name__} in {place}", file=sys.stderr)  # noqa: T201 - the operator's terminal
