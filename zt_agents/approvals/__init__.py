"""Asking a human: requests bound to one call, answers, who may give them, and the channels that carry them."""

from zt_agents.approvals.channels import Channel, Desk, DurableChannel, TerminalChannel, approval_panel
from zt_agents.approvals.deferring import Deferred, DeferringChannel
from zt_agents.approvals.registry import CREDENTIAL, ApproverRegistry, Enrolled
from zt_agents.approvals.requests import (
    NOBODY_OBJECTED,
    RESERVED,
    SESSION_USER,
    Answer,
    ApprovalRequest,
    ApprovalState,
    Edit,
    binding_hash,
    request_approval,
    turn,
)
from zt_agents.approvals.rulings import Holds, already, count, counts_for, filed_as, objection, person, ruling
from zt_agents.approvals.standing import STANDING, covers, in_advance, listing, remembered
from zt_agents.approvals.store import ApprovalStore, StoredApproval
from zt_agents.approvals.waiting import StoreChannel
from zt_agents.approvals.written import read_request, write_request

__all__ = [
    "CREDENTIAL",
    "NOBODY_OBJECTED",
    "RESERVED",
    "SESSION_USER",
    "STANDING",
    "Answer",
    "ApprovalRequest",
    "ApprovalState",
    "ApprovalStore",
    "ApproverRegistry",
    "Channel",
    "Deferred",
    "DeferringChannel",
    "Desk",
    "DurableChannel",
    "Edit",
    "Enrolled",
    "Holds",
    "StoreChannel",
    "StoredApproval",
    "TerminalChannel",
    "already",
    "approval_panel",
    "binding_hash",
    "count",
    "counts_for",
    "covers",
    "filed_as",
    "in_advance",
    "listing",
    "objection",
    "person",
    "read_request",
    "remembered",
    "request_approval",
    "ruling",
    "turn",
    "write_request",
]
