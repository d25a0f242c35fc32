"""How what a policy file says is spelled: names, references, durations, and the patterns that editors check them by.

A text that does not match its pattern is refused in words (:data:`RULES_OF_SPELLING`), by pattern, since that is all
that pydantic says about it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, StringConstraints

# Each pattern, and what to say about a text that does not match it.
_TOOL_NAME = r"^[A-Za-z0-9_.:/-]{1,128}$"
_AGENT_NAME = r"^[A-Za-z0-9_.-]{1,128}$"
_TOOL_REFERENCE = r"^(\*|[A-Za-z0-9_.:/-]{1,128})$"
_AGENT_REFERENCE = r"^(\*|[A-Za-z0-9_.-]{1,128})$"
_RULE_ID = r"^[a-z0-9-]{1,128}$"
_TOOL_PATTERN = r"^[A-Za-z0-9_.:/*?!\[\]-]{1,128}$"
_TRUST_DOMAIN = r"^[a-z0-9._-]{1,255}$"
_SOURCE = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"
_APPROVER = r"^(anyone|owner|session-user|user:\S{1,256}|group:\S{1,256})$"
_EXCLUDED = r"^(owner|user:\S{1,256}|group:\S{1,256})$"
_DURATION = r"^[1-9][0-9]{0,5}[smh]$"
_NAME_OF_SECRET = r"^[a-z][a-z0-9_]{0,63}$"  # noqa: S105 - how it is spelled, not what it is
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
_PERIOD = r"^[1-9][0-9]{0,5}[smhd]$"
_AUDIENCE = r"^[a-z][a-z0-9+.-]{0,30}:[!-~]{1,480}$"
_PROVIDER_TEXT = r"^[!-~]{1,500}$"
ANY_TEXT = r"\S"
RULES_OF_SPELLING = {
    _TOOL_NAME: "a tool name is 1 to 128 of A-Z, a-z, 0-9, '_', '.', ':', '/' and '-'",
    _AGENT_NAME: "an agent name is 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-'",
    _TOOL_REFERENCE: "a rule names tools exactly, or all of them by '*' alone",
    _AGENT_REFERENCE: "a rule names agents exactly, or all of them by '*' alone",
    _RULE_ID: "a rule id is 1 to 128 of a-z, 0-9 and '-'",
    _TOOL_PATTERN: "a tool pattern is made of the characters of tool names, '*', '?' and '[...]'",
    _TRUST_DOMAIN: "a trust domain is 1 to 255 of a-z, 0-9, '.', '_' and '-'",
    _SOURCE: "a source is written MODULE:ATTRIBUTE, such as my_app.tools:TOOLS",
    _APPROVER: "an approver is anyone, owner, session-user, user:ID or group:NAME",
    _EXCLUDED: "who is excluded is owner, user:ID or group:NAME; the user that the agent acts for always is",
    _DURATION: "a duration is written 30s, 15m or 1h",
    _NAME_OF_SECRET: "a secret's name is 1 to 64 of a-z, 0-9 and '_', and begins with a letter",
    _VARIABLE: "an environment variable is 1 to 128 of A-Z, a-z, 0-9 and '_', and begins with no digit",
    _PERIOD: "a period is written 30m, 12h or 7d",
    _AUDIENCE: "a service is named by a URI, such as https://tickets.acme.example or urn:acme:tickets",
    _PROVIDER_TEXT: "this is 1 to 500 printable ASCII characters without spaces",
    ANY_TEXT: "text is needed here",
}

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(duration: str) -> int:
    """Return a duration such as ``15m``, or a period such as ``7d``, in seconds."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def _at_most(longest: str) -> AfterValidator:
    what = "period" if longest.endswith("d") else "duration"

    def check(given: str) -> str:
        if seconds(given) > seconds(longest):
            raise ValueError(f"the longest {what} allowed here is {longest}")
        return given

    return AfterValidator(check)


def _as_text(pattern: str) -> BeforeValidator:
    """Say how it is written, where YAML read something else than text: 30 is a number, and 30 of what?"""

    def check(given: Any) -> Any:
        if not isinstance(given, str):
            raise ValueError(RULES_OF_SPELLING[pattern])  # noqa: TRY004 - pydantic reports a ValueError
        return given

    return BeforeValidator(check)


def _one_line(text: str) -> str:
    text = text.strip()  # a folded block ends with a line break
    if "\n" in text or "\t" in text:
        raise ValueError("this text must be one line, without tabs")
    return text


ToolName = Annotated[str, StringConstraints(pattern=_TOOL_NAME)]
AgentName = Annotated[str, StringConstraints(pattern=_AGENT_NAME)]
Text = Annotated[str, StringConstraints(pattern=ANY_TEXT, max_length=1000), AfterValidator(_one_line)]
Duration = Annotated[str, StringConstraints(pattern=_DURATION), _at_most("1h"), _as_text(_DURATION)]
ShortDuration = Annotated[str, StringConstraints(pattern=_DURATION), _at_most("60s"), _as_text(_DURATION)]
LongDuration = Annotated[str, StringConstraints(pattern=_DURATION), _at_most("24h"), _as_text(_DURATION)]
Period = Annotated[str, StringConstraints(pattern=_PERIOD), _at_most("90d"), _as_text(_PERIOD)]
Approver = Annotated[str, StringConstraints(pattern=_APPROVER)]
Excluded = Annotated[str, StringConstraints(pattern=_EXCLUDED)]
SecretName = Annotated[str, StringConstraints(pattern=_NAME_OF_SECRET)]
Audience = Annotated[str, StringConstraints(pattern=_AUDIENCE)]
ProviderText = Annotated[str, StringConstraints(pattern=_PROVIDER_TEXT)]
TrustDomain = Annotated[str, StringConstraints(pattern=_TRUST_DOMAIN)]
RuleId = Annotated[str, StringConstraints(pattern=_RULE_ID)]
AgentReference = Annotated[str, StringConstraints(pattern=_AGENT_REFERENCE)]
ToolReference = Annotated[str, StringConstraints(pattern=_TOOL_REFERENCE)]
ToolPattern = Annotated[str, StringConstraints(pattern=_TOOL_PATTERN)]
Source = Annotated[str, StringConstraints(pattern=_SOURCE)]
Variable = Annotated[str, StringConstraints(pattern=_VARIABLE)]
Condition = Annotated[str, StringConstraints(pattern=ANY_TEXT, max_length=4000)]
ArgumentName = Annotated[str, StringConstraints(pattern=ANY_TEXT, max_length=256)]
