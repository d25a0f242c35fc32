"""What most tests of the guard need."""

from __future__ import annotations

import functools
import gc
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import typer.testing
from world import HEAD, World

from zt_agents import Channel
from zt_agents.errors import AuditError

MakeWorld = Callable[..., World]

# How long an example takes is the machine's business: a property that holds slowly holds.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
for size in ("COLUMNS", "LINES"):  # set where tests run side by side; what is printed here is as wide as without
    os.environ.pop(size, None)
# The commands and options of the command line are put together once, not for every command that a test gives.
typer.testing._get_command = functools.cache(typer.testing._get_command)
# A hundred programs are started here: each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Nobody is logged in (zt-agents login), whoever runs the tests.
os.environ["XDG_CONFIG_HOME"] = str(Path(tempfile.gettempdir()) / "zt-agents-tests" / "nobody")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests and what they import stay to the end: the garbage collector need not go over them again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: a third of the time, tests wait for disks, processes and clocks."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    """Return a function that builds a guard over tools and seals them.

    All tools share one catalog entry and one rule, with the *outcome* and condition given, or the *rules* given.
    """
    worlds: list[World] = []

    def make(
        *tools: Any,
        outcome: str = "allow",
        when: str = "",
        tier: str = "low",
        effects: str = "write",
        rules: str = "",
        channel: Channel | None = None,
        protect: bool = True,
        **parts: Any,
    ) -> World:
        folder = tmp_path / f"guard-{len(worlds)}"
        folder.mkdir()
        names = [tool.name for tool in tools]
        entry = f"{{tier: {tier}, effects: [{effects}], data_class: public, integrity: trusted}}"
        lines = [HEAD, "tools:", *(f"  {name}: {entry}" for name in names), "rules:"]
        if rules:
            lines.append(rules)
        else:
            condition = f", when: {when!r}" if when else ""
            lines.append(
                f"  - {{id: the-rule, agents: [helpdesk], tools: [{', '.join(names)}], outcome: {outcome}{condition}, "
                "reason: The threshold is 100.}"
            )
        world = World(folder, "\n".join(lines) + "\n", tools, channel, **parts)
        worlds.append(world)
        if protect:
            world.guard.protect(list(tools))
        return world

    yield make
    for world in worlds:
        try:
            world.guard.close()
        except AuditError:
            continue  # a test broke the log on purpose
