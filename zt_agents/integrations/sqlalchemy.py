"""The database knows for whom a call runs: row-level security by the user of the governed call (PostgreSQL).

::

    with engine.begin() as connection, acting_as(connection):
        rows = connection.execute(text("SELECT * FROM ticket"))  # the user's own

and in the database::

    ALTER TABLE ticket ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON ticket USING (owner = nullif(current_setting('zt.user', true), ''));

Rules:

1. User, agent, task and tenant are set as parameters, for this transaction alone (``set_config(..., true)``): what the
   pool hands to the next one knows nothing of them. Without a transaction there is nobody.
2. They come from the permit of the running body, or from claims that were verified, and never from arguments.
3. A savepoint that is begun in a block ends in it: rolled back later, it would bring back for whom the block worked.
4. Row-level security does not bind the owner of a table, superusers, nor roles with BYPASSRLS: the application is none
   of these. And whoever can run ``SET`` or ``set_config`` can be anybody: no tool hands a model's SQL to a connection
   whose role may.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from zt_agents._internal.optional import require
from zt_agents.credentials.call_tokens import CallClaims
from zt_agents.errors import ConfigurationError, CredentialError
from zt_agents.permit import current_call

if TYPE_CHECKING:
    import sqlalchemy
    import sqlalchemy.exc
else:
    sqlalchemy = require("sqlalchemy", extra="services", purpose="acting_as")

_SET = sqlalchemy.text(
    "SELECT set_config('zt.user', :user, true), set_config('zt.agent', :agent, true), "
    "set_config('zt.task', :task, true), set_config('zt.tenant', :tenant, true)"
)
_GET = sqlalchemy.text(
    "SELECT coalesce(current_setting('zt.user', true), ''), coalesce(current_setting('zt.agent', true), ''), "
    "coalesce(current_setting('zt.task', true), ''), coalesce(current_setting('zt.tenant', true), '')"
)


@contextmanager
def acting_as(
    connection: sqlalchemy.Connection, claims: CallClaims | None = None
) -> Generator[sqlalchemy.Connection, None, None]:
    """Let the database know, within this block, for whom *connection* works.

    The settings ``zt.user``, ``zt.agent``, ``zt.task`` and ``zt.tenant`` say it; an empty text is nobody.

    Args:
        connection: one to PostgreSQL, in a transaction.
        claims: for whom, as :meth:`CallTokenVerifier.verify` returned it; the governed call in whose body this is by
            default.

    Raises:
        CredentialError: there is neither a governed call here nor are there claims.
        ConfigurationError: it is no PostgreSQL, the connection commits each statement by itself, or a savepoint of the
            block was neither released nor rolled back; it is rolled back then.
    """
    if connection.dialect.name != "postgresql":
        raise ConfigurationError("Row-level security by the user of a call needs PostgreSQL.")
    wanted = _who(claims)
    before, savepoint = tuple(connection.execute(_GET).one()), connection.get_nested_transaction()
    _set(connection, wanted)
    if tuple(connection.execute(_GET).one()) != wanted:
        text = "The connection commits each statement by itself, so it forgets at once for whom it works."
        raise ConfigurationError(text, hint="Use it in a transaction, without AUTOCOMMIT.")
    try:
        yield connection
    except BaseException:  # however the block ended, the connection no longer works for the caller
        # A transaction that failed can only be rolled back, and forgets by that.
        with suppress(sqlalchemy.exc.SQLAlchemyError):
            _roll_back_to(connection, savepoint)
            _set(connection, before)
        raise
    if connection.in_transaction():
        left = _roll_back_to(connection, savepoint)
        _set(connection, before)
        if left:
            text = "A savepoint that was begun for a user is still there at the end of the block that works for them."
            raise ConfigurationError(text, hint="Write: with connection.begin_nested(): ...")


def _who(claims: CallClaims | None) -> tuple[str, ...]:
    if claims is not None:
        return claims.user_id, claims.agent_id, claims.task, claims.tenant
    permit = current_call()
    if permit is None or permit.session is None or not permit.running:
        text = "There is no governed call here, so there is nobody for whom the database could work."
        raise CredentialError(text, hint="Use the connection in the body of a guarded tool.")
    said = permit.session.claims
    return said.user_id, said.agent_id, said.task, said.tenant


def _roll_back_to(connection: sqlalchemy.Connection, savepoint: sqlalchemy.NestedTransaction | None) -> bool:
    """Roll back the savepoints that were begun since *savepoint*. Returns whether there were any."""
    found = False
    while (inner := connection.get_nested_transaction()) is not None and inner is not savepoint:
        inner.rollback()
        found = True
    return found


def _set(connection: sqlalchemy.Connection, who: tuple[str, ...]) -> None:
    connection.execute(_SET, dict(zip(("user", "agent", "task", "tenant"), who, strict=True)))
