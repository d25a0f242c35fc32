"""A chat model that follows a script: for demonstrations and tests that need no key and always do the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

Turn = AIMessage | Callable[[Sequence[BaseMessage]], AIMessage]
"""One answer of the model, or a function from the conversation so far to one."""

_ids = count(1)


def calls(*wanted: tuple[str, dict[str, Any]], say: str = "") -> AIMessage:
    """Return a message that calls tools, each given as ``(name, arguments)``, with ids no other call has."""
    return AIMessage(
        content=say,
        tool_calls=[tool_call(name=name, args=arguments, id=f"call_{next(_ids)}") for name, arguments in wanted],
    )


class ScriptedChatModel(BaseChatModel):
    """Plays its turns in order and repeats the last one."""

    turns: list[Any]
    """The script, :data:`Turn` by turn."""

    _next: int = PrivateAttr(default=0)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> ScriptedChatModel:
        """Accept any tools: the script knows what it calls."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        turn = self.turns[min(self._next, len(self.turns) - 1)]
        self._next += 1
        message = turn(messages) if callable(turn) else turn.model_copy(deep=True)
        return ChatResult(generations=[ChatGeneration(message=message)])
