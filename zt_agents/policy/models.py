"""The shape of a policy file, version 1.

These models say what may be written and nothing about whether it makes sense: references, conditions and
reachability are the loader's. How names and durations are spelled is in ``spelling.py``. No key accepts null, so a
condition left empty is a mistake and not "always". The JSON Schema for editors (``policy.schema.json``) is generated
from here, see ``schema.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from zt_agents.catalog.secret_specs import SecretSource
from zt_agents.catalog.specs import Effect, Tier
from zt_agents.decisions import Outcome, Proof, SecondFactor
from zt_agents.identity.principals import AgentStatus, OnChange
from zt_agents.identity.provider.terms import AccessTokenKind, UserClaim
from zt_agents.policy.spelling import (
    AgentName,
    AgentReference,
    Approver,
    ArgumentName,
    Audience,
    Condition,
    Duration,
    Excluded,
    LongDuration,
    Period,
    ProviderText,
    RuleId,
    SecretName,
    ShortDuration,
    Source,
    Text,
    ToolName,
    ToolPattern,
    ToolReference,
    TrustDomain,
    Variable,
)
from zt_agents.provenance.labels import DataClass, Integrity

EVERY = "*"
"""Stands alone in a rule's list, for every agent or every tool of this policy."""


def _whole_number(value: Any) -> Any:
    if type(value) is not int:  # True == 1.0 == 1, and Literal compares
        raise ValueError("this must be the number 1")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class SessionSection(_Section):
    """What holds for every session."""

    ttl: Duration = "15m"
    """How long a session lasts: 30s, 15m; at most 1h."""


class EscalateSection(_Section):
    """Whom to ask besides, when nobody has answered for a while."""

    after: Duration
    """How long the others have time first."""
    to: Annotated[list[Approver], Field(min_length=1)]
    """Like approvers."""


class StandingSection(_Section):
    """How far somebody may approve calls in advance: zt-agents approvals ahead."""

    uses: Annotated[int, Field(ge=1, le=1000)]
    """For how many calls at most."""
    within: LongDuration
    """For how long at most; at most 24h."""


class RuleApprovals(_Section):
    """Who approves what one rule holds; what is not said here is as for every approval."""

    approvers: Annotated[list[Approver], Field(min_length=1)] = ["anyone"]
    """Who may say yes: user:ID, group:NAME, owner (of the agent), anyone (whom the channel can name).

    The user on whose behalf the agent acts never may, unless session-user is in the list."""
    quorum: Annotated[int, Field(ge=1, le=20)] = 1
    """How many different people have to say yes. One no is final."""
    timeout: Duration = "2m"
    """How long they have; no answer means no. At most 1h."""
    proof: Annotated[Proof, Field(strict=False)] = Proof.ATTESTED
    """How it has to be known who they are. attested: whoever holds the guard's signing key says so. credential: they
    sign with a key of their own, see zt-agents approvers add."""
    second_factor: Annotated[SecondFactor, Field(strict=False)] = SecondFactor.NONE
    """What they show besides: totp (a one-time code), passkey (WebAuthn, over the very call), any of the two, none."""
    exclude: list[Excluded] = []
    """Who may not, whatever else they are: owner (of the agent), user:ID, group:NAME."""
    when: Condition = ""
    """CEL condition on whoever says yes: over approver.id, approver.groups and what rules see but for attributes."""
    escalate: EscalateSection = Field(default=None)  # type: ignore[assignment] # nobody, and still null is refused
    """Whom to ask besides, and after how long."""
    standing: StandingSection = Field(default=None)  # type: ignore[assignment] # likewise
    """Whether calls may be approved in advance; they may not, unless this says how many and for how long."""
    grace: Duration = ""
    """After how long without a no, since somebody was told, a call runs; never, if left out, nor in the high tier."""
    remember: Literal["nothing", "session"] = "nothing"
    """Whether a yes counts for the rest of the session, for the same tool and resource; never in the high tier."""


class ApprovalsSection(RuleApprovals):
    """What holds for every approval."""

    retention: Duration = "1h"
    """How long arguments and answers are kept after a decision. At most 1h."""
    path: Text = "zt-agents-approvals.db"
    """The store of approvals, relative to the folder of the policy file."""


class ContentSection(_Section):
    """Which arguments and results are kept, beside the audit log, less what looks like a secret."""

    keep: Literal["nothing", "public", "internal", "confidential", "restricted"] = "nothing"
    """The gravest data class of which they are kept: what the session has seen and what the tool handles count both."""
    redact: list[Text] = []
    """JSON paths of what is taken out, from arguments or result, for one tool or all: $.arguments.iban, pay:$..card."""


class AuditSection(_Section):
    """Where the record goes."""

    path: Text = "zt-agents-audit.db"
    """The audit log, relative to the folder of the policy file."""
    content: ContentSection = ContentSection()
    """What of calls is kept beside their hashes."""


class TelemetrySection(_Section):
    """What goes out with traces."""

    baggage: bool = False
    """Whether services behind a tool are told, in signed W3C baggage, which agent calls: third parties, too."""


