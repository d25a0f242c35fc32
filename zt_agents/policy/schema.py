"""The JSON Schema of a policy file, for editors.

``python -m zt_agents.policy.schema > zt_agents/policy/policy.schema.json`` publishes it; a policy names it in
its first line: ``# yaml-language-server: $schema=policy.schema.json``.
"""

from __future__ import annotations

import json
import sys

from zt_agents.policy.models import PolicyFile


def schema_text() -> str:
    """Return the schema as it is published."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **PolicyFile.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
