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

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.05
"""Seconds between looks: an answer given at once is noticed at once."""


class StoreChannel:
    """Waits until a request is settled by the answers in the store, or by its time."""

    def __init__(self) -> None:
        self._desk: Desk | None = None

    def bind(self, desk: Desk) -> None:
        if self._desk not in (None, desk):
            raise ConfigurationError("The channel belongs to another guard.", hint="Make one for each guard.")
        self._desk = desk

    def ask(self, request: ApprovalRequest) -> Answer | None:
        for pause in _pauses():
            if self._settled(request):
                break
            time.sleep(pause)
        return None

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        for pause in _pauses():
            if await asyncio.to_thread(self._settled, request):
                break
            await asyncio.sleep(pause)
        return None

    def again(self, request: ApprovalRequest) -> None:
        """Nothing is to be done: nobody was told but the store."""

    def paused(self, error: BaseException) -> None:
        """Nothing is to be done: answers are given by name of the request."""

    def _settled(self, request: ApprovalRequest) -> bool:
        if self._desk is None:
            raise ConfigurationError("The channel belongs to no guard.")
        return self._desk.look(request.id) is not ApprovalState.PENDING


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(_LONGEST_PAUSE, pause * 1.5)
