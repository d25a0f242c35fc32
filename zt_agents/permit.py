"""What the body of a governed call holds: the proof that it may be there, and what it may ask for meanwhile.

Rules:

1. A permit is current while its call's body runs, in the contexts in which that runs, and at no other time.
2. What it lends (secrets, tokens) it lends to a body that runs, and looks at the session again before it does.
3. Deeper layers of the same tool pass on it once each: the call was decided, recorded and traced already.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from contextvars import ContextVar, Token

from zt_agents._internal.canonical import digest
from zt_agents.credentials.secrets import Secret
from zt_agents.decisions import Outcome, Reason
from zt_agents.errors import AccessDeniedError, CredentialError
from zt_agents.identification import identify
from zt_agents.identity.principals import Agent
from zt_agents.invocation import Invocation
from zt_agents.lending.call_tokens import call_token
from zt_agents.lending.provider_tokens import exchanged_token
from zt_agents.lending.secrets import Lending
from zt_agents.trail import CallTrail

_permit: ContextVar[Permit | None] = ContextVar("zt_agents_permit", default=None)
_descent = threading.Lock()
"""Held while a permit is passed on to a deeper layer, or first asked for a secret: maybe in several threads."""


def current_call() -> Permit | None:
    """Return the permit of the governed call whose body this is, or None outside of one."""
    return _permit.get()


class Permit(CallTrail):
    """One call that was decided, as its body sees it."""

    __slots__ = ("_open", "_reset", "layer")

    def __init__(self, invocation: Invocation, *, layer: int = 0) -> None:
        super().__init__(invocation)
        self.layer = layer
        """How deep in the tool the call was caught; deeper layers of the same call pass on this permit."""
        self._open = False
        """The body is running, or is a stream that has not ended."""
        self._reset: Token[Permit | None] | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 over the canonical arguments."""
        return digest(self._encoded)

    @property
    def running(self) -> bool:
        """Whether the body is running, or is a stream that has not ended."""
        return self._open

    @property
    def name(self) -> str:
        """What this call has in common with its repetition after a pause, and with no other call."""
        return f"{self._call_id} {self.tool.name} {self.digest.hex()}" if self._call_id else self.decision.id

    def descend(self, layer: int) -> bool:
        """Let a deeper gate of the same call pass on this permit: once per layer, while the body runs."""
        with _descent:
            if not self._open or self.layer >= layer:
                return False
            self.layer = layer
            return True

    def secret(self, name: str) -> Secret:
        """Return a secret that the policy lends this tool: in its body, while that runs. This may wait for a network.

        Raises:
            CredentialError: it is not for this tool, or not now, or the session is no longer good.
            SecretUnavailableError: it could not be fetched.
        """
        return self._lend(name, here=self._is_here())

    async def asecret(self, name: str) -> Secret:
        """The async twin of :meth:`secret`."""
        return await asyncio.to_thread(self._lend, name, here=self._is_here())

    def secrets_environment(self, names: Iterable[str]) -> dict[str, str]:
        """Return secrets as variables for the environment of a subprocess, and of that alone.

        Raises:
            CredentialError: as for :meth:`secret`.
            SecretUnavailableError: as for :meth:`secret`.
        """
        secrets = [self.secret(name) for name in names]
        return self._lending.environment(secrets) if self._lending is not None else {}

    def _is_here(self) -> bool:
        return self._open and _permit.get() is self

    def _lend(self, name: str, *, here: bool) -> Secret:
        with _descent:
            if self._lending is None:
                self._lending = Lending(self._guard)
        return self._lending.lend(self, name, here=here)

    def token(
        self, *, audience: str, key_thumbprint: str = "", certificate_thumbprint: str = "", ttl: int = 60
    ) -> str:
        """Return a new CallToken: the credential of this call, for one service and one request.

        Args:
            audience: URI of the service, as the policy names it for this tool (``tools.NAME.audiences``).
            key_thumbprint: RFC 7638 thumbprint of the key that it is bound to (DPoP).
            certificate_thumbprint: of the client certificate that it is bound to instead (RFC 8705).
            ttl: seconds, at most 60, that it is good for; never longer than the session.

        Raises:
            CredentialError: the body is not running, the policy names no such service for this tool, or the session is
                no longer good.
            ValueError: *ttl* is out of bounds, or there are two thumbprints.
        """
        if not self._open:
            raise CredentialError("The call's body is not running.", hint="Ask for a token inside of the tool's body.")
        bound = {"key_thumbprint": key_thumbprint, "certificate_thumbprint": certificate_thumbprint}
        return call_token(self._guard, self, self._encoded, audience=audience, ttl=ttl, **bound)

    def idp_token(self, *, audience: str, scopes: Iterable[str] = ()) -> str:
        """Return the identity provider's own token for a back end, on behalf of the user. This waits for the provider.

        Args:
            audience: what the provider calls the back end, as the policy names it for this tool
                (``identity_provider.exchange``).
            scopes: what the token is for, of what the policy names; the provider's default if there are none.

        Raises:
            CredentialError: it is not for this tool, or not now; or the session was opened without an access token.
            ConfigurationError: the agent is not registered with the provider.
            IdentityError: the user's token is no longer good, or the provider refuses.
        """
        return exchanged_token(self._guard, self, audience=audience, scopes=scopes, here=self._is_here())

    async def aidp_token(self, *, audience: str, scopes: Iterable[str] = ()) -> str:
        """The async twin of :meth:`idp_token`."""
        here = self._is_here()
        return await asyncio.to_thread(
            exchanged_token, self._guard, self, audience=audience, scopes=scopes, here=here
        )
    def check(self) -> None:
        """Check that the session is still good: it may have ended, or been revoked, since the call was decided.

        Done before each step of a stream; a body that runs for long does it itself now and then.

        Raises:
            AccessDeniedError: it is not; already recorded.
        """
        refusal = self._identify()[1]
        if refusal is not None:
            self.decision = self.decision._replace(outcome=Outcome.DENY, reasons=(refusal, *self.decision.reasons))
            self._open_span()
            self._append_decision()
            raise AccessDeniedError(self.decision)
    def _identify(self) -> tuple[Agent | None, Reason | None]:
        return identify(self._guard, self.session, now=self._guard.clock())
    # -- making it current ----------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Make this permit and its span current."""
        if self._span is not None:
            self._span.attach(self._guard.baggage(self.session))
        self._reset = _permit.set(self)

    def pause(self) -> None:
        """Undo :meth:`resume`, in the same context."""
        reset, self._reset = self._reset, None
        if reset is not None:
            try:
                _permit.reset(reset)
            except ValueError:
                # A coroutine that was dropped is closed in any context; the one it ran in is gone with what was
                # attached to it.
                if self._span is not None:
                    self._span.forget()
        if self._span is not None:
            self._span.detach()
