"""One call's way through the guard: identify, classify, decide, approve, record, run, observe.

Rules:

1. Everything up to the body happens here, in one order, for every framework and for sync and async alike. The two
   ``shells`` only wait: for a human, for the disk, for the body.
2. Nothing but an explicit ALLOW lets the body run. Any failure on the way becomes a denial.
3. A denial is recorded before it is raised.
4. What is decided on is what runs: the arguments were parsed, validated and copied before they came here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from zt_agents._internal.canonical import canonical, encode, encode_result
from zt_agents.approvals import ApprovalRequest, ApprovalState, request_approval
from zt_agents.audit.records import BodyStatus
from zt_agents.catalog.catalog import Standing
from zt_agents.catalog.resources import fill_resource
from zt_agents.catalog.specs import Tier
from zt_agents.decisions import Decision, Outcome, Reason, ReasonCode, ToolCall, new_decision_id
from zt_agents.desk import Ruling
from zt_agents.errors import (
    AccessDeniedError,
    ApprovalPendingError,
    ArgumentsError,
    AuditError,
    EnforcementUnavailableError,
)
from zt_agents.identification import identify
from zt_agents.identity.principals import Agent
from zt_agents.invocation import Invocation
from zt_agents.permit import Permit
from zt_agents.sessions.delegation import outside
from zt_agents.sessions.session import CallEntry, CallKey, CallState
from zt_agents.telemetry import attributes as names

if TYPE_CHECKING:
    from zt_agents.audit.receipts import Receipt


class Replayed(Exception):  # noqa: N818 - control flow: never leaves the guard
    """The call already ran; its recorded result is returned in place of running it again."""

    def __init__(self, result: Any) -> None:
        self.result = result


_ALLOW, _DENY, _REQUIRE_APPROVAL = Outcome  # globals are found faster than attributes of an Enum


class Passage(Permit):
    """One call on its way through the guard, and, inside the body, its permit."""

    __slots__ = ("_grant", "_invocation", "_key", "_waited", "receipt", "request")

    def __init__(self, invocation: Invocation, *, layer: int = 0) -> None:
        super().__init__(invocation, layer=layer)
        self.request: ApprovalRequest | None = None
        """Set while a human has to be asked."""
        self.receipt: Receipt | None = None
        """Set when the record has to be durable before the body runs."""
        self._invocation = invocation
        self._key: CallKey | None = None
        self._grant: ApprovalRequest | None = None
        """The request whose grant this call has used."""
        self._waited = False
        """Somebody else had time to change the arguments."""

    # -- identify, classify, decide -------------------------------------------------------------------------------

    def decide(self) -> None:
        """Answer the question; leaves :attr:`request` set when a human must be asked, and raises on a denial.

        Raises:
            AccessDeniedError: denied; already recorded.
            Replayed: the call ran before.
        """
        earlier: AccessDeniedError | None = None
        try:
            refusal = self._ask()
            self.decision = self._answer(self.call) if refusal is None else self._refused(refusal)
            if self._invocation.refusal is None and self._encoded:
                earlier = self._claim()
            if earlier is None and self.decision.outcome is Outcome.REQUIRE_APPROVAL:
                timeout = self._guard.policy.approval_timeout
                turn = self._guard.desk.turn(self.call)
                request = request_approval(self.call, self.decision, timeout=timeout, turn=turn)
                # Keyed, because it goes into records and spans: who guesses arguments cannot check the guess.
                request_id = self._guard.keyed_hash(request.binding_hash.encode())
                self.decision = self.decision._replace(approval_id=request_id)
                self._open_span()
                span = self._span
                assert span is not None
                self.request = replace(request, id=request_id, trace_id=span.trace_id, span_id=span.span_id)
                self._append_decision()
        except Replayed:
            raise
        except AuditError as error:
            self.unrecorded(error)
        except Exception as error:  # noqa: BLE001 - whatever breaks while deciding, the body does not run
            self.fault(error)
        if earlier is not None:  # a replayed denial: final, and counted once
            raise earlier
        if self.decision.outcome is Outcome.DENY:
            self._deny()

    def _ask(self) -> Reason | None:
        """Build the question. Returns what already speaks against it."""
        guard, invocation, tool = self._guard, self._invocation, self.tool
        now = guard.clock()
        agent, refusal = identify(guard, self.session, now=now)
        if self._call_id is not invocation.call_id:
            refusal = refusal or Reason(ReasonCode.ARGUMENTS, "The call's id is not a short, printable text.")
        arguments: dict[str, Any] = {}
        try:
            arguments = canonical(invocation.arguments)
            self._encoded = encode(arguments)
            self._args_hash = guard.keyed_hash(self._encoded)
            resource = fill_resource(tool.spec.resource, arguments) if tool.spec and tool.spec.resource else ""
        except ArgumentsError as error:
            resource = ""
            refusal = refusal or Reason(ReasonCode.ARGUMENTS, error.message)
        refusal = invocation.refusal or refusal or self._classify()
        session = self.session
        if refusal is None and session is not None and tool.spec is not None:
            refusal = outside(session, tool.spec, resource, arguments)
        self.call = self._question(arguments, resource, agent, now)
        return refusal

    def _question(self, arguments: dict[str, Any], resource: str, agent: Agent | None, now: float) -> ToolCall:
        tool, session, environment = self.tool, self.session, self._guard.policy.environment
        if session is None:
            return ToolCall(
                tool.name,
                tool.spec,
                arguments,
                call_id=self._call_id,
                resource=resource,
                time=now,
                environment=environment,
            )
        return ToolCall(  # in the order of its fields: by their names, it takes three times as long
            tool.name,
            tool.spec,
            arguments,
            agent,
            session.user if agent is not None else None,
            session.id,
            session.intent,
            session.claims.task,
            self._call_id,
            resource,
            session.label,
            now,
            environment,
            session.attributes,
            session.claims.tenant,
            session.chain,
        )

    def _classify(self) -> Reason | None:
        standing = self.tool.standing
        if self.tool.spec is None:
            return Reason(ReasonCode.UNKNOWN_TOOL, f"The catalog has no tool {self.tool.name!r}.")
        if standing is not Standing.ACCEPTED:
            return Reason(
                ReasonCode.DRIFT,
                f"The tool's name, description or parameters are not those that were accepted ({standing}); "
                "review it and run: zt-agents check --accept",
            )
        return None

    def _answer(self, call: ToolCall) -> Decision:
        """Return the policy's answer, which is one of the three outcomes or a fault of the engine."""
        decision = self._guard.policy.engine.decide(call)
        outcome = decision.outcome if type(decision) is Decision else None
        if outcome is not _ALLOW and outcome is not _DENY and outcome is not _REQUIRE_APPROVAL:
            raise TypeError("the policy engine gave no answer")
        if decision.obligations and decision.outcome is not Outcome.DENY:
            text = "It would be allowed under an obligation, and this guard can fulfil none."
            return decision.denied(ReasonCode.FAULT, text)
        return decision

    def _refused(self, reason: Reason) -> Decision:
        policy = self._guard.policy
        return Decision(
            id=new_decision_id(),
            outcome=Outcome.DENY,
            tool=self.tool.name,
            tier=self.tool.spec.tier if self.tool.spec else Tier.HIGH,
            reasons=(reason,),
            policy_id=policy.id,
            policy_version=policy.version,
        )

    def _claim(self) -> AccessDeniedError | None:
        """Make sure that this very call runs at most once. Returns the denial that it has met before."""
        call_id, session = self._call_id, self.session
        if not call_id or session is None:  # some models leave the id empty
            return None
        key = (call_id, self.tool.name, self.digest)
        reads_only = self.tool.spec is not None and self.tool.spec.effects == {"read"}
        before = session.calls.claim(key, again=reads_only)
        if before is None:
            self._key = key
            return None
        if before.denial is not None:
            return type(before.denial)(before.denial.decision)
        self._replay(before)
        return None

    def _replay(self, before: CallEntry) -> None:
        if self.decision.outcome is Outcome.DENY:
            return
        if before.state is CallState.DONE and before.held:
            self.decision = self.decision._replace(
                reasons=(Reason(ReasonCode.REPLAY, "It already ran: its recorded result was returned."),),
            )
            self._append_decision()
            raise Replayed(before.result)
        why = {CallState.RUNNING: "is running", CallState.FAILED: "already ran and failed"}
        text = f"A call with this id and these arguments {why.get(before.state, 'already ran')}."
        self.decision = self.decision.denied(ReasonCode.REPLAY, text)

    # -- approve --------------------------------------------------------------------------------------------------

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Trace the wait for a human."""
        assert self._span is not None
        assert self.request is not None
        self._span.attach()
        try:
            span = self._guard.tracing.start(names.SPAN_APPROVAL, {names.APPROVAL_ID: self.request.id})
            began = time.perf_counter()
            try:
                yield
            except BaseException:
                self._guard.meters.waited(time.perf_counter() - began, "cancelled")
                raise
            finally:
                self._asked = time.perf_counter() - began
                span.end()
        finally:
            self._span.detach()

    def suspended(self) -> None:
        """Record that the framework has paused before the body could begin: it will make the call again."""
        self._release()
        self._body_started = time.perf_counter_ns()
        self._observe(BodyStatus.SUSPENDED)

    def answered(self, ruling: Ruling) -> None:
        """Take the ruling, and decide again: policy, revocation and status may have changed meanwhile.

        Raises:
            ApprovalPendingError: nobody has answered yet, and nobody waits here.
            AccessDeniedError: not approved, or no longer allowed.
        """
        request, refusal = ruling.request, ruling.refusal
        if refusal is not None and refusal.code is ReasonCode.PENDING:
            self._guard.meters.waited(self._asked, str(ruling.state))
            self.suspended()
            raise ApprovalPendingError(self.decision._replace(reasons=(refusal, *self.decision.reasons)))
        asked_in = (request.trace_id, request.span_id)
        try:
            if self._guard.desk.channel is not None:
                self._guard.meters.waited(self._asked, str(ruling.state))
            if self._span is not None and asked_in != (self._span.trace_id, self._span.span_id):
                self._span.link(*asked_in)
            if ruling.state is ApprovalState.CANCELLED:
                refusal = self._identify()[1] or refusal
            if refusal is None:
                identity = self._identify()[1]
                seen = self.session.label if self.session is not None else self.call.label
                again = self._answer(self.call._replace(time=self._guard.clock(), label=seen))
                self._waited = True
                if identity is not None:
                    refusal = identity
                elif again.outcome is Outcome.DENY:
                    refusal = again.reasons[0]._replace(text=f"No longer allowed. {again.reasons[0].text}")
                elif not set(again.terms) <= set(request.terms):
                    refusal = Reason(ReasonCode.NOT_APPROVED, "The policy now asks for other approvers.")
        except Exception as error:  # noqa: BLE001 - see decide()
            self.fault(error)
        by = ", ".join(ruling.approvers)
        said = ruling.approvals
        self.decision = self.decision._replace(approval_id=request.id, approved_by=by or None, approvals=said)
        self.request = None
        if refusal is not None:
            self.decision = self.decision._replace(outcome=Outcome.DENY, reasons=(refusal, *self.decision.reasons))
            self._deny()
        ahead = ", in advance" if ruling.answers and all(each.standing for each in ruling.answers) else ""
        approved = Reason(ReasonCode.APPROVED, f"Approved by {by}{ahead}.")
        self.decision = self.decision._replace(outcome=Outcome.ALLOW, reasons=(approved, *self.decision.reasons))
        self._grant = request

    # -- record ---------------------------------------------------------------------------------------------------

    def record(self) -> None:
        """Record the decision; leaves :attr:`receipt` set when the body has to wait for the disk.

        Raises:
            AccessDeniedError: it could not be recorded.
        """
        try:
            self._open_span()
            self._guard.audit.check()
            durable = self.decision.tier is not Tier.LOW
            receipt = self._append_decision(awaited=durable)
        except AuditError as error:
            self.unrecorded(error)
        except Exception as error:  # noqa: BLE001 - see decide()
            self.fault(error)
        if durable:
            self.receipt = receipt
            self._waited = True

    def durable(self, seq: int) -> None:
        """Note that the record is on disk."""
        if self._span is not None:
            self._span.set({names.AUDIT_SEQ: seq})

    def unrecorded(self, error: Exception) -> NoReturn:
        """Deny because the decision could not be recorded."""
        self.decision = self.decision.denied(ReasonCode.AUDIT, f"The decision could not be recorded: {error}")
        self._deny(cause=error)

    # -- run, observe ---------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Begin the body: this permit and its span become current."""
        spec = self.tool.spec
        if not self.decision.allowed or spec is None:  # checked at each step above; stated here once for all
            self.fault(TypeError("a body was reached without an explicit ALLOW"))
        refusal = self._overtaken() if self._waited else None
        if refusal is not None:
            self.decision = self.decision._replace(outcome=Outcome.DENY, reasons=(refusal, *self.decision.reasons))
            self._deny()
        if self.session is not None:
            # From here on the session counts as having seen what the tool returns, whatever the body does with it.
            self.session.taint(self.tool.label)
        self._open = True
        self.resume()
        self._body_started = time.perf_counter_ns()

    def _overtaken(self) -> Reason | None:
        """Return what happened during a wait that speaks against the body: its session ended, its arguments changed."""
        refusal = self._identify()[1]
        if refusal is None and encode(canonical(self._invocation.arguments)) != self._encoded:
            refusal = Reason(ReasonCode.TAMPERED, "The arguments changed between the decision and the call.")
        return refusal

    def finished(self, result: Any, *, streamed: bool = False) -> None:
        """Record that the body ended well. What was streamed is gone and cannot be returned to a replay."""
        if self._key is not None and self.session is not None:
            self.session.calls.done(self._key, result, held=not streamed)
        encoded = encode_result(result) if not streamed else None
        self._observe(BodyStatus.OK, result=encoded)

    def failed(self, error: BaseException) -> None:
        """Record that the body raised."""
        if self.tool.suspends(error):
            self._release()
            self._guard.desk.paused(error)
            if self._grant is not None:
                self._guard.desk.release(self._grant)
            self._observe(BodyStatus.SUSPENDED)
            return
        if self._key is not None and self.session is not None:
            self.session.calls.failed(self._key)
        status = BodyStatus.ERROR if isinstance(error, Exception) else BodyStatus.CANCELLED
        self._observe(status, error_type=type(error).__name__)

    def abandoned(self) -> None:
        """Record that a stream was dropped before its end."""
        self._observe(BodyStatus.ABANDONED)

    def _observe(self, status: BodyStatus, *, error_type: str = "", result: bytes | None = None) -> None:
        self._open = False
        if self._lending is not None:
            self._lending.end()
        if status is not BodyStatus.SUSPENDED and self.session is not None and self.session.sub_agents.working:
            self.session.sub_agents.end_all(self.name)
        super()._observe(status, error_type=error_type, result=result)

    def _release(self) -> None:
        if self._key is not None and self.session is not None:
            self.session.calls.release(self._key)

    # -- denial ---------------------------------------------------------------------------------------------------

    def fault(self, error: Exception) -> NoReturn:
        """Fail closed on a fault of our own."""
        reason = Reason(ReasonCode.FAULT, f"The guard failed ({type(error).__name__}) and so denies.")
        self.decision = self._refused(reason)
        self._deny(cause=error, kind=EnforcementUnavailableError)

    def _deny(self, *, cause: Exception | None = None, kind: type[AccessDeniedError] = AccessDeniedError) -> NoReturn:
        """Record the denial and raise it."""
        denial = kind(self.decision)
        cause = self._record_denial() or cause
        if self._key is not None and self.session is not None:
            self.session.calls.denied(self._key, denial)
        raise denial from cause

    def cancelled(self, error: BaseException) -> None:
        """Record that the caller went away (cancelled, interrupted) before the body could begin."""
        self._release()
        if hasattr(self, "decision"):
            text = f"The call was given up before it could run ({type(error).__name__})."
            self.decision = self.decision.denied(ReasonCode.CANCELLED, text)
            self._record_denial()
