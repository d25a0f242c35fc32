"""Every outcome of a call, and what a caller gets for it on each way in. ``render()`` gives the table as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zt_agents import AccessDeniedError, EnforcementUnavailableError, ReasonCode
from zt_agents.testing import AnsweringChannel

DIRECT, CALLBACK, MIDDLEWARE, TOOL_NODE = "direct call", "callback", "middleware", "plain ToolNode"
WAYS_IN = {
    DIRECT: "`tool.invoke(...)`",
    CALLBACK: "`ZeroTrustCallback`, `AgentExecutor`",
    MIDDLEWARE: "`ZeroTrustMiddleware`, `create_agent`",
    TOOL_NODE: "sealed tools, `ToolNode`",
}


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Case:
    """One outcome."""

    name: str
    error: type[AccessDeniedError] | None = AccessDeniedError
    """What reaches the caller of a tool; None for a result."""
    reason: ReasonCode = ReasonCode.RULE
    policy: dict[str, Any] = field(default_factory=dict)
    """How the guard is made."""
    channel: Callable[[], Any] | None = None
    session: bool = True
    given: dict[str, Any] = field(default_factory=lambda: {"a": 1})
    not_on: tuple[str, ...] = ()
    """Ways in where it cannot happen."""
    decisions: tuple[str, ...] = ("deny",)
    """Outcomes in the audit log, in order; empty where the log itself is what fails."""
    validated_by_langchain: bool = False
    """LangChain raises its own ValidationError, or shows it to the model, before the guard is asked."""


class Broken(AnsweringChannel):
    def ask(self, request: Any) -> Any:
        raise ConnectionError("the channel is down")


CASES = [
    Case("allowed", None, decisions=("allow",)),
    Case("denied by a rule", policy={"outcome": "deny"}),
    Case("no rule allows it (default deny)", reason=ReasonCode.NO_RULE, policy={"when": "args.a > 100"}),
    Case("no session", reason=ReasonCode.NO_SESSION, session=False, not_on=(CALLBACK,)),
    Case("session expired", reason=ReasonCode.IDENTITY),
    Case("session revoked", reason=ReasonCode.IDENTITY),
    Case("agent suspended", reason=ReasonCode.IDENTITY),
    Case("session of another guard", reason=ReasonCode.WRONG_GUARD),
    Case("tool not in the catalog", reason=ReasonCode.UNKNOWN_TOOL),
    Case("tool changed since it was accepted", reason=ReasonCode.DRIFT),
    Case(
        "arguments that do not parse",
        reason=ReasonCode.ARGUMENTS,
        given={"a": "many"},
        validated_by_langchain=True,
    ),
    Case(
        "approved by a human",
        None,
        ReasonCode.APPROVED,
        {"tier": "high"},
        lambda: AnsweringChannel(approve=True),
        decisions=("require_approval", "allow"),
    ),
    Case(
        "refused by a human",
        reason=ReasonCode.NOT_APPROVED,
        policy={"tier": "high"},
        channel=lambda: AnsweringChannel(approve=False),
        decisions=("require_approval", "deny"),
    ),
    Case(
        "a human is needed and cannot be asked",
        reason=ReasonCode.NO_CHANNEL,
        policy={"tier": "high"},
        decisions=("require_approval", "deny"),
    ),
    Case(
        "asking the human fails",
        reason=ReasonCode.NOT_APPROVED,
        policy={"tier": "high"},
        channel=lambda: Broken(approve=True),
        decisions=("require_approval", "deny"),
    ),
    Case("the audit log cannot be written", reason=ReasonCode.AUDIT, policy={"tier": "medium"}, decisions=()),
    Case("the policy engine fails", EnforcementUnavailableError, ReasonCode.FAULT),
]


_NEVER = "cannot happen"


def gets(case: Case, way: str) -> str:
    """Return what the caller gets, as a cell of the table."""
    if way in case.not_on:
        return _NEVER
    if case.error is None:
        return "the result"
    if case.validated_by_langchain:
        shown = way in (MIDDLEWARE, TOOL_NODE)
        return "LangChain's error message to the model" if shown else "LangChain's `ValidationError`"
    if way == MIDDLEWARE:
        return '`ToolMessage(status="error")`'
    return f"`{case.error.__name__}`"


def render() -> str:
    """Return the table as Markdown."""
    head = ["outcome", *WAYS_IN.values(), "body", "reason in the record"]
    rows = [
        [
            case.name,
            *(gets(case, way) for way in WAYS_IN),
            "runs once" if case.error is None else "does not run",
            f"`{case.reason}`" if case.decisions else "none can be written",
        ]
        for case in CASES
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary() -> str:
    """Return the table as the README shows it: outcomes that look the same to every caller share a row."""

    def alike(row: tuple[str, ...], cells: tuple[str, ...]) -> bool:
        return all(one == other or other == _NEVER for one, other in zip(row, cells, strict=True))

    shared: dict[tuple[str, ...], list[str]] = {}
    for case in CASES:
        cells = tuple(gets(case, way) for way in WAYS_IN)
        shared.setdefault(next((row for row in shared if alike(row, cells)), cells), []).append(case.name)
    lines = [
        ["outcome", *WAYS_IN.values()],
        ["---"] * (1 + len(WAYS_IN)),
        *([", ".join(names), *cells] for cells, names in shared.items()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(render())
    print()
    print(summary())
