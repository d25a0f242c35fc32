"""Checks what a policy says about its identity provider, and turns it into terms."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from zt_agents._internal.suggest import did_you_mean
from zt_agents.identity.provider.terms import REGISTRATIONS, ExchangeTerms, ProviderTerms, checked_issuer
from zt_agents.policy.findings import Findings
from zt_agents.policy.models import IdentityProviderSection
from zt_agents.policy.spelling import seconds

_HERE = "identity_provider"


def provider_terms(
    section: IdentityProviderSection | None, tools: Collection[str], folder: Path, findings: Findings
) -> ProviderTerms | None:
    """Return the terms in *section*, and note in *findings* what is wrong with them."""
    if section is None:
        return None
    try:
        checked_issuer(section.issuer)
    except ValueError as error:
        findings.add((_HERE, "issuer"), f"{error}.")
    if section.audience == section.client_id:
        # An ID token is for the client. Were access tokens for it too, the one could be taken for the other.
        findings.add((_HERE, "audience"), "access tokens need an audience other than client_id.")
    exchange: list[ExchangeTerms] = []
    for index, entry in enumerate(section.exchange):
        here = (_HERE, "exchange", index)
        if not section.audience:
            findings.add((*here, "audience"), "a user's access token is exchanged: say which are taken.")
        if entry.audience in {section.audience, *(each.audience for each in exchange)}:
            findings.add((*here, "audience"), f"{entry.audience!r} is our own audience, or stands here twice.")
        for place, tool in enumerate(entry.tools):
            if tool not in tools:
                findings.add((*here, "tools", place), f"no tool is called {tool!r}.{did_you_mean(tool, tools)}")
        exchange.append(ExchangeTerms(entry.audience, frozenset(entry.tools), frozenset(entry.scopes)))
    return ProviderTerms(
        issuer=section.issuer,
        client_id=section.client_id,
        audience=section.audience,
        algorithms=tuple(section.algorithms),
        access_tokens=section.access_tokens,
        user=section.user,
        groups=tuple(section.groups),
        roles=tuple(section.roles),
        required=section.required,
        max_age=seconds(section.max_age) if section.max_age else 0,
        acr=tuple(section.acr),
        exchange=tuple(exchange),
        registrations=folder / REGISTRATIONS,
    )
