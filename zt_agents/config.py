"""The composition root: from a policy file to the parts of a guard.

Beside the policy file ``zt-agents.yaml`` lie ``zt-agents.lock.json`` (the tools as they were accepted) and, unless the
policy says otherwise, the audit log with ``<log>.key``, which keys its hashes, ``<log>.content`` where the policy wants
content kept, the stores of approvals and of revocations, and ``zt-agents-agents.db``, which says what became of agents.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zt_agents._internal.canonical import KeyedHash
from zt_agents._internal.clock import rfc3339
from zt_agents._internal.key_files import write_once
from zt_agents._internal.login import login
from zt_agents.approvals import ApproverRegistry
from zt_agents.audit import AuditLog
from zt_agents.audit.content import ContentKeeper
from zt_agents.audit.records import AuditRecord, change_record
from zt_agents.catalog.catalog import Catalog
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.catalog.secret_specs import SecretSource, SecretSpec, VaultSpec
from zt_agents.catalog.specs import ToolDescription
from zt_agents.credentials.call_tokens import CallTokenSigner
from zt_agents.credentials.secret_files import EnvironmentSecret, FileSecret
from zt_agents.credentials.secrets import SecretsBroker, SecretStore
from zt_agents.credentials.vault import Vault, VaultSecret
from zt_agents.desk.factors import SecondFactors
from zt_agents.desk.proofs import AnswerProofs, Conditions
from zt_agents.errors import ConfigurationError
from zt_agents.identity import Agent, ApprovalSigner, ApproverAuthority, BaggageSigner, KeyRing, SigningKey, TokenIssuer
from zt_agents.identity.approving.factors import FactorSigner
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.signing.key_schedule import KeyEntry, Rotation
from zt_agents.identity.signing.keys import read_private_file
from zt_agents.policy import Policy, load_policy
from zt_agents.policy.signing_keys import KeysPolicy
from zt_agents.stores.sqlite_agents import SqliteAgentStore
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_content import SqliteContentStore
from zt_agents.stores.sqlite_revocations import SqliteRevocations
from zt_agents.telemetry import Meters, Tracing, export_from_environment

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from zt_agents.identity.signing.key_folder import FolderKeyRing

_KEY_BYTES = 32


def parts_from_file(
    path: Path,
    *,
    audit_path: Path | None = None,
    approvals_path: Path | None = None,
    revocations_path: Path | None = None,
    signing_key: SigningKey | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> dict[str, Any]:
    """Return the parts of a guard as :meth:`Guard.from_config` needs them."""
    lock = ToolLock.read(lock_path(path))
    agents = SqliteAgentStore.beside(audit_path or path)
    policy = load_policy(path, parameters=lock.parameters, registered=agents.registered())
    check_ids(policy.agents, agents)
    log = audit_path or policy.audit_path
    if approvals_path is None:  # who moves the log moves what lies beside it
        approvals_path = log.with_name(policy.approvals_path.name) if audit_path else policy.approvals_path
    if revocations_path is None:
        revocations_path = log.with_name(policy.revocations_path.name) if audit_path else policy.revocations_path
    revocations = SqliteRevocations(revocations_path, max_staleness=policy.max_staleness)
    revocations.open()  # what is taken back later has somewhere to go, and whoever does it sees that guards look there
    audit = AuditLog(SqliteAuditSink(log), contents=SqliteContentStore.beside(log, create=True))
    name = _issuer(policy.trust_domain)
    keys, key = signing_keys(policy, signing_key, audit)
    if tracer_provider is None:
        export_from_environment()
    show_users = os.environ.get("ZT_AGENTS_TRACE_USER_IDS", "true").lower() not in {"false", "0", "no", "off"}
    hashes = hash_key(log.with_name(f"{log.name}.key"))
    return {
        "policy": policy,
        "agents": agents,
        "catalog": Catalog(policy.tools, lock),
        "issuer": TokenIssuer(issuer=name, audience=f"{name}/guard", keys=keys),
        "revocations": revocations,
        "approvals": SqliteApprovalStore(approvals_path),
        "proofs": answer_proofs(
            policy.trust_domain, key, SqliteApproverRegistry.beside(approvals_path, create=True), policy.eligibility
        ),
        "identity_provider": IdentityProvider(policy.identity_provider) if policy.identity_provider else None,
        "call_tokens": CallTokenSigner(issuer=name, keys=keys),
        "baggage": BaggageSigner(issuer=name, key=key) if policy.baggage else None,
        "audit": audit,
        "content": ContentKeeper(policy.content.keep, policy.content.redact) if policy.content else None,
        "tracing": Tracing(tracer_provider, hash_users=None if show_users else KeyedHash(hashes)),
        "meters": Meters(meter_provider),
        "hash_key": hashes,
        "secrets": secrets_broker(policy.secrets, policy.vault),
    }


def secrets_broker(specs: Mapping[str, SecretSpec], vault: VaultSpec | None) -> SecretsBroker:
    """Return what lends the secrets of a policy. Variables are taken out of the environment here.

    Raises:
        ConfigurationError: the file of authorities for Vault cannot be used, or httpx is not installed.
    """
    server = Vault(vault) if vault is not None else None
    stores: dict[str, tuple[SecretSpec, SecretStore]] = {}
    for name, spec in specs.items():
        if spec.source is SecretSource.VAULT:
            assert server is not None  # or the policy would not have loaded
            stores[name] = spec, VaultSecret(server, spec)
        elif spec.source is SecretSource.FILE:
            stores[name] = spec, FileSecret(Path(spec.path))
        else:
            stores[name] = spec, EnvironmentSecret(spec.variable, keep=spec.keep)
    return SecretsBroker(stores, close=server.close if server is not None else None)


def signing_keys(policy: Policy, handed_in: SigningKey | None, audit: AuditLog) -> tuple[KeyRing, SigningKey]:
    """Return the keys that sign tokens of sessions and calls, and the one from which all other keys are derived.

    Raises:
        ConfigurationError: the policy's folder of keys cannot be used, or a key was handed in besides.
    """
    if policy.keys is None:
        key = handed_in or SigningKey.generate()
        return KeyRing.of(key), key
    if handed_in is not None:
        text = "The policy says where the signing keys are, and a signing key was handed in besides."
        raise ConfigurationError(text, hint="Leave out one of them: 'keys:' in the policy, or signing_key=.")
    ring = key_ring(policy.keys, audit, by=f"os:{login()}", create=True)
    return ring, ring.root


def key_ring(keys: KeysPolicy, audit: AuditLog, *, by: str, create: bool = False) -> FolderKeyRing:
    """Return the ring of a policy's ``keys``; whenever it gets another one, *audit* says so."""

    def rotated(entry: KeyEntry, now: float) -> None:
        audit.append(key_record(entry, by=by, why="it was time", now=now))

    return KeyRing.in_folder(
        keys.path,
        algorithm=keys.algorithm,
        rotation=Rotation(every=keys.rotate, overlap=keys.overlap) if keys.rotate else None,
        on_rotation=rotated,
        token=keys.token,
        create=create,
    )


