"""Which integration seals which framework's tools. Named, not imported: a framework is loaded by its user alone."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from zt_agents.errors import ConfigurationError

_ADAPTERS = {
    "langchain_core.tools.base.BaseTool": "zt_agents.integrations.langchain.sealing",
    "langchain_core.tools.base.BaseToolkit": "zt_agents.integrations.langchain.sealing",
}


def adapter_for(tools: Any) -> ModuleType:
    """Return the module whose ``protect`` seals *tools*.

    Raises:
        ConfigurationError: nothing here can seal them.
    """
    sample = next(iter(tools), None) if isinstance(tools, list | tuple) else tools
    if sample is None:
        raise ConfigurationError("There are no tools to protect.", hint="Pass a non-empty list of tools.")
    for base in type(sample).__mro__:
        name = _ADAPTERS.get(f"{base.__module__}.{base.__qualname__}")
        if name is not None:
            return adapter_module(name)
    raise ConfigurationError(
        f"An object of type {type(sample).__name__} is not a tool that can be sealed.",
        hint="Wrap plain functions with langchain_core.tools.tool first.",
    )


def adapter_module(name: str) -> ModuleType:
    """Import *name*, which lies on a higher floor than its caller."""
    return importlib.import_module(name)
