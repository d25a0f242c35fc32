"""Conditions of rules: CEL, type-checked at load against each tool's own arguments.

- Every argument is a typed variable of its own (``args.amount``). So a misspelled name, or a comparison of
  text with a number, does not compile, and no argument can reach ``user.*`` or any other variable.
- A value that may be null is checked as "its type or null" and run as dynamic: CEL's wrapper types do the
  first, and cannot be fed from Python. Values are read as the type that was checked, see ``variables.py``.
- ``has()`` of a variable is refused: in this binding it yields the variable's value, not its presence.
- Refused as well: a text, regular expression or time that can never match, and a condition without
  variables.
- Evaluation answers True, False, or None when it cannot tell. What None means is the engine's business.

The only module that knows CEL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext.ext_strings import ExtStrings

from zt_agents.decisions import ToolCall
from zt_agents.policy import expressions
from zt_agents.policy.arguments import Kind, Path, ValueType, argument_types
from zt_agents.policy.expressions import Chain, Token
from zt_agents.policy.mistakes import Mistake, in_the_compiler_s_words, in_the_words, readable_type
from zt_agents.policy.variables import ApprovedCall, Scope


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a condition, and whether it held."""

    text: str
    held: bool | None
    """None when it could not be evaluated."""
    problem: str = ""
    """Why it could not. May quote values of the call: for the operator's terminal, not for logs."""


@dataclass(frozen=True, slots=True)
class _Program:
    """What conditions that differ only in literals have in common."""

    expression: cel.Expression
    environment: _Environment
    inputs: tuple[tuple[str, Callable[[Any], Any]], ...]


class Condition:
    """A compiled condition. Immutable, and safe to share between threads."""

    __slots__ = ("_literals", "_program", "source")

    def __init__(self, source: str, program: _Program, literals: dict[str, int | float | str]) -> None:
        self.source = source
        self._program = program
        self._literals = literals

    def evaluate(self, call: ToolCall | ApprovedCall) -> bool | None:
        """Return whether the condition holds for *call*, or None when that cannot be told."""
        program = self._program
        data: dict[str, Any] = self._literals.copy()
        try:
            for name, get in program.inputs:
                data[name] = get(call)
            answer = program.expression.eval(data=data).value()
        except Exception:  # noqa: BLE001 - whatever is raised, the condition has no answer
            return None
        return answer if answer is True or answer is False else None

    def clauses(self, call: ToolCall) -> tuple[Clause, ...]:
        """Return the parts between the outermost ``&&`` and ``||``, each evaluated by itself."""
        return tuple(self._clause(text, call) for text in expressions.clauses(self.source))

    def _clause(self, text: str, call: ToolCall) -> Clause:
        environment = self._program.environment
        scope = environment.scope
        names = scope.resolve_all(expressions.chains(expressions.tokenize(text)))
        try:
            inputs = {name: scope.variables[name].get(call) for name in names}
            answer = environment.running.compile(text).eval(data=inputs).value()
        except Exception as error:  # noqa: BLE001 - see evaluate
            return Clause(text, None, str(error))
        return Clause(text, answer) if isinstance(answer, bool) else Clause(text, None, str(answer))


class ConditionCompiler:
    """Compiles the conditions of one policy.

    Conditions over equally typed variables that differ only in literals share one program: a policy of many
    thousand generated rules stays small, and what decides stays in the processor's caches.
    """

    def __init__(self, parameters: Mapping[str, Mapping[str, Any]], *, approver: bool = False) -> None:
        self._approver = approver
        """*parameters* holds the JSON Schema of each tool's arguments, as far as it is known."""
        self._parameters = parameters
        self._environments: dict[str, _Environment] = {}
        self._distinct: dict[frozenset[tuple[Path, ValueType]] | None, _Environment] = {}
        self._programs: dict[tuple[object, ...], _Program] = {}
        self._last: tuple[str, tuple[Token, ...], tuple[Chain, ...]] = ("", (), ())

    def arguments(self, tool: str) -> Mapping[Path, ValueType] | None:
        """Return the argument types of *tool*, or None when its schema is not known."""
        return self._environment(tool).scope.arguments

    def compile(self, source: str, tool: str) -> Condition | tuple[Mistake, ...]:
        """Return *source* compiled for *tool*, or everything that is wrong with it."""
        if self._last[0] != source:  # the tools of one rule come one after the other
            tokens = expressions.tokenize(source)
            self._last = (source, tokens, tuple(expressions.chains(tokens)))
        _, tokens, used = self._last
        environment = self._environment(tool)
        scope = environment.scope
        if mistakes := in_the_words(tokens, used, scope, tool):
            return _in_order(mistakes)
        names = scope.resolve_all(used)
        lifted, literals = expressions.lift_literals(source, tokens)
        key = (lifted, *((name, scope.variables[name].type) for name in names))
        program = self._programs.get(key)
        if program is None:
            compiled = _compile(source, lifted, environment, names)
            mistakes = [*_bad_literals(tokens), *(compiled if isinstance(compiled, list) else [])]
            if mistakes or isinstance(compiled, list):
                return _in_order(mistakes)
            inputs = tuple((name, scope.variables[name].get) for name in names)
            program = self._programs[key] = _Program(compiled, environment, inputs)
        return Condition(source, program, literals)

    def _environment(self, tool: str) -> _Environment:
        if tool not in self._environments:
            schema = self._parameters.get(tool)
            arguments = None if schema is None else argument_types(schema)
            key = None if arguments is None else frozenset(arguments.items())
            if key not in self._distinct:
                self._distinct[key] = _Environment(Scope(arguments, approver=self._approver))
            self._environments[tool] = self._distinct[key]
        return self._environments[tool]


