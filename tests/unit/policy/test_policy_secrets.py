"""What a policy may say of secrets: each mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from zt_agents.catalog.secret_specs import SecretSource
from zt_agents.errors import PolicyFileError
from zt_agents.policy.loader import Policy, load_policy, parse_policy

HEAD = """version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  charge: {tier: medium, effects: [money]}
rules: []
"""
VAULT = 'vault: {address: "https://vault.acme.example:8200", token_file: vault-token}\n'


def load(secrets: str, vault: str = "") -> Policy:
    return parse_policy(f"{HEAD}{secrets}\n{vault}", name="p.yaml", parameters={})


def mistakes(secrets: str, vault: str = "") -> str:
    with pytest.raises(PolicyFileError) as refused:
        load(secrets, vault)
    assert all(problem.line > 8 for problem in refused.value.problems)
    return str(refused.value)


def test_secrets_and_their_sources(tmp_path: Path) -> None:
    path = tmp_path / "zt-agents.yaml"
    secrets = """secrets:
  from_env: {source: env, variable: STRIPE_KEY, tools: [charge]}
  from_file: {source: file, path: keys/stripe, tools: [charge]}
  from_vault: {source: vault, path: database/creds/readonly, lease: true, tools: [charge]}
"""
    path.write_text(f"{HEAD}{secrets}{VAULT}", encoding="utf-8")
    policy = load_policy(path, parameters={})
    env, file, vault = policy.secrets.values()
    assert (env.source, env.variable, env.keep, env.tools) == (SecretSource.ENV, "STRIPE_KEY", False, {"charge"})
    assert (file.path, file.variable) == (str(tmp_path / "keys/stripe"), "FROM_FILE")
    assert (vault.path, vault.lease) == ("database/creds/readonly", True)
    assert policy.vault is not None
    assert policy.vault.token_file == tmp_path / "vault-token"
    assert load("").secrets == {}
    assert load("").vault is None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("k: {source: env, variable: K, tools: [chrage]}", "there is no tool 'chrage'. Did you mean 'charge'?"),
        ("k: {source: env, variable: K, tools: []}", "empty never means all"),
        ("k: {source: env, variable: K}", "needs the key 'tools'"),
        ("k: {source: env, variable: K, tools: ['*']}", "a tool name is"),
        ("k: {source: env, tools: [charge]}", "needs the key 'variable'"),
        ("k: {source: env, variable: 'A B', tools: [charge]}", "an environment variable is"),
        ("k: {source: env, variable: K, path: x, tools: [charge]}", "'path' is for secrets from"),
        ("k: {source: env, variable: K, lease: true, tools: [charge]}", "'lease' is for secrets from vault"),
        ("k: {source: file, tools: [charge]}", "needs the key 'path'"),
        ("k: {source: file, path: x, keep: true, tools: [charge]}", "'keep' is for secrets from env"),
        ("k: {source: keychain, tools: [charge]}", "is not one of"),
        ("k: {source: env, variable: K, value: hunter2, tools: [charge]}", "no key 'value'"),
        ("K-1: {source: env, variable: K, tools: [charge]}", "a secret's name is"),
        ("k: {source: vault, path: secret/data/x, tools: [charge]}", "add the key 'vault'"),
    ],
)
def test_a_mistake_in_a_secret_is_said_where_it_is(entry: str, said: str) -> None:
    assert said in mistakes(f"secrets:\n  {entry}")


@pytest.mark.parametrize(
    "path", ["secret/data/{args.name}", "secret/data/../sys", "secret", "/secret/data/x", "secret/data/x?list=true"]
)
def test_a_path_in_vault_is_fixed_and_plain(path: str) -> None:
    entry = f"secrets:\n  k: {{source: vault, path: '{path}', tools: [charge]}}"
    assert "it is fixed" in mistakes(entry, VAULT)


USED = "secrets:\n  k: {source: vault, path: secret/data/x, tools: [charge]}"


@pytest.mark.parametrize(
    ("vault", "said"),
    [
        ("vault: {address: 'http://vault.acme.example', token_file: t}", "must begin with https://"),
        ("vault: {address: 'https://a:b@vault.acme.example', token_file: t}", "and nothing else"),
        ("vault: {address: 'https://vault.acme.example/v1', token_file: t}", "and nothing else"),
        ("vault: {address: 'https://vault.acme.example'}", "one of the two"),
        ("vault: {address: 'https://vault.acme.example', role_id: r}", "one of the two"),
        ("vault: {address: 'https://vault.acme.example', token_file: t, role_id: r, secret_id_file: s}", "one of the"),
        ("vault: {address: 'https://vault.acme.example', token: hvs.x}", "no key 'token'"),
    ],
)
def test_a_mistake_in_vault_is_said_where_it_is(vault: str, said: str) -> None:
    assert said in mistakes(USED, vault)


def test_a_vault_that_no_secret_is_in_is_a_mistake() -> None:
    assert "no secret has the source vault" in mistakes("", VAULT)


def test_this_machines_vault_may_do_without_tls() -> None:
    assert load(USED, "vault: {address: 'http://127.0.0.1:8200', token_file: t}").vault is not None
