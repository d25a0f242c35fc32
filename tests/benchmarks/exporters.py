"""What a governed call costs while its spans go to a collector that is well, slow, or down."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider

from tests.benchmarks.tables import Table, comparison
from tests.benchmarks.timing import Subject, take_turns
from tests.benchmarks.worlds import ARGUMENTS, Governed
from zt_agents.telemetry.delivery import CountingProcessor

SLOW = 2.0
"""Seconds that a slow collector takes to answer."""


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure in *folder*: each state of the collector takes turns with a guard that traces nothing."""
    calls = 100 if quick else 600
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    logging.getLogger("zt_agents").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        untraced = _world(stack, folder, "untraced", NoOpTracerProvider())
        bare = Subject("governed, no spans", lambda: untraced.search.invoke(ARGUMENTS), untraced.context)
        pairs, lost = [], []
        for name, port in (
            ("collector well", stack.enter_context(_collector(0.0))),
            (f"collector slow: {SLOW:g} s an answer", stack.enter_context(_collector(SLOW))),
            ("collector down", stack.enter_context(_nobody())),
        ):
            processor = CountingProcessor(OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces", timeout=1))
            provider = TracerProvider(shutdown_on_exit=False)
            provider.add_span_processor(processor)
            world = _world(stack, folder, str(port), provider)
            subject = Subject(name, lambda world=world: world.search.invoke(ARGUMENTS), world.context)  # type: ignore[misc]
            pairs.append(take_turns(bare, subject, calls))
            provider.shutdown()
            lost.append(f"{name}: {processor.losses.count} spans lost and counted")
    return [comparison("A governed call, by its collector, against one without spans", pairs, "; ".join(lost))]


def _world(stack: ExitStack, folder: Path, name: str, provider: TracerProvider | NoOpTracerProvider) -> Governed:
    (folder / name).mkdir()
    world = Governed(folder / name, provider)  # type: ignore[arg-type]
    stack.callback(world.close)
    return world


@contextmanager
def _collector(delay: float) -> Iterator[int]:
    command = [sys.executable, "-m", "tests.benchmarks.collector", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def _nobody() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield port
