"""Make a gate look like the function behind it, without leaving a way to that function.

LangChain derives a tool's schema, its injected arguments and its config parameter from signatures and annotations, so a
gate needs both. ``functools.wraps`` would also leave ``__wrapped__``, which hands out the bare body.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import RunnableConfig

_COPIED = ("__name__", "__qualname__", "__doc__", "__module__")


def wrap(gate: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *gate* with the name, documentation, annotations and signature of *function*."""
    for name in _COPIED:
        if hasattr(function, name):
            setattr(gate, name, getattr(function, name))
    hints = _hints(function)
    gate.__annotations__ = hints
    gate.__signature__ = _signature(function, hints)  # type: ignore[attr-defined]
    return gate


def framework_parameters(function: Callable[..., Any]) -> frozenset[str]:
    """Return the parameters that LangChain itself fills in: the config, the run manager, callbacks.

    Only those that *function* names: into ``**kwargs`` a model writes what it likes, also under these names.
    """
    hints = _hints(function)
    config = frozenset(name for name, hint in hints.items() if hint is RunnableConfig)
    return config | ({"run_manager", "callbacks"} & parameter_names(function))


def signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of *function*, or None where it has none."""
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        return None


def parameter_names(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters of *function*."""
    found = signature(function)
    return frozenset(found.parameters) if found is not None else frozenset()


def parameter_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the default values of the parameters of *function* that can be given by name."""
    found = signature(function)
    if found is None:
        return {}
    return {
        name: parameter.default
        for name, parameter in found.parameters.items()
        if parameter.default is not parameter.empty and parameter.kind is not parameter.POSITIONAL_ONLY
    }


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if hasattr(function, "__annotations__") else getattr(function, "__call__", function)  # noqa: B004
    try:
        # Resolved here, in the function's own module: the gate lives in another one.
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return dict(getattr(target, "__annotations__", {}))


def _signature(function: Callable[..., Any], hints: dict[str, Any]) -> inspect.Signature | None:
    found = signature(function)
    if found is None:
        return None
    parameters = [
        parameter.replace(annotation=hints.get(name, parameter.annotation))
        for name, parameter in found.parameters.items()
    ]
    return found.replace(parameters=parameters, return_annotation=hints.get("return", found.return_annotation))
