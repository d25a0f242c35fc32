"""Every mistake is an error at load, where it stands, with what was probably meant.

In the tables below ``»`` marks where the mistake must be reported; it is taken out before the policy is loaded.
"""

# ruff: noqa: E501 - a table reads best with one row on a line
from __future__ import annotations

import pytest
from policy_example import PARAMETERS, POLICY, load

from zt_agents.errors import PolicyFileError, Problem

# fmt: off
CASES = {
    # keys
    "unknown key at the top": ("session: {ttl", "»sesion: {ttl", "a policy has no key 'sesion'. Did you mean 'session'?"),
    "unknown key of an agent": ("    owner: dana", "    »onwer: dana", "an agent has no key 'onwer'. Did you mean 'owner'?"),
    "unknown key of a tool": ("    resource:", "    »resorce:", "a tool has no key 'resorce'. Did you mean 'resource'?"),
    "unknown key of a rule": ("    when: args.ticket_id", "    »wen: args.ticket_id", "a rule has no key 'wen'. Did you mean 'when'?"),
    "unknown key of session": ("{ttl:", "{»tll:", "session has no key 'tll'. Did you mean 'ttl'?"),
    "operator-like key": ("    outcome: deny", "    »unless: x\n    outcome: deny", "a rule has no key 'unless'."),
    "missing key": ("  - id: read-tickets\n    agents: [helpdesk, finance]\n", "  - »id: read-tickets\n", "a rule needs the key 'agents'."),
    "missing key of an agent": ("  finance:\n    id: spiffe://acme.example/agent/finance\n", "  »finance:\n", "an agent needs the key 'id'."),
    "duplicate key": ("    tier: low\n", "    tier: low\n    »tier: high\n", "the key 'tier' appears twice."),
    # values
    "unknown tier": ("    tier: low", "    tier: »lwo", "'lwo' is not one of low, medium, high. Did you mean 'low'?"),
    "unknown outcome": ("outcome: deny", "outcome: »block", "'block' is not one of allow, deny, require_approval."),
    "outcome in capitals": ("outcome: deny", "outcome: »DENY", "'DENY' is not one of allow, deny, require_approval."),
    "unknown effect": ("effects: [delete]", "effects: [»delte]", "'delte' is not one of read, write, delete,"),
    "unknown data class": ("data_class: confidential", "data_class: »confidental", "Did you mean 'confidential'?"),
    "unknown status": ("status: retired", "status: »retird", "Did you mean 'retired'?"),
    "number for text": ('version: "2"', "version: »2", "this must be text, not the number 2. Put it in quotes."),
    "float for text": ('version: "1.4"', "version: »1.4", "this must be text, not the number 1.4. Put it in quotes."),
    "yes for true": ("unmediated: true", "unmediated: »yes", "this must be true or false, not 'yes'."),
    "text for list": ("tools: [read_ticket]", "tools: »read_ticket", "this must be a list, such as [one, two], not 'read_ticket'."),
    "list for mapping": ("session: {ttl: 10m}", "session: »[10m]", "this must be a mapping of keys and values, not a list."),
    "true for condition": ("when: args.ticket_id > 0", "when: »true", "this must be text, not true."),
    "empty condition": ("when: args.ticket_id > 0", "when:»", "this must be text, not an empty value."),
    "empty raise_tier": ("raise_tier: high", "raise_tier:»", "an empty value is not one of low, medium, high."),
    "later version": ("version: 1\n", "version: »2\n", "Input should be 1."),
    "version is no boolean": ("version: 1\n", "version: »true\n", "this must be the number 1."),
    "empty tools": ("tools: [read_ticket]", "tools: »[]", "this is empty, and empty never means all"),
    "empty agents": ('agents: ["*"]', "agents: »[]", "this is empty, and empty never means all"),
    "empty effects": ("effects: [delete]", "effects: »[]", "this is empty, and empty never means all"),
    "bad duration": ("ttl: 10m", "ttl: »10 minutes", "a duration is written 30s, 15m or 1h."),
    "long duration": ("ttl: 10m", "ttl: »2h", "the longest duration allowed here is 1h."),
    "sexagesimal duration": ("timeout: 90s", "timeout: »1:30", "a duration is written 30s, 15m or 1h."),
    "number for duration": ("ttl: 10m", "ttl: »900", "a duration is written 30s, 15m or 1h."),
    "number for period": ("version: 1\n", "version: 1\nkeys: {rotate: »30}\n", "a period is written 30m, 12h or 7d."),
    "bad source": ("my_app.tools:TOOLS", "»my_app.tools", "a source is written MODULE:ATTRIBUTE"),
    "control characters": ("purpose: Pay what was approved", 'purpose: »"a\\tb"', "this text must be one line"),
    # names
    "unknown agent": ("agents: [helpdesk]", "agents: [»helpdsk]", "no agent is called 'helpdsk'. Did you mean 'helpdesk'?"),
    "unknown tool": ("tools: [read_ticket]", "tools: [»read_tickets]", "no tool is called 'read_tickets'. Did you mean 'read_ticket'?"),
    "other case": ("tools: [read_ticket]", "tools: [»Read_Ticket]", "no tool is called 'Read_Ticket'."),
    "look-alike tool": ("  delete_account:\n", "  »dеlete_account:\n", "contains U+0435 CYRILLIC SMALL LETTER IE"),
    "look-alike reference": ("tools: [read_ticket]", "tools: [»rеad_ticket]", "contains U+0435 CYRILLIC SMALL LETTER IE"),
    "full-width agent": ("  finance:\n", "  »ｆinance:\n", "contains U+FF46 FULLWIDTH LATIN SMALL LETTER F"),
    "blank in tool name": ("  delete_account:\n", "  »delete account:\n", "a tool name is 1 to 128 of"),
    "star among others": ("agents: [helpdesk, finance]", 'agents: [helpdesk, »"*"]', "'*' means all of agents: it stands alone."),
    "pattern as a tool": ("tools: [delete_account]", 'tools: [»"delete_*"]', "a rule names tools exactly, or all of them by '*' alone."),
    "allow every tool": ("tools: [read_ticket]", 'tools: »["*"]', "a rule that allows names its tools"),
    "twice in a list": ("[helpdesk, finance]", "[helpdesk, »helpdesk]", "'helpdesk' appears twice."),
    "duplicate rule id": ("id: pay-small", "id: »read-tickets", "another rule already has the id 'read-tickets'."),
    "rule id in capitals": ("id: pay-small", "id: »Pay-Small", "a rule id is 1 to 128 of a-z, 0-9 and '-'."),
    "not a SPIFFE id": ("id: spiffe://acme.example/agent/finance", "id: »finance", "a SPIFFE ID starts with 'spiffe://'"),
    "other trust domain": ("id: spiffe://acme.example/agent/finance", "id: »spiffe://evil.example/agent/finance", "this id is in 'evil.example', not in the trust domain 'acme.example'."),
    "id used twice": ("id: spiffe://acme.example/agent/finance", "id: »spiffe://acme.example/agent/helpdesk", "agent 'helpdesk' already has this id."),
    "pattern matches nothing": ('pattern: "delete_*"', 'pattern: »"delte_*"', "no tool matches 'delte_*'."),
    "pattern in other case": ('pattern: "delete_*"', 'pattern: »"DELETE_*"', "no tool matches 'DELETE_*'."),
    # arguments of tools
    "unknown placeholder": ("ticket/{args.ticket_id}", "ticket/»{args.ticketid}", "is not an argument of this tool. Did you mean 'args.ticket_id'?"),
    "placeholder outside args": ("ticket/{args.ticket_id}", "ticket/»{user.id}", "is not an argument of this tool."),
    "open brace": ('"ticket/{args.ticket_id}"', '»"ticket/{args.ticket_id"', "a brace is never closed"),
    "unknown destination": ("destinations: [to]", "destinations: [»too]", "tool 'pay' has no argument 'too'. Did you mean 'to'?"),
    "unknown content": ("content: [note]", "content: [»notes]", "tool 'pay' has no argument 'notes'. Did you mean 'note'?"),
    # rules that make no sense
    "deny without reason": ("  - id: never-after-strangers", "  - »id: never-after-strangers", "needs the key 'reason'", "    reason: No payment on a stranger's word\n"),
    "lowers a tier": ("raise_tier: high", "raise_tier: »low", "tool 'pay' is of the medium tier: a rule may raise a tier, never lower it."),
    "only retired agents": ("agents: [helpdesk]\n", "agents: »[old-bot]\n", "this rule can never apply: its agents are retired."),
    "only unmediated tools": ("tools: [delete_account]", "tools: »[web_search]", "calls of its unmediated tools never pass the guard."),
}
CONDITIONS = {
    "args.count > 1 &»&": "the condition is not complete.",
    "»args.amonut <= 5.0": "tool 'pay' has no argument 'amonut'. Did you mean 'args.amount'?",
    "»args.payee.town == 'x'": "tool 'pay' has no argument 'payee.town'.",
    "»user.nmae == 'x'": "there is no variable 'user.nmae'. Did you mean 'user.name'?",
    "»usr.id == 'x'": "there is no variable 'usr.id'. Did you mean 'user.id'?",
    "args.to == »to": "there is no variable 'to'.",
    "»args == 5": "'args' is not a value by itself",
    "args.to »<= 5": "'<=' does not take (string, int).",
    "args.count »<= 5.0": "Write the whole number with a point",
    "args.amount »<= 5": "'<=' does not take (double, int). Write the whole number with a point, such as 500.0.",
    "args.count »== null": "This value is never null.",
    "args.note »== 5": "'==' does not take (string or null, int).",
    "args.count »= 5": "'=' is not CEL. Did you mean '=='?",
    "args.count »<> 5": "'<>' is not CEL. Did you mean '!='?",
    "args.urgent »and args.count > 1": "'and' is not CEL. Did you mean '&&'?",
    "args.urgent »OR args.count > 1": "'OR' is not CEL. Did you mean '||'?",
    "»not args.urgent": "'not' is not CEL. Did you mean '!'?",
    "args.urgent == »True": "'True' is not CEL. Did you mean 'true'?",
    "args.urgent »& args.urgent": "'&' is not CEL. Did you mean '&&'?",
    "args.to == »'x": "this text is never closed.",
    "args.to.startswith»('x')": "there is no function 'startswith'. Did you mean 'startsWith'?",
    "»args.count": "a condition answers true or false; this one is of type int.",
    "»user.attributes.vip": "a condition answers true or false; this one is of type dyn.",
    "»1 == 1": "this condition uses no variable and is always true: remove it.",
    "»2 > 3": "this condition uses no variable and is always false: the rule could never apply.",
    "args.to.»replace('a', args.to) == 'x'": "replace() builds texts; a condition compares them",
    "args.tags.»join(args.to) == 'x'": "join() builds texts; a condition compares them",
    "args.to == »'Jose\u0301'": "not in Unicode's normal form C",
    "»has(args.urgent)": "has() cannot be asked of a variable; compare it with null: args.urgent != null.",
    "!»has((args.note))": "has() cannot be asked of a variable",
    "»has(args.`note`)": "has() cannot be asked of a variable",
    "has((»args).note)": "'args' is not a value by itself",
    "args.tags.exists(»user, user == 'x')": "'user' is taken: give the iteration variable another name.",
    "args.tags.exists(»_int0, args.count == 5)": "'_int0' is taken: give the iteration variable another name.",
    "args.tags.all(»_string7, args.to == 'x')": "'_string7' is taken",
    "args.to == »“x”": "“ is U+201C LEFT DOUBLE QUOTATION MARK: quote texts with ' or \".",
    "size(args.to) > 3 && len»(args.to) > 3": "there is no function 'len'. Did you mean 'size'?",
    "args.to.lower»() == 'x'": "there is no function 'lower'. Did you mean 'lowerAscii'?",
    "args.currency in ('EUR'», 'USD')": "',' is not expected here. A list is written in brackets: [1, 2].",
    "»args.payee == 'x'": "argument 'payee' is an object: name one of its parts, such as args.payee.city.",
    "args.currency == »'EURO'": "args.currency is never 'EURO'. Did you mean 'EUR'?",
    "»'euro' != args.currency": "args.currency is never 'euro'.",
    "args.currency in ['EUR', »'UDS']": "args.currency is never 'UDS'. Did you mean 'USD'?",
    "provenance.integrity == »'untrsuted'": "Did you mean 'untrusted'?",
    "tool.tier == »'High'": "tool.tier is never 'High'.",
    "»'raed' in tool.effects": "Did you mean 'read'?",
    "args.to.matches(»'(')": "matches() cannot work with this text",
    "context.time > timestamp(»'yesterday')": "timestamp() cannot work with this text",
    "context.time.getHours(»'Europe/Berlni') > 8": "getHours() cannot work with this text: Invalid timezone.",
    "args.to == 'é' && »args.amonut > 1.0": "has no argument 'amonut'",
    "»" + "(" * 40 + "args.urgent" + ")" * 40: "this condition is nested too deeply",
    "args.count > »9223372036854775808": "invalid int literal",
}
# fmt: on


