"""The demonstration for whoever is logged in: its policy believes their identity provider, and nobody else."""

from __future__ import annotations

import json
from pathlib import Path

from zt_agents.identity.provider.login_file import StoredLogin


def require_login(policy: Path, login: StoredLogin) -> None:
    """Have the policy in the file *policy* require a login at the provider of *login*."""
    terms = login.terms
    section = {
        "issuer": terms.issuer,
        "client_id": terms.client_id,
        "algorithms": list(terms.algorithms),
        "user": str(terms.user),
        "groups": list(terms.groups),
        "roles": list(terms.roles),
        "required": True,
    }
    with policy.open("a", encoding="utf-8") as file:
        file.write(f"\nidentity_provider: {json.dumps(section)}\n")  # JSON is YAML
