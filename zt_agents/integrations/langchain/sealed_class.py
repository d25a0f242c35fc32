"""The class that a sealed tool gets: a generated subclass of its own, with a gate wherever LangChain enters a body.

Rules:

1. A gate stands on ``_run`` and ``_arun`` of tools that define them, and on any ``invoke``, ``ainvoke``, ``run`` or
   ``arun`` that a class defines itself. A class's own ways to make many calls at once are replaced by LangChain's.
2. Arguments are parsed, validated and copied first; that copy is decided on, and is what the body gets.
3. A call that passes several gates is decided once: a deeper gate takes the permit of the same call with the same
   arguments, once per depth.
4. No attribute leads to a body, and a function exchanged after sealing is refused.
5. A pickle is of this class and has no seal: it refuses until it is protected again.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, Tool
from langchain_core.utils.pydantic import get_fields

from zt_agents.decisions import Reason, ReasonCode
from zt_agents.errors import SealError
from zt_agents.integrations.langchain.carriers import Entry, entry_var, leave
from zt_agents.integrations.langchain.gates import Arrival, Depth, Seal, method_gate, refuse
from zt_agents.integrations.langchain.injection import called_by_tool_node, forged, forgery, unwrap
from zt_agents.integrations.langchain.signatures import framework_parameters, parameter_defaults

FUNCTION_TOOLS = (StructuredTool, Tool)
"""Their bodies are functions that they hold."""
_FAN_OUT = (
    "batch", "abatch", "batch_as_completed", "abatch_as_completed",
    "stream", "astream", "transform", "atransform", "astream_events", "astream_log",
)  # fmt: skip

_SEALED = "__zt_sealed_class__"
"""Where a class keeps the subclass that its sealed instances get: they go together."""


def sealed_class(original: type[BaseTool]) -> type[BaseTool]:
    """Return the subclass of *original* that its sealed instances get; one per class."""
    known: type[BaseTool] | None = original.__dict__.get(_SEALED)
    if known is None:
        known = _build(original)
        setattr(original, _SEALED, known)
    return known


def _build(original: type[BaseTool]) -> type[BaseTool]:
    members: dict[str, Any] = {
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        "__zt_sealed__": True,
        "__setattr__": _setattr(original),
        "__reduce_ex__": _reduce(original),
        "_to_args_and_kwargs": _to_args_and_kwargs(original),
    }
    if _from_langchain(original, "_filter_injected_args"):
        members["_filter_injected_args"] = _filter_injected_args(original)
    for name, depth in (("ainvoke", Depth.AINVOKE), ("invoke", Depth.INVOKE)):
        if not _from_langchain(original, name):
            members[name] = _own_entry(original, name, depth)
    members.setdefault("ainvoke", _ainvoke(original))
    for name, depth in (("arun", Depth.ARUN), ("run", Depth.RUN)):
        lent = _from_langchain(original, name)
        members[name] = _entry(original, name) if lent else _own_entry(original, name, depth)
    members.update(_bodies(original))
    for name in _FAN_OUT:
        if not _from_langchain(original, name):
            # A class's own fan-out may reach its body in any way; LangChain's makes one governed call per input.
            members[name] = getattr(Runnable, name)
    sealed: type[BaseTool] = type(original)(original.__name__, (original,), members)  # type: ignore[misc]  # a metaclass
    return sealed


def _from_langchain(cls: type, name: str) -> bool:
    owner = next((base for base in cls.__mro__ if name in base.__dict__), None)
    return owner is None or owner.__module__.startswith("langchain_core.")


def _bodies(original: type[BaseTool]) -> dict[str, Any]:
    """Gates for the methods that are, or lead to, the body."""
    if issubclass(original, FUNCTION_TOOLS) and original._run in (StructuredTool._run, Tool._run):
        members: dict[str, Any] = {"_run": _checked_run(original)}
    else:
        members = {"_run": method_gate(original._run, Depth.RUN_BODY)}
    if original._arun in (StructuredTool._arun, Tool._arun):
        members["_arun"] = _checked_arun(original)
    elif original._arun is not BaseTool._arun:  # BaseTool's own calls _run
        members["_arun"] = method_gate(original._arun, Depth.ARUN_BODY)
    return members


def _checked_run(original: type[BaseTool]) -> Callable[..., Any]:
    """``_run`` of a function tool: the gate is on ``func``, if that is still the function that was sealed.

    Its annotations and signature are worked out once here; LangChain asks for them on every call.
    """

    def _run(
        self: BaseTool,
        *args: Any,
        config: RunnableConfig,
        run_manager: CallbackManagerForToolRun | None = None,
        **kwargs: Any,
    ) -> Any:
        _untampered(self)
        return original._run(self, *args, config=config, run_manager=run_manager, **kwargs)

    _run.__annotations__ = {"config": RunnableConfig}  # the one that LangChain looks for
    _run.__signature__ = inspect.signature(_run)  # type: ignore[attr-defined]
    return _run


def _checked_arun(original: type[BaseTool]) -> Callable[..., Any]:
    async def _arun(
        self: BaseTool,
        *args: Any,
        config: RunnableConfig,
        run_manager: AsyncCallbackManagerForToolRun | None = None,
        **kwargs: Any,
    ) -> Any:
        _untampered(self)
        return await original._arun(self, *args, config=config, run_manager=run_manager, **kwargs)

    _arun.__annotations__ = {"config": RunnableConfig}
    _arun.__signature__ = inspect.signature(_arun)  # type: ignore[attr-defined]
    return _arun


def _untampered(tool: BaseTool) -> None:
    seal = Seal.required(tool)
    if seal.tampered(tool):
        refuse(seal, Reason(ReasonCode.TAMPERED, "The tool was changed after it was sealed."))


def _entry(original: type[BaseTool], name: str) -> Callable[..., Any]:
    """LangChain's own ``run`` or ``arun``, noting which tool is entered and with which tool_call_id."""
    inner = getattr(original, name)
    if inspect.iscoroutinefunction(inner):

        async def arun(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
            token = entry_var.set(Entry(Seal.required(self), self.name, kwargs.get("tool_call_id")))
            try:
                return await inner(self, *args, **kwargs)
            finally:
                leave(token)

        return arun

    def run(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        token = entry_var.set(Entry(Seal.required(self), self.name, kwargs.get("tool_call_id")))
        try:
            return inner(self, *args, **kwargs)
        finally:
            leave(token)

    return run


def _ainvoke(original: type[BaseTool]) -> Callable[..., Any]:
    """LangChain's own ``ainvoke``: it may move to another thread, where nobody sees that ``ToolNode`` called."""
    inner = original.ainvoke

    async def ainvoke(self: BaseTool, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        seal = Seal.required(self)
        if not seal.stateful or not isinstance(input, dict) or not called_by_tool_node(sys._getframe(1)):
            return await inner(self, input, config, **kwargs)
        given = input.get("args") or {}
        entry = Entry(seal, self.name, input.get("id"))
        entry.accepted = {name: given[name] for name in seal.injected if name in given}
        token = entry_var.set(entry)
        try:
            return await inner(self, input, config, **kwargs)
        finally:
            leave(token)

    return ainvoke


def _own_entry(original: type[BaseTool], name: str, depth: Depth) -> Callable[..., Any]:
    """A class's own ``invoke`` or ``run``: it may be the body, so it gets a gate, on the parsed input."""
    inner = getattr(original, name)
    takes_calls = depth <= Depth.INVOKE  # to run() a dict is arguments, whatever a model wrote into it
    parameter = "input" if takes_calls else "tool_input"
    framework = framework_parameters(original._run)
    defaults = {name: value for name, value in parameter_defaults(original._run).items() if name not in framework}

    def arrive(
        self: BaseTool, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Entry, Arrival, Callable[[], Any]]:
        seal = Seal.required(self)
        tool_input, *rest = args if args else (kwargs.pop(parameter),)
        is_call = takes_calls and isinstance(tool_input, dict) and tool_input.get("type") == "tool_call"
        call_id = tool_input.get("id") if is_call else kwargs.get("tool_call_id")
        entry = Entry(seal, self.name, call_id)
        token = entry_var.set(entry)
        try:
            given, parsed = self._to_args_and_kwargs(tool_input["args"] if is_call else tool_input, call_id)
            if given:
                parsed = {seal.single: given[0], **parsed}
            arrival = seal.arrival(self, depth, parsed, defaults)
        finally:
            leave(token)

        def body() -> Any:
            arguments: Any = arrival.kwargs
            if is_call:
                arguments = {"name": self.name, "args": arguments, "id": call_id, "type": "tool_call"}
            elif isinstance(tool_input, str) and len(arguments) == 1:
                (arguments,) = arguments.values()
            return inner(self, arguments, *rest, **kwargs)

        return entry, arrival, body

    if inspect.iscoroutinefunction(inner):

        async def aown(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
            entry, arrival, body = arrive(self, args, kwargs)
            token = entry_var.set(entry)
            try:
                return await arrival.arun(body)
            finally:
                leave(token)

        return aown

    def own(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        entry, arrival, body = arrive(self, args, kwargs)
        token = entry_var.set(entry)
        try:
            return arrival.run(body)
        finally:
            leave(token)

    return own


def _to_args_and_kwargs(original: type[BaseTool]) -> Callable[..., Any]:
    """Parsing, made strict: nothing forged, strings parsed like objects, and a failure leaves a record."""
    inner = original._to_args_and_kwargs

    def parse(self: BaseTool, tool_input: Any, tool_call_id: str | None) -> Any:
        seal = Seal.required(self)
        entry = entry_var.get()
        if entry is not None and entry.seal is not seal:
            entry = None
        if isinstance(tool_input, dict):
            name = forged(seal.injected, tool_input, tool_call_id, entry.accepted if entry is not None else {})
            if name is not None:
                refuse(seal, Reason(ReasonCode.ARGUMENTS, forgery(name)))
            tool_input = unwrap(tool_input)
        elif isinstance(tool_input, str) and isinstance(self.args_schema, type):
            # LangChain validates a bare string but hands on the original, without what validators made of it.
            tool_input = {next(iter(get_fields(self.args_schema)), seal.single): tool_input}
        try:
            parsed = inner(self, tool_input, tool_call_id)
        except Exception as error:  # pydantic, or a validator of the tool's: it goes on to LangChain, and on record
            seal.record_invalid(type(error).__name__)
            raise
        if entry is not None:
            entry.parsed = True
        return parsed

    return parse


def _filter_injected_args(original: type[BaseTool]) -> Callable[..., Any]:
    """What callbacks are shown. LangChain derives it from the schema on every call; a sealed tool's is fixed."""
    inner = original._filter_injected_args

    def shown(self: BaseTool, tool_input: dict[str, Any]) -> dict[str, Any]:
        seal = Seal.of(self)
        if seal is None or self.args_schema is not seal.fixed["args_schema"]:
            return inner(self, tool_input)
        return {name: value for name, value in tool_input.items() if name not in seal.unshown}

    return shown


def _setattr(original: type[BaseTool]) -> Callable[..., None]:
    def __setattr__(self: BaseTool, name: str, value: Any) -> None:  # noqa: N807
        seal = Seal.of(self)
        if seal is not None and name in seal.fixed:
            raise SealError(
                f"{name!r} of the sealed tool {self.name!r} cannot be changed.",
                hint="Change the tool first, then protect it.",
            )
        original.__setattr__(self, name, value)

    return __setattr__


def _reduce(original: type[BaseTool]) -> Callable[..., Any]:
    def __reduce_ex__(self: BaseTool, protocol: Any) -> Any:  # noqa: N807
        state = dict(self.__getstate__())
        state["__dict__"] = {name: value for name, value in state["__dict__"].items() if name != Seal.SLOT}
        return _unpickle, (original, state)

    return __reduce_ex__


def _unpickle(original: type[BaseTool], state: dict[str, Any]) -> BaseTool:
    """Rebuild a pickled tool: sealed, but without a guard, so that it refuses until it is protected again."""
    cls = sealed_class(original)
    tool = cls.__new__(cls)
    tool.__setstate__(state)
    return tool