def problems_of(text: str, **options: object) -> list[Problem]:
    with pytest.raises(PolicyFileError) as caught:
        load(text, **options)  # type: ignore[arg-type]
    return list(caught.value.problems)


def marked(text: str) -> tuple[str, int, int]:
    before = text[: text.index("»")]
    return text.replace("»", ""), before.count("\n") + 1, len(before) - before.rfind("\n")


def replaced(old: str, new: str) -> str:
    assert old in POLICY, old
    return POLICY.replace(old, new, 1)


def expect(text: str, message: str) -> None:
    text, line, column = marked(text)
    problems = problems_of(text)
    assert any((p.line, p.column) == (line, column) and message in p.message for p in problems), [
        str(problem) for problem in problems
    ]


def test_the_policy_of_these_tests_loads() -> None:
    assert load().warnings == ()


@pytest.mark.parametrize("case", CASES)
def test_mistake(case: str) -> None:
    old, new, message, *removed = CASES[case]
    text = replaced(old, new)
    for each in removed:
        text = text.replace(each, "")
    expect(text, message)


STYLES = {
    "plain": lambda condition: condition,
    "literal block": lambda condition: f"|\n      {condition}",
    "single quotes": lambda condition: "'" + condition.replace("'", "''") + "'",
}


@pytest.mark.parametrize(
    ("condition", "style"),
    [
        (condition, style)
        for condition in CONDITIONS
        for style in STYLES
        if style != "plain" or not condition.startswith(("»'", "!", "»!"))  # YAML has another use for these
    ],
)
def test_mistake_in_a_condition(condition: str, style: str) -> None:
    expect(replaced("when: args.amount > 100.0", f"when: {STYLES[style](condition)}"), CONDITIONS[condition])


