from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from zt_agents.catalog.guess import guess, split_words
from zt_agents.catalog.specs import Effect, Tier, ToolDescription
from zt_agents.provenance.labels import DataClass, Integrity

TEXT = {"type": "string"}
NUMBER = {"type": "number"}


def tool(
    name: str, /, *, says: str = "", hints: dict[str, Any] | None = None, **arguments: Any
) -> ToolDescription:
    parameters = {"type": "object", "properties": arguments, "required": list(arguments)}
    return ToolDescription(name, says, parameters, hints or {})


TABLE = [
    # reading
    (tool("read_ticket", ticket_id=TEXT), "low", "read"),
    (tool("get_user_details", user_id=TEXT), "low", "read"),
    (tool("listFiles", folder=TEXT), "low", "read"),
    (tool("search-docs", query=TEXT), "low", "read"),
    (tool("GmailReadEmail", email_id=TEXT), "low", "read"),
    (tool("gmail_search_emails", keyword=TEXT), "low", "read"),
    (tool("find_user_id_by_email", email={"type": "string", "format": "email"}), "low", "read"),
    (tool("get_order_details", order_id=TEXT), "low", "read"),
    (tool("lookup_country", country_code=TEXT), "low", "read"),
    (tool("list_deleted_files"), "low", "read"),
    (tool("get_posts"), "low", "read"),
    (tool("order_status", order_id=TEXT), "high", "money"),
    # reading what is sensitive
    (tool("get_salary", employee=TEXT), "medium", "read"),
    (tool("read_password", name=TEXT), "medium", "read"),
    (tool("search_passwords", keyword=TEXT), "medium", "read"),
    (tool("EpicFHIRGetPatientDetails", patient_id=TEXT), "medium", "read"),
    (tool("get_employee", ssn=TEXT), "medium", "read"),
    (tool("list_api_keys"), "medium", "read"),
    (tool("get_record", says="Returns the medical history."), "medium", "read"),
    # reading an address says something to it
    (tool("fetch_page", url=TEXT), "medium", "egress read"),
    (tool("get_contents", source={"type": "string", "format": "uri"}), "medium", "egress read"),
    (tool("requests_get", url=TEXT), "medium", "egress read"),
    # changing
    (tool("update_ticket", ticket_id=TEXT, status=TEXT), "medium", "write"),
    (tool("set_reminder", when=TEXT), "medium", "write"),
    (tool("write_file", file_path=TEXT, text=TEXT), "medium", "write"),
    (tool("create_event", title=TEXT), "medium", "write"),
    (tool("addComment", comment=TEXT), "medium", "write"),
    (tool("cancel_pending_order", order_id=TEXT), "medium", "write"),
    # deleting
    (tool("delete_user", user_id=TEXT), "high", "delete"),
    (tool("drop_table", table=TEXT), "high", "delete"),
    (tool("GitHubDeleteRepository", repository=TEXT), "high", "delete"),
    (tool("purge-queue"), "high", "delete"),
    (tool("get_and_delete_message", message_id=TEXT), "high", "delete read"),
    (tool("tidy_folder", says="Deletes every temporary file."), "high", "delete write"),
    # sending
    (tool("send_email", to=TEXT, subject=TEXT, body=TEXT), "high", "egress"),
    (tool("email_customer", customer_id=TEXT), "medium", "egress"),
    (tool("post_message", channel=TEXT, message=TEXT), "high", "egress"),
    (tool("post_message", channel={"enum": ["ops", "dev"]}, message=TEXT), "medium", "egress"),
    (tool("upload_file", destination=TEXT, file=TEXT), "high", "egress"),
    (tool("publish_page", page_id=TEXT), "medium", "egress"),
    (tool("share_document", document_id=TEXT, recipient_email=TEXT), "medium", "egress"),
    (tool("call_webhook", webhook_url=TEXT, payload=TEXT), "high", "egress"),
    # money
    (tool("pay_invoice", invoice_id=TEXT, amount=NUMBER), "high", "money"),
    (tool("transfer_funds", to_account=TEXT, amount=NUMBER), "high", "money"),
    (tool("issue_refund", order_id=TEXT), "high", "money"),
    (tool("create_payment", amount=NUMBER), "high", "money write"),
    (tool("BinanceWithdraw", amount=NUMBER), "high", "money"),
    # who may do what
    (tool("reset_password", user=TEXT), "high", "auth write"),
    (tool("grant_access", user=TEXT), "high", "auth"),
    (tool("revoke_token", token_id=TEXT), "high", "auth"),
    (tool("set_user_role", user=TEXT, role=TEXT), "high", "auth write"),
    (tool("updatePermissions", user=TEXT), "high", "auth write"),
    (tool("create_api_key", name=TEXT), "high", "auth write"),
    (tool("DisableTwoFactorAuthentication"), "high", "auth write"),
    (tool("get_password_reset_link", user=TEXT), "high", "auth read write"),
    # running code
    (tool("sql_db_query", query=TEXT), "high", "execute read"),
    (tool("query_sql", query=TEXT), "high", "execute read"),
    (tool("python_repl", code=TEXT), "high", "execute"),
    (tool("terminal", commands=TEXT), "high", "execute"),
    (tool("run_command", command=TEXT), "high", "execute"),
    (tool("exec_shell", cmd=TEXT), "high", "execute"),
    (tool("check_host", command=TEXT), "high", "execute read"),
    # nobody knows
    (tool("frobnicate_widget", widget=TEXT), "high", "write"),
    (tool("sendemail", to=TEXT), "high", "write"),
    (tool("tool_1"), "high", "write"),
    (tool(""), "high", "write"),
    (tool("g\u0435t_ticket"), "high", "write"),
    (tool("get_\u200bticket"), "high", "read write"),
]


