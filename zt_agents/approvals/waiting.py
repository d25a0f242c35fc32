"""A channel that waits for answers which others file in the store: ``zt-agents approvals approve``, a web page, a bot.

It blocks the call that asks, and nothing else: whoever asks may be killed and started again, and finds the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from zt_agents.approvals.channels import Desk
from zt_agents.approvals.requests import Answer, ApprovalRequest, ApprovalState
from zt_agents.errors import ConfigurationError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.02
"""Seconds between two glances: an answer given at once is noticed at once."""
_LOOK = 0.5
"""Seconds after which the store is looked at though nobody seems to have written: time settles requests, too."""


class StoreChannel:
    """Waits until a request is settled by the answers in the store, or by its time."""

    def __init__(self) -> None:
        self._desk: Desk | None = None

    def bind(self, desk: Desk) -> None:
        """Take the desk of the guard.

        Raises:
            ConfigurationError: the channel has that of another guard.
        """
        if self._desk not in (None, desk):
            raise ConfigurationError("The channel belongs to another guard.", hint="Make one for each guard.")
        self._desk = desk

    def ask(self, request: ApprovalRequest) -> Answer | None:
        """Wait until *request* is settled. Returns None: what was answered is in the store.

        Raises:
            ConfigurationError: the channel belongs to no guard.
            StoreError: the store cannot be read.
        """
        for worth_a_look, pause in self._glances():
            if worth_a_look and self._settled(request):
                break
            time.sleep(pause)
        return None

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        """The async twin of :meth:`ask`."""
        for worth_a_look, pause in self._glances():
            if worth_a_look and await asyncio.to_thread(self._settled, request):
                break
            await asyncio.sleep(pause)
        return None

    def _glances(self) -> Iterator[tuple[bool, float]]:
        """Yield whether something may have happened, and how long to sleep if nothing has."""
        store = self._bound().store
        pause, looked, seen = _FIRST_PAUSE, float("-inf"), None
        while True:
            version, now = store.version(), time.monotonic()
            worth_a_look = version != seen or now - looked >= _LOOK
            if worth_a_look:
                seen, looked = version, now
            yield worth_a_look, pause
            pause = min(_LONGEST_PAUSE, pause * 1.5)

    def again(self, request: ApprovalRequest) -> None:
        """Nothing is to be done: nobody was told but the store."""

    def paused(self, error: BaseException) -> None:
        """Nothing is to be done: answers are given by name of the request."""

    def _settled(self, request: ApprovalRequest) -> bool:
        return self._bound().look(request.id) is not ApprovalState.PENDING

    def _bound(self) -> Desk:
        if self._desk is None:
            raise ConfigurationError("The channel belongs to no guard.")
        return self._desk
