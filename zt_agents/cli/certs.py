"""``zt-agents certs``: the built-in authority for certificates of agents and services.

Whoever may read the authority's file may be anybody in mutual TLS. Where SPIRE runs, it takes the place of all this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.login import login
from zt_agents.cli.commands import Commands
from zt_agents.cli.display import say, say_json, say_table
from zt_agents.cli.options import DEFAULT_POLICY, ByOption, JsonOption, PolicyOption
from zt_agents.errors import CertificateRefusedError, ConfigurationError, IdentityError

if TYPE_CHECKING:
    from zt_agents.identity.x509.authority import CertificateAuthority
    from zt_agents.identity.x509.certificates import X509Identity
    from zt_agents.policy import Policy

_DAY = 86_400

certs_app = Commands("certs", "Issue short-lived certificates, by which agents and services know each other.")

CaOption = Annotated[
    Path, typer.Option("--ca", metavar="FILE", envvar="ZT_AGENTS_CA", help="The authority, its owner's file alone.")
]
_CA = Path("zt-agents-ca.pem")
_HERE = Path()


@certs_app.command()
def ca(
    file: CaOption = _CA,
    policy_file: PolicyOption = DEFAULT_POLICY,
    rotate: Annotated[bool, typer.Option("--rotate", help="Give the authority that is there a new key.")] = False,
    overlap: Annotated[
        int, typer.Option(min=0, max=30 * _DAY, help="Seconds that peers have to fetch the new bundle.")
    ] = _DAY,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an authority for the policy's trust domain, or give it a new key."""
    from zt_agents.identity.x509.authority import CertificateAuthority

    policy, now = _policy(policy_file), system_clock()
    if rotate:
        authority = _authority(file, policy).rotated(now=now, overlap=overlap)
    else:
        authority = CertificateAuthority.new(policy.trust_domain, now=now)
    if not rotate and file.exists():
        raise ConfigurationError(f"There is {file} already.", hint="For a new key: zt-agents certs ca --rotate")
    bundle = authority.bundle(now=now)
    starts = bundle.authorities[-1].not_valid_before_utc.timestamp()
    what = "authority.rotated" if rotate else "authority.made"
    _record(policy, what, policy.trust_domain, by, signs_from=rfc3339(starts))
    try:
        authority.save(file, replace=rotate)
    except OSError as error:
        raise ConfigurationError(f"The file {file} could not be written: {error.strerror}.") from error
    if as_json:
        said = {"trust_domain": policy.trust_domain, "authorities": len(bundle.authorities)}
        say_json({**said, "signs_from": rfc3339(starts), "file": str(file)})
        return
    say(f"{file} is the authority of {policy.trust_domain}; its newest key issues from {rfc3339(starts)} on.")
    say("Whoever can read it can be anybody. Peers verify by the bundle: zt-agents certs bundle")


