"""What a policy says of secrets, held against its tools: which tool is lent what, and from where."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zt_agents._internal.suggest import did_you_mean
from zt_agents.catalog.secret_specs import SecretSource, SecretSpec, VaultSpec
from zt_agents.policy.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zt_agents.policy.models import SecretEntry
    from zt_agents.policy.validation import ValidPart

_VAULT_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_NEEDED = {SecretSource.ENV: "variable", SecretSource.FILE: "path", SecretSource.VAULT: "path"}
_ONLY_FOR = {"field": SecretSource.VAULT, "lease": SecretSource.VAULT, "keep": SecretSource.ENV}


def secret_specs(part: ValidPart, folder: Path, findings: Findings) -> Mapping[str, SecretSpec]:
    """Return the secrets of a policy, by name, and note what is wrong with them."""
    specs = {}
    for name, entry in part.file.secrets.items():
        _check(name, entry, part, findings)
        path = str(folder / entry.path) if entry.source is SecretSource.FILE else entry.path
        variable = entry.variable or name.upper()
        specs[name] = SecretSpec(
            name, entry.source, frozenset(entry.tools), variable, path, entry.field, entry.lease, entry.keep
        )
    return MappingProxyType(specs)


def vault_spec(part: ValidPart, folder: Path, findings: Findings) -> VaultSpec | None:
    """Return where Vault is, and note what is wrong with it."""
    if "vault" not in part.file.model_fields_set:
        return None
    section = part.file.vault
    if not any(entry.source is SecretSource.VAULT for entry in part.file.secrets.values()):
        findings.add(("vault",), "no secret has the source vault.", at_key=True)
    address = urlsplit(section.address)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _LOOPBACK):
        findings.add(("vault", "address"), "this must begin with https://; http:// is for this machine alone.")
    if not address.hostname or address.username or address.path.strip("/") or address.query or address.fragment:
        findings.add(("vault", "address"), "this is a host, with a port if need be, and nothing else.")
    by_role = bool(section.role_id or section.secret_id_file)
    if bool(section.token_file) == by_role or bool(section.role_id) != bool(section.secret_id_file):
        text = "who asks is shown by token_file, or by role_id with secret_id_file: one of the two."
        findings.add(("vault",), text, at_key=True)
    return VaultSpec(
        address=section.address.rstrip("/"),
        namespace=section.namespace,
        ca_file=folder / section.ca_file if section.ca_file else None,
        token_file=folder / section.token_file if section.token_file else None,
        role_id=section.role_id,
        secret_id_file=folder / section.secret_id_file if section.secret_id_file else None,
        approle=section.approle,
    )


def _check(name: str, entry: SecretEntry, part: ValidPart, findings: Findings) -> None:
    here = ("secrets", name)
    for index, tool in enumerate(entry.tools):
        if tool not in part.tool_names:
            hint = did_you_mean(tool, part.tool_names)
            findings.add((*here, "tools", index), f"there is no tool {tool!r}.{hint}")
    needed = _NEEDED[entry.source]
    if needed not in entry.model_fields_set:
        findings.add(here, f"a secret from {entry.source} needs the key {needed!r}.", at_key=True)
    for key, source in _ONLY_FOR.items():
        if key in entry.model_fields_set and entry.source is not source:
            findings.add((*here, key), f"{key!r} is for secrets from {source}.", at_key=True)
    if entry.source is SecretSource.ENV and entry.path:
        findings.add((*here, "path"), "'path' is for secrets from a file or from vault.", at_key=True)
    if entry.source is SecretSource.VAULT:
        if "vault" not in part.file.model_fields_set:
            findings.add((*here, "source"), "where Vault is, is not said: add the key 'vault' to the policy.")
        segments = entry.path.split("/")
        if entry.path and (not _VAULT_PATH.fullmatch(entry.path) or {".", ".."} & {*segments}):
            text = "a path is written as Vault's API has it below /v1/, such as secret/data/stripe; it is fixed."
            findings.add((*here, "path"), text)