def test_the_line_is_right_in_a_condition_of_several_lines() -> None:
    expect(replaced("&& args.currency in", "&& »args.curency in"), "Did you mean 'args.currency'?")
    expect(
        replaced(
            "when: args.amount > 100.0", "when: |\n\n      args.amount > 100.0\n      && »args.tu == 'x'"
        ),
        "tool 'pay' has no argument 'tu'. Did you mean 'args.to'?",
    )
    expect(
        replaced("when: args.amount > 100.0", 'when: "args.to == \\"é\\" &&\n      »args.tu == \'x\'"'),
        "Did you mean 'args.to'?",
    )


def test_all_mistakes_are_reported_in_the_order_of_the_file() -> None:
    text = replaced("owner: dana", "onwer: dana").replace("effects: [delete]", "effects: [delte]")
    text = text.replace("when: args.ticket_id > 0", "when: args.tiket_id > 0").replace(
        "outcome: deny", "outcome: den"
    )
    problems = problems_of(text)
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)
    assert [problem.message.partition(".")[0] for problem in problems] == [
        "an agent has no key 'onwer'",
        "'delte' is not one of read, write, delete, egress, money, auth, execute",
        "tool 'read_ticket' has no argument 'tiket_id'",
        "'den' is not one of allow, deny, require_approval",
    ]


