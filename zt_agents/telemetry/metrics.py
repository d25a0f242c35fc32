"""Figures about governed calls, by the OpenTelemetry metrics API.

The application's meter provider is used, whenever it is installed; where there is none, nothing is kept. Attributes are
few and take few values: never a user, an argument or a resource.
"""

from __future__ import annotations

from opentelemetry import metrics
from opentelemetry.metrics import MeterProvider

from zt_agents.telemetry import attributes as names

_TOOL_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_HUMAN_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


class Meters:
    """What a guard counts and times."""

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        meter = metrics.get_meter("zt_agents", meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            names.METRIC_EXECUTE_TOOL,
            unit="s",
            description="Duration of a tool call, the wait for a human left out.",
            explicit_bucket_boundaries_advisory=_TOOL_SECONDS,
        )
        self._decisions = meter.create_counter(
            names.METRIC_DECISIONS, unit="{decision}", description="Decisions, one for each that is recorded."
        )
        self._wait = meter.create_histogram(
            names.METRIC_APPROVAL_WAIT,
            unit="s",
            description="How long a call waited for a human.",
            explicit_bucket_boundaries_advisory=_HUMAN_SECONDS,
        )

    def decided(self, outcome: str, tier: str) -> None:
        """Count a decision."""
        self._decisions.add(1, {names.DECISION_OUTCOME: outcome, names.DECISION_TIER: tier})

    def executed(self, tool: str, seconds: float, error_type: str = "") -> None:
        """Note how long a call took, also one that was denied."""
        attributes = {names.OPERATION: "execute_tool", names.TOOL_NAME: tool, names.TOOL_TYPE: "function"}
        if error_type:
            attributes[names.ERROR_TYPE] = error_type
        self._duration.record(max(0.0, seconds), attributes)

    def waited(self, seconds: float, status: str) -> None:
        """Note how long a human was waited for: approved, denied, expired, failed or cancelled."""
        self._wait.record(seconds, {names.APPROVAL_STATUS: status})