def _in_order(mistakes: list[Mistake]) -> tuple[Mistake, ...]:
    return tuple(sorted(mistakes, key=lambda mistake: mistake.offset))


class _Environment:
    """A scope, and CEL's two environments over it."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        types = {name: variable.type for name, variable in scope.variables.items()}
        self.checking = _cel_environment({name: _checked_type(each) for name, each in types.items()})
        self.running = _cel_environment(
            {name: _running_type(each) for name, each in types.items()} | _LITERAL_TYPES
        )


def _cel_environment(variables: Mapping[str, cel.Type]) -> cel.Env:
    return cel.NewEnv(variables=variables, extensions=[ExtStrings()])


_CEL_TYPES = {
    Kind.STRING: cel.Type.STRING,
    Kind.INT: cel.Type.INT,
    Kind.DOUBLE: cel.Type.DOUBLE,
    Kind.DECIMAL: cel.Type.DOUBLE,
    Kind.BOOL: cel.Type.BOOL,
    Kind.TIMESTAMP: cel.Type.TIMESTAMP,
    Kind.DYNAMIC: cel.Type.DYN,
}
_WRAPPERS = {
    Kind.STRING: cel.Type("google.protobuf.StringValue"),
    Kind.INT: cel.Type("google.protobuf.Int64Value"),
    Kind.DOUBLE: cel.Type("google.protobuf.DoubleValue"),
    Kind.DECIMAL: cel.Type("google.protobuf.DoubleValue"),
    Kind.BOOL: cel.Type("google.protobuf.BoolValue"),
}


_LITERAL_TYPES = {
    f"{kind}{number}": cel_type
    for kind, cel_type in (("_int", cel.Type.INT), ("_double", cel.Type.DOUBLE), ("_string", cel.Type.STRING))
    for number in range(expressions.MAX_LIFTED)
}


def _cel_type(value_type: ValueType) -> cel.Type:
    element = value_type.element
    if value_type.kind is Kind.LIST and element:
        return cel.Type.List(_cel_type(element))
    if value_type.kind is Kind.MAP and element:
        return cel.Type.Map(cel.Type.STRING, _cel_type(element))
    return _CEL_TYPES[value_type.kind]


def _checked_type(value_type: ValueType) -> cel.Type:
    if value_type.may_be_null and value_type.scalar:
        return _WRAPPERS[value_type.kind]
    return cel.Type.DYN if value_type.nullable else _cel_type(value_type)


def _running_type(value_type: ValueType) -> cel.Type:
    return cel.Type.DYN if value_type.may_be_null else _cel_type(value_type)


def _compile(
    source: str, lifted: str, environment: _Environment, names: list[str]
) -> cel.Expression | list[Mistake]:
    try:
        checked = environment.checking.compile(source)
        program = environment.running.compile(lifted)
    except RuntimeError as error:
        return in_the_compiler_s_words(str(error), source)
    if checked.return_type() != cel.Type.BOOL:
        name = readable_type(checked.return_type().name()).lower()
        return [Mistake(f"a condition answers true or false; this one is of type {name}.", 0)]
    if not names:
        answer = environment.running.compile(source).eval(data={}).value()
        way_out = "remove it" if answer is True else "the rule could never apply"
        return [
            Mistake(f"this condition uses no variable and is always {str(answer).lower()}: {way_out}.", 0)
        ]
    return program


_TRIALS = {
    "matches": "''.matches({0})",
    "timestamp": "timestamp({0}) == timestamp({0})",
    "duration": "duration({0}) == duration({0})",
    "getHours": "timestamp('2026-01-01T00:00:00Z').getHours({0}) >= 0",
    "getMinutes": "timestamp('2026-01-01T00:00:00Z').getMinutes({0}) >= 0",
    "getDayOfWeek": "timestamp('2026-01-01T00:00:00Z').getDayOfWeek({0}) >= 0",
    "getDate": "timestamp('2026-01-01T00:00:00Z').getDate({0}) >= 0",
}
"""What to evaluate in order to learn whether a literal argument of a function is any good."""


def _bad_literals(tokens: tuple[Token, ...]) -> Iterator[Mistake]:
    for index in range(len(tokens) - 3):
        name, opening, literal, closing = tokens[index : index + 4]
        trial = _TRIALS.get(name.text)
        if trial and (opening.text, literal.kind, closing.text) == ("(", "text", ")"):
            try:
                answer = _cel_environment({}).compile(trial.format(literal.text)).eval(data={}).value()
            except RuntimeError:
                continue  # not even an expression: the compiler says so better
            if not isinstance(answer, bool):
                reason = str(answer).partition(": ")[2] or str(answer)
                yield Mistake(f"{name.text}() cannot work with this text: {reason}.", literal.start)
