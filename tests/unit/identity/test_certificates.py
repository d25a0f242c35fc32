"""What a certificate has to be to prove who a peer is: each rule with a certificate that breaks it and no other."""

from __future__ import annotations

import base64
import pickle
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from forged_certificates import AGENT, AUTHORITY, NOW, Made, Recipe, make, weak_keys
from hypothesis import given
from hypothesis import strategies as st

from zt_agents._internal.key_files import replace_whole
from zt_agents.errors import CertificateRefusedError, ConfigurationError
from zt_agents.identity.x509.authority import LONGEST, CertificateAuthority
from zt_agents.identity.x509.certificates import TrustBundle, verify_peer
from zt_agents.identity.x509.workload import FiledIdentity, IssuedIdentity

ROOT = make(AUTHORITY)
BUNDLE = TrustBundle("acme.example", (ROOT.certificate,))
GOOD = Recipe()


def refusal(*chain: Made, bundle: TrustBundle = BUNDLE, now: float = NOW) -> str:
    with pytest.raises(CertificateRefusedError) as refused:
        verify_peer([each.der for each in chain], bundle, now=now)
    return refused.value.reason


def test_a_good_certificate_proves_its_one_name() -> None:
    assert verify_peer([make(GOOD, ROOT).der], BUNDLE, now=NOW) == AGENT


@pytest.mark.parametrize(
    "recipe",
    [
        GOOD.but(dns=["tickets.acme.example"]),
        GOOD.but(unknown=False),
        GOOD.but(ca=None),
        GOOD.but(key=ec.generate_private_key(ec.SECP384R1())),
        GOOD.but(key=rsa.generate_private_key(65537, 2048)),
    ],
    ids=["host name besides", "unknown, not critical", "no basic constraints", "P-384", "RSA 2048"],
)
def test_what_spiffe_allows_is_accepted(recipe: Recipe) -> None:
    assert verify_peer([make(recipe, ROOT).der], BUNDLE, now=NOW) == AGENT


