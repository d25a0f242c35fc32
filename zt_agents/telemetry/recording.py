"""Spans kept in memory: for tests, notebooks and the demonstration's picture of a trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@dataclass(slots=True)
class SpanNode:
    """A finished span with its children, in order of their start."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    error: bool
    duration_ms: float
    children: list[SpanNode] = field(default_factory=list)
    links: tuple[tuple[str, str], ...] = ()
    """(trace id, span id) of each span that this one is linked to."""

    def walk(self, depth: int = 0) -> Iterator[tuple[int, SpanNode]]:
        """Yield this span and all below it with their depths."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


class SpanRecorder:
    """A tracer provider that remembers: ``Guard.from_config(path, tracer_provider=recorder.provider)``."""

    def __init__(self, service_name: str = "zt-agents") -> None:
        self.provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
        self._memory = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._memory))

    def spans(self) -> list[SpanNode]:
        """Return the finished spans in order of their start."""
        finished = self._memory.get_finished_spans()
        return [_node(span) for span in sorted(finished, key=lambda span: span.start_time or 0)]

    def trees(self) -> list[SpanNode]:
        """Return the roots, each with its whole tree; a span whose parent is not finished counts as a root."""
        nodes = self.spans()
        by_id = {node.span_id: node for node in nodes}
        roots: list[SpanNode] = []
        for node in nodes:
            parent = by_id.get(node.parent_id)
            (roots if parent is None else parent.children).append(node)
        return roots

    def clear(self) -> None:
        self._memory.clear()


def _node(span: ReadableSpan) -> SpanNode:
    context = span.get_span_context()
    assert context is not None
    return SpanNode(
        name=span.name,
        trace_id=format(context.trace_id, "032x"),
        span_id=format(context.span_id, "016x"),
        parent_id=format(span.parent.span_id, "016x") if span.parent else "",
        attributes=dict(span.attributes or {}),
        error=not span.status.is_ok,
        links=tuple((f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links),
        duration_ms=((span.end_time or 0) - (span.start_time or 0)) / 1e6,
    )
