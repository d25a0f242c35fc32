"""One explanation for every missing extra: what it is for and the exact command that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType

from zt_agents.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import and return *module*, or raise :class:`MissingExtraError` naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise  # the extra is there and broken: its own error says more than ours would
        raise MissingExtraError(module=module, extra=extra, purpose=purpose) from error
