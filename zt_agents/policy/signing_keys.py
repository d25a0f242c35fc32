"""From the ``keys`` of a file to where signing keys are and when they rotate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zt_agents.identity.tokens import MAX_TTL
from zt_agents.policy.findings import Findings
from zt_agents.policy.models import KeysSection
from zt_agents.policy.spelling import seconds


@dataclass(frozen=True, slots=True)
class KeysPolicy:
    """Where the keys are that sign the tokens of sessions and calls."""

    path: Path
    algorithm: str
    rotate: int | None
    """Seconds for which a key signs; None is until somebody rotates it."""
    overlap: int
    """Seconds."""
    token: str
    """URI of the PKCS#11 token that holds the keys, or an empty text."""


def keys_policy(section: KeysSection | None, folder: Path, findings: Findings) -> KeysPolicy | None:
    """Return what *section* says; note what would end sessions early, or rotate what has just begun."""
    if section is None:
        return None
    overlap = seconds(section.overlap)
    rotate = seconds(section.rotate) if section.rotate else None
    if overlap < MAX_TTL:
        findings.add(("keys", "overlap"), "a token lasts up to 1h, and so long its key verifies: at least 1h.")
    if rotate is not None and rotate < 2 * overlap:
        findings.add(("keys", "rotate"), "a key signs for at least twice the overlap.")
    if section.token and not section.token.startswith("pkcs11:"):
        findings.add(("keys", "token"), "the URI of a PKCS#11 token begins with pkcs11: (RFC 7512).")
    return KeysPolicy(folder / section.path, section.algorithm, rotate, overlap, section.token)
