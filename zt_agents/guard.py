"""The guard: stands in front of every tool and lets a body run only on an explicit ALLOW.

::

    guard = Guard.from_config("zt-agents.yaml")
    tools = guard.protect(tools)
    with guard.session(agent="helpdesk", on_behalf_of=user, intent=prompt):
        agent.invoke({"messages": [("user", prompt)]})

What happens to a call is in ``funnel``; here is what it is made of.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zt_agents._internal.adapters import adapter_for, adapter_module
from zt_agents._internal.canonical import KeyedHash
from zt_agents._internal.clock import Clock, system_clock
from zt_agents._internal.login import login
from zt_agents.approvals import ApprovalState, ApprovalStore, Channel
from zt_agents.audit import AuditLog
from zt_agents.audit.content import ContentKeeper
from zt_agents.audit.records import change_record
from zt_agents.catalog.catalog import Catalog
from zt_agents.catalog.fingerprints import fingerprint
from zt_agents.catalog.specs import ToolDescription
from zt_agents.credentials.call_tokens import CallTokenSigner
from zt_agents.credentials.secrets import SecretsBroker
from zt_agents.desk import AnswerProofs, ApprovalDesk
from zt_agents.desk.responses import signed_response
from zt_agents.errors import AuditError, ConfigurationError
from zt_agents.evidence import repeated_attributes, session_attributes, tool_attributes
from zt_agents.identity import Agent, AgentRegistry, BaggageSigner, SigningKey, TokenIssuer, User
from zt_agents.identity.baggage import BAGGAGE_KEY
from zt_agents.identity.lifecycle import AgentStore
from zt_agents.identity.manifests import Manifest, prompt_hash
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.revocations import MemoryRevocations, RevocationStore
from zt_agents.identity.scopes import TaskScope
from zt_agents.invocation import GuardedTool
from zt_agents.people import People
from zt_agents.permit import current_call
from zt_agents.provenance.labels import Label
from zt_agents.sessions.delegation import link, task_scope
from zt_agents.sessions.opening import open_session, session_of
from zt_agents.sessions.session import Session
from zt_agents.telemetry import CallSpan, Meters, Tracing
from zt_agents.telemetry import attributes as names

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from zt_agents.policy import Policy

_DURABLE = 10.0
"""Seconds that a change which lets an agent do more waits for its record to be on disk."""

_PURGED = 1_000
"""Sessions held before those that have expired are dropped."""


def _never(_: BaseException) -> bool:
    return False


class Guard:
    """Built once at start-up. Safe to share between threads and event loops."""

    def __init__(
        self,
        *,
        policy: Policy,
        catalog: Catalog,
        issuer: TokenIssuer,
        audit: AuditLog,
        tracing: Tracing,
        approvals: ApprovalStore,
        proofs: AnswerProofs,
        hash_key: bytes,
        call_tokens: CallTokenSigner,
        revocations: RevocationStore | None = None,
        content: ContentKeeper | None = None,
        baggage: BaggageSigner | None = None,
        channel: Channel | None = None,
        clock: Clock = system_clock,
        meters: Meters | None = None,
        secrets: SecretsBroker | None = None,
        agents: AgentStore | None = None,
        identity_provider: IdentityProvider | None = None,
    ) -> None:
        self.policy = policy
        self.catalog = catalog
        self.registry = AgentRegistry(
            policy.agents,
            store=agents,
            grace=policy.owner_grace,
            environment=policy.environment,
            clock=clock,
            note=self._note,
        )
        self.issuer = issuer
        self.revocations = revocations if revocations is not None else MemoryRevocations()
        """What was taken back, by anybody on this machine; in memory, only by this process."""
        self.audit = audit
        self.tracing = tracing
        self.meters = meters or Meters()
        self.keyed_hash = KeyedHash(hash_key)
        """Hashes arguments and results for logs and spans."""
        self.content = content
        """Says what of calls is kept beside the log; None keeps nothing."""
        self.clock = clock
        self.secrets = secrets or SecretsBroker({})
        """Lends tools' bodies what the policy names them with."""
        self.secrets.kept = self._lease_kept
        self.call_tokens = call_tokens
        self.people = People(identity_provider)
        self._baggage = baggage
        self.desk = ApprovalDesk(
            store=approvals,
            proofs=proofs,
            channel=channel,
            clock=clock,
            retention=policy.approval_retention,
        )
        self._sessions: dict[str, Session] = {}
        """By id, until they end: what a session has seen and done must not depend on who holds on to it."""
        self._purge_at = _PURGED
        self._lock = threading.Lock()

    @classmethod
    def from_config(
        cls,
        path: str | Path,
        *,
        audit_path: str | Path | None = None,
        approvals_path: str | Path | None = None,
        revocations_path: str | Path | None = None,
        signing_key: SigningKey | None = None,
        channel: Channel | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Clock = system_clock,
    ) -> Self:
        """Build a guard from a policy file and the lock file beside it.

        Args:
            path: the policy file.
            audit_path: the audit log; the policy's by default.
            approvals_path: the store of approvals; the policy's by default, or beside *audit_path*. Processes that
                resume each other's calls share it.
            revocations_path: the store of revocations; the policy's by default, or beside *audit_path*. What is revoked
                there, by ``zt-agents revoke`` or another process, is refused here from the next decision on.
            signing_key: signs session tokens. Processes that hand sessions on as tokens share one, or the folder that
                the policy names under ``keys``; by default a new one is made, and tokens are good in this process
                alone.
            channel: how a human is asked; None denies every call that needs one.
            tracer_provider: where spans go; None uses the application's global provider.
            meter_provider: where metrics go; None uses the application's global provider.
            clock: seconds since the epoch.

        Raises:
            PolicyFileError: the policy has mistakes; the error lists all of them.
            ConfigurationError: the lock file or a key file cannot be used.
            StoreError: the audit log, or the store of revocations, cannot be opened.
        """
        # The composition root is above this room; it is named late so that no import points up.
        parts = adapter_module("zt_agents.config").parts_from_file(
            Path(path),
            audit_path=Path(audit_path) if audit_path else None,
            approvals_path=Path(approvals_path) if approvals_path else None,
            revocations_path=Path(revocations_path) if revocations_path else None,
            signing_key=signing_key,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
        )
        return cls(**parts, channel=channel, clock=clock)

    # -- tools ----------------------------------------------------------------------------------------------------

    def protect(self, tools: Any) -> Any:
        """Seal tools in place, so that no path reaches a body without a decision.

        Args:
            tools: a tool, a list or tuple of tools, or a toolkit of a supported framework.

        Returns:
            The same object for a tool or a list; for a toolkit, the list of its tools.

        Raises:
            ConfigurationError: something in *tools* is not a tool this package can seal, two tools share a name, or
                a tool is sealed by another guard.
        """
        return adapter_for(tools).protect(self, tools)

    def enroll(
        self, description: ToolDescription, *, suspends: Callable[[BaseException], bool] = _never
    ) -> GuardedTool:
        """Register a tool as it describes itself now. Used by integrations; users call :meth:`protect`."""
        spec = self.catalog.get(description.name)
        printed = fingerprint(description)
        return GuardedTool(
            guard=self,
            name=description.name,
            spec=spec,
            fingerprint=printed,
            attributes=tool_attributes(description.name, printed, spec),
            standing=self.catalog.compare(description),
            effects=tuple(sorted(spec.effects)) if spec else (),
            label=Label(spec.integrity, spec.data_class) if spec else Label(),
            suspends=suspends,
        )

    # -- agents ---------------------------------------------------------------------------------------------------

    def observe(
        self,
        agent: str,
        *,
        model: str = "",
        prompt: str = "",
        tools: Iterable[ToolDescription] = (),
        integration: str = "",
        session: Session | None = None,
    ) -> None:
        """Say what an agent is made of, so that a change is noticed; ZeroTrustMiddleware does it by itself.

        Args:
            agent: name of a registered agent.
            model: name of its model.
            prompt: its system prompt, less what differs from run to run (a date, the user's name). It is hashed.
            tools: as a model gets to see them.
            integration: the framework with its major and minor version.
            session: that it was seen in; left out, it holds for all that see nothing themselves.

        Raises:
            UnknownAgentError: no such agent.
            ConfigurationError: a tool's description has no canonical form.
            StoreError: it could not be stored; in this process it counts all the same.
        """
        self.seen(
            agent,
            Manifest(
                version=self.registry.get(agent).version,
                environment=self.policy.environment,
                model=model,
                prompt=prompt_hash(prompt),
                tools={tool.name: fingerprint(tool) for tool in tools},
                integration=integration,
            ),
            session,
        )

    def seen(self, agent: str, manifest: Manifest, session: Session | None) -> None:
        """Note that *agent* is what *manifest* says. Used by integrations; users call :meth:`observe`."""
        if session is not None:
            session.see(manifest)
        self.registry.observe(agent, manifest)

    def _note(self, what: str, agent: Agent, facts: Mapping[str, object]) -> None:
        """Put on record what this process did to an agent, or noticed of it."""
        by = "guard" if what == "agent.changed" else f"os:{login()}"
        record = change_record(what, agent.name, by=by, why="", time=self.clock(), id=agent.id, **facts)
        if what == "agent.resumed":  # who may do more, may do so once that is on record
            self.audit.append(record, awaited=True).wait(_DURABLE)
            return
        with suppress(AuditError):  # the log remembers the failure and denies what follows
            self.audit.append(record)

    # -- people ---------------------------------------------------------------------------------------------------

    def user(
        self, *, id_token: str | None = None, nonce: str | None = None, access_token: str | None = None
    ) -> User:
        """Return the user that a token of the identity provider's proves; open a session on behalf of them.

        Args:
            id_token: as the application's own login got it.
            nonce: that this login was asked for with; None where there was none.
            access_token: as it was sent to the application; or, with *id_token*, the one that came with it.

        Raises:
            TokenInvalidError: the token is not good, or not for us.
            TokenExpiredError: it was good.
            LoginRequiredError: the login is too old or too weak; ``.challenge`` says what to ask for.
            IdentityProviderError: the provider's keys cannot be had.
        """
        return self.people.user(id_token=id_token, nonce=nonce, access_token=access_token, now=self.clock())

    async def auser(
        self, *, id_token: str | None = None, nonce: str | None = None, access_token: str | None = None
    ) -> User:
        """The async twin of :meth:`user`: waits for the provider without holding the event loop."""
        return await asyncio.to_thread(self.user, id_token=id_token, nonce=nonce, access_token=access_token)

    # -- sessions -------------------------------------------------------------------------------------------------

    def session(
        self,
        *,
        agent: str,
        on_behalf_of: User | str,
        intent: str = "",
        task: str = "",
        attributes: Mapping[str, Any] | None = None,
        ttl: int | None = None,
        scope: TaskScope | None = None,
        tools: Iterable[str] | None = None,
        resources: Iterable[str] | None = None,
        tenant: str = "",
    ) -> Session:
        """Open a session: *agent* works on one task for one user.

        Args:
            agent: name of a registered, active agent.
            on_behalf_of: the user: authenticated by the application, or as :meth:`user` returned them.
            intent: what the user asked for, in the user's own words.
            task: id of the task; a new one by default.
            attributes: facts about this request for conditions (``context.attributes``), never from a model.
            ttl: seconds until the session expires; the policy's by default. It ends no later than the user's token.
            scope: what the task may touch, within what the policy allows; None is all of that.
            tools: exact names, in place of a *scope*.
            resources: ``ticket/5`` or ``ticket/*``, likewise; see :class:`TaskScope`.
            tenant: whose data it is about, where an organisation serves several (``session.tenant``).

        Raises:
            LoginRequiredError: the policy requires that the user logged in, lately and strongly enough.
            IdentityError: the user's token is not good any more.
            UnknownAgentError: no such agent.
            AgentInactiveError: it is suspended or retired.
            ScopeError: the scope names a tool that the policy does not have.
            TokenRevokedError: the agent, its owner, the user, the task or everything was revoked.
            StoreError: nobody can tell whether they were.
            ValueError: the ids, groups and roles take more room than a token, or agent baggage, has.
        """
        return open_session(
            self,
            agent=agent,
            on_behalf_of=on_behalf_of,
            intent=intent,
            task=task,
            attributes=attributes,
            ttl=ttl,
            scope=task_scope(self, scope, tools, resources),
            tenant=tenant,
        )

    def session_from_token(self, token: str) -> Session:
        """Return the session that *token* proves: open in this process, or in one that shares the signing key.

        A session from another process knows the user's id, groups and roles, but neither attributes nor intent.

        Raises:
            IdentityError: the token is not good, its agent may not act, or something that it says was revoked.
            StoreError: nobody can tell whether it was.
        """
        return session_of(self, token)

    def known(self, session_id: str) -> Session | None:
        """Return the session with this id, if it is open in this process."""
        return self._sessions.get(session_id)

    def admit(self, session: Session) -> Session:
        """Take *session* in, and return the one with its id: two threads may have read the same token."""
        self._describe(session)
        with self._lock:
            if len(self._sessions) >= self._purge_at:
                now = self.clock()
                self._sessions = {key: old for key, old in self._sessions.items() if old.claims.expires_at > now}
                self._purge_at = max(_PURGED, 2 * len(self._sessions))
            return self._sessions.setdefault(session.id, session)

    def _describe(self, session: Session) -> None:
        session.repeated = repeated_attributes(session, self.tracing)
        session.described = session_attributes(session, self.tracing, self.policy)

    def revoke(self, session: Session) -> None:
        """End *session* in this process: from now on each of its calls is denied. :attr:`revocations` is for all."""
        self.issuer.revoke(session.claims, now=self.clock())
        with self._lock:
            self._sessions.pop(session.id, None)

    # -- approvals ------------------------------------------------------------------------------------------------

    def answer(
        self, asked: Mapping[str, Any], response: Mapping[str, Any], *, approver: User | str, factor: str = ""
    ) -> dict[str, Any]:
        """Return *response*, signed: who gave it, and to which question. Resume a graph with it.

        Args:
            asked: the question, which is the value of the graph's interrupt.
            response: LangChain's response to it: ``{"decisions": [{"type": "approve"}]}``, or ``"reject"``.
            approver: who gave it, authenticated by the application. Their groups count where the policy names groups.
            factor: the JSON of a passkey's assertion over
                :func:`zt_agents.identity.approving.passkeys.approval_challenge`.

        Raises:
            ValueError: *asked* is not the question as it was asked by a guard that shares the store; or *approver* is a
                word of the policy.
            StoreError: the store cannot be used.
        """
        named = approver if isinstance(approver, User) else User(approver)
        return signed_response(self.desk, asked, response, named, factor=factor, now=self.clock())

    def approval(self, ticket: str) -> ApprovalState:
        """Return where a request for approval stands, by its id: see :attr:`ApprovalPendingError.ticket`.

        Raises:
            StoreError: the store cannot be used.
        """
        return self.desk.look(ticket)

    # -- evidence -------------------------------------------------------------------------------------------------

    def begin(self, session: Session) -> CallSpan:
        """Note in whose call *session* is entered, and start the ``invoke_agent`` span that its calls hang below.

        Raises:
            ConfigurationError: it is entered in a call of its own, or of a sub-agent of its own.
        """
        permit = current_call()
        caller = outer = permit.session if permit is not None else None
        while outer is not None:
            if outer is session:
                text = "A session cannot be entered within itself."
                raise ConfigurationError(text, hint="Open one session per task.")
            outer = outer.within
        session.within = session.outer if caller is None else caller
        if caller is not None:
            link(session, caller)
            self._describe(session)
        attributes = {names.OPERATION: "invoke_agent", names.PROVIDER: "zt_agents"}
        attributes.update(session.described)
        return self.tracing.start(f"{names.SPAN_INVOKE_AGENT} {session.agent.name}", attributes)

    @property
    def baggage_key(self) -> dict[str, str]:
        """The public key (JWK) by which services verify agents' baggage: see :func:`zt_agents.identity.verify_baggage`.

        Raises:
            ConfigurationError: the policy does not ask for baggage.
        """
        if self._baggage is None:
            raise ConfigurationError("Agents have no baggage here.", hint="In the policy: telemetry: {baggage: true}")
        return self._baggage.jwk

    @property
    def call_keys(self) -> dict[str, Any]:
        """The public keys (a JWK Set) by which services verify calls' tokens: see :mod:`zt_agents.credentials`.

        Raises:
            StoreError: the keys cannot be read.
        """
        return self.call_tokens.jwks(self.clock())

    def baggage(self, session: Session | None) -> Mapping[str, str] | None:
        """Return the entries of baggage that a body of *session* runs with; None where the policy asks for none."""
        if self._baggage is None or session is None:
            return None
        if session.baggage is None:
            session.baggage = {BAGGAGE_KEY: self._baggage.sign(session.claims)}
        return session.baggage

    def _lease_kept(self, name: str) -> None:
        """Record that a secret made for a call could not be taken back after it: it is good until its lease ends."""
        why = "Its source did not take it back when its call had ended."
        with suppress(AuditError):
            self.audit.append(change_record("lease.kept", name, by="zt_agents", why=why, time=self.clock()))

    def close(self) -> None:
        """Take back what was lent, write what is queued and close the audit log. A closed guard denies."""
        self.secrets.close()
        self.audit.close()
        self.people.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
