"""The two shells around the one funnel: they wait, for a human, for the disk and for the body, and decide nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from zt_agents.errors import AccessDeniedError, AuditError, SealError
from zt_agents.funnel import Passage, Replayed
from zt_agents.invocation import Invocation
from zt_agents.streams import conclude

_DURABLE = 10.0
"""Seconds that a medium or high-tier call waits for its record to be on disk before it is denied."""


def run(invocation: Invocation, body: Callable[[], Any], *, layer: int = 0) -> Any:
    """Run *body* if the call is allowed. Used by integrations.

    Raises:
        AccessDeniedError: it is not; *body* did not run.
    """
    passage, desk = Passage(invocation, layer=layer), invocation.tool.guard.desk
    try:
        passage.decide()
        if passage.request is not None:
            with passage.asking():
                ruling = desk.ask(passage.request, passage.tool.suspends)
            passage.answered(ruling)
        passage.record()
        if passage.receipt is not None:
            _settle(passage, passage.receipt.wait)
        passage.enter()
    except Replayed as replay:
        return replay.result
    except BaseException as error:  # whatever it is: the body has not run, and does not
        _stopped(passage, error)
        raise
    try:
        result = body()
    except BaseException as error:  # of the body's: it goes on record, and on to the caller
        passage.pause()
        passage.failed(error)
        raise
    passage.pause()
    return conclude(passage, result)


async def arun(invocation: Invocation, body: Callable[[], Awaitable[Any]], *, layer: int = 0) -> Any:
    """The async twin of :meth:`run`: waits for humans and the disk without holding the event loop."""
    passage, desk = Passage(invocation, layer=layer), invocation.tool.guard.desk
    try:
        passage.decide()
        if passage.request is not None:
            with passage.asking():
                ruling = await desk.aask(passage.request, passage.tool.suspends)
            passage.answered(ruling)
        passage.record()
        if passage.receipt is not None:
            await _asettle(passage, passage.receipt.await_durable)
        passage.enter()
    except Replayed as replay:
        return replay.result
    except BaseException as error:  # whatever it is: the body has not run, and does not
        _stopped(passage, error)
        raise
    try:
        result = await body()
    except BaseException as error:  # of the body's: it goes on record, and on to the caller
        passage.pause()
        passage.failed(error)
        raise
    passage.pause()
    return conclude(passage, result)


def refused(invocation: Invocation) -> NoReturn:
    """Record the denial of a call that an integration refuses, and raise it.

    Raises:
        AccessDeniedError: always.
    """
    run(invocation, _unreachable)
    raise SealError("A refused call came back.")  # not reached: a refusal always raises


def _unreachable() -> NoReturn:
    raise SealError("A refused call reached a body.")


def _stopped(passage: Passage, error: BaseException) -> None:
    """Put on record that the way to the body ended in *error*, which the caller raises.

    Raises:
        EnforcementUnavailableError: instead, where it is a fault of the guard.
    """
    passage.pause()
    if isinstance(error, AccessDeniedError):  # recorded before it was raised
        return
    if not isinstance(error, Exception):
        passage.cancelled(error)
    elif passage.request is not None and passage.tool.suspends(error):
        passage.suspended()
    else:
        passage.fault(error)


def _settle(passage: Passage, wait: Callable[[float], int]) -> None:
    try:
        seq = wait(_DURABLE)
    except AuditError as error:
        passage.unrecorded(error)
    passage.durable(seq)


async def _asettle(passage: Passage, wait: Callable[[float], Awaitable[int]]) -> None:
    try:
        seq = await wait(_DURABLE)
    except AuditError as error:
        passage.unrecorded(error)
    passage.durable(seq)
