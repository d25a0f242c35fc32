"""One hash that changes whenever a tool presents itself differently to a model.

The rules:

1. Name, description and parameters are covered, to the last character. Nothing else is: annotations are
   untrusted hints that may come and go.
2. The form hashed is RFC 8785 canonical JSON, so the order of keys does not matter and two processes agree.
3. What has no canonical form (NaN, integers beyond 2**53, lone surrogates, cycles, objects that are not JSON)
   is refused: a fingerprint that covers only part of a schema would be worse than none.
"""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

from zt_agents.catalog.specs import ToolDescription
from zt_agents.errors import ConfigurationError


def fingerprint(description: ToolDescription) -> str:
    """Return ``sha256:<hex>`` over the name, description and parameters of a tool.

    Raises:
        ConfigurationError: the description has no canonical form.
    """
    content: dict[str, Any] = {
        "name": description.name,
        "description": description.description,
        "parameters": dict(description.parameters),
    }
    try:
        canonical = rfc8785.dumps(content)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"Tool {description.name!r} cannot be fingerprinted: it has no canonical JSON form ({error}).",
            hint="Use plain JSON values in its schema, and integers no larger than 2**53 - 1.",
            details={"tool": description.name},
        ) from error
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"
