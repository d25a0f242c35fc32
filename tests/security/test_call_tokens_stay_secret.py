"""CallTokens, proofs and session tokens are in requests, and nowhere else: not in what is logged, traced, measured,
kept, raised, printed, exported, or shown to a model or to whoever approves.

The console's pages are searched beside its other tests.
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
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import BaseTool, ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from typer.testing import CliRunner
from world import HEAD, World

import zt_agents
from zt_agents.approvals import ApprovalRequest, ApprovalState, StoredApproval
from zt_agents.approvals.notices import NoticeEvent, as_json, as_mail, as_slack, as_teams, notice
from zt_agents.cli import app as command_line
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


class Told(BaseCallbackHandler):
    """Keeps whatever tracers of LangChain are told."""

    def __init__(self) -> None:
        self.text = ""

    def _told(self, *args: Any, **named: Any) -> None:
        self.text += repr((args, named))

    on_chain_start = on_chain_end = on_chain_error = on_tool_start = on_tool_end = on_tool_error = _told
    on_chat_model_start = on_llm_start = on_llm_end = on_text = on_agent_action = on_custom_event = _told


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
    reader = InMemoryMetricReader()
    world = World(tmp_path, POLICY, tools, human, meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    saver, told = InMemorySaver(), Told()
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
        ScriptedChatModel(turns=script),
        guard.protect(tools),
        middleware=[ZeroTrustMiddleware(guard)],
        checkpointer=saver,
    )
    config: Any = {"configurable": {"thread_id": "t"}, "callbacks": [told]}
    with world.session(intent="all of it") as session:
        office.note(session.token)
        config["configurable"]["zt_session"] = session
        streamed = list(agent.stream({"messages": [("user", "all of it")]}, config, stream_mode=["debug", "updates"]))
        messages = agent.get_state(config).values["messages"]
    world.records()
    measured = reader.get_metrics_data()
    assert measured is not None
    sent = encode_spans(world.recorder._memory.get_finished_spans()).SerializeToString()
    sent += encode_metrics(measured).SerializeToString()
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
        "metrics": measured.to_json(),
        "what a collector is sent": sent.decode("latin-1"),
        "checkpoints": "\n".join(map(repr, [*saver.list(config), saver.storage, saver.writes, saver.blobs])),
        "streams": repr(streamed),
        "callbacks": told.text,
        "notices": "\n".join(notices(human.asked)),
        **shown_by_commands(world, tmp_path),
        "representations": "\n".join(map(repr, [*office.held, guard, guard.call_tokens, guard.issuer, KEY, session])),
    }
    return office, left, messages, guard


def notices(asked: list[ApprovalRequest]) -> Iterator[str]:
    """Yield what the approvers of *asked* are sent, in each form."""
    for request in asked:
        for event, state in ((NoticeEvent.REQUESTED, "pending"), (NoticeEvent.SETTLED, "denied")):
            stored = StoredApproval(request.id, request.binding_hash, ApprovalState(state), request)
            told = notice(stored, event, console="https://x", with_arguments=True)
            assert told is not None
            yield from (form(told).decode() for form in (as_json, as_slack, as_teams))
            yield "\n".join(as_mail(told))


def shown_by_commands(world: World, folder: Path) -> dict[str, str]:
    """Return what commands say of the log."""
    log, page = ["--log", str(world.guard.policy.audit_path)], folder / "timeline.html"
    commands = {
        **{f"export as {form}": ["audit", "export", "--format", form, *log] for form in ("ocsf", "jsonl", "csv")},
        "timeline": ["audit", "timeline", *log],
        "timeline as a page": ["audit", "timeline", "--html", str(page), *log],
        "show": ["audit", "show", *log],
        "show as JSON": ["audit", "show", "--json", *log],
        "changes": ["audit", "changes", *log],
        "verify": ["audit", "verify", "--json", *log],
    }
    said = {}
    for name, command in commands.items():
        result = CliRunner().invoke(command_line, command)
        assert result.exit_code == 0, (name, result.output)
        said[name] = result.output
    return said | {"timeline as a page": page.read_text()}


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
        assert text or place in ("printed", "timeline as a page")
        for secret in office.secrets:
            assert all(part not in text for part in parts(secret)), place


def test_the_search_would_find_them(everything: Any) -> None:
    office, left, *_ = everything
    assert CANARY in left["approvals"]
    assert "call_" in left["files"]
    assert CANARY in left["checkpoints"]
    assert CANARY in left["callbacks"]
    assert CANARY in left["streams"]
    assert CANARY in left["notices"]
    assert "execute_tool send" in left["what a collector is sent"]
    exports = {"export as ocsf", "export as jsonl", "export as csv"}
    for place in {*exports, "timeline", "timeline as a page", "show as JSON"}:
        assert "helpdesk" in left[place], place
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
