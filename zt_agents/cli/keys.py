"""``zt-agents keys``: the signing key that guards, the console and whoever adds approvers share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zt_agents.cli.display import say
from zt_agents.errors import ConfigurationError
from zt_agents.identity import SigningKey

keys_app = typer.Typer(name="keys", help="Make signing keys.", no_args_is_help=True)


@keys_app.callback()
def _keys() -> None:
    """Commands below this one are named, though there is one."""


@keys_app.command()
def new(path: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, such as signing.pem.")]) -> None:
    """Make a signing key: ES256, readable by its owner alone."""
    key = SigningKey.generate()
    try:
        key.save(path)
    except OSError as error:
        raise ConfigurationError(f"The file {path} could not be written: {error.strerror}.") from error
    say(f"{path} is a new signing key, {key.thumbprint}. Whoever can read it can vouch for anybody.")