class KeysSection(_Section):
    """The keys that sign the tokens of sessions and calls, in a folder that processes share."""

    path: Text = "zt-agents-keys"
    """The folder, relative to that of the policy file; made by the first process, for its user alone."""
    algorithm: Literal["ES256", "EdDSA"] = "ES256"
    """Of keys that are made from now on."""
    rotate: Period = Field(default=None)  # type: ignore[assignment] # never, and still null is refused
    """After how long another key signs, such as 30d; at most 90d. Left out, only zt-agents keys rotate makes one."""
    overlap: LongDuration = "1h"
    """How long a key is published before it signs, and verifies when it no longer does: 1h to 24h."""
    token: Text = ""
    """URI of a PKCS#11 token that makes the keys and never lets go of them: pkcs11:token=NAME?module-path=FILE."""


class RevocationSection(_Section):
    """How guards learn what was taken back: zt-agents revoke."""

    path: Text = "zt-agents-revocations.db"
    """The store of revocations, relative to the folder of the policy file."""
    max_staleness: ShortDuration = "5s"
    """For how long calls go on while nobody can tell what was revoked; at most 60s. After that they are denied."""


class AgentEntry(_Section):
    """One agent."""

    id: str
    """SPIFFE-format id in the policy's trust domain, such as spiffe://acme.example/agent/helpdesk."""
    version: Text
    owner: Text
    """The accountable human."""
    purpose: Text
    status: Annotated[AgentStatus, Field(strict=False)] = AgentStatus.ACTIVE
    """Only an active agent may act."""
    tools: Annotated[list[ToolName], Field(min_length=1)] = Field(default=None)  # type: ignore[arg-type] # any tool
    """The only tools that it may ever call, whatever rules say; left out, the rules alone say it."""
    on_change: Annotated[OnChange, Field(strict=False)] = Field(default=None)  # type: ignore[assignment] # see below
    """What happens to its calls while its owner has not accepted what it is (zt-agents agents review): deny, or
    raise_tier. Left out, calls are denied once anything was accepted and the agent changed since."""
    delegates: Annotated[list[AgentName], Field(min_length=1)] = Field(default=[])
    """Exact names of the agents that it may hand its task on to; left out, none."""


class DelegationSection(_Section):
    """How agents hand their tasks on: agents.*.delegates says to whom."""

    depth: Annotated[int, Field(ge=1, le=8)] = 3
    """How many agents a chain may have, the first one counted; 1 is no delegation at all."""


class OwnersSection(_Section):
    """What holds for agents whose owner left: zt-agents agents owner-left."""

    grace: Period = "7d"
    """For how long they go on: 12h, 7d; at most 90d."""


class ToolEntry(_Section):
    """One tool, as the organisation sees it."""

    tier: Annotated[Tier, Field(strict=False)]
    """low: decided automatically; medium: recorded before it runs; high: always needs a human."""
    effects: Annotated[list[Annotated[Effect, Field(strict=False)]], Field(min_length=1)]
    """What the tool does to the world."""
    system: Text = ""
    """Target system that the tool acts on."""
    resource: Text = ""
    """Template of the resource touched, such as ticket/{args.ticket_id}."""
    data_class: Annotated[DataClass, Field(strict=False)] = DataClass.INTERNAL
    """Data class of what the tool returns."""
    integrity: Annotated[Integrity, Field(strict=False)] = Integrity.UNTRUSTED
    """Integrity of what the tool returns."""
    destinations: list[ArgumentName] = []
    """Names of arguments that say where data goes."""
    content: list[ArgumentName] = []
    """Names of arguments that carry the data itself."""
    unmediated: bool = False
    """The provider runs it on its own servers: it never passes the guard, and is accepted by name here."""
    audiences: list[Audience] = []
    """URIs of the services for which the tool's body may have a CallToken; it may have none for any other."""


class TierPatternEntry(_Section):
    """A pattern may only raise the tier of the tools it matches."""

    pattern: ToolPattern
    """Shell-style pattern over exact, case-sensitive tool names, such as delete_*."""
    at_least: Annotated[Tier, Field(strict=False)]


class RuleEntry(_Section):
    """One rule. Nothing is allowed that no rule allows; deny overrides require_approval overrides allow."""

    id: RuleId
    agents: Annotated[list[AgentReference], Field(min_length=1)]
    """Exact names of agents, or "*" alone."""
    tools: Annotated[list[ToolReference], Field(min_length=1)]
    """Exact names of tools, or "*" alone in a rule that does not allow."""
    outcome: Annotated[Outcome, Field(strict=False)]
    when: Condition = ""
    """CEL condition over args, user, agent, session, tool, resource, context and provenance."""
    raise_tier: Annotated[Tier, Field(strict=False)] = Tier.LOW
    """The tier of a call to which this rule applies is at least this."""
    approvals: RuleApprovals = RuleApprovals()
    """Who approves what this rule holds; only with the outcome require_approval."""
    reason: Text = ""
    """One sentence for people; required unless the outcome is allow."""


