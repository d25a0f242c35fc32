"""Where spans go. Standard ``OTEL_*`` variables decide; an application's own provider is never touched."""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def export_from_environment(service_name: str = "zt-agents") -> bool:
    """Install a provider that exports by OTLP/HTTP, if an endpoint is configured and no provider is installed yet.

    ``OTEL_SERVICE_NAME`` overrides *service_name*. Returns whether a provider was installed.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return False
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    resource = Resource.create({} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service_name})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True
