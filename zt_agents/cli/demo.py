"""``zt-agents demo``: a governed agent, an attack, and what becomes of both. Needs no key."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from zt_agents._internal.optional import require
from zt_agents.cli.login import logged_in
from zt_agents.errors import ConfigurationError

if TYPE_CHECKING:
    from zt_agents.demo.backend import Backend

FAILED = 1
"""Exit code when it did not go as a demonstration should."""


def demo(
    yes: Annotated[bool, typer.Option("--yes", help="Approve whatever needs a human.")] = False,
    no: Annotated[bool, typer.Option("--no", help="Approve nothing.")] = False,
    inbox: Annotated[bool, typer.Option("--inbox", help="Ask somebody else: in the console, or elsewhere.")] = False,
    backend: Annotated[
        bool, typer.Option("--backend", help="With a ticket service that takes CallTokens and nothing else.")
    ] = False,
    model: Annotated[str | None, typer.Option(metavar="PROVIDER:NAME", help="A real model, through LangChain.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="FOLDER", help="Where to work; a temporary folder if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON, and nothing else.")] = False,
) -> None:
    """Watch a helpdesk agent work, read a poisoned ticket, and get stopped.

    It works for whoever is logged in (zt-agents login), or for Alice.

    Exit code 0: it went as it should. 1: it did not. 2: it could not be played.
    """
    if yes + no + inbox > 1:
        raise typer.BadParameter("choose one of --yes, --no and --inbox", param_hint="--yes")
    require("langchain.agents", extra="langchain", purpose="zt-agents demo")
    for module in ("httpx", "uvicorn", "starlette") if backend else ():
        require(module, extra="services", purpose="zt-agents demo --backend")
    from zt_agents.demo.play import play  # loads LangChain
    from zt_agents.demo.show import Show

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without check marks shows question marks
    for switch in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER"):
        os.environ.pop(switch, None)  # the demonstration is about its spans
    console = Console(file=io.StringIO()) if as_json else Console(markup=False, emoji=False, highlight=False)
    answer = True if yes else False if no else None
    asks = answer is None and not inbox and not as_json and sys.stdin.isatty()
    show = Show(console)
    found = logged_in()
    login = found[0] if found is not None else None
    with _service() if backend else contextlib.nullcontext() as service:
        played = play(
            _prepare(folder),
            show,
            answer=answer,
            asks=asks,
            inbox=inbox,
            backend=service,
            model_name=model,
            login=login,
        )
        if service is not None and not as_json and sys.stdin.isatty():
            with contextlib.suppress(EOFError, KeyboardInterrupt):
                console.input("\nThe ticket service runs until you press Enter; its tokens are good for a minute. ")
    if as_json:
        typer.echo(json.dumps(played.to_dict(), indent=2))
    if not played.well:
        raise typer.Exit(FAILED)


def _service() -> Backend:
    from zt_agents.demo.backend import Backend  # loads a web server

    return Backend()


def _prepare(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="zt-agents-demo-"))
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            return folder
    raise ConfigurationError(f"{folder} is not an empty folder.", hint="Name a folder that is new or empty.")