@pytest.mark.parametrize(
    ("reason", "recipe"),
    [
        ("expired", GOOD.but(ends=0)),
        ("expired", GOOD.but(ends=-1)),
        ("not_yet_valid", GOOD.but(starts=1)),
        ("trust_domain", GOOD.but(uris=["spiffe://evil.example/agent/helpdesk"])),
        ("trust_domain", GOOD.but(uris=["spiffe://sub.acme.example/agent/helpdesk"])),
        ("identity", GOOD.but(uris=[AGENT, "spiffe://acme.example/agent/other"])),
        ("identity", GOOD.but(uris=[AGENT, "https://acme.example/"])),
        ("identity", GOOD.but(uris=[AGENT, AGENT])),
        ("identity", GOOD.but(uris=[])),
        ("identity", GOOD.but(uris=[], dns=["tickets.acme.example"])),
        ("identity", GOOD.but(uris=["https://acme.example/agent/helpdesk"])),
        ("identity", GOOD.but(uris=["spiffe://acme.example"])),
        ("identity", GOOD.but(uris=["spiffe://acme.example/agent/../helpdesk"])),
        ("identity", GOOD.but(uris=["spiffe://acme.example:443/agent/helpdesk"])),
        ("authority_as_peer", GOOD.but(ca=True)),
        ("authority_as_peer", GOOD.but(signs_certificates=True)),
        ("authority_as_peer", GOOD.but(signs_lists=True)),
        ("usage", GOOD.but(signs=False, purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])),
        ("usage", GOOD.but(purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])),
        ("usage", GOOD.but(purposes=[ExtendedKeyUsageOID.SERVER_AUTH])),
        ("usage", GOOD.but(purposes=[])),
        ("authority", GOOD.but(unknown=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_fault_is_enough(reason: str, recipe: Recipe) -> None:
    assert refusal(make(recipe, ROOT)) == reason


@pytest.mark.parametrize("kind", ["rsa 1024", "secp256k1", "ed25519", "dsa"])
def test_weak_keys_and_unknown_kinds_are_refused(kind: str) -> None:
    assert refusal(make(GOOD.but(key=weak_keys()[kind]), ROOT)) == "weak_key"


def test_another_authority_proves_nothing_whatever_it_is_called() -> None:
    assert refusal(make(GOOD, make(AUTHORITY))) == "authority"
    assert refusal(make(GOOD)) == "authority"  # signed by itself
    assert refusal(make(GOOD, ROOT), bundle=TrustBundle("acme.example", ())) == "authority"


def test_an_authority_that_expired_proves_nothing() -> None:
    short = make(AUTHORITY.but(ends=300))
    leaf, bundle = make(GOOD, short), TrustBundle("acme.example", (short.certificate,))
    assert verify_peer([leaf.der], bundle, now=NOW) == AGENT
    assert refusal(leaf, bundle=bundle, now=NOW + 301) == "authority"


def test_a_peer_is_no_authority_for_another() -> None:
    peer = make(GOOD, ROOT)
    assert refusal(make(GOOD, peer), peer) == "authority"


def test_an_authority_between_counts_only_where_the_root_says_so() -> None:
    between = make(AUTHORITY.but(name="between"), ROOT)
    assert verify_peer([make(GOOD, between).der, between.der], BUNDLE, now=NOW) == AGENT
    assert refusal(make(GOOD, between)) == "authority"  # and only if it is shown
    narrow = make(AUTHORITY.but(path_length=0))
    below = make(AUTHORITY.but(name="between"), narrow)
    bundle = TrustBundle("acme.example", (narrow.certificate,))
    assert refusal(make(GOOD, below), below, bundle=bundle) == "authority"


def test_what_is_no_chain_is_refused() -> None:
    good = make(GOOD, ROOT)
    assert refusal() == "missing"
    assert refusal(good, *[ROOT] * 4) == "chain"
    with pytest.raises(CertificateRefusedError, match="could not be read"):
        verify_peer([b"no certificate"], BUNDLE, now=NOW)


SIGNED = make(GOOD, ROOT)
BEGINS = SIGNED.der.index(SIGNED.certificate.tbs_certificate_bytes)


@given(st.integers(BEGINS, BEGINS + len(SIGNED.certificate.tbs_certificate_bytes) - 1), st.integers(1, 255))
def test_no_changed_byte_of_what_was_signed_is_accepted(place: int, change: int) -> None:
    der = bytearray(SIGNED.der)
    der[place] ^= change
    with warnings.catch_warnings(action="ignore"), pytest.raises(CertificateRefusedError):
        # The library warns of serial numbers that it will refuse one day.
        verify_peer([bytes(der)], BUNDLE, now=NOW)


# -- the built-in authority ---------------------------------------------------------------------------------------


def test_what_the_authority_issues_is_good_until_it_expires() -> None:
    authority = CertificateAuthority.new("acme.example", now=NOW)
    svid = authority.issue(AGENT, now=NOW, ttl=60)
    bundle = authority.bundle(now=NOW)
    assert (svid.spiffe_id, svid.expires_at) == (AGENT, NOW + 60)
    assert verify_peer([svid.certificate], bundle, now=NOW) == AGENT
    with pytest.raises(CertificateRefusedError, match="expired"):
        verify_peer([svid.certificate], bundle, now=NOW + 60)


@pytest.mark.parametrize("ttl", [0, -1, LONGEST + 1, float("nan"), float("inf")])
def test_nothing_is_issued_for_longer_than_an_hour(ttl: float) -> None:
    with pytest.raises(ValueError):
        CertificateAuthority.new("acme.example", now=NOW).issue(AGENT, now=NOW, ttl=ttl)


@pytest.mark.parametrize("spiffe_id", ["spiffe://evil.example/agent/a", "spiffe://acme.example", "https://a/b", ""])
def test_nothing_is_issued_for_another_trust_domain(spiffe_id: str) -> None:
    with pytest.raises(ValueError):
        CertificateAuthority.new("acme.example", now=NOW).issue(spiffe_id, now=NOW)


def test_a_rotation_never_leaves_a_good_certificate_without_its_authority(tmp_path: Path) -> None:
    authority = CertificateAuthority.new("acme.example", now=NOW)
    held_by_peers = authority.bundle(now=NOW)
    path = tmp_path / "ca.pem"
    authority.rotated(now=NOW, overlap=7200).save(path)
    rotated = CertificateAuthority.from_file(path)
    for now in range(int(NOW), int(NOW) + 4 * 3600, 600):
        svid = rotated.issue(AGENT, now=now)
        for later in (now, now + LONGEST - 1):
            assert verify_peer([svid.certificate], rotated.bundle(now=later), now=later) == AGENT
        if now < NOW + 7200:  # peers have until then to fetch the new bundle
            assert verify_peer([svid.certificate], held_by_peers, now=now) == AGENT
        else:
            with pytest.raises(CertificateRefusedError):
                verify_peer([svid.certificate], held_by_peers, now=now)
    assert len(rotated.bundle(now=NOW).authorities) == 2
    assert len(rotated.bundle(now=NOW + 4 * 3600).authorities) == 1


def test_an_expired_authority_issues_nothing() -> None:
    authority = CertificateAuthority.new("acme.example", now=NOW)
    late = NOW + timedelta(days=365).total_seconds()
    assert authority.issue(AGENT, now=late - 100).expires_at < late  # never beyond its authority
    with pytest.raises(ConfigurationError, match="expired"):
        authority.issue(AGENT, now=late)


def test_the_authoritys_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    authority = CertificateAuthority.new("acme.example", now=NOW)
    authority.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        authority.save(path)
    authority.rotated(now=NOW).save(path, replace=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["ca.pem"]
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="other users"):
        CertificateAuthority.from_file(path)


@pytest.mark.parametrize("damage", [lambda pem: b"", lambda pem: pem[:-200], lambda pem: pem * 2 + pem[:300]])
def test_a_damaged_authority_is_refused(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "ca.pem"
    CertificateAuthority.new("acme.example", now=NOW).save(path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ConfigurationError, match="does not hold"):
        CertificateAuthority.from_file(path)


def test_private_keys_are_shown_and_pickled_nowhere() -> None:
    authority = CertificateAuthority.new("acme.example", now=NOW)
    svid = authority.issue(AGENT, now=NOW)
    secret = str(svid.key.private_numbers().private_value)  # type: ignore[union-attr]
    for holder in (authority, svid):
        assert secret not in repr(holder)
        assert "PRIVATE" not in repr(holder)
        with pytest.raises(TypeError):
            pickle.dumps(holder)


def test_a_bundle_is_written_as_spiffe_writes_it() -> None:
    bundle = CertificateAuthority.new("acme.example", now=NOW).bundle(now=NOW)
    (key,) = bundle.spiffe()["keys"]
    assert (key["kty"], key["crv"], key["use"]) == ("EC", "P-256", "x509-svid")
    (x5c,) = key["x5c"]
    assert x509.load_der_x509_certificate(base64.b64decode(x5c)) == bundle.authorities[0]
    assert TrustBundle.from_pem("acme.example", bundle.pem) == bundle


def test_the_issued_identity_is_renewed_at_half_of_its_life() -> None:
    now = [NOW]
    authority = CertificateAuthority.new("acme.example", now=NOW)
    identity = IssuedIdentity(authority, AGENT, ttl=100, clock=lambda: now[0])
    first = identity.svid()
    now[0] += 49
    assert identity.svid() is first
    now[0] += 1
    assert identity.svid() is not first
    second = identity.svid()
    now[0] -= 50  # a clock that was set back leaves no certificate that is not valid yet
    assert identity.svid() is not second


def test_files_are_read_again_when_somebody_renewed_them(tmp_path: Path) -> None:
    authority = CertificateAuthority.new("acme.example", now=NOW)
    bundle = authority.bundle(now=NOW)
    file = tmp_path / "identity.pem"
    (tmp_path / "bundle.pem").write_bytes(bundle.pem)
    first, second = (authority.issue(AGENT, now=NOW) for _ in range(2))
    replace_whole(file, first.key_pem() + first.chain_pem)
    identity = FiledIdentity("acme.example", identity=file, bundle=tmp_path / "bundle.pem")
    assert identity.svid().certificate == first.certificate
    assert identity.bundle() == bundle
    replace_whole(file, second.key_pem() + second.chain_pem)
    assert identity.svid().certificate == second.certificate
    replace_whole(file, second.key_pem() + first.chain_pem)
    with pytest.raises(CertificateRefusedError, match="key"):
        identity.svid()
    replace_whole(file, b"something else")
    with pytest.raises(ConfigurationError, match="could not be read"):
        identity.svid()
    replace_whole(file, second.key_pem() + second.chain_pem)
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="other users"):
        FiledIdentity("acme.example", identity=file, bundle=tmp_path / "bundle.pem")
