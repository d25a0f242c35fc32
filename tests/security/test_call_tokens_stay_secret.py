"""CallTokens, proofs and session tokens are in requests, and nowhere else: not in what is logged, traced, kept, raised,
printed, or shown to a model or to whoever approves.

The console shows what the store of approvals holds, and that is searched.
"""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain.agents import create_agent
from langchain_core.tools import BaseTool, ToolException, tool
from world import HEAD, World

import zt_agents
from zt_agents.credentials import UNSAFE_ANY_ARGUMENTS, CallTokenError, CallTokenVerifier, Proof, StaticKeys
from zt_agents.credentials.over_http import presented, refusal
from zt_agents.errors import CredentialError
from zt_agents.identity import SigningKey
from zt_agents.integrations.httpx import CallAuth
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.integrations.subprocess import call_environment
from zt_agents.testing import AnsweringChannel

ISSUER, AUDIENCE = "spiffe://acme.example/zt-agents", "https://tickets.acme.example"
CANARY = "canary-4711-argument"
POLICY = f"""{HEAD}
tools:
  send: {{tier: medium, effects: [write], resource: "ticket/{{args.number}}", audiences: ["{AUDIENCE}"]}}
  approve: {{tier: high, effects: [delete], audiences: ["{AUDIENCE}"]}}
  fail: {{tier: low, effects: [write], audiences: ["{AUDIENCE}"]}}
  refused: {{tier: low, effects: [write]}}
  denied: {{tier: low, effects: [write], audiences: ["{AUDIENCE}"]}}
audit: {{content: {{keep: restricted}}}}
rules:
  - {{id: all, agents: [helpdesk], tools: [send, approve, fail, refused], outcome: allow}}
"""
KEY = SigningKey.generate()


class Office:
    """Tools whose bodies call a service that answers as it is told, and every credential that was ever there."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.held: list[Any] = []

    def call(self, **auth: Any) -> str:
        """Make a request as an honest body does, and keep what was on it."""
        added = CallAuth(audience=AUDIENCE, **auth)
        self.held.append(added)
        transport = httpx.MockTransport(self._answer)
        with httpx.Client(auth=added, transport=transport) as client:
            return client.patch(f"{AUDIENCE}/tickets/5", json={"status": "done"}).text

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.note(request.headers["Authorization"].split()[1])
        if "DPoP" in request.headers:
            self.note(request.headers["DPoP"])
        return httpx.Response(200, text="done")

    def note(self, token: str) -> str:
        self.secrets.add(token)
        return token

    def tools(self) -> list[BaseTool]:
        @tool
        def send(number: int, note: str) -> str:
            """Send something."""
            self.held.append(zt_agents.current_call())
            self.held.append(zt_agents.current_session())
            self.note(call_environment(audience=AUDIENCE)["ZT_AGENTS_CALL_TOKEN"])
            return self.call() + self.call(dpop_key=KEY)

        @tool
        def approve(note: str) -> str:
            """Do something grave."""
            return self.call()

        @tool
        def fail(note: str) -> str:
            """Fail after a request."""
            said = self.call()
            raise ToolException(f"it failed after {said}")

        @tool
        def refused(note: str) -> str:
            """Ask for a token it may not have."""
            try:
                return self.call()
            except CredentialError as error:
                raise ToolException(f"{error!r} {error.message_for_model()}") from error

        @tool
        def denied(note: str) -> str:
            """Do what no rule allows."""
            return self.call()

        fail.handle_tool_error = refused.handle_tool_error = True
        return [send, approve, fail, refused, denied]


class Logged(logging.Handler):
    """Keeps whatever anybody logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{self.format(record)} {record.__dict__}"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Run a graph with all of it, and return what was left anywhere, and what must not be in it."""
    tmp_path, logged, printed, root = tmp_path_factory.mktemp("all"), Logged(), io.StringIO(), logging.getLogger()
    level = root.level
    root.addHandler(logged)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield run_all(tmp_path, logged, printed)
    finally:
        root.setLevel(level)
        root.removeHandler(logged)


