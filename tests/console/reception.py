"""A console over real files, approvers with real credentials, and requests that wait."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from zt_agents.approvals import Answer, ApprovalRequest, Enrolled, request_approval
from zt_agents.catalog.specs import Effect, Tier, ToolSpec
from zt_agents.config import answer_proofs, approver_authority
from zt_agents.console.app import application
from zt_agents.console.logins import Logins
from zt_agents.console.origins import Origin
from zt_agents.console.parts import Console
from zt_agents.console.passkeys import Passkeys
from zt_agents.decisions import ApprovalTerms, Decision, Outcome, Reason, ReasonCode, ToolCall
from zt_agents.desk import ApprovalDesk
from zt_agents.identity import Agent, ApproverKey, SigningKey, User
from zt_agents.provenance.labels import DataClass, Integrity, Label
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry

DOMAIN = "acme.example"
SPEC = ToolSpec(
    "send_payment",
    Tier.HIGH,
    frozenset({Effect.MONEY}),
    "bank",
    "account/{args.to}",
    destinations=("to",),
    content=("note",),
)
HELPDESK = Agent("helpdesk", "spiffe://acme.example/helpdesk", "1.4", "dana@acme.example", "answers tickets")
ALICE = User("alice@acme.example", "Alice", ("hr",), ("clerk",))
ARGUMENTS = {"to": "DE02 1203 0000 0000 2020 51", "amount": 1280.5, "note": "Invoice 2291, June"}


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Reception:
    """Everything but the browser."""

    def __init__(
        self, folder: Path, *, origin: str = "http://localhost:8765", conditions: Any = None, **parts: Any
    ) -> None:
        self.clock = Time()
        self.key = SigningKey.generate()
        self.store = SqliteApprovalStore(folder / "approvals.db")
        self.registry = SqliteApproverRegistry.beside(self.store.path, create=True)
        self.authority = approver_authority(DOMAIN, self.key)
        proofs = answer_proofs(DOMAIN, self.key, self.registry, conditions)
        assert proofs.factors is not None
        self.factors = proofs.factors
        self.desk = ApprovalDesk(
            store=self.store,
            proofs=proofs,
            channel=None,
            clock=self.clock,
            retention=float("inf"),
        )
        self.origin = Origin.parse(origin)
        self.passkeys = Passkeys(
            factors=self.factors,
            authority=self.authority,
            registry=self.registry,
            origin=self.origin,
            clock=self.clock,
        )
        self.console = Console(
            desk=self.desk,
            passkeys=self.passkeys,
            logins=Logins(self.authority, self.registry, self.origin),
            origin=self.origin,
            clock=self.clock,
            **parts,
        )
        self.app = application(self.console)

    def approver(self, name: str, *groups: str, valid: int = 86_400) -> ApproverKey:
        key, now = SigningKey.generate(), self.clock()
        credential = self.authority.issue(name, groups=groups, key=key, now=now, valid=valid)
        made = ApproverKey(credential, key)
        self.registry.add(Enrolled(made.credential_id, name, "credential", credential, now))
        return made

    def ask(
        self,
        *terms: ApprovalTerms,
        arguments: Mapping[str, Any] = ARGUMENTS,
        intent: str = "Please pay the June invoice of Meyer & Sons, it is overdue.",
        timeout: float = 600,
        **changes: Any,
    ) -> ApprovalRequest:
        """Keep a request as a guard would, and return it."""
        call = ToolCall(
            "send_payment",
            SPEC,
            arguments,
            HELPDESK,
            ALICE,
            session_id="s",
            intent=intent,
            task="t",
            resource="account/meyer",
            label=Label(Integrity.UNTRUSTED, DataClass.CONFIDENTIAL),
            time=self.clock(),
            environment="production",
        )._replace(**changes)
        reason = Reason(ReasonCode.RULE, "Payments above 1,000 need a human.", "large-payments")
        terms = terms or (ApprovalTerms(timeout=int(timeout)),)
        decision = Decision("d", Outcome.REQUIRE_APPROVAL, call.tool, Tier.HIGH, (reason,), terms=terms)
        asked = replace(request_approval(call, decision, timeout=timeout), signer=self.desk.signer.id)
        self.store.put(asked)
        return asked

    def say(self, asked: ApprovalRequest, who: str, approved: bool = True, comment: str = "") -> None:
        assert self.desk.file(Answer(asked.binding_hash, approved, who, comment)) is None

    def browser(self, **headers: str) -> Browser:
        return Browser(self, headers)


class Browser:
    """A client with the headers and cookies that a browser would send from a page of the console's own."""

    def __init__(self, reception: Reception, headers: Mapping[str, str]) -> None:
        self.reception = reception
        self.origin = reception.origin.text
        transport = httpx.ASGITransport(app=reception.app, raise_app_exceptions=True, client=("192.0.2.7", 40000))
        self.client = httpx.AsyncClient(
            transport=transport, base_url=self.origin, headers={"sec-fetch-site": "same-origin", **headers}
        )
        self.csrf = ""

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    @property
    def number(self) -> str:
        """What the session's cookie holds."""
        (cookie,) = self.client.cookies.jar
        return cookie.value or ""

    @number.setter
    def number(self, value: str) -> None:
        self.client.cookies.clear()
        self.client.cookies.set(self.reception.console.cookie, value, domain=f"{self.reception.origin.name}.local")

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, **options)

    async def post(self, path: str, headers: Mapping[str, str] | None = None, **fields: str) -> httpx.Response:
        own = {"origin": self.origin, "content-type": "application/x-www-form-urlencoded"}
        return await self.client.post(path, data=fields, headers={**own, **(headers or {})})

    async def sign_in(self, key: ApproverKey) -> httpx.Response:
        token = key.login(self.origin, now=self.reception.clock())
        answer = await self.post("/login", token=token)
        if answer.status_code == 204:
            page = (await self.get("/account")).text
            self.csrf = re.search(r'name="csrf" value="([^"]+)"', page)[1]  # type: ignore[index]
        return answer

    async def answer(self, asked: ApprovalRequest, approved: str = "yes", **changes: str) -> httpx.Response:
        fields = {"csrf": self.csrf, "binding": asked.binding_hash, "approved": approved, **changes}
        return await self.post(f"/requests/{asked.id}/answer", **fields)


MakeReception = Callable[..., Reception]
