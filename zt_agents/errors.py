"""Every exception zt_agents raises, in one tree.

::

    ZeroTrustError                      .code .hint .details
    ├── ConfigurationError              start-up only: nothing has been governed yet
    │   ├── PolicyFileError             .problems: each with file, line, column
    │   └── MissingExtraError           an optional dependency is not installed
    ├── IdentityError                   who is asking could not be established
    │   ├── TokenInvalidError           malformed, forged, wrong type, issuer or audience
    │   ├── TokenExpiredError
    │   ├── TokenRevokedError
    │   ├── LoginRequiredError          .challenge: the user has to log in, again or more strongly
    │   ├── IdentityProviderError       .error: it cannot be asked, or refuses
    │   ├── CertificateRefusedError     .reason: a peer's certificate proves nobody
    │   ├── UnknownAgentError
    │   ├── AgentInactiveError          not activated, suspended, retired, or its owner is gone
    │   ├── ScopeError                  a task's scope names what is not there, or asks for more than there is
    │   └── DelegationError             an agent may not hand its task on to that one
    ├── AgentChangeError                a change of an agent that may not be: another's id, not its owner, not as shown
    ├── AccessDeniedError               .decision: the one most callers catch
    │   └── EnforcementUnavailableError the guard itself failed; the body did not run
    ├── CredentialError                 a credential of a call cannot be had where, or for what, it was asked
    │   ├── SecretUnavailableError      .reason: it is the tool's, and could not be fetched
    │   └── CallTokenError              .reason: refused by the service that it was presented to
    ├── ArgumentsError                  arguments that cannot be decided on: cyclic, too deep, too large, NaN ...
    ├── SealError                       a sealed tool was tampered with, or comes without its guard
    ├── AuditError
    │   ├── AuditWriteError             the record could not be made durable
    │   └── AuditIntegrityError         the log does not prove itself
    └── StoreError                      a store could not be reached or opened

``str(error)`` is for the operator: what was refused, why, the way out. :meth:`ZeroTrustError.message_for_model`
is for the model: no rule ids, no thresholds, no names of other tools. None of these derives from a built-in
exception that frameworks swallow (``NotImplementedError``, ``ValueError``, ``PermissionError``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from zt_agents.decisions import Decision


class ZeroTrustError(Exception):
    """Root of the tree."""

    code: ClassVar[str] = "error"
    """Stable, machine-readable name of this kind of error."""

    def __init__(self, message: str, *, hint: str | None = None, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        """The way out, one sentence, or None."""
        self.details = details or {}
        """Facts behind the message, without arguments, results or secrets."""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def message_for_model(self) -> str:
        """Return what a language model may read about this error."""
        return "This tool call could not be completed. Do not repeat it."


class ConfigurationError(ZeroTrustError):
    """The guard refuses to start, or a tool refuses to be protected."""

    code = "configuration"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a policy file."""

    file: str
    line: int
    """1-based; 0 when the mistake has no line (a file that cannot be read)."""
    column: int
    """1-based, counted in characters."""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"


class PolicyFileError(ConfigurationError):
    """A policy file has mistakes: all of them, in the order of the file."""

    code = "policy_file"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} mistake{'s' if count != 1 else ''} in the policy file; nothing was loaded."
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class MissingExtraError(ConfigurationError):
    """An optional dependency is missing."""

    code = "missing_extra"

    def __init__(self, *, module: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {module!r}, which is not installed.",
            hint=f'Install it with: python -m pip install "zt-agents[{extra}]"',
            details={"module": module, "extra": extra},
        )


class IdentityError(ZeroTrustError):
    """Who is asking could not be established. Inside a governed call this becomes a denial."""

    code = "identity"


class TokenInvalidError(IdentityError):
    """A token is malformed, forged, of another type, or meant for somebody else."""

    code = "token_invalid"


class TokenExpiredError(IdentityError):
    """A token was good and no longer is."""

    code = "token_expired"


class TokenRevokedError(IdentityError):
    """A token, or something that it says, was taken back before it expired."""

    code = "token_revoked"


class LoginRequiredError(IdentityError):
    """Nobody has logged in, or not lately or strongly enough."""

    code = "login_required"

    def __init__(self, message: str, *, hint: str | None = None, challenge: dict[str, Any] | None = None) -> None:
        super().__init__(message, hint=hint, details=challenge)
        self.challenge = challenge or {}
        """What to ask the identity provider for: ``acr_values``, ``max_age`` (RFC 9470, section 3)."""


class IdentityProviderError(IdentityError):
    """The identity provider cannot be asked, answers something else than it may, or refuses."""

    code = "identity_provider"

    def __init__(self, message: str, *, error: str) -> None:
        super().__init__(message, details={"error": error})
        self.error = error
        """Its OAuth error code (RFC 6749, section 5.2), or a word of ours: unreachable, answer, issuer ..."""


