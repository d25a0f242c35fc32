"""Who asks, for whom: principals, keys, tokens, and the registry of agents."""

from zt_agents.identity.approving.approvers import Approver, ApproverAuthority, ApproverKey
from zt_agents.identity.approving.attestations import AnswerClaims, ApprovalSigner, GrantClaims
from zt_agents.identity.approving.standing import StandingClaims
from zt_agents.identity.baggage import AgentBaggage, BaggageSigner, verify_baggage
from zt_agents.identity.principals import Agent, AgentStatus, Login, User, parse_spiffe_id
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.provider.terms import ProviderTerms
from zt_agents.identity.registry import AgentRegistry
from zt_agents.identity.scopes import TaskScope
from zt_agents.identity.signing.key_ring import KeyRing
from zt_agents.identity.signing.keys import SigningKey
from zt_agents.identity.signing.public_keys import VerificationKey
from zt_agents.identity.tokens import Actor, SessionClaims, TokenIssuer

__all__ = [
    "Actor",
    "Agent",
    "AgentBaggage",
    "AgentRegistry",
    "AgentStatus",
    "AnswerClaims",
    "ApprovalSigner",
    "Approver",
    "ApproverAuthority",
    "ApproverKey",
    "BaggageSigner",
    "GrantClaims",
    "IdentityProvider",
    "KeyRing",
    "Login",
    "ProviderTerms",
    "SessionClaims",
    "SigningKey",
    "StandingClaims",
    "TaskScope",
    "TokenIssuer",
    "User",
    "VerificationKey",
    "parse_spiffe_id",
    "verify_baggage",
]
