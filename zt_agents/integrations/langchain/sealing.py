"""Seal LangChain tools in place, so that no path reaches a body without a decision.

A sealed tool is the caller's own object under a generated subclass of its own class: ``isinstance``, name, schema,
injected arguments, copying and native async stay as they were.

Rules:

1. A gate stands where the body is: on ``func`` and ``coroutine`` of ``Tool`` and ``StructuredTool``; on methods, where
   the generated class puts it (:mod:`zt_agents.integrations.langchain.sealed_class`).
2. A tool is sealed by one guard, once. What cannot be sealed is refused, and so is what the model's provider runs on
   its own servers, unless the policy accepts it by name.
3. The seal lives in the instance: copies keep it; pickles lose it and refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.tools import BaseTool, BaseToolkit

from zt_agents.catalog.catalog import Standing
from zt_agents.errors import ConfigurationError
from zt_agents.guard import Guard
from zt_agents.integrations.langchain import tripwire
from zt_agents.integrations.langchain.describe import describe, describe_provider_tool
from zt_agents.integrations.langchain.gates import Depth, Seal, gate, sealing_lock
from zt_agents.integrations.langchain.sealed_class import FUNCTION_TOOLS, sealed_class


def protect(guard: Guard, tools: Any) -> Any:
    """Seal *tools* under *guard*; see :meth:`zt_agents.Guard.protect`.

    Raises:
        ConfigurationError: one is no tool, cannot be sealed or is another guard's, or two have one name.
    """
    if isinstance(tools, BaseTool):
        seal(guard, tools)
        return tools
    listed = tools.get_tools() if isinstance(tools, BaseToolkit) else tools
    named: dict[str, BaseTool] = {}
    for tool in listed:
        if isinstance(tool, dict):
            check_unmediated(guard, tool)
        elif not isinstance(tool, BaseTool):
            raise ConfigurationError(
                f"An object of type {type(tool).__name__} is not a tool that can be sealed.",
                hint="Wrap plain functions with langchain_core.tools.tool first.",
            )
        elif named.setdefault(tool.name, tool) is not tool:
            raise ConfigurationError(f"Two tools are named {tool.name!r}.", hint="Give each tool a name of its own.")
    for tool in named.values():
        seal(guard, tool)
    return listed


def check_unmediated(guard: Guard, tool: Mapping[str, Any]) -> None:
    """Refuse a tool that the model's provider runs on its own servers, unless the policy accepts it by name.

    Raises:
        ConfigurationError: it is not accepted, or is no longer what was.
    """
    description = describe_provider_tool(tool)
    spec = guard.catalog.get(description.name)
    if spec is None or not spec.unmediated:
        raise ConfigurationError(
            f"The tool {description.name!r} is run by the model's provider and never passes the guard.",
            hint="Remove it, or accept it by name in the policy file with 'unmediated: true'.",
        )
    standing = guard.catalog.compare(description)
    if standing is not Standing.ACCEPTED:
        raise ConfigurationError(
            f"The provider's tool {description.name!r} is not the one that was accepted ({standing}).",
            hint="Review it and run: zt-agents check --accept",
        )


def seal(guard: Guard, tool: BaseTool) -> None:
    """Seal one tool; a tool that *guard* has sealed already stays as it is.

    Raises:
        ConfigurationError: another guard sealed it, or its class cannot be subclassed in place.
    """
    with sealing_lock:
        present = Seal.of(tool)
        if present is not None and present.guarded.guard is guard:
            return
        if present is not None:
            raise ConfigurationError(f"The tool {tool.name!r} is sealed by another guard.")
        description = describe(tool)
        sealed = Seal(guard.enroll(description, suspends=_suspends), tool, description.parameters)
        if not hasattr(type(tool), "__zt_sealed__"):  # a tool that was pickled has the class and lost the seal
            original = type(tool)
            try:
                object.__setattr__(tool, "__class__", sealed_class(original))
            except TypeError as error:
                raise ConfigurationError(
                    f"The tool {tool.name!r} of type {original.__name__} cannot be sealed."
                ) from error
        values = tool.__dict__
        if isinstance(tool, FUNCTION_TOOLS):
            if tool.func is not None:
                values["func"] = gate(tool.func, Depth.FUNC, sealed)
            if tool.coroutine is not None:
                values["coroutine"] = gate(tool.coroutine, Depth.COROUTINE, sealed)
        sealed.attach(tool)
        tripwire.arm(guard)


def _suspends(error: BaseException) -> bool:
    # LangGraph pauses a node by raising. Known by name, because LangGraph may not be installed.
    return any(
        kind.__name__ == "GraphInterrupt" and kind.__module__ == "langgraph.errors" for kind in type(error).__mro__
    )
