"""Where nobody waits: the call is put off with a ticket, the agent goes on, and makes the same call again later."""

from __future__ import annotations

from zt_agents.approvals.channels import Desk
from zt_agents.approvals.requests import Answer, ApprovalRequest, ApprovalState
from zt_agents.errors import ConfigurationError


class Deferred(Exception):  # noqa: N818 - control flow: it never leaves the guard
    """Nobody has answered yet, and nobody waits here."""


class DeferringChannel:
    """Asks in the store, like :class:`StoreChannel`, and does not wait: :class:`ApprovalPendingError` has a ticket.

    The same call is the same agent, session, tool and arguments, whatever id the model gives it. What was approved runs
    once. After that, or when nobody answered in time, it is asked about anew. A no is final.
    """

    def __init__(self) -> None:
        self._desk: Desk | None = None

    def bind(self, desk: Desk) -> None:
        if self._desk not in (None, desk):
            raise ConfigurationError("The channel belongs to another guard.", hint="Make one for each guard.")
        self._desk = desk

    def ask(self, request: ApprovalRequest) -> Answer | None:
        if self._desk is None:
            raise ConfigurationError("The channel belongs to no guard.")
        if self._desk.look(request.id) is ApprovalState.PENDING:
            raise Deferred
        return None

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        return self.ask(request)

    def again(self, request: ApprovalRequest) -> None:
        """Nothing is to be done: nobody was told but the store."""

    def paused(self, error: BaseException) -> None:
        """Nothing is to be done: answers are given by name of the request."""