def test_a_broken_entry_causes_no_further_mistakes() -> None:
    text = replaced("  helpdesk:\n    id:", "  helpdesk:\n    ident:").replace(
        "    effects: [money, write]\n", ""
    )
    assert {problem.message for problem in problems_of(text)} == {
        "an agent has no key 'ident'.",
        "an agent needs the key 'id'.",
        "a tool needs the key 'effects'.",
    }


def test_str_names_file_line_and_column() -> None:
    with pytest.raises(PolicyFileError) as caught:
        load(replaced("    tier: low", "    teir: low"))
    assert str(caught.value).splitlines() == [
        "1 mistake in the policy file; nothing was loaded.",
        "  zt-agents.yaml:26:5: a tool has no key 'teir'. Did you mean 'tier'?",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("when: args.amount > 100.0", "when: »args.amount > 100.0"),
        ("destinations: [to]", "destinations: »[to]"),
        ("content: [note]", "content: »[note]"),
    ],
)
def test_a_tool_without_recorded_schema(old: str, new: str) -> None:
    text, line, column = marked(replaced(old, new))
    problems = problems_of(text, parameters={k: v for k, v in PARAMETERS.items() if k != "pay"})
    found = next(problem for problem in problems if (problem.line, problem.column) == (line, column))
    assert found.message == "no recorded schema for tool 'pay'; run `zt-agents check --accept`."


