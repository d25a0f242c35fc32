"""What a policy says of a long-lived secret: where it is, and which tools' bodies are lent it. Never its value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class SecretSource(StrEnum):
    """Where a secret is kept."""

    ENV = "env"
    FILE = "file"
    VAULT = "vault"


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """One secret."""

    name: str
    source: SecretSource
    tools: frozenset[str]
    """Exact names of the tools whose bodies may have it; never empty."""
    variable: str
    """Name of the environment variable: that it is taken from, or that a subprocess has it in."""
    path: str = ""
    """The file, or the path of Vault's API below ``/v1/``. Fixed: no argument of a call is ever part of it."""
    field: str = ""
    """Which field of Vault's answer it is; empty for all of them."""
    lease: bool = False
    """Vault makes it for the call, and it is taken back when the call ends."""
    keep: bool = False
    """It stays in the environment of this process."""

    @property
    def place(self) -> str:
        """Where it is looked for, as the operator reads it."""
        where = {
            SecretSource.ENV: f"the environment variable {self.variable}",
            SecretSource.FILE: f"the file {self.path}",
            SecretSource.VAULT: f"{self.path} in the vault",
        }
        return where[self.source]


@dataclass(frozen=True, slots=True)
class VaultSpec:
    """Where OpenBao or Vault is, and how this process shows who it is."""

    address: str
    namespace: str
    ca_file: Path | None
    """PEM of who signed the server's certificate; None is whom the system trusts."""
    token_file: Path | None
    role_id: str
    """Of AppRole, with *secret_id_file*; empty where there is a *token_file*."""
    secret_id_file: Path | None
    approle: str
    """Where AppRole is mounted."""
