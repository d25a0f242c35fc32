"""The demonstration with somebody else to answer: requests wait in the store, for the console or another terminal."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from zt_agents._internal.clock import system_clock
from zt_agents.approvals import Answer, ApprovalRequest, Enrolled, StoreChannel
from zt_agents.config import approver_authority
from zt_agents.demo.show import Show
from zt_agents.identity import ApproverKey, SigningKey
from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry

APPROVER = "dana@acme.example"
CONSOLE = "http://localhost:8765"
_TERMS = f"""
approvals:
  approvers: ["user:{APPROVER}"]    # and nobody else, least of all the user whom the agent acts for
  timeout: 15m
"""
_DAY = 86_400


class InboxChannel(StoreChannel):
    """Waits for an answer from elsewhere, and says so."""

    def __init__(self, show: Show) -> None:
        super().__init__()
        self._show = show

    def ask(self, request: ApprovalRequest) -> Answer | None:
        with self._show.asking():
            text = f"{request.call.tool} waits for {APPROVER}: see the console, or {request.id[:8]} at the terminal."
            self._show.console.print(Text(text, "bold yellow"))
            return super().ask(request)


def open_inbox(folder: Path, policy: Path, show: Show) -> SigningKey:
    """Let the *policy* ask somebody else, make their credential, and say how they answer. Returns the signing key."""
    with policy.open("a", encoding="utf-8") as file:
        file.write(_TERMS)
    key, own = SigningKey.generate(), SigningKey.generate()
    signing, credential = folder / "signing.pem", folder / "dana.approver"
    store = folder / "zt-agents-approvals.db"
    key.save(signing)
    now = system_clock()
    authority = approver_authority("acme.example", key)
    made = ApproverKey(authority.issue(APPROVER, groups=(), key=own, now=now, valid=_DAY), own)
    made.save(credential)
    registry = SqliteApproverRegistry.beside(store, create=True)
    registry.add(Enrolled(made.credential_id, APPROVER, "credential", made.credential, now))
    show.look_yourself(
        [
            (
                "in another terminal, the console (a request stays there for a quarter of an hour)",
                f"zt-agents console --store {store} --signing-key {signing} --trust-domain acme.example",
            ),
            ("and a link to sign in as Dana", f"zt-agents approvals login --as {credential} --console {CONSOLE}"),
            ("or without a browser", f"zt-agents approvals watch --store {store}"),
            ("", f"zt-agents approvals approve ID --as {credential} --store {store}"),
        ],
        heading="Dana answers",
    )
    return key
