"""Asking a human: requests bound to one call, answers, and the channels that carry them."""

from zt_agents.approvals.channels import Channel, TerminalChannel, approval_panel
from zt_agents.approvals.requests import Answer, ApprovalRequest, binding_hash, request_approval

__all__ = [
    "Answer",
    "ApprovalRequest",
    "Channel",
    "TerminalChannel",
    "approval_panel",
    "binding_hash",
    "request_approval",
]
