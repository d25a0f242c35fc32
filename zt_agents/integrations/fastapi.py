"""A path of a FastAPI application that answers the calls of one tool, with these arguments, and nothing else.

::

    def ticket(ticket_id: int, change: Change) -> dict[str, Any]:
        return {"ticket_id": ticket_id, **change.model_dump()}

    Call = Annotated[CallClaims, Depends(require_call(verifier, tool="update_ticket", arguments=ticket))]

    @app.patch("/tickets/{ticket_id}")
    def update(ticket_id: int, change: Change, call: Call) -> Ticket: ...

A refusal is 401 with ``{"detail": {"error": ..., "reason": ..., "error_description": ...}}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zt_agents._internal.optional import require
from zt_agents._internal.origins import origin_of
from zt_agents.credentials.call_tokens import CallClaims
from zt_agents.credentials.over_http import presented, refusal
from zt_agents.credentials.verification import UNSAFE_ANY_ARGUMENTS, CallTokenVerifier
from zt_agents.errors import CallTokenError
from zt_agents.integrations.asgi import path_of

if TYPE_CHECKING:
    import fastapi
else:
    fastapi = require("fastapi", extra="services", purpose="require_call")


def _none() -> None:
    """The arguments of a call that are not compared."""


def require_call(
    verifier: CallTokenVerifier,
    *,
    tool: str,
    arguments: Callable[..., Mapping[str, Any]] | None,
    origin: str = "",
    certificate: Callable[[fastapi.Request], bytes | None] | None = None,
) -> Callable[..., CallClaims]:
    """Return a dependency that verifies the request's token and gives what it says.

    Args:
        verifier: whose tokens, for which service.
        tool: the tool whose calls may make these requests.
        arguments: a dependency, too: it returns the call's arguments as the request states them, by name. None compares
            none: then a call may do whatever its tool may.
        origin: scheme, host and port that clients use, for DPoP; those of the verifier's audience by default.
        certificate: returns the client certificate (DER) of the connection, as the server verified it.
    """

    where = origin_of(origin or verifier.audience)

    def verified(request: fastapi.Request, said: Any = fastapi.Depends(arguments or _none)) -> CallClaims:  # noqa: B008
        try:
            shown = presented(request.method, path_of(request.scope), request.headers.raw, origin=where)
            return verifier.verify(
                shown.token.reveal(),
                tool=tool,
                arguments=said if arguments is not None else UNSAFE_ANY_ARGUMENTS,
                proof=shown.proof,
                certificate=certificate(request) if certificate is not None else None,
            )
        except CallTokenError as error:
            answer = refusal(error)
            raise fastapi.HTTPException(answer.status, detail=answer.body, headers=answer.headers) from None

    # FastAPI reads the annotations by their values: here they are texts, and it cannot see this function's names.
    verified.__annotations__ = {"request": fastapi.Request, "said": Any, "return": CallClaims}
    return verified
