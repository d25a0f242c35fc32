"""A real PostgreSQL that shows a governed call the rows of its user, and no others.

Runs with ``ZT_AGENTS_SERVERS=1`` where ``postgres`` and ``initdb`` are installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import programs
import pytest
import sqlalchemy
from call_bodies import Bodies
from postgres import postgres
from sqlalchemy import text

from zt_agents.errors import ConfigurationError, CredentialError
from zt_agents.integrations.sqlalchemy import acting_as

if absent := programs.missing("postgres", "initdb"):
    pytest.skip(absent, allow_module_level=True)
pytest.importorskip("psycopg", reason="needs the package psycopg")

_SCHEMA = """
CREATE TABLE ticket (id int PRIMARY KEY, owner text NOT NULL, body text);
INSERT INTO ticket VALUES (1, 'alice@acme.example', 'hers'), (2, 'bob@acme.example', 'his'), (3, '', 'nobody''s');
ALTER TABLE ticket ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON ticket USING (owner = nullif(current_setting('zt.user', true), ''));
CREATE ROLE app LOGIN;
GRANT SELECT, INSERT, UPDATE, DELETE ON ticket TO app;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[sqlalchemy.URL]:
    """Start a PostgreSQL of our own and return its URL, for the role ``app``."""
    with postgres("rows") as running:
        running.run(_SCHEMA)
        yield running.url("app")


@pytest.fixture
def engine(server: sqlalchemy.URL) -> Iterator[sqlalchemy.Engine]:
    made = sqlalchemy.create_engine(server, pool_size=1, max_overflow=0)
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bodies]:
    made = Bodies(tmp_path_factory.mktemp("bodies"))
    yield made
    made.world.guard.close()


def rows(engine: sqlalchemy.Engine) -> list[str]:
    with engine.begin() as connection, acting_as(connection):
        return [owner for (owner,) in connection.execute(text("SELECT owner FROM ticket"))]


def bare(engine: sqlalchemy.Engine) -> list[Any]:
    with engine.begin() as connection:
        return list(connection.execute(text("SELECT owner FROM ticket")))


@pytest.mark.parametrize("user", ["alice@acme.example", "bob@acme.example"])
def test_a_call_sees_the_rows_of_its_user(bodies: Bodies, engine: sqlalchemy.Engine, user: str) -> None:
    assert bodies.run(lambda: rows(engine), on_behalf_of=user) == [user]


def test_a_user_whose_name_is_sql_is_nobody(bodies: Bodies, engine: sqlalchemy.Engine) -> None:
    for user in ("' OR '1'='1", "bob@acme.example'; RESET ALL; --", "bob@acme.example\\", "%"):
        assert bodies.run(lambda: rows(engine), on_behalf_of=user) == []


def test_the_pool_hands_on_nothing(bodies: Bodies, engine: sqlalchemy.Engine) -> None:
    assert bodies.run(lambda: rows(engine)) == ["alice@acme.example"]
    assert bare(engine) == []

    def fail() -> None:
        with engine.begin() as connection, acting_as(connection):
            connection.execute(text("SELECT 1/0"))

    with pytest.raises(sqlalchemy.exc.DataError):
        bodies.run(fail)
    assert bare(engine) == []


def test_after_the_block_the_transaction_works_for_nobody(bodies: Bodies, engine: sqlalchemy.Engine) -> None:
    def use() -> tuple[int, int]:
        with engine.begin() as connection:
            count = text("SELECT count(*) FROM ticket")
            with acting_as(connection):
                inside = connection.execute(count).scalar_one()
            return inside, connection.execute(count).scalar_one()

    assert bodies.run(use) == (1, 0)


@pytest.mark.parametrize("fails", [True, False])
def test_a_savepoint_brings_nobody_back(bodies: Bodies, engine: sqlalchemy.Engine, fails: bool) -> None:
    savepoints: list[sqlalchemy.NestedTransaction] = []

    def work(connection: sqlalchemy.Connection) -> None:
        with acting_as(connection):
            savepoints.append(connection.begin_nested())
            connection.execute(text("SELECT 1/0" if fails else "SELECT 1"))

    def use() -> list[Any]:
        with engine.begin() as connection:
            with pytest.raises(sqlalchemy.exc.DataError if fails else ConfigurationError):
                work(connection)
            if savepoints[0].is_active:
                savepoints[0].rollback()
            return list(connection.execute(text("SELECT owner FROM ticket")))

    assert bodies.run(use) == []


def test_a_savepoint_around_or_within_the_block_is_its_own(bodies: Bodies, engine: sqlalchemy.Engine) -> None:
    def use() -> tuple[int, int]:
        with engine.begin() as connection, connection.begin_nested() as savepoint:
            count = text("SELECT count(*) FROM ticket")
            with acting_as(connection), connection.begin_nested():
                inside = connection.execute(count).scalar_one()
            assert savepoint.is_active
            return inside, connection.execute(count).scalar_one()

    assert bodies.run(use) == (1, 0)


def test_nothing_can_be_written_for_others(bodies: Bodies, engine: sqlalchemy.Engine) -> None:
    def steal() -> None:
        with engine.begin() as connection, acting_as(connection):
            connection.execute(text("INSERT INTO ticket VALUES (9, 'bob@acme.example', 'forged')"))

    with pytest.raises(sqlalchemy.exc.ProgrammingError, match="row-level security"):
        bodies.run(steal)

    def change() -> int:
        with engine.begin() as connection, acting_as(connection):
            return connection.execute(text("UPDATE ticket SET body = 'x' WHERE id = 2")).rowcount

    assert bodies.run(change) == 0


def test_a_connection_that_commits_by_itself_is_refused(bodies: Bodies, engine: sqlalchemy.Engine) -> None:
    def use() -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection, acting_as(connection):
            pass

    with pytest.raises(ConfigurationError, match="commits each statement"):
        bodies.run(use)


def test_outside_of_a_call_there_is_nobody(engine: sqlalchemy.Engine) -> None:
    with pytest.raises(CredentialError, match="no governed call"):
        rows(engine)


def test_a_service_works_for_whom_the_token_says(bodies: Bodies, engine: sqlalchemy.Engine) -> None:
    from call_bodies import TICKETS, permit

    claims = bodies.verify(bodies.run(lambda: permit().token(audience=TICKETS), on_behalf_of="bob@acme.example"))
    with engine.begin() as connection, acting_as(connection, claims):
        assert [owner for (owner,) in connection.execute(text("SELECT owner FROM ticket"))] == ["bob@acme.example"]


def test_users_at_once_do_not_mix(bodies: Bodies, server: sqlalchemy.URL) -> None:
    engine = sqlalchemy.create_engine(server, pool_size=3, max_overflow=0)
    users = ["alice@acme.example", "bob@acme.example", "carol@acme.example"] * 20
    bodies.body = lambda: rows(engine)

    def ask(user: str) -> Any:
        with bodies.world.session(on_behalf_of=user):
            return bodies.update.invoke({"number": 5})

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, users))
    engine.dispose()
    assert found == [[] if user.startswith("carol") else [user] for user in users]


def test_other_databases_are_refused(bodies: Bodies) -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(ConfigurationError, match="PostgreSQL"):
        acting_as(connection).__enter__()
    engine.dispose()