def run_all(tmp_path: Path, logged: Logged, printed: io.StringIO) -> Any:
    """Run it."""
    office = Office()
    tools = office.tools()
    human = AnsweringChannel(approve=True)
    world = World(tmp_path, POLICY, tools, human)
    guard = world.guard
    script: list[Any] = [
        calls(
            ("send", {"number": 5, "note": CANARY}),
            ("approve", {"note": CANARY}),
            ("fail", {"note": CANARY}),
            ("refused", {"note": CANARY}),
            ("denied", {"note": CANARY}),
        ),
        calls(say="That was all."),
    ]
    agent = create_agent(
        ScriptedChatModel(turns=script), guard.protect(tools), middleware=[ZeroTrustMiddleware(guard)]
    )
    with world.session(intent="all of it") as session:
        office.note(session.token)
        messages = agent.invoke({"messages": [("user", "all of it")]})["messages"]
    world.records()
    shown = "\n".join(repr(span) + str(dict(span.attributes)) for span in world.recorder.spans())
    guard.close()
    kept = [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    left = {
        "messages": "\n".join(map(repr, messages)),
        "spans": shown,
        "files": "\n".join(kept),
        "logs": logged.text,
        "printed": printed.getvalue(),
        "approvals": "\n".join(map(repr, human.asked)),
        "representations": "\n".join(map(repr, [*office.held, guard, guard.call_tokens, guard.issuer, KEY, session])),
    }
    return office, left, messages, guard


def parts(token: str) -> list[str]:
    """Return the parts of a token by which it would be found: its header is no secret."""
    return [part for part in token.split(".")[1:] if part]


def test_they_are_nowhere(everything: Any) -> None:
    office, left, messages, _ = everything
    statuses = [(message.name, message.status) for message in messages if message.type == "tool"]
    outcomes = ["success", "success", "error", "error", "error"]
    assert sorted(statuses) == sorted(zip(["send", "approve", "fail", "refused", "denied"], outcomes, strict=True))
    assert len(office.secrets) == 7, "a session's, five of calls, and a proof"
    for place, text in left.items():
        assert text or place == "printed"
        for secret in office.secrets:
            assert all(part not in text for part in parts(secret)), place


def test_the_search_would_find_them(everything: Any) -> None:
    office, left, *_ = everything
    assert CANARY in left["approvals"]
    assert "call_" in left["files"]
    assert "HTTP Request: PATCH" in left["logs"]
    token = next(iter(office.secrets))
    assert any(part in f"It said {token!r}." for part in parts(token))


REFUSALS: list[Callable[[CallTokenVerifier, str], object]] = [
    lambda service, token: service.verify(token, tool="other", arguments=UNSAFE_ANY_ARGUMENTS),
    lambda service, token: service.verify(token, tool="send", arguments={"note": CANARY}),
    lambda service, token: service.verify(token, tool="send", arguments={"note": {CANARY}, "x": object()}),
    lambda service, token: service.verify(token[:-9] + "AAAAAAAAA", tool="send", arguments=UNSAFE_ANY_ARGUMENTS),
    lambda service, token: service.verify(token.replace(".", ".x", 1), tool="send", arguments=UNSAFE_ANY_ARGUMENTS),
    lambda service, token: service.verify(token + "é", tool="send", arguments=UNSAFE_ANY_ARGUMENTS),
    lambda service, token: service.verify(
        token, tool="send", arguments=UNSAFE_ANY_ARGUMENTS, proof=Proof(f"x.{CANARY}.y", "GET", CANARY)
    ),
    lambda service, token: CallTokenVerifier(keys=StaticKeys({"keys": []}), issuer=ISSUER, audience=AUDIENCE).verify(
        token, tool="send", arguments=UNSAFE_ANY_ARGUMENTS
    ),
]


@pytest.mark.parametrize("refuse", REFUSALS)
def test_no_refusal_repeats_what_it_refuses(everything: Any, refuse: Callable[..., object]) -> None:
    office, _, _, guard = everything
    service = CallTokenVerifier(keys=guard.call_keys, issuer=ISSUER, audience=AUDIENCE, clock=guard.clock)
    for token in office.secrets:
        with contextlib.suppress(CallTokenError):
            refuse(service, token)  # one that is good is used up by this
        with pytest.raises(CallTokenError) as refused:
            refuse(service, token)
        error = refused.value
        answer = refusal(error)
        chained: list[BaseException] = []
        link: BaseException | None = error
        while link is not None:
            chained.append(link)
            link = link.__cause__ or link.__context__
        text = "".join([repr(error), str(error), str(error.details), repr(answer), *traceback.format_exception(error)])
        text += "".join(f"{each!r} {each.args} {vars(each)}" for each in chained)
        assert all(part not in text for part in parts(token))
        assert CANARY not in text


def test_what_a_request_presents_does_not_show_it(everything: Any) -> None:
    office, *_ = everything
    for token in office.secrets:
        headers = [(b"authorization", f"DPoP {token}".encode()), (b"dpop", token.encode())]
        shown = repr(presented("GET", "/", headers, origin=AUDIENCE))
        assert all(part not in shown for part in parts(token))
