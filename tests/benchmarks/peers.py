"""What others cost on the same tool: two tracers, and one guard.

They patch LangChain for the whole process, so each is measured in a process of its own, against the bare tool of that
same process: ``python -m tests.benchmarks.peers NAME CALLS``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.tools import BaseTool
from opentelemetry.sdk.trace import TracerProvider

from tests.benchmarks.tables import COMPARED, Table, compared
from tests.benchmarks.timing import AsyncSubject, Pair, Subject, atake_turns, take_turns
from tests.benchmarks.worlds import ARGUMENTS, Discarding, batching, make_tool

BARE = "bare tool"


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure each in a process of its own; *folder* is not used."""
    calls = 50 if quick else 400
    sync = Table("Others, sync: each against the bare tool of its own process", COMPARED)
    asynchronous = Table("Others, async: each against the bare tool of its own process", COMPARED)
    for name, (module, _) in _PEERS.items():
        if not _installed(module):
            sync.add(f"{name}: not installed", None, None, None, "")
            continue
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.peers", name, str(calls)]
        shown = subprocess.run(command, check=True, capture_output=True, text=True)
        first, second = json.loads(shown.stdout.splitlines()[-1])
        sync.add(*first)
        asynchronous.add(*second)
    return [sync, asynchronous]


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


class Peer(NamedTuple):
    """A tool that is observed or guarded, and how to switch that on and off for the process."""

    tool: BaseTool
    on: Callable[[], None]
    off: Callable[[], None]


def _nothing() -> None:
    return None


def _instrumented(instrumentor: Any, tool: BaseTool, provider: TracerProvider) -> Peer:
    # Both instrumentors patch this one method, which every callback manager passes through.
    bare = BaseCallbackManager.__init__
    instrumentor.instrument(tracer_provider=provider)
    patched = BaseCallbackManager.__init__
    assert patched is not bare
    return Peer(
        tool,
        on=lambda: setattr(BaseCallbackManager, "__init__", patched),
        off=lambda: setattr(BaseCallbackManager, "__init__", bare),
    )


def _openinference(tool: BaseTool, provider: TracerProvider) -> Peer:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    return _instrumented(LangChainInstrumentor(), tool, provider)


def _opentelemetry(tool: BaseTool, provider: TracerProvider) -> Peer:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    return _instrumented(LangchainInstrumentor(), tool, provider)


def _tenuo(tool: BaseTool, provider: TracerProvider) -> Peer:
    from tenuo import Pattern, SigningKey, Warrant, configure
    from tenuo.langchain import guard

    root, holder = SigningKey.generate(), SigningKey.generate()
    configure(trusted_roots=[root.public_key], audit_log=False)
    warrant = Warrant.mint_builder().holder(holder.public_key).capability("search", q=Pattern("v*")).ttl(3600)
    return Peer(guard([tool], warrant.mint(root).bind(holder))[0], _nothing, _nothing)


_PEERS: dict[str, tuple[str, Callable[[BaseTool, TracerProvider], Peer]]] = {
    "openinference (traces)": ("openinference.instrumentation.langchain", _openinference),
    "opentelemetry-instrumentation-langchain (traces)": (
        "opentelemetry.instrumentation.langchain",
        _opentelemetry,
    ),
    "tenuo (decides; neither traces nor records)": ("tenuo.langchain", _tenuo),
}


def _pairs(name: str, calls: int) -> tuple[Pair, Pair]:
    provider = batching(Discarding())
    bare = make_tool()
    tool, on, off = _PEERS[name][1](make_tool(), provider)
    sync = take_turns(
        Subject(BARE, lambda: bare.invoke(ARGUMENTS), before=off),
        Subject(name, lambda: tool.invoke(ARGUMENTS), before=on),
        calls,
    )
    asynchronous = asyncio.run(
        atake_turns(
            AsyncSubject(BARE, lambda: bare.ainvoke(ARGUMENTS), before=off),
            AsyncSubject(name, lambda: tool.ainvoke(ARGUMENTS), before=on),
            calls,
        )
    )
    provider.shutdown()
    return sync, asynchronous


if __name__ == "__main__":
    logging.disable()  # they log every call
    json.dump([compared(pair) for pair in _pairs(sys.argv[1], int(sys.argv[2]))], sys.stdout)
