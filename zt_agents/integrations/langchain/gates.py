"""Gates: where a call of a sealed tool stops until the guard has decided."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Collection, Mapping
from enum import IntEnum
from typing import Any, ClassVar, NoReturn

import jsonschema_rs
from langchain_core.tools import BaseTool
from langchain_core.tools.base import FILTERED_ARGS
from langchain_core.utils.pydantic import get_fields

from zt_agents._internal.canonical import canonical, digest, encode, private_copy
from zt_agents.decisions import Reason, ReasonCode
from zt_agents.errors import AccessDeniedError, ArgumentsError, ConfigurationError, SealError
from zt_agents.integrations.langchain.carriers import Entry, entry_var, find_session
from zt_agents.integrations.langchain.injection import Kind, forged, forgery, injected_arguments, unwrap
from zt_agents.integrations.langchain.signatures import framework_parameters, parameter_defaults, signature, wrap
from zt_agents.invocation import GuardedTool, Invocation
from zt_agents.permit import current_call
from zt_agents.shells import arun, refused, run

_FIXED = ("name", "description", "args_schema", "func", "coroutine", "response_format")


sealing_lock = threading.RLock()
"""Held while a tool is sealed."""


class Depth(IntEnum):
    """How deep in a tool a gate stands, outermost first."""

    AINVOKE = 0
    INVOKE = 1
    ARUN = 2
    RUN = 3
    ARUN_BODY = 4
    RUN_BODY = 5
    COROUTINE = 6
    FUNC = 7


class Seal:
    """What a sealed tool carries: the guard's word on it, and what it looked like when it was sealed."""

    SLOT: ClassVar[str] = "__zt_seal__"

    def __init__(self, guarded: GuardedTool, tool: BaseTool, parameters: Mapping[str, Any]) -> None:
        self.guarded = guarded
        self.declared = tuple(parameters.get("properties", {}))
        """Names of the arguments that a model may supply."""
        self.injected = injected_arguments(tool, self.declared)
        self.stateful = any(argument.kind is Kind.STATE for argument in self.injected.values())
        """A graph's state is injected into it."""
        self.single = next(iter(self.declared), "tool_input")
        """Name of the argument of a single-input tool."""
        self.unshown = _unshown(tool, self.injected)
        """Arguments that callbacks are not shown."""
        self.fixed: dict[str, Any] = {}
        """Fields as they were sealed; a difference means tampering."""
        schema = dict(parameters)
        self.validates = not isinstance(tool.args_schema, type)
        """LangChain validates nothing itself for this tool: its schema is JSON Schema, or it has none."""
        if isinstance(tool.args_schema, dict):
            # An argument that nobody declared is one that nobody can have a rule about.
            schema.setdefault("additionalProperties", False)
        try:
            self.validator = jsonschema_rs.validator_for(schema)
        except ValueError as error:
            raise ConfigurationError(
                f"The parameters of the tool {guarded.name!r} are not a valid JSON Schema."
            ) from error

    @classmethod
    def of(cls, tool: BaseTool) -> Seal | None:
        """Return the seal of *tool*, or None."""
        seal = tool.__dict__.get(cls.SLOT)
        return seal if isinstance(seal, cls) else None

    @classmethod
    def required(cls, tool: BaseTool) -> Seal:
        """Return the seal of *tool*.

        Raises:
            SealError: the tool was sealed and lost its seal, by pickling for example.
        """
        seal = tool.__dict__.get(cls.SLOT)
        if not isinstance(seal, cls):
            with sealing_lock:  # another thread may have exchanged the class and be about to attach the seal
                seal = tool.__dict__.get(cls.SLOT)
        if not isinstance(seal, cls):
            raise SealError(
                f"The tool {tool.name!r} was sealed and has lost its guard.", hint="Call guard.protect(tool) again."
            )
        return seal

    def attach(self, tool: BaseTool) -> None:
        """Put this seal on *tool*."""
        self.fixed = {name: getattr(tool, name) for name in _FIXED if name in type(tool).model_fields}
        tool.__dict__[self.SLOT] = self

    def tampered(self, tool: BaseTool) -> bool:
        """Return whether *tool* is no longer what was sealed."""
        values = tool.__dict__
        for name, sealed in self.fixed.items():
            value = values.get(name)
            if value is not sealed and (callable(sealed) or callable(value) or value != sealed):
                return True
        return False

    def arrival(
        self, tool: BaseTool, depth: Depth, arguments: dict[str, Any], defaults: Mapping[str, Any]
    ) -> Arrival:
        """Return the arrival of already parsed *arguments* at a class's own entry point."""
        return Arrival(self, tool, depth, frozenset(self.injected), (), (), arguments, defaults)

    def record_invalid(self, kind: str) -> None:
        """Leave a record of a call whose arguments did not parse; the framework raises its own error."""
        try:
            refuse(self, Reason(ReasonCode.ARGUMENTS, f"The arguments did not parse ({kind})."))
        except AccessDeniedError:
            return

    def __deepcopy__(self, memo: dict[int, Any]) -> Seal:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a seal cannot be pickled")


