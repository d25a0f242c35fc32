"""A service that answers nobody without the token of a call (ASGI 3: Starlette, FastAPI, Quart, Django ...).

::

    app = CallTokenMiddleware(app, verifier=verifier, tool="update_ticket", arguments=arguments_of)

where ``arguments_of(scope, body)`` returns the tool's arguments as the request states them. What the token says is in
``scope["zt_agents.call"]``. WebSockets are refused: they have no body to compare.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

import orjson

from zt_agents._internal.origins import origin_of
from zt_agents.credentials.call_tokens import CallClaims
from zt_agents.credentials.over_http import Presented, Refusal, presented, refusal
from zt_agents.credentials.verification import UNSAFE_ANY_ARGUMENTS, AnyArguments, CallTokenVerifier
from zt_agents.errors import CallTokenError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CALL = "zt_agents.call"
"""Where in the scope the claims are."""
MAX_BODY = 1_048_576
"""Bytes of a body that is compared."""
_TOO_LARGE = Refusal(413, {}, {"error": "invalid_request", "reason": "too_large"})
_UNREADABLE = Refusal(400, {}, {"error": "invalid_request", "reason": "unreadable"})


class CallTokenMiddleware:
    """Lets a request through to *app* only with a good token of a call."""

    def __init__(
        self,
        app: App,
        *,
        verifier: CallTokenVerifier,
        tool: str | Callable[[Scope], str],
        arguments: Callable[[Scope, bytes], Mapping[str, Any]] | None,
        origin: str = "",
        certificate: Callable[[Scope], bytes | None] | None = None,
    ) -> None:
        """Say which requests are which calls.

        Args:
            app: what is behind it.
            verifier: whose tokens, for which service.
            tool: the tool whose calls may make these requests, or what returns it for a request.
            arguments: returns the call's arguments as the request states them, from its scope and its body (at most
                1 MB); raises ValueError if it states none. None compares none: a call may do whatever its tool may.
            origin: scheme, host and port that clients use, for DPoP; those of the verifier's audience by default.
            certificate: returns the client certificate (DER) of the connection, as the server verified it.
        """
        self._app = app
        self._verifier = verifier
        self._tool = tool
        self._arguments = arguments
        self._origin = origin_of(origin or verifier.audience)
        self._certificate = certificate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return None
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return None
        try:
            shown = presented(scope["method"], path_of(scope), scope["headers"], origin=self._origin)
            arguments: Mapping[str, Any] | AnyArguments = UNSAFE_ANY_ARGUMENTS
            if self._arguments is not None and shown.token:  # nobody's body is kept who brings nothing
                body = await _whole(receive)
                arguments = self._arguments(scope, body)
                receive = _again(body, receive)
            # In a thread: keys, revocations and replays may have to be read.
            scope[CALL] = await asyncio.to_thread(self._verify, scope, shown, arguments)
        except CallTokenError as error:
            return await _answer(send, refusal(error))
        except OverflowError:
            return await _answer(send, _TOO_LARGE)
        except (ValueError, RecursionError):  # nested deeper than the application's parser can go
            return await _answer(send, _UNREADABLE)
        await self._app(scope, receive, send)
        return None

    def _verify(self, scope: Scope, shown: Presented, arguments: Mapping[str, Any] | AnyArguments) -> CallClaims:
        tool = self._tool if isinstance(self._tool, str) else self._tool(scope)
        certificate = self._certificate(scope) if self._certificate is not None else None
        return self._verifier.verify(
            shown.token.reveal(), tool=tool, arguments=arguments, proof=shown.proof, certificate=certificate
        )


def path_of(scope: Scope) -> str:
    """Return the path of a request as its client wrote it; what a ``Host`` says has no part in it."""
    raw = scope.get("raw_path")
    return raw.partition(b"?")[0].decode("latin-1") if raw else quote(scope["path"])


async def _whole(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ValueError("the client went away")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise OverflowError
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives the app the *body* that was read, and then whatever else comes."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay


async def _answer(send: Send, answer: Refusal) -> None:
    body = orjson.dumps(answer.body)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
