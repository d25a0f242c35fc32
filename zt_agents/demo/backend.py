"""The demonstration with a ticket service, on a free port of this machine: it takes CallTokens and nothing else.

The helpdesk's tool calls it with the token of its call. Then somebody without a call tries: with no token, with one
that was used, and with one for another ticket.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import orjson
import uvicorn
from opentelemetry.context import attach, detach
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import TracerProvider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from zt_agents.credentials import CallTokenVerifier
from zt_agents.demo.evidence import Attempt
from zt_agents.demo.helpdesk import Helpdesk
from zt_agents.errors import ConfigurationError
from zt_agents.guard import Guard
from zt_agents.integrations.asgi import CallTokenMiddleware, Scope
from zt_agents.integrations.httpx import CallAuth
from zt_agents.permit import current_call

AUDIENCE = "urn:acme:tickets"
"""As the policy names the service for the tool ``update_ticket``."""
_PATH = re.compile(r"/tickets/([0-9]{1,9})")
_SECONDS = 5.0
_CHANGE = {"status": "resolved", "note": ""}


class TicketService:
    """Keeps the tickets of *desk*, and changes them for the calls of *guard* alone."""

    def __init__(self, desk: Helpdesk, guard: Guard) -> None:
        self._desk = desk
        verifier = CallTokenVerifier(
            keys=guard.call_keys, issuer=guard.issuer.issuer, audience=AUDIENCE, clock=guard.clock
        )
        routes = Starlette(routes=[Route("/tickets/{ticket_id:int}", self._change, methods=["PATCH"])])
        app = CallTokenMiddleware(routes, verifier=verifier, tool="update_ticket", arguments=_arguments)
        config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off", access_log=False, interface="asgi3")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="demo-tickets", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            if not self._thread.is_alive():
                raise ConfigurationError("The ticket service of the demonstration could not start.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_SECONDS)

    @property
    def url(self) -> str:
        """Where it is."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def _change(self, request: Request) -> JSONResponse:
        change = _arguments(request.scope, await request.body())
        context = attach(extract(request.headers))
        try:
            return JSONResponse({"said": self._desk.change_ticket(**change)})
        finally:
            detach(context)


def _arguments(scope: Scope, body: bytes) -> dict[str, Any]:
    """Return the arguments of ``update_ticket`` as a request states them."""
    place, change = _PATH.fullmatch(scope["path"]), orjson.loads(body)
    if place is None or not isinstance(change, dict) or change.keys() != _CHANGE.keys():
        raise ValueError("it does not say what to change")
    return {"ticket_id": int(place[1]), **change}


class ServedHelpdesk(Helpdesk):
    """The helpdesk whose tool changes tickets through their service."""

    def __init__(self, folder: Path, *, tracer_provider: TracerProvider | None = None) -> None:
        super().__init__(folder, tracer_provider=tracer_provider)
        self._folder = folder
        self.url = ""
        """Of the service, once it runs."""
        self.changed: tuple[int, dict[str, str]] | None = None
        """What was changed last."""

    def change_ticket(self, ticket_id: int, status: str, note: str) -> str:
        auth, headers = CallAuth(audience=AUDIENCE, origin=self.url), dict[str, str]()
        inject(headers)
        with httpx.Client(auth=auth, timeout=_SECONDS, trust_env=False) as client:
            url = f"{self.url}/tickets/{ticket_id}"
            answer = client.patch(url, json={"status": status, "note": note}, headers=headers)
        answer.raise_for_status()
        self.changed = ticket_id, {"status": status, "note": note}
        self._leave(used=answer.request.headers["Authorization"])
        return str(answer.json()["said"])

    def _leave(self, *, used: str) -> None:
        """Leave the token that was *used*, and one that was not, where somebody finds them."""
        permit = current_call()
        assert permit is not None
        unused = f"Bearer {permit.token(audience=AUDIENCE)}"
        for path, value in ((self.used, used), (self.unused, unused)):
            path.touch(mode=0o600)
            path.write_text(f"Authorization: {value}\n", encoding="ascii")

    @property
    def used(self) -> Path:
        return self._folder / "used.header"

    @property
    def unused(self) -> Path:
        return self._folder / "other-ticket.header"


class Backend:
    """The service, the helpdesk that uses it, and those who try without. Ends with its block."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._desk: ServedHelpdesk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def helpdesk(self, folder: Path, tracer_provider: TracerProvider) -> ServedHelpdesk:
        """Return the helpdesk whose tool uses the service."""
        self._desk = ServedHelpdesk(folder, tracer_provider=tracer_provider)
        return self._desk

    def start(self, data: Helpdesk, guard: Guard) -> None:
        """Start the service, which keeps *data*."""
        self._desk.url = self._running.enter_context(TicketService(data, guard)).url

    def attempts(self) -> list[Attempt]:
        """Try what somebody could try who has no call, and return the service's answers."""
        desk = self._desk
        if desk.changed is None:  # a model that changed nothing left nothing to find
            return [_attempt("without a token", f"{desk.url}/tickets/1001", _CHANGE)]
        number, change = desk.changed
        url, other = (f"{desk.url}/tickets/{each}" for each in (number, 1001 if number != 1001 else 1002))
        return [
            _attempt("without a token", url, change),
            _attempt("once more, with the token that was used for it", url, change, desk.used),
            _attempt("for another ticket, with a token that was not used", other, change, desk.unused),
        ]


def _attempt(what: str, url: str, change: dict[str, str], header: Path | None = None) -> Attempt:
    body = json.dumps(change)
    headers = dict([header.read_text(encoding="ascii").strip().split(": ", 1)]) if header else {}
    answer = httpx.patch(url, content=body, headers=headers, timeout=_SECONDS, trust_env=False)
    shown = f" -H @{shlex.quote(str(header))}" if header else ""
    return Attempt(
        what, f"curl -s -X PATCH {url}{shown} -d {shlex.quote(body)}", answer.status_code, answer.json()
    )