def _unshown(tool: BaseTool, injected: Mapping[str, Any]) -> frozenset[str]:
    schema = tool.args_schema
    names = {*FILTERED_ARGS, *injected, *(get_fields(schema) if isinstance(schema, type) else ())}
    return frozenset(names - tool._filter_injected_args(dict.fromkeys(names)).keys())


def refuse(seal: Seal, reason: Reason) -> NoReturn:
    """Record a denial of a call of the tool and raise it."""
    entry = entry_var.get()
    call_id = entry.call_id if entry is not None and entry.seal is seal else None
    session, carried_wrong = find_session(seal.guarded.guard)
    invocation = Invocation(seal.guarded, {}, session, call_id, carried_wrong or reason)
    refused(invocation)


def gate(function: Callable[..., Any], depth: Depth, seal: Seal) -> Callable[..., Any]:
    """Return *function* behind the guard: with its signature, and without a way back to it."""
    hidden = framework_parameters(function) | seal.injected.keys()
    positional = _positional(function)
    defaults = parameter_defaults(function)
    if depth is Depth.COROUTINE:

        async def guarded_coroutine(*args: Any, **kwargs: Any) -> Any:
            arrival = Arrival(seal, None, depth, hidden, positional, args, kwargs, defaults)
            return await arrival.arun(lambda: function(*arrival.args, **arrival.kwargs))

        return wrap(guarded_coroutine, function)

    def guarded_function(*args: Any, **kwargs: Any) -> Any:
        arrival = Arrival(seal, None, depth, hidden, positional, args, kwargs, defaults)
        return arrival.run(lambda: function(*arrival.args, **arrival.kwargs))

    return wrap(guarded_function, function)


def method_gate(method: Callable[..., Any], depth: Depth) -> Callable[..., Any]:
    """Return the method ``_run`` or ``_arun`` of a class behind the guard."""
    framework = framework_parameters(method)
    positional = _positional(method)[1:]
    defaults = parameter_defaults(method)
    if depth is Depth.ARUN_BODY:

        async def guarded_arun(self: BaseTool, /, *args: Any, **kwargs: Any) -> Any:
            seal = Seal.required(self)
            hidden = framework | seal.injected.keys()
            arrival = Arrival(seal, self, depth, hidden, positional, args, kwargs, defaults)
            return await arrival.arun(lambda: method(self, *arrival.args, **arrival.kwargs))

        return wrap(guarded_arun, method)

    def guarded_run(self: BaseTool, /, *args: Any, **kwargs: Any) -> Any:
        seal = Seal.required(self)
        hidden = framework | seal.injected.keys()
        arrival = Arrival(seal, self, depth, hidden, positional, args, kwargs, defaults)
        return arrival.run(lambda: method(self, *arrival.args, **arrival.kwargs))

    return wrap(guarded_run, method)


