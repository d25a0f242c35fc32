"""Zero Trust for the tool calls of AI agents: every call identified, decided, recorded and traced.

::

    from zt_agents import Guard

    guard = Guard.from_config("zt-agents.yaml")
    tools = guard.protect(tools)
    with guard.session(agent="helpdesk", on_behalf_of="alice@acme.example", intent=prompt):
        agent.invoke({"messages": [("user", prompt)]})
"""

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