class ExchangeEntry(_Section):
    """A back end for which tools may get a token of the identity provider's, on behalf of the user."""

    audience: ProviderText
    """What the provider calls the back end."""
    tools: Annotated[list[ToolName], Field(min_length=1)]
    """Exact names of the tools whose bodies may ask for it."""
    scopes: list[ProviderText] = []
    """What may be asked for; nothing but the provider's default, if left out."""


class IdentityProviderSection(_Section):
    """Who says who the users are (OpenID Connect)."""

    issuer: ProviderText
    """Its issuer, exactly as its tokens have it; https, or http on this machine."""
    client_id: ProviderText
    """Our client there, under which people log in: the audience of ID tokens."""
    audience: ProviderText = ""
    """The audience of access tokens; none are taken, if left out."""
    algorithms: Annotated[list[Literal["ES256", "RS256", "PS256", "EdDSA"]], Field(min_length=1)] = ["RS256"]
    """How its tokens may be signed."""
    access_tokens: Annotated[AccessTokenKind, Field(strict=False)] = AccessTokenKind.RFC_9068
    """How access tokens are marked: at+jwt (RFC 9068), or bearer, as Keycloak has it."""
    user: Annotated[UserClaim, Field(strict=False)] = UserClaim.SUBJECT
    """What users are called by: sub, or email, which then has to be verified."""
    groups: Annotated[list[ProviderText], Field(min_length=1)] = ["groups"]
    """Names that lead to the claim with the user's groups, the outermost first."""
    roles: Annotated[list[ProviderText], Field(min_length=1)] = ["roles"]
    """Names that lead to the claim with the user's roles, such as [realm_access, roles]."""
    required: bool = False
    """Whether nobody has a session who did not log in there."""
    max_age: LongDuration = ""
    """How long ago they may have proved who they are; at most 24h; any time, if left out."""
    acr: list[ProviderText] = []
    """The levels of login that are strong enough; any, if left out."""
    exchange: list[ExchangeEntry] = []
    """For which back ends tools may get a token on behalf of the user (RFC 8693)."""


class SecretEntry(_Section):
    """One long-lived secret: the bodies of the named tools are lent it for one call at a time."""

    source: Annotated[SecretSource, Field(strict=False)]
    """env: a variable that this process was started with; file: a file of its own; vault: OpenBao or Vault."""
    tools: Annotated[list[ToolName], Field(min_length=1)]
    """Exact names of the tools whose bodies may have it."""
    variable: Variable = ""
    """The environment variable it is in, or comes to be in for a subprocess; the name in capitals, if left out."""
    path: Text = ""
    """The file, relative to the folder of the policy file; or the path of Vault's API, such as secret/data/stripe."""
    field: Text = ""
    """Which field of Vault's answer it is; all of them, if left out."""
    lease: bool = False
    """Vault makes it for the call (database/creds/ROLE), and it is taken back when the call ends."""
    keep: bool = False
    """Whether the variable stays in this process's environment, where any code can read it."""


class VaultSection(_Section):
    """Where OpenBao or Vault is, and how this process shows who it is: a token_file, or role_id and secret_id_file."""

    address: Text
    """Such as https://vault.acme.example:8200."""
    namespace: Text = ""
    ca_file: Text = ""
    """PEM of who signed the server's certificate; whom the system trusts, if left out."""
    token_file: Text = ""
    """A file with a token, read anew for each secret, as an agent of Vault keeps it."""
    role_id: Text = ""
    """Of AppRole."""
    secret_id_file: Text = ""
    """A file with the secret id of AppRole."""
    approle: Text = "approle"
    """Where AppRole is mounted."""


class PolicyFile(_Section):
    """A policy file of zt_agents."""

    version: Annotated[Literal[1], BeforeValidator(_whole_number)]
    trust_domain: TrustDomain
    environment: Text
    """Name of the environment, for conditions: context.environment."""
    sources: Annotated[list[Source], Field(min_length=1)] = []
    """MODULE:ATTRIBUTE of tools and toolkits, for `zt-agents check`."""
    session: SessionSection = SessionSection()
    approvals: ApprovalsSection = ApprovalsSection()
    telemetry: TelemetrySection = TelemetrySection()
    audit: AuditSection = AuditSection()
    agents: Annotated[dict[AgentName, AgentEntry], Field(min_length=1)]
    tools: Annotated[dict[ToolName, ToolEntry], Field(min_length=1)]
    tier_patterns: Annotated[list[TierPatternEntry], Field(min_length=1)] = []
    rules: list[RuleEntry]
    """What no rule allows is denied, so an empty list denies everything."""
    keys: KeysSection = Field(default=None)  # type: ignore[assignment] # none, and still null is refused
    """The keys that sign; left out, the application hands one in, or tokens are good in one process alone."""
    owners: OwnersSection = OwnersSection()
    revocation: RevocationSection = RevocationSection()
    delegation: DelegationSection = DelegationSection()
    identity_provider: IdentityProviderSection = Field(default=None)  # type: ignore[assignment] # the application says
    secrets: Annotated[dict[SecretName, SecretEntry], Field(min_length=1)] = {}
    """Long-lived secrets that tools need, by the name by which their bodies ask."""
    vault: VaultSection = Field(default=None)  # type: ignore[assignment] # none, and still null is refused
    """Where secrets with the source vault are."""
