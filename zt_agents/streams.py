"""Bodies that go on after they have returned: generators, async generators, coroutines that a plain function hands out.

The call was decided before; here its permit and span are made current at each step and at no other time, its session is
looked at again before each step, and its end is recorded, also when nobody reads to the end.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import suppress
from typing import Any

from zt_agents.funnel import Passage


def conclude(passage: Passage, result: Any) -> Any:
    """Close the call, or hand on a result in which the body has yet to run, with its permit around it."""
    if inspect.isgenerator(result):
        return _stream(passage, result)
    if inspect.isasyncgen(result):
        return _astream(passage, result)
    if inspect.iscoroutine(result):
        return _awaited(passage, result)
    passage.finished(result)
    return result


def _stream(passage: Passage, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Drive a body that is a generator, its permit and span current at each of its steps and at no other time."""

    def drive() -> Generator[Any, Any, Any]:
        ended = False
        try:
            sent: Any = yield  # started below, so that dropping the stream unread is noticed too
            while True:
                passage.check()
                passage.resume()
                try:
                    item = steps.send(sent)
                finally:
                    passage.pause()
                sent = yield item
        except StopIteration as stop:
            ended = True
            passage.finished(None, streamed=True)
            return stop.value
        except GeneratorExit:
            raise
        except BaseException as error:  # also one that ends the program: the call is recorded as it ended
            ended = True
            passage.failed(error)
            raise
        finally:
            passage.resume()  # what the body does at its end is part of this call, whoever lets go of it
            try:
                steps.close()
            finally:
                passage.pause()
                if not ended:
                    passage.abandoned()

    stream = drive()
    next(stream)
    return stream


def _astream(passage: Passage, steps: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    """The async twin of :func:`_stream`."""

    async def drive() -> AsyncGenerator[Any, Any]:
        ended = False
        try:
            sent: Any = yield
            while True:
                passage.check()
                passage.resume()
                try:
                    item = await steps.asend(sent)
                finally:
                    passage.pause()
                sent = yield item
        except StopAsyncIteration:
            ended = True
            passage.finished(None, streamed=True)
        except GeneratorExit:
            raise
        except BaseException as error:  # also one that ends the program: the call is recorded as it ended
            ended = True
            passage.failed(error)
            raise
        finally:
            passage.resume()
            try:
                await steps.aclose()
            finally:
                passage.pause()
                if not ended:
                    passage.abandoned()

    stream = drive()
    with suppress(StopIteration):
        stream.asend(None).send(None)  # runs to the first yield, which awaits nothing
    return stream


async def _awaited(passage: Passage, body: Coroutine[Any, Any, Any]) -> Any:
    """Await a body that a plain function returned as a coroutine, its permit and span current meanwhile."""
    try:
        passage.check()
        passage.resume()
        try:
            result = await body
        finally:
            passage.pause()
    except BaseException as error:  # also a cancellation: the call is recorded as it ended
        body.close()
        passage.failed(error)
        raise
    passage.finished(result, streamed=True)
    return result
