"""Traces: human -> agent -> tool -> data; and metrics."""

from zt_agents.telemetry.export import export_from_environment
from zt_agents.telemetry.metrics import Meters
from zt_agents.telemetry.spans import CallSpan, Tracing

__all__ = ["CallSpan", "Meters", "Tracing", "export_from_environment"]
