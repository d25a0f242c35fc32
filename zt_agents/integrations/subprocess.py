"""The credential of a call for a program that a tool's body starts: in its environment.

::

    subprocess.run(["ticket-cli", "update", "5"], env={**os.environ, **call_environment(audience=TICKETS)})

and in that program, which passes the token on with its request, or verifies it itself::

    token = call_token_from_environment()

Who runs as the same user can read a program's environment while it runs: the token is good for one use and a minute.
"""

from __future__ import annotations

import os

from zt_agents.errors import CredentialError
from zt_agents.permit import current_call

VARIABLE = "ZT_AGENTS_CALL_TOKEN"


def call_environment(*, audience: str, ttl: int = 60) -> dict[str, str]:
    """Return the variable with a new token of the governed call in whose body this is, to be joined to others.

    Raises:
        CredentialError: there is no governed call here, or its tool may have no token for *audience*.
    """
    permit = current_call()
    if permit is None:
        text = "There is no governed call here, so there is no token for a program."
        raise CredentialError(text, hint="Start the program in the body of a guarded tool.")
    return {VARIABLE: permit.token(audience=audience, ttl=ttl)}


def call_token_from_environment() -> str | None:
    """Return the token that this program was started with, once: what it starts itself is not told."""
    return os.environ.pop(VARIABLE, None)
