"""Credentials of one call, and how the services behind tools verify them.

::

    # in the tool's body
    token = zt_agents.current_call().token(audience="https://tickets.acme.example")

    # in the service
    verifier = CallTokenVerifier(keys=HttpKeys(url), issuer=issuer, audience="https://tickets.acme.example")
    claims = verifier.verify(token, tool="update_ticket", arguments=arguments)
"""

from zt_agents.credentials.call_tokens import CallClaims, CallTokenSigner
from zt_agents.credentials.dpop import Proof, prove
from zt_agents.credentials.key_sources import FileKeys, HttpKeys, KeySource, StaticKeys
from zt_agents.credentials.replays import MemoryReplays, Replays
from zt_agents.credentials.tls import certificate_thumbprint
from zt_agents.credentials.verification import UNSAFE_ANY_ARGUMENTS, CallTokenVerifier, verify
from zt_agents.errors import CallTokenError, CallTokenReason

__all__ = [
    "UNSAFE_ANY_ARGUMENTS",
    "CallClaims",
    "CallTokenError",
    "CallTokenReason",
    "CallTokenSigner",
    "CallTokenVerifier",
    "FileKeys",
    "HttpKeys",
    "KeySource",
    "MemoryReplays",
    "Proof",
    "Replays",
    "StaticKeys",
    "certificate_thumbprint",
    "prove",
    "verify",
]
