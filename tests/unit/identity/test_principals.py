"""SPIFFE-format ids, users, keys and the registry."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from zt_agents.errors import AgentInactiveError, ConfigurationError, UnknownAgentError
from zt_agents.identity import Agent, AgentRegistry, AgentStatus, SigningKey, User, parse_spiffe_id


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("spiffe://acme.example/agent/helpdesk", ("acme.example", "/agent/helpdesk")),
        ("spiffe://a_b-c.1/x", ("a_b-c.1", "/x")),
        ("spiffe://acme.example/Agent.1_2-3", ("acme.example", "/Agent.1_2-3")),
    ],
)
def test_good_spiffe_ids(text: str, parts: tuple[str, str]) -> None:
    assert parse_spiffe_id(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://acme.example/agent",
        "SPIFFE://acme.example/agent",
        "spiffe://Acme.example/agent",
        "spiffe://acme.example",
        "spiffe://acme.example/",
        "spiffe:///agent",
        "spiffe://acme.example:443/agent",
        "spiffe://user@acme.example/agent",
        "spiffe://acme.example/agent?x=1",
        "spiffe://acme.example/agent#x",
        "spiffe://acme.example/a//b",
        "spiffe://acme.example/a/./b",
        "spiffe://acme.example/a/../b",
        "spiffe://acme.example/a/",
        "spiffe://acme.example/a%2fb",
        "spiffe://acme.example/аgent",  # a Cyrillic a
        "spiffe://acme.example/agent\n",
        "spiffe://acme.example/" + "a" * 2048,
    ],
)
def test_bad_spiffe_ids(text: str) -> None:
    with pytest.raises(ValueError):
        parse_spiffe_id(text)


@pytest.mark.parametrize("name", ["", "   "])
def test_a_user_has_an_id(name: str) -> None:
    with pytest.raises(ValueError):
        User(name)


def test_a_users_facts_cannot_be_changed_behind_its_back() -> None:
    facts = {"clearance": 1}
    user = User("alice", attributes=facts)
    facts["clearance"] = 9
    assert user.attributes["clearance"] == 1
    with pytest.raises(TypeError):
        user.attributes["clearance"] = 9  # type: ignore[index]


def test_the_registry_knows_who_may_act() -> None:
    agents = {
        name: Agent(name, f"spiffe://acme.example/{name}", "1", "o", "p", status)
        for name, status in [("a", AgentStatus.ACTIVE), ("s", AgentStatus.SUSPENDED), ("r", AgentStatus.RETIRED)]
    }
    registry = AgentRegistry(agents)
    assert registry.active("spiffe://acme.example/a").name == "a"
    for name in ("s", "r"):
        with pytest.raises(AgentInactiveError):
            registry.active(f"spiffe://acme.example/{name}")
    registry.suspend("a")
    with pytest.raises(AgentInactiveError):
        registry.active("spiffe://acme.example/a")
    registry.resume("a")
    registry.active("spiffe://acme.example/a")
    with pytest.raises(AgentInactiveError):
        registry.resume("r")
    with pytest.raises(UnknownAgentError):
        registry.active("spiffe://acme.example/x")
    with pytest.raises(UnknownAgentError, match="Did you mean 'helpdesk'"):
        AgentRegistry({"helpdesk": agents["a"]}).get("helpdsk")


def test_a_key_survives_its_file_and_shows_itself_nowhere(tmp_path: Path) -> None:
    key = SigningKey.generate()
    path = tmp_path / "key.pem"
    key.save(path)
    assert SigningKey.from_file(path).thumbprint == key.thumbprint
    assert path.stat().st_mode & 0o777 == 0o600
    assert repr(key) == f"SigningKey({key.thumbprint})"
    with pytest.raises(FileExistsError):
        key.save(path)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="other users"):
        SigningKey.from_file(path)


def test_what_is_no_signing_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("not a key")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError):
        SigningKey.from_file(path)
    with pytest.raises(ConfigurationError):
        SigningKey.from_file(tmp_path / "missing.pem")
    with pytest.raises(ConfigurationError, match="P-256"):
        SigningKey(ec.generate_private_key(ec.SECP384R1()))


@pytest.mark.parametrize("words", ["hr", b"hr", {"hr": True}, [1], [None], ["hr", 5]])
@pytest.mark.parametrize("name", ["groups", "roles"])
def test_groups_and_roles_are_lists_of_texts(name: str, words: object) -> None:
    with pytest.raises(ValueError, match=f"{name} are a list"):
        User("alice", **{name: words})  # type: ignore[arg-type]


@pytest.mark.parametrize("user_id", [None, 42, b"alice", ["alice"]])
def test_a_users_id_is_text(user_id: object) -> None:
    with pytest.raises(ValueError, match="id, which is text"):
        User(user_id)  # type: ignore[arg-type]
