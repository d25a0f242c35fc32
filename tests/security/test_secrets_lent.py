"""A tool's secret is lent to its body, for the call, and to nobody else; and it is written down nowhere."""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from vault_server import PASSWORD, STRIPE, TOKEN, VaultServer, vault_server
from world import HEAD, World

from zt_agents import current_call
from zt_agents.credentials.secrets import Secret
from zt_agents.errors import CredentialError, SecretUnavailableError
from zt_agents.identity.revocations import Revoked
from zt_agents.permit import Permit

CANARY = "CANARY-of-the-mail-key"
POLICY = (
    HEAD
    + """
tools:
  charge: {tier: medium, effects: [money]}
  mail: {tier: low, effects: [read]}
  query: {tier: low, effects: [read]}
rules:
  - {id: all, agents: [helpdesk], tools: [charge, mail, query], outcome: allow}
secrets:
  stripe_key: {source: vault, path: secret/data/stripe, field: api_key, tools: [charge]}
  mail_key: {source: env, variable: ZT_TEST_MAIL_KEY, tools: [mail, charge]}
  db: {source: vault, path: database/creds/readonly, lease: true, tools: [query]}
vault: {address: "ADDRESS", token_file: vault-token}
"""
)

Body = Callable[[Permit], Any]


class Office:
    """Three tools whose bodies do what a test says, and the guard in front of them."""

    def __init__(self, folder: Path, server: VaultServer) -> None:
        self.server = server
        self.bodies: dict[str, Body] = {}
        (folder / "vault-token").write_text(TOKEN)
        (folder / "vault-token").chmod(0o600)

        def permit() -> Permit:
            here = current_call()
            assert here is not None
            return here

        @tool
        def charge() -> Any:
            """Charge."""
            return self.bodies["charge"](permit())

        @tool
        async def mail() -> Any:
            """Mail."""
            return await self.bodies["mail"](permit())

        @tool
        def query() -> Any:
            """Query."""
            return self.bodies["query"](permit())

        self.world = World(folder, POLICY.replace("ADDRESS", server.address), [charge, mail, query], None)
        self.tools = dict(
            zip(("charge", "mail", "query"), self.world.guard.protect([charge, mail, query]), strict=True)
        )

    def run(self, name: str, body: Body) -> Any:
        self.bodies[name] = body
        with self.world.session():
            return self.tools[name].invoke({})

    async def arun(self, body: Body) -> Any:
        self.bodies["mail"] = body
        async with self.world.session():
            return await self.tools["mail"].ainvoke({})

    def asked(self) -> list[list[Any]]:
        """Return what the outcomes in the log say of secrets."""
        return [record.get("secrets", []) for record in self.world.records() if record["kind"] == "outcome"]

    def everything(self) -> str:
        """Return all that was written down of the calls."""
        spans = [span.to_json() for span in self.world.recorder._memory.get_finished_spans()]
        return json.dumps([self.world.records(), spans])


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setenv("ZT_TEST_MAIL_KEY", CANARY)
    with vault_server() as server:
        made = Office(tmp_path, server)
        try:
            yield made
        finally:
            made.world.guard.close()


def test_a_body_is_lent_its_tools_secret(office: Office) -> None:
    assert office.run("charge", lambda here: here.secret("stripe_key").reveal()) == STRIPE
    assert office.asked() == [[["stripe_key", "lent"]]]


async def test_async_bodies_wait_without_holding_the_loop(office: Office) -> None:
    async def body(here: Permit) -> str:
        lent = await asyncio.gather(*(here.asecret("mail_key") for _ in range(5)))
        assert len({id(each) for each in lent}) == 1  # fetched once for the call
        return lent[0].reveal()

    assert await office.arun(body) == CANARY


def test_a_secret_of_another_tool_or_of_none_is_refused(office: Office) -> None:
    def body(here: Permit) -> str:
        for name in ("db", "no_such_secret", "STRIPE_KEY", "stripe_key\n", ""):
            with pytest.raises(CredentialError, match="other tools"):
                here.secret(name)
        return "nothing"

    office.run("charge", body)
    assert office.asked() == [[["db", "refused"], ["(unknown)", "refused"]]]
    assert office.server.asked == []


def test_a_secret_is_not_fetched_before_a_body_asks_for_it(office: Office) -> None:
    office.run("charge", lambda here: "done")
    assert office.server.asked == []


def test_nothing_is_lent_after_the_call(office: Office) -> None:
    kept: list[Any] = []
    office.run("charge", lambda here: kept.extend([here, here.secret("stripe_key")]) or "done")
    permit, secret = kept
    with pytest.raises(CredentialError, match="while it runs"):
        permit.secret("stripe_key")
    with pytest.raises(SecretUnavailableError, match="has ended"):
        secret.reveal()
    assert current_call() is None


def test_nothing_is_lent_any_more_to_whoever_was_revoked_while_the_body_runs(office: Office) -> None:
    def body(here: Permit) -> str:
        here.secret("stripe_key")
        agent = here.call.agent
        assert agent is not None
        office.world.guard.revocations.revoke(Revoked.AGENT, agent.id, by="dana", why="", now=time.time())
        for name in ("mail_key", "stripe_key"):
            with pytest.raises(CredentialError, match="no longer good"):
                here.secret(name)
        return "nothing"

    office.run("charge", body)
    assert office.asked() == [[["stripe_key", "lent"], ["mail_key", "refused"], ["stripe_key", "refused"]]]


