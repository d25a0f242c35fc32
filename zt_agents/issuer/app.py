"""The issuer as an ASGI application.

Rules:

1. Keys and metadata are anybody's. Everything else is asked by POST, and a client proves itself in the same request.
2. A request is a form of at most 64 KB that is there in ten seconds and says nothing twice (RFC 6749, section 3.2).
   What limits a token in a way that is not understood is refused, and not left out.
3. Answers are not cached. Errors are those of RFC 6749, section 5.2: a code and a sentence, no token, no key, no trace.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from zt_agents.credentials.call_tokens import CALL_TOKEN_TYPE
from zt_agents.errors import DelegationError, IdentityError, ScopeError, ZeroTrustError
from zt_agents.guard import Guard
from zt_agents.identity.scopes import DETAILS_TYPE
from zt_agents.identity.signing.public_keys import ALGORITHMS
from zt_agents.issuer.clients import Client, Clients, Wait
from zt_agents.issuer.exchanges import Exchanges, said, scope_in

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - likewise
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MAX_BODY = 65_536
_BODY_TIME = 10.0
"""Seconds that a request has to come whole."""
_DURABLE = 5.0
"""Seconds that a token waits for its record."""
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_KEYS_LAST = {"Cache-Control": "public, max-age=60"}


class Refusal(NamedTuple):
    """An error of RFC 6749, section 5.2."""

    code: str
    sentence: str
    status: int = 400
    headers: Mapping[str, str] = {}

    @property
    def response(self) -> Response:
        body = {"error": self.code, "error_description": self.sentence}
        return JSONResponse(body, self.status, headers={**_NO_STORE, **self.headers})


_Form = Mapping[str, str]
_Answer = Callable[[_Form, Client], Awaitable[Response]]


class Issuer:
    """The endpoints of one guard's issuer."""

    def __init__(self, guard: Guard, *, url: str) -> None:
        """Serve *guard*'s issuer at *url*, such as ``https://issuer.acme.example``.

        Raises:
            ValueError: the guard's policy names no folder of keys.
        """
        if guard.policy.keys is None:
            raise ValueError("an issuer signs with the keys that its policy names")
        self._guard = guard
        self._url = url
        audiences = frozenset({url, f"{url}/token", guard.issuer.issuer})
        self._clients = Clients(guard.registry, guard.policy.keys.path, audiences=audiences, clock=guard.clock)
        self._exchanges = Exchanges(guard)

    def close(self) -> None:
        """Close what is open. Not the guard."""
        self._clients.close()

    def application(self) -> ASGIApp:
        """Return the ASGI application."""
        app = FastAPI(title="zt-agents issuer", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
        app.add_route("/.well-known/openid-configuration", self._metadata, methods=["GET"])
        app.add_route("/.well-known/oauth-authorization-server", self._metadata, methods=["GET"])
        app.add_route("/jwks", self._jwks, methods=["GET"])
        app.add_route("/token", self._asked(self._token), methods=["POST"])
        app.add_route("/introspect", self._asked(self._introspect), methods=["POST"])
        app.add_route("/revoke", self._asked(self._revoke), methods=["POST"])
        app.exception_handler(ZeroTrustError)(_unavailable)
        app.exception_handler(404)(_elsewhere)
        app.exception_handler(405)(_elsewhere)
        return app

    # -- anybody's --------------------------------------------------------------------------------------------------

    async def _metadata(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self._guard.issuer.issuer,
                "jwks_uri": f"{self._url}/jwks",
                "token_endpoint": f"{self._url}/token",
                "introspection_endpoint": f"{self._url}/introspect",
                "revocation_endpoint": f"{self._url}/revoke",
                "grant_types_supported": [TOKEN_EXCHANGE],
                "response_types_supported": [],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": list(ALGORITHMS),
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
                "authorization_details_types_supported": [DETAILS_TYPE],
            },
            headers=_KEYS_LAST,
        )

    async def _jwks(self, _: Request) -> Response:
        return JSONResponse(all_keys(self._guard), headers=_KEYS_LAST)

    # -- for clients that prove themselves --------------------------------------------------------------------------

    def _asked(self, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            form = await _form(request)
            if isinstance(form, Refusal):
                return form.response
            # In a thread: it asks the disk, and computes.
            client = await asyncio.to_thread(self._client, form, request.client.host if request.client else "")
            if isinstance(client, Refusal):
                return client.response
            return await answer(form, client)

        return answered

    def _client(self, form: _Form, address: str) -> Client | Refusal:
        if form.get("client_assertion_type") != JWT_BEARER:
            return Refusal("invalid_client", "A client proves itself by private_key_jwt.", 401)
        try:
            client = self._clients.authenticated(form.get("client_assertion", ""), address)
        except IdentityError:
            return Refusal("invalid_client", "The client's assertion is not good.", 401)
        if isinstance(client, Wait):
            wait = {"Retry-After": str(math.ceil(client.seconds))}
            return Refusal("temporarily_unavailable", "The client asks too often.", 429, wait)
        if form.get("client_id", client.id) != client.id:
            return Refusal("invalid_client", "The client's assertion is of another client.", 401)
        return client

    async def _token(self, form: _Form, client: Client) -> Response:
        refusal = self._asked_for(form)
        if refusal is not None or client.agent is None:
            return (refusal or Refusal("unauthorized_client", "Tokens are for agents.")).response
        try:
            scope = scope_in(form.get("authorization_details", ""))
        except ValueError:
            return Refusal("invalid_authorization_details", "They are no scope of a task.").response
        try:
            made = self._exchanges.exchange(form.get("subject_token", ""), client.agent, scope)
        except ScopeError as error:
            return Refusal("invalid_authorization_details", error.message).response
        except DelegationError as error:
            return Refusal("invalid_request", error.message).response
        except IdentityError:
            return Refusal("invalid_request", "The subject token is not good.").response
        except ValueError:
            return Refusal("invalid_request", "A token has not room enough for all of that.").response
        await made.receipt.await_durable(_DURABLE)
        answer: dict[str, Any] = {
            "access_token": made.token.reveal(),
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": max(0, made.claims.expires_at - int(self._guard.clock())),
        }
        if made.claims.scope is not None:
            answer["authorization_details"] = made.claims.scope.to_details()
        return JSONResponse(answer, headers=_NO_STORE)

    def _asked_for(self, form: _Form) -> Refusal | None:
        """Return what is wrong with a request for a token, before any token in it is looked at."""
        if form.get("grant_type") != TOKEN_EXCHANGE:
            return Refusal("unsupported_grant_type", f"The one grant type is {TOKEN_EXCHANGE}.")
        if form.get("subject_token_type") != ACCESS_TOKEN or not form.get("subject_token"):
            return Refusal("invalid_request", f"The subject token is one of type {ACCESS_TOKEN}.")
        if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
            return Refusal("invalid_request", f"The one type of token to ask for is {ACCESS_TOKEN}.")
        if "actor_token" in form or "actor_token_type" in form:
            return Refusal("invalid_request", "The actor is the client itself, and proves it by its assertion.")
        if form.get("audience", self._guard.issuer.audience) != self._guard.issuer.audience or "resource" in form:
            return Refusal("invalid_target", "Tokens are for guards alone, which make those for services call by call.")
        if "scope" in form:
            return Refusal("invalid_scope", "What a task may touch is said by authorization_details.")
        return None

    async def _introspect(self, form: _Form, client: Client) -> Response:
        claims = self._exchanges.active(form.get("token", ""))
        issuer = self._guard.issuer
        answer = {"active": False} if claims is None else said(claims, issuer.issuer, issuer.audience)
        return JSONResponse(answer, headers=_NO_STORE)

    async def _revoke(self, form: _Form, client: Client) -> Response:
        try:
            await asyncio.to_thread(self._exchanges.revoke, form.get("token", ""), client)
        except DelegationError as error:
            return Refusal("unauthorized_client", error.message).response
        return Response(status_code=200, headers=_NO_STORE)


def all_keys(guard: Guard) -> dict[str, Any]:
    """Return the public keys of sessions' and of calls' tokens, as one JWK Set."""
    ring, now = guard.issuer.keys, guard.clock()
    return {"keys": [key for keys in (ring, ring.for_kind(CALL_TOKEN_TYPE)) for key in keys.jwks(now)["keys"]]}


async def _form(request: Request) -> _Form | Refusal:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return Refusal("invalid_request", "A request is a form.", 415)
    body = b""
    try:
        async with asyncio.timeout(_BODY_TIME):
            async for part in request.stream():
                body += part
                if len(body) > _MAX_BODY:
                    return Refusal("invalid_request", "The request is too large.", 413, {"Connection": "close"})
    except (TimeoutError, ClientDisconnect):
        return Refusal("invalid_request", "The request did not come whole.", 408, {"Connection": "close"})
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=32)
    except ValueError:
        return Refusal("invalid_request", "The form cannot be read.")
    form = dict(pairs)
    return form if len(form) == len(pairs) else Refusal("invalid_request", "The form says something twice.")


async def _unavailable(_: Request, error: ZeroTrustError) -> Response:
    print(f"zt-agents issuer: {error.code}: {error.message}", file=sys.stderr)  # noqa: T201 - the operator's terminal
    return Refusal("temporarily_unavailable", "A part that the issuer needs cannot be used just now.", 503).response


async def _elsewhere(_: Request, error: HTTPException) -> Response:
    return Refusal("invalid_request", "There is nothing at this address.", error.status_code).response
