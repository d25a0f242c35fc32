"""Where nobody waits: the call is put off with a ticket, the agent goes on, and makes the same call again later."""

from __future__ import annotations

import asyncio

from zt_agents.approvals.requests import Answer, ApprovalRequest
from zt_agents.approvals.waiting import StoreChannel


class Deferred(Exception):  # noqa: N818 - control flow: it never leaves the guard
    """Nobody has answered yet, and nobody waits here."""


class DeferringChannel(StoreChannel):
    """Asks in the store and does not wait: the call raises :class:`ApprovalPendingError`, which has a ticket.

    The same call is the same agent, session, tool and arguments, whatever id the model gives it. What was approved runs
    once. After that, or when nobody answered in time, it is asked about anew. A no is final.
    """

    def ask(self, request: ApprovalRequest) -> Answer | None:
        """Return None if *request* is settled, and otherwise raise what ends the call until it is made again."""
        if not self._settled(request):
            raise Deferred
        return None

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        """The async twin of :meth:`ask`."""
        return await asyncio.to_thread(self.ask, request)