def key_record(entry: KeyEntry, *, by: str, why: str, now: float) -> AuditRecord:
    """Return the record of a new key."""
    facts = {"algorithm": entry.key.algorithm, "signs_from": rfc3339(entry.signs_from)}
    return change_record("key.rotated", entry.key.kid, by=by, why=why, time=now, **facts)


def check_ids(agents: Mapping[str, Agent], store: SqliteAgentStore) -> None:
    """Refuse an agent with an id that was another's.

    Raises:
        ConfigurationError: there is one.
    """
    stored = store.read().agents
    for agent in agents.values():
        state = stored.get(agent.id)
        if state is not None and state.name != agent.name:
            text = f"Agent {agent.name!r} has the id {agent.id}, which is, or was, that of agent {state.name!r}."
            raise ConfigurationError(text, hint="Ids are not used again: give it another one.")


def _issuer(trust_domain: str) -> str:
    return f"spiffe://{trust_domain}/zt-agents"


def answer_proofs(
    trust_domain: str, key: SigningKey, registry: ApproverRegistry, conditions: Conditions | None = None
) -> AnswerProofs:
    """Return what attests and verifies answers in *trust_domain*; where no policy is at hand, no condition holds."""
    name = _issuer(trust_domain)
    factors = SecondFactors(FactorSigner(issuer=name, audience=f"{name}/guard", key=key), registry)
    authority = approver_authority(trust_domain, key)
    return AnswerProofs(approval_signer(trust_domain, key), authority, registry, conditions, factors)


def approval_signer(trust_domain: str, key: SigningKey) -> ApprovalSigner:
    """Return what signs answers and grants in *trust_domain*, in every process that has the signing *key*."""
    name = _issuer(trust_domain)
    return ApprovalSigner(issuer=name, audience=f"{name}/guard", key=key)


def approver_authority(trust_domain: str, key: SigningKey) -> ApproverAuthority:
    """Return what issues the credentials of approvers in *trust_domain*."""
    name = _issuer(trust_domain)
    return ApproverAuthority(issuer=name, audience=f"{name}/guard", key=key)


def hash_key(path: Path) -> bytes:
    """Return the key in the file *path*, made there on first use and readable by its owner alone.

    Raises:
        ConfigurationError: the file can be neither read nor made, others can read it, or it holds something else.
    """
    try:
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another process may start at the same moment
                write_once(path, secrets.token_bytes(_KEY_BYTES))
    except OSError as error:
        raise ConfigurationError(f"The key file {path} can be neither read nor made.") from error
    key = read_private_file(path)
    if len(key) != _KEY_BYTES:
        raise ConfigurationError(f"The key file {path} does not hold {_KEY_BYTES} bytes.")
    return key


def accept_tools(path: str | Path, descriptions: Iterable[ToolDescription]) -> None:
    """Record tools, as they describe themselves now, in the lock file of the policy *path*."""
    where = lock_path(Path(path))
    ToolLock.read(where).accept(descriptions).write(where)
