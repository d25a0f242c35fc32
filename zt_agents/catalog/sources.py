"""Find the object that ``MODULE:ATTRIBUTE`` names, as ``sources:`` and the command line spell it."""

from __future__ import annotations

import importlib
from typing import Any

from zt_agents._internal.suggest import did_you_mean
from zt_agents.errors import ConfigurationError


def load_object(reference: str) -> Any:
    """Import ``MODULE`` and return its ``ATTRIBUTE`` (dotted attributes are followed).

    This runs the module's code: references come from the policy file or the command line, never from a model.

    Raises:
        ConfigurationError: the reference is malformed, or the import fails, or there is no such attribute.
    """
    module_name, colon, attribute = reference.partition(":")
    parts = [*module_name.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ConfigurationError(
            f"{reference!r} does not name an object.",
            hint="Write MODULE:ATTRIBUTE, such as my_app.tools:TOOLS.",
        )
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever the application's module raises while it is imported
        raise ConfigurationError(
            f"The module {module_name!r} could not be imported: {type(error).__name__}: {error}.",
            hint="Run the command in the folder from which the application itself starts.",
        ) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise ConfigurationError(
                f"{module_name!r} has no attribute {attribute!r}.{did_you_mean(part, dir(found))}"
            ) from error
    return found