class CertificateRefusedError(IdentityError):
    """A certificate does not prove who its holder is."""

    code = "certificate_refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, details={"reason": reason})
        self.reason = reason
        """One word: missing, malformed, expired, not_yet_valid, weak_key, identity, trust_domain, authority ..."""


class UnknownAgentError(IdentityError):
    """The registry has no agent of this name."""

    code = "unknown_agent"


class AgentInactiveError(IdentityError):
    """The agent is not activated, suspended or retired, or its owner is gone."""

    code = "agent_inactive"


class ScopeError(IdentityError):
    """The scope of a task names what the policy does not have, or asks for more than the session has."""

    code = "scope"


class DelegationError(IdentityError):
    """The policy does not let this agent hand its task on to that one, or no further."""

    code = "delegation"


class AgentChangeError(ZeroTrustError):
    """An agent was not changed: the id is another's, whoever asks is not its owner, or there is nothing to change."""

    code = "agent_change"


class AccessDeniedError(ZeroTrustError):
    """A tool call was refused and its body did not run.

    :attr:`decision` holds the whole answer: outcome, tier and the reasons, each with what held and what did not.
    """

    code = "access_denied"

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(decision.explain(), details={"decision_id": decision.id, "tool": decision.tool})

    def message_for_model(self) -> str:
        """Return what a language model may read about the denial: what was refused, and none of the policy."""
        return self.decision.message_for_model()

    def __repr__(self) -> str:
        # Frameworks show repr() of an exception to the model (ToolNode(handle_tool_errors=True)), also where it comes
        # from a tool inside the one that the model knows.
        return f"{type(self).__name__}({self.decision.message_for_model(named=False)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.decision,))


class ApprovalPendingError(AccessDeniedError):
    """A human was asked and has not answered yet: the body did not run, and the same call can be made again later."""

    code = "approval_pending"

    @property
    def ticket(self) -> str:
        """Id of the request for approval, see :meth:`Guard.approval`."""
        return self.decision.approval_id or ""


class EnforcementUnavailableError(AccessDeniedError):
    """The guard hit a fault of its own: it fails closed, and the cause is chained to this error."""

    code = "enforcement_unavailable"


class CredentialError(ZeroTrustError):
    """A tool's body asked for a credential or a secret outside of its call, or for what its tool may not have."""

    code = "credential"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message_for_model()!r})"  # as for AccessDeniedError


class SecretUnavailableError(CredentialError):
    """A tool's body may have a secret, and could not be lent it; or it holds on to one that was lent to a call."""

    code = "secret_unavailable"

    def __init__(self, name: str, reason: str, message: str) -> None:
        super().__init__(message, details={"secret": name, "reason": reason})
        self.reason = reason
        """One word: missing, refused, unreachable, malformed, unsafe, lease, over, field, fault."""


class CallTokenReason(StrEnum):
    """Why a service refuses a call's token."""

    MISSING = "missing"
    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"
    """Another kind of token."""
    WRONG_ALGORITHM = "wrong_algorithm"
    """The header says another algorithm than the key has."""
    UNKNOWN_KEY = "unknown_key"
    UNKNOWN_ISSUER = "unknown_issuer"
    BAD_SIGNATURE = "bad_signature"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_TOOL = "wrong_tool"
    OTHER_ARGUMENTS = "other_arguments"
    REPLAYED = "replayed"
    """It was admitted as often as it may be."""
    REVOKED = "revoked"
    UNBOUND = "unbound"
    """The service wants tokens that are bound to a key or a certificate, and this one is not."""
    DPOP_MISSING = "dpop_missing"
    DPOP_WRONG = "dpop_wrong"
    CERTIFICATE_WRONG = "certificate_wrong"
    """It is bound to another client certificate than the connection has, if it has one."""
    UNAVAILABLE = "unavailable"
    """Keys, revocations or what was admitted before cannot be looked up: nothing is wrong with the token."""


class CallTokenError(CredentialError):
    """A service refused the token of a call. Neither the message nor :attr:`details` holds any of the token."""

    code = "call_token"

    def __init__(self, reason: CallTokenReason, message: str) -> None:
        super().__init__(message, details={"reason": str(reason)})
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.reason, self.message))


class ArgumentsError(ZeroTrustError):
    """Arguments that have no canonical form, so that nobody could decide on them or bind an approval to them."""

    code = "arguments"


class SealError(ZeroTrustError):
    """A sealed tool was changed after sealing, or lost its guard (by pickling, for example)."""

    code = "seal"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message_for_model()!r})"  # as for AccessDeniedError


class AuditError(ZeroTrustError):
    """The audit log cannot do what it promises."""

    code = "audit"


class AuditWriteError(AuditError):
    """A record could not be made durable."""

    code = "audit_write"


class AuditIntegrityError(AuditError):
    """The log was changed: records are missing, altered, reordered or inserted."""

    code = "audit_integrity"


class StoreError(ZeroTrustError):
    """A store could not be opened, read or written."""

    code = "store"
