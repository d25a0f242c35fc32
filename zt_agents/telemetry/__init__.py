"""Traces: human -> agent -> tool -> data."""

from zt_agents.telemetry.export import export_from_environment
from zt_agents.telemetry.spans import CallSpan, Tracing

__all__ = ["CallSpan", "Tracing", "export_from_environment"]
