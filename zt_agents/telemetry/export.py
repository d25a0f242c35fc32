"""Where spans and metrics go. Standard ``OTEL_*`` variables decide; an application's own provider is never touched.

Spans are exported where an OTLP endpoint or ``OTEL_TRACES_EXPORTER`` is configured; metrics where
``OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`` or ``OTEL_METRICS_EXPORTER`` is, since many who take traces take no metrics.
``OTEL_SDK_DISABLED`` and an exporter called ``none`` switch off. Sampler, batching, headers, certificates, timeouts and
resource are read by the SDK itself. A value that is not understood is refused.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from types import ModuleType

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from zt_agents._internal.optional import require
from zt_agents.errors import ConfigurationError
from zt_agents.telemetry import attributes as names
from zt_agents.telemetry.delivery import CountingProcessor, Losses, close_at_exit

_HTTP, _GRPC = "http/protobuf", "grpc"


def export_from_environment(service_name: str = "zt-agents") -> bool:
    """Install providers that export, for what is configured and has no provider yet.

    ``OTEL_SERVICE_NAME`` overrides *service_name*. Returns whether a tracer provider was installed.

    Raises:
        ConfigurationError: a variable has a value that is not understood.
        MissingExtraError: gRPC is asked for and its exporter is not installed.
    """
    if _variable("OTEL_SDK_DISABLED").lower() == "true":
        return False
    spans = metered = None
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        spans = _exporter_name("TRACES", endpoints)
    if isinstance(metrics.get_meter_provider(), _ProxyMeterProvider):
        metered = _exporter_name("METRICS", ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",))
    try:
        if metered:
            _install_metrics(metered, service_name)
        if spans:
            _install_traces(spans, service_name)
    except (ValueError, OSError) as error:
        raise ConfigurationError("The OTEL_* variables do not make an exporter.", hint=f"{error}") from error
    return spans is not None


def _install_traces(name: str, service_name: str) -> None:
    exporter = ConsoleSpanExporter() if name == "console" else _otlp_spans()
    processor = CountingProcessor(exporter)
    provider = TracerProvider(resource=_resource(service_name), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    _observe(processor.losses)
    close_at_exit(provider.shutdown)


def _install_metrics(name: str, service_name: str) -> None:
    exporter = ConsoleMetricExporter() if name == "console" else _otlp_metrics()
    reader = PeriodicExportingMetricReader(exporter)
    provider = MeterProvider([reader], resource=_resource(service_name), shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    close_at_exit(provider.shutdown)


def _observe(losses: Losses) -> None:
    def look(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(losses.count)]

    metrics.get_meter("zt_agents").create_observable_counter(
        names.METRIC_SPANS_DROPPED, [look], unit="{span}", description="Spans that could not be delivered."
    )


def _otlp_spans() -> SpanExporter:
    module = _otlp("TRACES", "trace_exporter")
    exporter: SpanExporter = module.OTLPSpanExporter()
    return exporter


def _otlp_metrics() -> MetricExporter:
    module = _otlp("METRICS", "metric_exporter")
    exporter: MetricExporter = module.OTLPMetricExporter()
    return exporter


def _otlp(signal: str, module: str) -> ModuleType:
    own, general = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    variable = own if _variable(own) else general
    protocol = _variable(variable) or _HTTP
    if protocol == _GRPC:
        return require(
            f"opentelemetry.exporter.otlp.proto.grpc.{module}", extra="grpc", purpose="Exporting by OTLP over gRPC"
        )
    if protocol != _HTTP:
        raise ConfigurationError(
            f"{variable} is {protocol!r}, which is not supported.", hint=f"Use {_HTTP!r} or {_GRPC!r}."
        )
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if _variable(name) and not _variable(name).startswith(("http://", "https://")):
            raise ConfigurationError(f"{name} is no URL.", hint="Over HTTP it begins with http:// or https://.")
    return importlib.import_module(f"opentelemetry.exporter.otlp.proto.http.{module}")


def _exporter_name(signal: str, endpoints: Iterable[str]) -> str | None:
    variable = f"OTEL_{signal}_EXPORTER"
    name = _variable(variable)
    if not name:
        return "otlp" if any(_variable(endpoint) for endpoint in endpoints) else None
    if name == "none":
        return None
    if name not in {"otlp", "console"}:
        raise ConfigurationError(f"{variable} is {name!r}, which is not supported.", hint="Use otlp, console or none.")
    return name


def _resource(service_name: str) -> Resource:
    named = _variable("OTEL_SERVICE_NAME") or "service.name=" in _variable("OTEL_RESOURCE_ATTRIBUTES")
    return Resource.create({} if named else {"service.name": service_name})


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()
