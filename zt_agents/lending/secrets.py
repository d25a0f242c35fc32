"""What a running body is lent: the secrets that the policy names its tool with, until the call ends.

Rules:

1. Only the body that runs here and now is lent anything, by its own permit: neither after the call, nor from within a
   call that the body made in turn, nor in a thread that does not know of the call.
2. Whether the tool may have it is the policy's alone to say.
3. Whoever was let in may have been taken back since: the session is identified again, each time.
4. The outcome in the log names what was asked for and what came of it, the span likewise; neither has a value.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING

from zt_agents.credentials.secrets import Secret
from zt_agents.errors import CredentialError, SecretUnavailableError
from zt_agents.identification import identify

if TYPE_CHECKING:
    from zt_agents.guard import Guard
    from zt_agents.permit import Permit

_UNKNOWN = "(unknown)"


class Lending:
    """What one call has asked for. Its methods may be called from several threads of the body."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._broker = guard.secrets
        self._lock = Lock()
        self._lent: dict[str, Secret] = {}
        self._over = False
        self._asked: dict[tuple[str, str], None] = {}

    @property
    def asked(self) -> tuple[tuple[str, str], ...]:
        """(name of a secret, what came of it: lent, refused or the kind of failure), in the order first asked."""
        return tuple(self._asked)

    def lend(self, permit: Permit, name: str, *, here: bool) -> Secret:
        """Return the secret *name*, fetched once for the call. *here* says whether the permit's body is what asks.

        Raises:
            CredentialError: it is not for this tool, or not now, or the session is no longer good.
            SecretUnavailableError: it could not be fetched.
        """
        tool = permit.tool.name
        known = name if self._broker.spec(name) is not None else _UNKNOWN
        if not self._broker.lends(name, tool):
            self._note(permit, known, "refused")
            raise CredentialError(f"The policy lends the secret {known!r} to other tools than {tool!r}, or to none.")
        with self._lock:
            here, before = here and not self._over, self._lent.get(name)
        if not here:
            self._note(permit, known, "refused")
            raise CredentialError(f"The secret {name!r} is lent to the body of a call while it runs, and only there.")
        _, refusal = identify(self._guard, permit.session, now=self._guard.clock())
        if refusal is not None:
            self._note(permit, name, "refused")
            raise CredentialError(f"The session is no longer good. {refusal.text}")
        if before is not None:
            return before
        try:
            lent = self._broker.fetch(name)
        except SecretUnavailableError as error:
            self._note(permit, name, error.reason)
            raise
        with self._lock:
            kept = None if self._over else self._lent.setdefault(name, lent)
        if kept is not lent:  # the call ended meanwhile, or two threads asked at once
            self._broker.take_back([lent])
        if kept is None:
            raise CredentialError(f"The call ended while the secret {name!r} was being fetched.")
        self._note(permit, name, "lent")
        return kept

    def environment(self, secrets: Iterable[Secret]) -> dict[str, str]:
        """Return *secrets* as environment variables of a subprocess."""
        variables = {}
        for secret in secrets:
            spec = self._broker.spec(secret.name)
            assert spec is not None
            for field in secret.fields:
                suffix = f"_{field.upper()}" if len(secret.fields) > 1 else ""
                variables[f"{spec.variable}{suffix}"] = secret.reveal(field)
        return variables

    def end(self) -> None:
        """Take back what was lent, for good."""
        with self._lock:
            self._over = True
            lent, self._lent = tuple(self._lent.values()), {}
        self._broker.take_back(lent)

    def _note(self, permit: Permit, name: str, what: str) -> None:
        self._asked[name, what] = None
        permit.note_secret(name, what)