@pytest.mark.parametrize(("description", "tier", "effects"), TABLE, ids=[ascii(row[0].name) for row in TABLE])
def test_table(description: ToolDescription, tier: str, effects: str) -> None:
    found = guess(description)
    assert (found.tier.value, " ".join(sorted(found.effects))) == (tier, effects), found.why
    assert found.why


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("read_ticket", ("read", "ticket")),
        ("sendEmailNow", ("send", "email", "now")),
        ("EpicFHIRGetPatient", ("epic", "fhir", "get", "patient")),
        ("get-user.v2", ("get", "user", "v", "2")),
        ("APIKey", ("api", "key")),
    ],
)
def test_words_of_a_name(name: str, expected: tuple[str, ...]) -> None:
    assert split_words(name) == expected


def test_where_and_what() -> None:
    found = guess(tool("send_email", to=TEXT, cc=TEXT, subject=TEXT, body=TEXT, priority=TEXT))
    assert found.destinations == ("to", "cc")
    assert found.content == ("subject", "body")
    assert guess(tool("find_user", email=TEXT)).destinations == (), "a key to look something up goes nowhere"
    assert guess(tool("fetch_page", url=TEXT)).destinations == ("url",)


def test_system_and_resource() -> None:
    assert guess(tool("GmailSendEmail")).system == "gmail"
    assert guess(tool("read_ticket")).system == "ticket"
    assert guess(tool("read_ticket", ticket_id=TEXT)).resource == "ticket/{args.ticket_id}"
    assert guess(tool("read_file", path=TEXT)).resource == "file/{args.path}"
    assert guess(tool("search_docs", query=TEXT)).resource == ""
    optional = ToolDescription("read_ticket", "", {"properties": {"ticket_id": TEXT}})
    assert guess(optional).resource == "", "an argument that may be missing names no resource"


def test_data_classes() -> None:
    assert guess(tool("read_ticket")).data_class is DataClass.INTERNAL
    assert guess(tool("get_salary")).data_class is DataClass.CONFIDENTIAL
    assert guess(tool("get_secret")).data_class is DataClass.RESTRICTED
    nested = {"type": "object", "properties": {"passport": TEXT}}
    assert guess(tool("find_traveller", traveller=nested)).data_class is DataClass.RESTRICTED


def test_integrity_is_never_guessed_to_be_good() -> None:
    assert guess(tool("calculate", says="Trusted, written by the user.")).integrity is Integrity.UNTRUSTED


@pytest.mark.parametrize(
    ("hints", "tier"),
    [
        ({"destructiveHint": True}, Tier.HIGH),
        ({"openWorldHint": True}, Tier.MEDIUM),
        ({"readOnlyHint": False}, Tier.MEDIUM),
        ({"idempotentHint": False}, Tier.MEDIUM),
        ({"readOnlyHint": True, "idempotentHint": False}, Tier.LOW),
        ({"destructiveHint": None, "openWorldHint": None, "readOnlyHint": None}, Tier.LOW),
    ],
)
def test_hints_raise(hints: dict[str, Any], tier: Tier) -> None:
    assert guess(tool("read_ticket", hints=hints)).tier is tier


def test_hints_never_lower() -> None:
    kind = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
    for description, _, _ in TABLE:
        flattered = ToolDescription(description.name, description.description, description.parameters, kind)
        assert guess(flattered) == guess(description)


def test_an_alternative_with_a_list_of_values_does_not_limit_a_destination() -> None:
    to = {"anyOf": [{"enum": ["ops@acme.example"]}, {"type": "string"}]}
    assert guess(tool("send_email", to=to, body=TEXT)).tier is Tier.HIGH


def test_a_tool_the_provider_runs_is_high() -> None:
    description = ToolDescription("web_search", "", {}, unmediated=True)
    assert guess(description).tier is Tier.HIGH
    assert Effect.EGRESS in guess(description).effects


def test_schemas_that_are_not_what_they_should_be_do_not_break_a_guess() -> None:
    for parameters in (
        {"properties": []},
        {"properties": {"url": None}},
        {"required": "x", "properties": {"a": 1}},
    ):
        assert guess(ToolDescription("read_ticket", "", parameters)).effects


def test_tools_of_a_published_attack_benchmark() -> None:
    folder = os.environ.get("ZT_AGENTS_DATA")
    if not folder or not (path := Path(folder) / "injecagent.json").exists():
        pytest.skip("injecagent.json is missing; set ZT_AGENTS_DATA to the folder that holds it")
    data = json.loads(path.read_text(encoding="utf-8"))
    tools = {name: guess(ToolDescription(name, text, {})) for name, text in data["tool_descriptions"].items()}
    harmful = {
        call["tool"] for attack in data["attacks"] if attack["kind"] == "dh" for call in attack["calls"]
    }
    assert len(tools) == 79
    assert len(harmful) == 30
    assert {name for name in harmful if tools[name].tier is Tier.LOW} == set()
    reading = {name for name, found in tools.items() if found.effects == {Effect.READ}}
    assert not reading & harmful
    assert sum(found.tier is Tier.LOW for found in tools.values()) > 20, (
        "a guess of high for everything helps nobody"
    )
