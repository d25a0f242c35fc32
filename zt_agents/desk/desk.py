"""Takes a held call from the question to a grant that was used: asks, waits for answers, verifies, consumes.

Rules:

1. A request is kept in the store before anybody is asked, and under its binding hash: the same call made again, by a
   resumed graph, another worker or a replayed checkpoint, finds what was said about it.
2. Every answer is filed signed, and only answers that are proven are ruled on (:mod:`zt_agents.desk.answers`).
3. A grant is verified and consumed before the body, once, whoever else holds it; and its answers are ruled on again
   then, for the call as the guard knows it: the store is not asked who owns an agent, and a no that came just before
   the grant is still final.
4. Who can write the store can take an approval away, and cannot make one. What is the store's word:

   - that an approval is used once, and when a call was first asked about: a yes to this very call can be counted again;
   - that nobody said no;
   - when somebody was told: silence can be counted of people who were not. Whoever waits for it waits for all of it, by
     the guard's own clock;
   - comments, and the arguments that an approver wants instead: a call with those is decided like any of a model's.
5. A store that cannot be used is a refusal. A framework's way to pause is control flow: the request stays pending.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from zt_agents._internal.canonical import digest, encode
from zt_agents._internal.clock import Clock
from zt_agents.approvals import (
    Answer,
    ApprovalRequest,
    ApprovalState,
    ApprovalStore,
    Channel,
    Deferred,
    DeferringChannel,
    DurableChannel,
    StoredApproval,
    binding_hash,
    count,
    filed_as,
    turn,
)
from zt_agents.decisions import Approval, Reason, ReasonCode, ToolCall
from zt_agents.desk.answers import AnswerDesk, denial_among, who_approved
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.errors import ConfigurationError, IdentityError, StoreError

Said = tuple[Answer | None, Exception | None]
"""What a channel answered, or how it failed."""
Suspends = Callable[[BaseException], bool]


class Ruling(NamedTuple):
    """How a request ended."""

    request: ApprovalRequest
    """As it was first asked."""
    refusal: Reason | None
    approvers: tuple[str, ...] = ()
    """Who said yes; or who said no."""
    state: ApprovalState = ApprovalState.FAILED
    answers: tuple[Answer, ...] = ()
    """All that count."""

    @property
    def approvals(self) -> tuple[Approval, ...]:
        """What goes on record of the answers."""
        return tuple(
            Approval(
                approver=answer.approver,
                answer="yes" if answer.approved else "no",
                proof=answer.known,
                second_factor=answer.shown,
                standing=answer.standing.id if answer.standing is not None else "",
                evidence=digest(encode([answer.proof, answer.factor])).hex(),
            )
            for answer in self.answers
        )


Steps = Generator[ApprovalRequest, Said, Ruling]


class ApprovalDesk(AnswerDesk):
    """The one place where a request becomes a grant that is used. Safe to share between threads and processes."""

    def __init__(
        self,
        *,
        store: ApprovalStore,
        proofs: AnswerProofs,
        channel: Channel | None,
        clock: Clock,
        retention: float,
    ) -> None:
        super().__init__(store=store, proofs=proofs, clock=clock)
        self.channel = channel
        self._retention = retention
        if isinstance(channel, DurableChannel):
            channel.bind(self)

    def turn(self, call: ToolCall) -> str:
        """Return in which turn *call* is made where nobody waits: a new one when what was said about it was used up.

        Raises:
            StoreError: the store cannot be used.
        """
        if not isinstance(self.channel, DeferringChannel):
            return ""

        def kept(number: int) -> StoredApproval | None:
            return self.store.find(binding_hash(call, nonce=turn(number)))

        beyond = 1
        while kept(beyond - 1) is not None:
            beyond *= 2
        new = bisect.bisect_left(range(beyond), True, key=lambda number: kept(number) is None)
        last = kept(new - 1) if new else None
        return turn(new if last is None or self._used_up(self._settled(last)) else new - 1)

    def _used_up(self, stored: StoredApproval) -> bool:
        """Return whether nothing can come of *stored* any more. A no is never used up, nor is that it was withdrawn."""
        if stored.state is not ApprovalState.APPROVED:
            return stored.state in (ApprovalState.EXPIRED, ApprovalState.FAILED)
        try:
            self.signer.verify_grant(stored.grant, now=self._clock())
        except IdentityError:
            return True
        return stored.consumed_at is not None

    # -- asking ---------------------------------------------------------------------------------------------------

    def ask(self, request: ApprovalRequest, suspends: Suspends) -> Ruling:
        """Ask until *request* is settled. Raises only what *suspends* recognises, and what ends the program."""
        channel = self.channel
        if channel is None:
            return _no_channel(request)
        steps = self._steps(request)
        said: Said | None = None
        try:
            while True:
                asked = _advance(steps, said)
                if isinstance(asked, Ruling):
                    return asked
                try:
                    said = channel.ask(asked), None
                except Exception as error:  # a channel may fail in any way: each means "not approved"
                    if suspends(error):
                        raise
                    said = None, error
        except StoreError as error:
            return _unreachable(request, error)

    async def aask(self, request: ApprovalRequest, suspends: Suspends) -> Ruling:
        """The async twin of :meth:`ask`."""
        channel = self.channel
        if channel is None:
            return _no_channel(request)
        steps = self._steps(request)
        said: Said | None = None
        try:
            while True:
                asked = await asyncio.to_thread(_advance, steps, said)
                if isinstance(asked, Ruling):
                    return asked
                try:
                    async with asyncio.timeout(max(0.0, asked.expires_at - self._clock())):
                        said = await channel.aask(asked), None
                except Exception as error:  # as in ask()
                    if suspends(error):
                        raise
                    said = None, error
        except StoreError as error:
            return _unreachable(request, error)

    def _steps(self, request: ApprovalRequest) -> Steps:
        """Yield the request each time somebody has to be asked; takes what came of it."""
        now = self._clock()
        self.store.purge(before=now - self._retention)
        stored = self.store.put(replace(request, signer=self.signer.id))
        if stored.state is ApprovalState.PENDING and stored.request is not None:
            stored = self._approved_in_advance(_as_made(stored.request, request), stored)
        stored = self._settled(stored)
        if stored.request is None:
            refusal = Reason(ReasonCode.REPLAY, "It was decided long ago; what was decided is no longer kept.")
            return Ruling(request, refusal)
        first = stored.request
        if stored.state is not ApprovalState.PENDING and isinstance(self.channel, DurableChannel):
            self.channel.again(first)
        why = "Nobody answered the request for approval."
        failure: Exception | None = None
        while stored.state is ApprovalState.PENDING:
            if not isinstance(self.channel, DurableChannel):
                self.notice(first.id)
            answer, failure = yield first
            counted = False
            if isinstance(failure, Deferred):
                text = "A human has been asked and has not answered yet."
                return Ruling(first, Reason(ReasonCode.PENDING, text), state=ApprovalState.PENDING)
            if isinstance(failure, ConfigurationError):
                why = failure.message
            elif failure is not None:
                why = f"Asking for approval failed ({type(failure).__name__})."
            elif answer is not None:
                asked = answer.binding_hash == first.binding_hash
                objected = self.file(answer) if asked else "The answer was given for another call."
                counted = objected is None
                why = objected or why
            stored = self.store.get(first.id) or stored
            stored = self._settled(stored if failure is None else _untold(stored))
            # A durable channel comes back when the request is settled, and any channel when nobody is left to ask.
            if stored.state is ApprovalState.PENDING and not counted:
                stored = self.store.settle(first.id, ApprovalState.FAILED, now=self._clock())
        return self._ruled(first, request, stored if failure is None else _untold(stored), why)

    def _approved_in_advance(self, request: ApprovalRequest, stored: StoredApproval) -> StoredApproval:
        now = self._clock()
        for answer in self.proofs.stand_in(request, now=now):
            self.store.file(request.id, filed_as(request, answer), answer, now=now)
            stored = self._settled(self.store.get(request.id) or stored)
            if stored.state is not ApprovalState.PENDING:
                break
        return stored

    def _ruled(self, request: ApprovalRequest, own: ApprovalRequest, stored: StoredApproval, why: str) -> Ruling:
        known = _as_made(request, own)
        answers = count(known, self._answers(known, stored), now=self._clock(), holds=self.proofs.holds)
        denial = denial_among(answers)
        no = denial.approver if denial is not None else None
        if stored.state is ApprovalState.APPROVED:
            try:
                grant = self.signer.verify_grant(stored.grant, now=self._clock())
            except IdentityError as error:
                code = ReasonCode.REPLAY if stored.consumed_at is not None else ReasonCode.NOT_APPROVED
                return Ruling(request, Reason(code, error.message))
            if (grant.request_id, grant.binding_hash) != (request.id, request.binding_hash):
                return Ruling(request, Reason(ReasonCode.NOT_APPROVED, "The grant was given for another call."))
            if self._ruling(known, stored, answers) is not ApprovalState.APPROVED:
                return Ruling(request, Reason(ReasonCode.NOT_APPROVED, "What was answered does not approve this call."))
            # Before the call is decided again: a grant is used up also by a call that is no longer allowed.
            if not self.store.consume(request.id, now=self._clock()):
                return Ruling(
                    request, Reason(ReasonCode.REPLAY, "It was approved once, and that approval has been used.")
                )
            with suppress(StoreError):  # then the next call is asked about, too
                self.proofs.remember(known, answers, now=self._clock())
            return Ruling(request, None, who_approved(answers), ApprovalState.APPROVED, answers)
        if stored.state is ApprovalState.DENIED:
            verb = "wants other arguments, and did not approve" if denial and denial.edit else "did not approve"
            return Ruling(
                request,
                Reason(ReasonCode.NOT_APPROVED, f"{no or 'An approver'} {verb} it."),
                (no,) if no else (),
                stored.state,
                answers,
            )
        words = {
            ApprovalState.EXPIRED: "The request for approval expired before it was answered.",
            ApprovalState.CANCELLED: "The request for approval was withdrawn.",
        }
        return Ruling(request, Reason(ReasonCode.NOT_APPROVED, words.get(stored.state, why)), state=stored.state)

    def paused(self, error: BaseException) -> None:
        """Tell the channel that a body paused itself, by *error*."""
        if isinstance(self.channel, DurableChannel):
            with suppress(StoreError):
                self.channel.paused(error)

    def release(self, request: ApprovalRequest) -> None:
        """Make a used grant usable again, for a body that paused itself; if that fails, it stays used."""
        try:
            self.store.release(request.id)
        except StoreError:
            return


def _advance(steps: Steps, said: Said | None) -> ApprovalRequest | Ruling:
    try:
        return next(steps) if said is None else steps.send(said)
    except StopIteration as done:
        ruled: Ruling = done.value
        return ruled


def _as_made(first: ApprovalRequest, own: ApprovalRequest) -> ApprovalRequest:
    """Return *first* for the call as the guard knows it; when it was first asked about, it does not know."""
    return replace(first, call=own.call._replace(time=first.call.time), decision=own.decision)


def _untold(stored: StoredApproval) -> StoredApproval:
    """Return *stored* where its channel has failed: whom it did not reach has not kept silent."""
    return replace(stored, noticed_at=None)


def _no_channel(request: ApprovalRequest) -> Ruling:
    text = "A human must approve it and no approval channel is configured."
    return Ruling(request, Reason(ReasonCode.NO_CHANNEL, text))


def _unreachable(request: ApprovalRequest, error: StoreError) -> Ruling:
    return Ruling(request, Reason(ReasonCode.NOT_APPROVED, error.message))
