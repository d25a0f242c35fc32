"""Spans for sessions, tool calls and approvals.

Traces are evidence, the audit log is the record: a span may be sampled away or dropped, and a call goes on without it.
Arguments and results stay off spans unless ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` asks for them.

The tool's span is current while the body runs, so that an instrumented driver's span becomes its child. Attaching and
detaching happen in the same context, never across one: a stream is attached anew at every step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TracerProvider

from zt_agents.identity.baggage import BAGGAGE_KEY
from zt_agents.telemetry import attributes as names

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_OPENINFERENCE = "openinference.instrumentation.langchain"


class Tracing:
    """Starts spans. Uses the application's tracer provider, whenever it is installed; never installs one."""

    def __init__(
        self, tracer_provider: TracerProvider | None = None, *, hash_users: Callable[[bytes], str] | None = None
    ) -> None:
        """*hash_users* stands in for the ids of users; it needs a key, because ids can be guessed. None shows them."""
        self._tracer = trace.get_tracer("zt_agents", tracer_provider=tracer_provider)
        self._hash_users = hash_users
        self.captures_content = os.environ.get(_CAPTURE, "").lower() in {"true", "1", "span_only", "span_and_event"}

    def user(self, user_id: str) -> tuple[str, str]:
        """Return the attribute that names the user: ``user.id``, or ``user.hash`` where ids are kept off spans."""
        if self._hash_users is None:
            return names.USER_ID, user_id
        return names.USER_HASH, self._hash_users(user_id.encode(errors="surrogatepass"))

    def start(
        self,
        name: str,
        attributes: Mapping[str, Any],
        *,
        start_time: int | None = None,
        parent: Span | None = None,
    ) -> CallSpan:
        """Start a span of kind INTERNAL below the current one, or below *parent* where nothing is current.

        Args:
            start_time: nanoseconds since the epoch; None means now.
        """
        context = _parent_context(parent)
        span = self._tracer.start_span(
            name, context, SpanKind.INTERNAL, attributes=attributes, start_time=start_time, record_exception=False
        )
        return CallSpan(span)


class CallSpan:
    """A started span, and whether it is current here."""

    __slots__ = ("_token", "span", "span_id", "trace_id")

    def __init__(self, span: Span) -> None:
        self.span = span
        self._token: Token[Context] | None = None
        context = span.get_span_context()
        traced = context.is_valid
        self.trace_id = f"{context.trace_id:032x}" if traced else ""
        """32 hex digits; an empty string when nothing is traced."""
        self.span_id = f"{context.span_id:016x}" if traced else ""
        """16 hex digits; an empty string when nothing is traced."""

    def attach(self, entries: Mapping[str, str] | None = None) -> None:
        """Make this the current span of this context, and add *entries* to its baggage."""
        context = trace.set_span_in_context(self.span)
        self._token = otel_context.attach(_with_baggage(context, entries))

    def detach(self) -> None:
        """Restore what was current before :meth:`attach`, in the same context."""
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None

    def again(self) -> CallSpan:
        """Return this span as one that is current nowhere yet: for a context besides."""
        return CallSpan(self.span)

    def forget(self) -> None:
        """Give up restoring: the context in which this was attached is gone."""
        self._token = None

    def set(self, attributes: Mapping[str, Any]) -> None:
        self.span.set_attributes(attributes)

    def event(self, name: str, attributes: Mapping[str, Any]) -> None:
        self.span.add_event(name, attributes)

    def link(self, trace_id: str, span_id: str) -> None:
        """Join this span to one of an earlier trace, if that was traced: 32 and 16 hex digits."""
        if trace_id and span_id:
            context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(1))
            self.span.add_link(context)

    def end(self, *, error_type: str = "", description: str = "") -> None:
        """End the span; with *error_type* it ends as an error. Messages of exceptions stay off: they may hold data."""
        if error_type:
            self.span.set_attribute(names.ERROR_TYPE, error_type)
            self.span.set_status(Status(StatusCode.ERROR, description or None))
        self.span.end()


def _with_baggage(context: Context, entries: Mapping[str, str] | None) -> Context:
    others = baggage.get_all(context)
    if not entries and BAGGAGE_KEY not in others:
        return context
    # Propagators cut off what is over their limits at the end: ours goes first, and upstream's of its name nowhere.
    context = baggage.clear(context)
    for name, value in (entries or {}).items():
        context = baggage.set_baggage(name, value, context)
    for name, other in others.items():
        if name != BAGGAGE_KEY:
            context = baggage.set_baggage(name, other, context)
    return context


def _parent_context(parent: Span | None) -> Context:
    current = otel_context.get_current()
    # OpenInference opens a span per tool but never makes it current; ours belongs below it, not beside it.
    neighbour = sys.modules.get(_OPENINFERENCE)
    if neighbour is not None:
        foreign = getattr(neighbour, "get_current_span", lambda: None)()
        if foreign is not None and foreign.get_span_context().is_valid:
            return trace.set_span_in_context(foreign, current)
    if parent is not None and not trace.get_current_span(current).get_span_context().is_valid:
        return trace.set_span_in_context(parent, current)
    return current