def test_a_condition_must_hold_for_each_tool_of_its_rule() -> None:
    expect(
        replaced(
            "tools: [delete_account]\n    outcome: allow",
            "tools: [pay, read_ticket]\n    outcome: allow\n    when: »args.count > 1",
        ),
        "tool 'read_ticket' has no argument 'count'.",
    )


UNREACHABLE = {
    "denied entirely": (
        "  - id: stop\n    agents: [finance]\n    tools: [pay]\n    outcome: deny\n    reason: Stop\n",
        "all it is about is denied by 'stop'.",
        ["pay-small", "pay-large"],
    ),
    "denied by several rules": (
        "  - id: stop-1\n    agents: [finance]\n    tools: [read_ticket]\n    outcome: deny\n    reason: Stop\n"
        '  - id: stop-2\n    agents: [helpdesk]\n    tools: ["*"]\n    outcome: deny\n    reason: Stop\n',
        "all it is about is denied by",
        ["read-tickets", "close-accounts"],
    ),
    "denied on the same condition": (
        "  - id: stop\n    agents: [finance]\n    tools: [pay]\n    outcome: deny\n    when: args.amount > 100.0\n    reason: Stop\n",
        "all it is about is denied by 'stop'.",
        ["pay-large"],
    ),
    "said before": (
        "  - id: again\n    agents: [finance, helpdesk]\n    tools: [read_ticket]\n    outcome: allow\n    when: args.ticket_id > 0\n",
        "it says what 'read-tickets' says.",
        ["again"],
    ),
}


@pytest.mark.parametrize("case", UNREACHABLE)
def test_unreachable_rules(case: str) -> None:
    added, message, dead = UNREACHABLE[case]
    text = POLICY + added
    problems = problems_of(text)
    lines = text.splitlines()
    assert [lines[problem.line - 1].strip() for problem in problems] == [f"- id: {rule}" for rule in dead]
    assert all(message in problem.message for problem in problems)


def test_a_partly_denied_rule_is_fine() -> None:
    added = (
        "  - id: stop\n    agents: [finance]\n    tools: [read_ticket]\n    outcome: deny\n    reason: Stop\n"
    )
    assert load(POLICY + added).engine.rules[0].id == "read-tickets"


def test_warnings() -> None:
    text = replaced("tier: medium\n    effects: [money, write]", "tier: low\n    effects: [money, write]")
    text = text.replace("  web_search:", "  Read_Ticket:\n    tier: low\n    effects: [read]\n  web_search:")
    text += "  - id: ask\n    agents: [helpdesk, finance]\n    tools: [read_ticket]\n    outcome: require_approval\n    reason: Ask\n"
    assert load(text).warnings == (
        "Tool 'pay' is of the low tier, and its effects are money.",
        "Tools 'read_ticket' and 'Read_Ticket' differ only in upper and lower case.",
        "Rule 'read-tickets' allows what rule 'ask' always holds for approval.",
    )
