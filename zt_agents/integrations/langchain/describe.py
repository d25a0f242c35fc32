"""Read LangChain tools into descriptions: the name, description and parameters a model gets to see.

The rules:

1. Injected arguments (state, store, tool call id, ``InjectedToolArg``) are left out: no model supplies them.
2. A description depends on what the tool says, never on its class, so that sealing a tool does not change it,
   and never on the order of a set, so that two processes agree.
3. Only MCP's four hints are taken over as annotations; nothing else in a tool's metadata is evidence.
4. What is not a tool is refused. Nothing is left out silently.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from langchain_core.tools import BaseTool, BaseToolkit, Tool
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1

from zt_agents.catalog.specs import ToolDescription
from zt_agents.errors import ConfigurationError

_HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_PROVIDER_FIELDS = (
    "type",
    "name",
    "server_label",
    "server_url",
    "allowed_tools",
    "allowed_domains",
    "require_approval",
)
"""What is recorded of a provider's tool. Other settings may be secrets (``authorization``, ``headers``)."""

ProviderTool = Mapping[str, Any]
"""A tool the provider runs on its own servers: ``{"type": "web_search_20250305", "name": "web_search"}``."""


def describe(tool: BaseTool) -> ToolDescription:
    """Return how *tool* presents itself to a model.

    Raises:
        ConfigurationError: its parameters have no JSON Schema.
    """
    metadata = tool.metadata or {}
    return ToolDescription(
        name=tool.name,
        description=tool.description,
        parameters=_parameters(tool),
        annotations={hint: metadata[hint] for hint in _HINTS if isinstance(metadata.get(hint), bool)},
    )


def describe_all(source: object) -> list[ToolDescription]:
    """Describe every tool that *source* holds; see :func:`collect` for what it may be.

    Raises:
        ConfigurationError: *source* holds something else, or two different tools of one name.
    """
    described: dict[str, ToolDescription] = {}
    for tool in collect(source):
        description = describe(tool) if isinstance(tool, BaseTool) else describe_provider_tool(tool)
        if described.setdefault(description.name, description) != description:
            raise ConfigurationError(
                f"Two different tools are named {description.name!r}: a rule for one holds for the other.",
                hint="Give each tool a name of its own.",
                details={"tool": description.name},
            )
    return list(described.values())


def collect(source: object) -> list[BaseTool | ProviderTool]:
    """Return the tools in *source*.

    It may be a tool, a list or tuple of tools and toolkits, a toolkit, or a function (also an async one) that
    returns one of these.

    Raises:
        ConfigurationError: *source* is, holds or returns something else.
    """
    if isinstance(source, BaseTool) or _is_provider_tool(source):
        return [source]  # type: ignore[list-item]
    if isinstance(source, BaseToolkit):
        return collect(source.get_tools())
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return [tool for each in source for tool in _member(each)]
    if callable(source) and not isinstance(source, type):
        return collect(_call(source))
    raise ConfigurationError(
        f"A {type(source).__name__} is not a tool, a list of tools, a toolkit, or a function of these.",
        hint="Name an object such as TOOLS = [read_ticket, send_email].",
    )


def _member(member: object) -> list[BaseTool | ProviderTool]:
    if isinstance(member, BaseTool | BaseToolkit) or _is_provider_tool(member):
        return collect(member)
    kind = "dict that describes no provider's tool" if isinstance(member, Mapping) else type(member).__name__
    raise ConfigurationError(
        f"A list of tools holds a {kind}, which cannot be guarded.",
        hint="Turn a function into a tool with LangChain's @tool, and pass tools instead of their schemas.",
    )


def _call(function: Any) -> object:
    try:
        returned = function()
        returned = asyncio.run(_awaited(returned)) if inspect.isawaitable(returned) else returned
    except Exception as error:  # whatever the application's function raises
        name = getattr(function, "__name__", "the function")
        raise ConfigurationError(f"{name}() returned no tools: {type(error).__name__}: {error}.") from error
    if inspect.isroutine(returned):
        raise ConfigurationError("A function that should return tools returned another function.")
    return returned


async def _awaited(returned: Any) -> object:
    return await returned


def _parameters(tool: BaseTool) -> dict[str, Any]:
    if isinstance(tool, Tool) and tool.args_schema is None:
        # LangChain's oldest kind of tool takes one text; its derived schema shows the internals of `_run`.
        return {"type": "object", "properties": dict(tool.args), "required": list(tool.args)}
    try:
        schema = tool.tool_call_schema
        if isinstance(schema, Mapping):
            parameters = dict(schema)
        elif issubclass(schema, BaseModelV1):
            parameters = schema.schema()
        else:
            assert issubclass(schema, BaseModel)
            parameters = schema.model_json_schema()
    except Exception as error:  # pydantic, or the tool's own code
        raise ConfigurationError(
            f"The parameters of tool {tool.name!r} have no JSON Schema: {type(error).__name__}: {error}.",
            hint="Give the tool an args_schema of plain JSON types.",
            details={"tool": tool.name},
        ) from error
    for key, repeated in (("title", tool.name), ("description", tool.description)):
        if parameters.get(key) == repeated:
            del parameters[key]
    stable: dict[str, Any] = _stable(parameters)
    return stable


def _stable(schema: Any) -> Any:
    """Return a copy in which the defaults of sets are sorted: their order differs from process to process."""
    if isinstance(schema, Mapping):
        copy = {key: _stable(value) for key, value in schema.items()}
        if copy.get("uniqueItems") is True and isinstance(copy.get("default"), list):
            copy["default"] = sorted(
                copy["default"], key=lambda item: json.dumps(item, sort_keys=True, default=str)
            )
        return copy
    if isinstance(schema, list | tuple):
        return [_stable(each) for each in schema]
    return schema


def _is_provider_tool(source: object) -> bool:
    if not isinstance(source, Mapping):
        return False
    if isinstance(source.get("type"), str):
        return source["type"] not in {"function", "custom", "object"}
    return len(source) == 1 and all(isinstance(value, Mapping) for value in source.values())


def describe_provider_tool(tool: ProviderTool) -> ToolDescription:
    """Return what is recorded of a tool its provider runs: kind, name, and settings that are no secrets."""
    kind = tool.get("type") or next(iter(tool), "unknown")
    function = tool.get("function")
    own = function.get("name") if isinstance(function, Mapping) else None
    label = tool.get("name") or own or tool.get("server_label") or kind
    settings = {key: tool[key] for key in _PROVIDER_FIELDS if key in tool}
    if "server_url" in settings:
        url = urlsplit(str(settings["server_url"]))
        settings["server_url"] = f"{url.scheme}://{url.hostname}{url.path}"
    return ToolDescription(
        name=str(label),
        description=f"Run by the provider ({kind}).",
        parameters={"type": "object", "properties": {}, "x-provider": _stable(settings)},
        unmediated=True,
    )