@certs_app.command()
def issue(
    who: Annotated[str, typer.Argument(metavar="AGENT|SPIFFE-ID", help="An agent of the policy, or a service's id.")],
    file: CaOption = _CA,
    policy_file: PolicyOption = DEFAULT_POLICY,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where identity.pem and bundle.pem go.")] = _HERE,
    ttl: Annotated[int, typer.Option(min=1, max=3600, help="Seconds that it is good for.")] = 3600,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue a certificate, good for an hour at most, with a new key that only its owner can read.

    An agent that is not active, or was revoked, gets none. Files that are there are replaced.
    """
    policy, now = _policy(policy_file), system_clock()
    authority = _authority(file, policy)
    try:
        svid = authority.issue(_checked(who, policy, policy_file, now), now=now, ttl=ttl)
    except ValueError as error:
        raise ConfigurationError(f"There is no certificate for {who!r}: {error}.") from error
    _record(policy, "certificate.issued", svid.spiffe_id, by, good_until=rfc3339(svid.expires_at))
    _write(out, svid, authority, now)
    if as_json:
        say_json(_facts(svid))
        return
    say(f"{out / 'identity.pem'} is {svid.spiffe_id}, key and certificate, until {rfc3339(svid.expires_at)}.")


@certs_app.command()
def show(
    certificate: Annotated[Path, typer.Argument(metavar="FILE", help="A certificate as PEM.")],
    bundle: Annotated[Path | None, typer.Option(metavar="FILE", help="Verify it by these authorities (PEM).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show whom a certificate names, until when, and its thumbprint (x5t#S256). Exit code 1: it was not accepted."""
    from zt_agents.credentials.tls import certificate_thumbprint
    from zt_agents.identity.principals import parse_spiffe_id
    from zt_agents.identity.x509.certificates import TrustBundle, read_chain, verify_peer

    chain = read_chain(_read(certificate))
    facts: dict[str, Any] = {
        "spiffe_id": chain.spiffe_id,
        "valid_from": rfc3339(chain.starts_at),
        "valid_until": rfc3339(chain.ends_at),
        "thumbprint": certificate_thumbprint(chain.der[0]),
    }
    refused = False
    if bundle is not None:
        try:
            trusted = TrustBundle.from_pem(parse_spiffe_id(chain.spiffe_id)[0], _read(bundle))
            verify_peer(chain.der, trusted, now=system_clock())
            facts["verified"] = "yes"
        except CertificateRefusedError as error:
            refused = True
            facts["verified"] = f"no: {error.message}"
    if as_json:
        say_json(facts)
    else:
        say_table(("", ""), list(facts.items()))
    if refused:
        raise typer.Exit(1)


@certs_app.command()
def bundle(
    file: CaOption = _CA,
    spiffe: Annotated[bool, typer.Option("--spiffe", help="As SPIFFE writes it: a JWK set, not PEM.")] = False,
) -> None:
    """Print the authorities by which peers verify certificates. They are no secret."""
    from zt_agents.identity.x509.authority import CertificateAuthority

    trusted = CertificateAuthority.from_file(file).bundle(now=system_clock())
    typer.echo(json.dumps(trusted.spiffe(), indent=2) if spiffe else trusted.pem.decode(), nl=spiffe)


def _policy(path: Path) -> Policy:
    from zt_agents.catalog.lock import ToolLock, lock_path
    from zt_agents.policy import load_policy
    from zt_agents.stores.sqlite_agents import SqliteAgentStore

    registered = SqliteAgentStore.beside(path).registered()
    return load_policy(path, parameters=ToolLock.read(lock_path(path)).parameters, registered=registered)


def _authority(path: Path, policy: Policy) -> CertificateAuthority:
    from zt_agents.identity.x509.authority import CertificateAuthority

    if not path.exists():
        raise ConfigurationError(f"There is no authority {path}.", hint="Make one: zt-agents certs ca")
    authority = CertificateAuthority.from_file(path)
    if authority.trust_domain != policy.trust_domain:
        text = f"{path} is the authority of {authority.trust_domain!r}; the policy's is {policy.trust_domain!r}."
        raise ConfigurationError(text)
    return authority


def _checked(who: str, policy: Policy, policy_file: Path, now: float) -> str:
    """Return the SPIFFE ID of *who*. An agent has to be active and not revoked."""
    from zt_agents.identity.registry import AgentRegistry
    from zt_agents.identity.revocations import Bearing
    from zt_agents.stores.sqlite_agents import SqliteAgentStore
    from zt_agents.stores.sqlite_revocations import SqliteRevocations

    registry = AgentRegistry(
        policy.agents, store=SqliteAgentStore.beside(policy_file), grace=policy.owner_grace, clock=lambda: now
    )
    ids = {agent.id for agent in policy.agents.values()}
    if who.startswith("spiffe://") and who not in ids:
        return who
    agent = registry.active(who if who in ids else registry.get(who).id)
    revocations = SqliteRevocations(policy.revocations_path, create=False)
    if policy.revocations_path.exists():
        found = revocations.find(Bearing((agent.id,), "", (), "", "", owner=agent.owner), now=now)
        if found is not None:
            raise IdentityError(f"Agent {agent.name!r} was revoked.", hint="See: zt-agents revocations")
    return agent.id


def _record(policy: Policy, what: str, about: str, by: str | None, **facts: Any) -> None:
    """Put on record what is about to be done: nothing is issued that the log does not know of."""
    from zt_agents.audit import AuditLog
    from zt_agents.audit.records import change_record
    from zt_agents.stores.sqlite_audit import SqliteAuditSink

    log = AuditLog(SqliteAuditSink(policy.audit_path))
    try:
        record = change_record(what, about, by=by or f"os:{login()}", why="", time=system_clock(), **facts)
        log.append(record, awaited=True).wait(10)
    finally:
        log.close()


def _write(folder: Path, svid: X509Identity, authority: CertificateAuthority, now: float) -> None:
    from zt_agents._internal.key_files import replace_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_whole(folder / "bundle.pem", authority.bundle(now=now).pem)
        replace_whole(folder / "identity.pem", svid.key_pem() + svid.chain_pem)
    except OSError as error:
        raise ConfigurationError(f"The certificate could not be written to {folder}: {error.strerror}.") from error


def _facts(svid: X509Identity) -> dict[str, str]:
    from zt_agents.credentials.tls import certificate_thumbprint

    return {
        "spiffe_id": svid.spiffe_id,
        "valid_until": rfc3339(svid.expires_at),
        "thumbprint": certificate_thumbprint(svid.certificate),
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"The file {path} could not be read: {error.strerror}.") from error