def test_a_call_inside_the_call_does_not_get_the_outer_ones_secret(office: Office) -> None:
    outer: list[Permit] = []
    refused: list[CredentialError] = []

    def inner(here: Permit) -> str:
        for permit in (here, outer[0]):  # its own, and the outer one's that it has got hold of
            with pytest.raises(CredentialError) as refusal:
                permit.secret("stripe_key")
            refused.append(refusal.value)
        return "nothing"

    def body(here: Permit) -> str:
        outer.append(here)
        office.bodies["query"] = inner
        office.tools["query"].invoke({})
        return here.secret("stripe_key").reveal()  # and the outer body has its own again

    assert office.run("charge", body) == STRIPE
    assert len(refused) == 2


def test_a_thread_that_knows_nothing_of_the_call_is_lent_nothing(office: Office) -> None:
    def body(here: Permit) -> str:
        with ThreadPoolExecutor(1) as threads:
            with pytest.raises(CredentialError):
                threads.submit(here.secret, "stripe_key").result(10)
            context = contextvars.copy_context()
            return threads.submit(context.run, here.secret, "stripe_key").result(10).reveal()

    assert office.run("charge", body) == STRIPE


def test_a_call_that_ends_while_its_secret_is_fetched_gives_it_back(office: Office) -> None:
    fetching, ended = threading.Event(), threading.Event()
    documented = office.server.answers

    def wait(handler: Any) -> Any:
        fetching.set()
        assert ended.wait(10)
        return handler._get("database/creds/readonly")

    documented["database/creds/readonly"] = wait
    with ThreadPoolExecutor(1) as threads:

        def body(here: Permit) -> Any:
            late = threads.submit(contextvars.copy_context().run, here.secret, "db")
            assert fetching.wait(10)
            running.append(late)
            return "done"

        running: list[Any] = []
        office.run("query", body)
        ended.set()
        with pytest.raises(CredentialError, match="while the secret"):
            running[0].result(10)
    office.world.guard.secrets.close()
    assert list(office.server.leases.values()) == ["revoked"]


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_credentials_made_for_the_call_end_with_it(office: Office, ends: str) -> None:
    def body(here: Permit) -> str:
        assert here.secret("db").reveal("password") == PASSWORD
        assert list(office.server.leases.values()) == ["live"]
        if ends == "badly":
            raise RuntimeError("the database is gone")
        return "rows"

    if ends == "badly":
        with pytest.raises(RuntimeError):
            office.run("query", body)
    else:
        office.run("query", body)
    office.world.guard.secrets.close()
    assert list(office.server.leases.values()) == ["revoked"]


def test_a_lease_that_could_not_be_taken_back_is_on_record(office: Office) -> None:
    office.server.answers["sys/leases/revoke"] = lambda _: (503, None)
    office.run("query", lambda here: here.secret("db").fields)
    office.world.guard.secrets.close()
    (change,) = (record["change"] for record in office.world.records() if record["kind"] == "change")
    assert (change["what"], change["about"]) == ("lease.kept", "db")


def test_a_subprocess_gets_what_its_tool_may_have_and_nobody_else_does(office: Office) -> None:
    code = "import os; print(os.environ.get('ZT_TEST_MAIL_KEY'))"

    def started(environment: dict[str, str] | None) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30, env=environment
        )
        return done.stdout.strip()

    def body(here: Permit) -> str:
        assert started(None) == "None"  # the guard has taken it
        return started(here.secrets_environment(["mail_key"]))

    assert office.run("charge", body) == CANARY

    def query(here: Permit) -> dict[str, str]:
        return here.secrets_environment(["db"])

    assert office.run("query", query) == {"DB_USERNAME": "v-1", "DB_PASSWORD": PASSWORD}


def test_a_vault_that_fails_is_told_apart_from_a_refusal(office: Office) -> None:
    office.server.answers["secret/data/stripe"] = lambda _: (503, {"errors": [STRIPE]})
    with pytest.raises(SecretUnavailableError) as unavailable:
        office.run("charge", lambda here: here.secret("stripe_key"))
    assert unavailable.value.reason == "unreachable"
    assert office.asked() == [[["stripe_key", "unreachable"]]]


async def test_no_secret_is_in_the_log_in_a_span_or_in_an_error(office: Office) -> None:
    shown: list[str] = []

    def failing(here: Permit) -> None:
        lent: Secret = here.secret("stripe_key")
        assert lent.reveal()
        raise RuntimeError(f"could not charge with {lent}")

    office.server.answers["database/creds/readonly"] = lambda _: (200, b'{"data": CANARY')

    async def broken(here: Permit) -> None:
        assert (await here.asecret("mail_key")).reveal()
        raise RuntimeError

    for name, body in (("charge", failing), ("query", lambda here: here.secret("db"))):
        with pytest.raises(Exception) as failed:
            office.run(name, body)
        shown.append("".join(traceback.TracebackException.from_exception(failed.value, capture_locals=True).format()))
    with pytest.raises(RuntimeError):
        await office.arun(broken)
    written = office.everything()
    assert "stripe_key" in written
    assert "zt_agents.secret" in written
    assert "CANARY" not in written
    assert "stripe_key" in shown[0]
    for text in shown:
        assert "CANARY" not in text.replace("lambda _: (200, b'{\"data\": CANARY')", "")
