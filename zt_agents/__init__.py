"""Zero Trust for the tool calls of AI agents: every call identified, decided, recorded and traced.

::

    from zt_agents import Guard

    guard = Guard.from_config("zt-agents.yaml")
    tools = guard.protect(tools)
    with guard.session(agent="helpdesk", on_behalf_of="alice@acme.example", intent=prompt):
        agent.invoke({"messages": [("user", prompt)]})
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zt_agents.approvals import Answer, ApprovalRequest, Channel, DeferringChannel, StoreChannel, TerminalChannel
    from zt_agents.catalog.specs import Effect, Tier, ToolSpec
    from zt_agents.decisions import Decision, Outcome, Reason, ReasonCode, ToolCall
    from zt_agents.errors import (
        AccessDeniedError,
        ApprovalPendingError,
        AuditError,
        ConfigurationError,
        EnforcementUnavailableError,
        IdentityError,
        PolicyFileError,
        ZeroTrustError,
    )
    from zt_agents.guard import Guard
    from zt_agents.identity.principals import Agent, User
    from zt_agents.identity.scopes import TaskScope
    from zt_agents.permit import current_call
    from zt_agents.provenance.labels import DataClass, Integrity
    from zt_agents.sessions.session import Session, current_session

__all__ = [
    "AccessDeniedError",
    "Agent",
    "Answer",
    "ApprovalPendingError",
    "ApprovalRequest",
    "AuditError",
    "Channel",
    "ConfigurationError",
    "DataClass",
    "Decision",
    "DeferringChannel",
    "Effect",
    "EnforcementUnavailableError",
    "Guard",
    "IdentityError",
    "Integrity",
    "Outcome",
    "PolicyFileError",
    "Reason",
    "ReasonCode",
    "Session",
    "StoreChannel",
    "TaskScope",
    "TerminalChannel",
    "Tier",
    "ToolCall",
    "ToolSpec",
    "User",
    "ZeroTrustError",
    "current_call",
    "current_session",
]
__version__ = "0.1.0"

_HOMES = {
    "Answer": "zt_agents.approvals",
    "ApprovalRequest": "zt_agents.approvals",
    "Channel": "zt_agents.approvals",
    "DeferringChannel": "zt_agents.approvals",
    "StoreChannel": "zt_agents.approvals",
    "TerminalChannel": "zt_agents.approvals",
    "Effect": "zt_agents.catalog.specs",
    "Tier": "zt_agents.catalog.specs",
    "ToolSpec": "zt_agents.catalog.specs",
    "Decision": "zt_agents.decisions",
    "Outcome": "zt_agents.decisions",
    "Reason": "zt_agents.decisions",
    "ReasonCode": "zt_agents.decisions",
    "ToolCall": "zt_agents.decisions",
    "AccessDeniedError": "zt_agents.errors",
    "ApprovalPendingError": "zt_agents.errors",
    "AuditError": "zt_agents.errors",
    "ConfigurationError": "zt_agents.errors",
    "EnforcementUnavailableError": "zt_agents.errors",
    "IdentityError": "zt_agents.errors",
    "PolicyFileError": "zt_agents.errors",
    "ZeroTrustError": "zt_agents.errors",
    "Guard": "zt_agents.guard",
    "Agent": "zt_agents.identity.principals",
    "User": "zt_agents.identity.principals",
    "TaskScope": "zt_agents.identity.scopes",
    "current_call": "zt_agents.permit",
    "DataClass": "zt_agents.provenance.labels",
    "Integrity": "zt_agents.provenance.labels",
    "Session": "zt_agents.sessions.session",
    "current_session": "zt_agents.sessions.session",
}


def __getattr__(name: str) -> Any:
    """Import what is named when it is first used: who verifies a log, or asks for ``--help``, loads no guard."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
