"""How every command of ``zt-agents`` behaves.

Rules:

1. What is missing is named at once, not one option per attempt.
2. A group with a command ``list`` lists when nothing else is asked for.
3. An error of this package becomes a message on standard error and exit code 2, never a traceback.
4. Help states the exit codes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from zt_agents.cli.display import say_error
from zt_agents.errors import ZeroTrustError

CANNOT = 2
"""Exit code of a command that could not do its work."""
_LIST = "list"
_EXIT_CODE = "Exit code"
_Called = TypeVar("_Called", bound=Callable[..., Any])


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(args))
        except typer.BadParameter as error:
            missing = self._missing(ctx, args)
            if len(missing) > 1 and error.param in missing:
                ctx.fail(f"Missing: {', '.join(map(_name, missing))}.")
            raise

    def _missing(self, ctx: Any, args: list[str]) -> list[Any]:
        """Return the required parameters that neither *args* nor the environment have."""
        with self.make_context(ctx.info_name, list(args), parent=ctx.parent, resilient_parsing=True) as tried:
            return [each for each in self.params if each.required and not _is_given(tried, each)]


class _Group(TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        asked = bool(args) and (not args[0].startswith("-") or args[0] in ctx.help_option_names)
        if not asked and not ctx.resilient_parsing and _LIST in self.commands:
            args = [_LIST, *args]
        return super().parse_args(ctx, args)


class _Program(_Group):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ZeroTrustError as error:
            say_error(error)
            raise typer.Exit(CANNOT) from error


class Commands(typer.Typer):
    """A group of commands, or the program itself (*top*)."""

    def __init__(self, name: str, purpose: str, *, top: bool = False) -> None:
        super().__init__(
            name=name,
            cls=_Program if top else _Group,
            help=purpose,
            no_args_is_help=True,
            add_completion=top,
            pretty_exceptions_show_locals=False,  # locals hold arguments and secrets
            rich_markup_mode=None,
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_Called], _Called]:
        registered = super().command

        def decorate(called: _Called) -> _Called:
            said = inspect.getdoc(called) or ""
            said = said if _EXIT_CODE in said else f"{said}\n\n{_EXIT_CODE} 0: done. 2: it could not be done."
            return registered(name, cls=_Command, help=said, **settings)(called)

        return decorate


def _is_given(ctx: Any, parameter: Any) -> bool:
    """Return whether *parameter* has a value, be it one that does not fit."""
    source = ctx.get_parameter_source(parameter.name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def _name(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    return str(parameter.metavar or parameter.name if is_argument else parameter.opts[0])
