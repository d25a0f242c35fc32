"""A PostgreSQL of the tests' own, on a free port of loopback. Nothing of it is kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import programs
import sqlalchemy
from sqlalchemy import text

_ADMITTED = """
host all root,app 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
"""Only ``root`` and ``app`` are known without a password."""


@dataclass(frozen=True)
class Postgres:
    port: int

    def url(self, user: str, password: str = "") -> sqlalchemy.URL:
        return sqlalchemy.URL.create(
            "postgresql+psycopg", user, password or None, "127.0.0.1", self.port, "postgres", {"connect_timeout": "5"}
        )

    def run(self, statements: str) -> None:
        """Run statements as the superuser."""
        with self.engine("root").begin() as connection:
            connection.execute(text(statements))

    def engine(self, user: str, password: str = "") -> sqlalchemy.Engine:
        """Return an engine that keeps no connection open."""
        return sqlalchemy.create_engine(self.url(user, password), poolclass=sqlalchemy.pool.NullPool)

    def answers(self) -> bool:
        try:
            self.run("SELECT 1")
        except sqlalchemy.exc.OperationalError:
            return False
        return True


@contextmanager
def postgres(name: str) -> Iterator[Postgres]:
    """Run a PostgreSQL; *name* keeps it apart from others of this process."""
    folder = Path("/tmp") / f"zt-{name}-{os.getpid()}"  # the path of a socket is short
    folder.mkdir(mode=0o700)
    user: Any = "nobody" if os.geteuid() == 0 else None  # it does not run as root
    if user:
        shutil.chown(folder, user)
    try:
        data = folder / "data"
        make = ["initdb", "-D", str(data), "-U", "root", "-A", "trust", "--no-sync"]
        subprocess.run(
            make, check=True, user=user, cwd=folder, timeout=60, stdin=subprocess.DEVNULL, capture_output=True
        )
        (data / "pg_hba.conf").write_text(_ADMITTED, encoding="utf-8")
        (port,) = programs.free_ports(1)
        server = Postgres(port)
        command = ["postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
        how: dict[str, Any] = {"seconds": 30, "end": signal.SIGQUIT, "user": user, "cwd": folder}  # it frees its memory
        with programs.running(command, folder / "log", server.answers, **how):
            yield server
    finally:
        shutil.rmtree(folder)
