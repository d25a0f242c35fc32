"""What an agent built with ``create_agent`` is made of, as its model is about to see it: what its owner accepts.

The whole system prompt counts. One with a part that differs from run to run (the date, the user's name) would differ
each time; ``stable`` says what of it is to count::

    ZeroTrustMiddleware(guard, stable=lambda prompt: prompt.partition("Today is ")[0])
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool

from zt_agents.catalog.fingerprints import fingerprint
from zt_agents.errors import StoreError
from zt_agents.guard import Guard
from zt_agents.identity.manifests import Manifest, prompt_hash
from zt_agents.integrations.langchain.carriers import find_session
from zt_agents.integrations.langchain.describe import describe_provider_tool
from zt_agents.integrations.langchain.gates import Seal
from zt_agents.sessions.session import Session

if TYPE_CHECKING:
    from langchain.agents.middleware import ModelRequest

_logger = logging.getLogger(__name__)
_MODEL_FIELDS = ("model_name", "model", "model_id")
"""Where chat models keep the name by which their provider knows them."""


class Observer:
    """Looks at each request to a model, and tells the guard. What was seen before costs a comparison."""

    def __init__(self, guard: Guard, stable: Callable[[str], str] | None) -> None:
        self._guard = guard
        self._stable = stable or str
        self._integration = f"langchain {'.'.join(version('langchain').split('.')[:2])}"
        self._last: dict[str, tuple[tuple[Any, ...], Manifest]] = {}
        """By agent: what was seen last, and the manifest of it."""

    def look(self, request: ModelRequest) -> None:
        """Note what the session's agent is made of. Its tools are sealed."""
        found = self._found(request)
        if found is not None:
            self._store(*found)

    async def alook(self, request: ModelRequest) -> None:
        """Do what :meth:`look` does, and write in a thread where there is something to be written."""
        found = self._found(request)
        if found is not None:
            await asyncio.to_thread(self._store, *found)

    def _found(self, request: ModelRequest) -> tuple[str, Manifest] | None:
        """Return the agent and its manifest, if that is news; the session knows it from here on."""
        session, wrong = find_session(self._guard)
        if session is None or wrong is not None:
            return None
        manifest = self._manifest(session, request)
        session.see(manifest)
        name = session.agent.name
        return None if self._guard.registry.saw(name, manifest) else (name, manifest)

    def _store(self, name: str, manifest: Manifest) -> None:
        try:
            self._guard.registry.observe(name, manifest)
        except StoreError as error:
            # It counts in this process all the same, and is tried again with the next request.
            _logger.warning("What agent %s is made of could not be stored: %s", name, error)

    def _manifest(self, session: Session, request: ModelRequest) -> Manifest:
        agent, prompt = session.agent, self._stable(request.system_prompt or "") + _beside_text(request)
        tools = dict(map(_fingerprint, request.tools))
        key = (agent.version, f"{type(request.model).__name__}/{_model(request)}", prompt, tools)
        last = self._last.get(agent.name)
        if last is not None and last[0] == key:
            return last[1]
        manifest = Manifest(
            version=agent.version,
            environment=self._guard.policy.environment,
            model=key[1],
            prompt=prompt_hash(prompt),
            tools=tools,
            integration=self._integration,
        )
        self._last[agent.name] = key, manifest
        return manifest


def _model(request: ModelRequest) -> str:
    """Return what the provider will call the model: a middleware's settings for one request go before the model's."""
    asked = (request.model_settings.get(field) for field in _MODEL_FIELDS)
    held = (getattr(request.model, field, None) for field in _MODEL_FIELDS)
    return next((str(name) for name in (*asked, *held) if name), "")


def _beside_text(request: ModelRequest) -> str:
    """Return what a system prompt has besides its text, such as pictures and files: all of that counts as stable."""
    content = request.system_message.content if request.system_message is not None else ""
    blocks = [] if isinstance(content, str) else [each for each in content if not _is_text(each)]
    return json.dumps(blocks, sort_keys=True, default=repr) if blocks else ""


def _is_text(block: str | dict[Any, Any]) -> bool:
    return isinstance(block, str) or block.get("type") == "text"


def _fingerprint(tool: BaseTool | dict[str, Any]) -> tuple[str, str]:
    if isinstance(tool, BaseTool):
        seal = Seal.of(tool)
        assert seal is not None, "its tools are sealed first"
        return tool.name, seal.guarded.fingerprint
    description = describe_provider_tool(tool)
    return description.name, fingerprint(description)