class Arrival:
    """A call at a gate: private copies of its arguments, split into those a model may supply and the rest."""

    __slots__ = ("_added", "_depth", "_refusal", "_seal", "_visible", "args", "kwargs")

    def __init__(
        self,
        seal: Seal,
        tool: BaseTool | None,
        depth: Depth,
        hidden: frozenset[str],
        positional: tuple[str, ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        defaults: Mapping[str, Any],
    ) -> None:
        self._seal = seal
        self._depth = depth
        self._visible: dict[str, Any] = {}
        self._added: Collection[str] = ()
        """Arguments that nobody gave: their values are the tool's own defaults."""
        entry = entry_var.get()
        if entry is not None and entry.seal is not seal:
            entry = None
        parsed = entry is not None and entry.parsed and not entry.used
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self._refusal = None if parsed else self._forged(entry, positional)
        if self._refusal is None:
            # Pydantic fills in defaults; where it did not parse, what the body would add is part of the question too.
            self._refusal = self._take(hidden, positional, defaults if seal.validates or not parsed else {})
        if self._refusal is None and entry is not None:
            entry.accepted = {
                **entry.accepted,
                **{name: self.kwargs[name] for name in seal.injected if name in self.kwargs},
            }
        if self._refusal is None and tool is not None and seal.tampered(tool):
            self._refusal = Reason(ReasonCode.TAMPERED, "The tool was changed after it was sealed.")
        if self._refusal is None and (seal.validates or not parsed):
            self._refusal = self._mismatch()

    def _forged(self, entry: Entry | None, positional: tuple[str, ...]) -> Reason | None:
        """Refuse injected values that nobody vouches for: here the framework has not parsed anything."""
        injected = self._seal.injected
        if not injected:
            return None
        call_id, accepted = (entry.call_id, entry.accepted) if entry is not None else (None, {})
        given = {**dict(zip(positional, self.args, strict=False)), **self.kwargs}
        name = forged(injected, given, call_id, accepted)
        if name is not None:
            return Reason(ReasonCode.ARGUMENTS, forgery(name))
        self.args = tuple(unwrap(dict(enumerate(self.args))).values())
        self.kwargs = unwrap(self.kwargs)
        return None

    def _take(
        self, hidden: frozenset[str], positional: tuple[str, ...], defaults: Mapping[str, Any]
    ) -> Reason | None:
        """Fill in *defaults*, copy the arguments, and name the positional ones."""
        filled = positional[: len(self.args)]
        if len(self.args) == 1 and not (positional and positional[0] in self._seal.declared):
            positional = (self._seal.single,)  # a single-input tool: its parameter may be called anything
        if len(self.args) > len(positional):
            return Reason(ReasonCode.ARGUMENTS, "It was called with more arguments than it takes.")
        if not self.kwargs.keys().isdisjoint((*filled, *positional[: len(self.args)])):
            return Reason(ReasonCode.ARGUMENTS, "It was called with the same argument twice.")
        absent = {k: v for k, v in defaults.items() if k not in filled and k not in hidden and k not in self.kwargs}
        self._added = absent.keys()
        try:
            self.args = tuple(
                [v if k in hidden else private_copy(v) for k, v in zip(positional, self.args, strict=False)]
            )
            self.kwargs = {k: v if k in hidden else private_copy(v) for k, v in (absent | self.kwargs).items()}
        except ArgumentsError as error:
            return Reason(ReasonCode.ARGUMENTS, error.message)
        for name, value in (*zip(positional, self.args, strict=False), *self.kwargs.items()):
            if name not in hidden:
                self._visible[name] = value
        return None

    def _mismatch(self) -> Reason | None:
        # A default need not match: `site: str = None` is a text that may be left out.
        given = {name: value for name, value in self._visible.items() if name not in self._added}
        try:
            error = next(self._seal.validator.iter_errors(canonical(given)), None)
        except ArgumentsError as refused:
            return Reason(ReasonCode.ARGUMENTS, refused.message)
        except Exception:  # noqa: BLE001 - too deep or too large for the validator, or an object that fights back
            return Reason(ReasonCode.ARGUMENTS, "The arguments could not be validated.")
        if error is None:
            return None
        place = next(iter(error.instance_path), None)  # no deeper: keys further in are a model's words
        where = place if place in self._seal.declared else "arguments"
        return Reason(ReasonCode.ARGUMENTS, f"{where} does not match the tool's schema ({error.kind.name}).")

    def run(self, body: Callable[[], Any]) -> Any:
        """Pass the gate, or be stopped by it."""
        if self._passes():
            return body()
        return run(self._invocation(), body, layer=self._depth)

    async def arun(self, body: Callable[[], Awaitable[Any]]) -> Any:
        """The async twin of :meth:`run`."""
        if self._passes():
            return await body()
        return await arun(self._invocation(), body, layer=self._depth)

    def _passes(self) -> bool:
        """Whether an outer gate of this very call, with these very arguments, has decided already."""
        permit = current_call()
        if permit is None or self._refusal is not None:
            return False
        if permit.tool is not self._seal.guarded or permit.layer >= self._depth:
            return False
        try:
            same = digest(encode(canonical(self._visible))) == permit.digest
        except Exception:  # noqa: BLE001 - then the guard is asked, and says what is wrong
            return False
        return same and permit.descend(self._depth)

    def _invocation(self) -> Invocation:
        entry = entry_var.get()
        call_id = None
        if entry is not None and entry.seal is self._seal and not entry.used:
            entry.used = True
            call_id = entry.call_id
        session, carried_wrong = find_session(self._seal.guarded.guard)
        return Invocation(self._seal.guarded, self._visible, session, call_id, carried_wrong or self._refusal)


def _positional(function: Callable[..., Any]) -> tuple[str, ...]:
    found = signature(function)
    if found is None:
        return ()
    kinds = (1, 0)  # POSITIONAL_OR_KEYWORD, POSITIONAL_ONLY
    return tuple(name for name, parameter in found.parameters.items() if int(parameter.kind) in kinds)
