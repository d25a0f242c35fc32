"""SPIRE itself for tests: its server, and its agent that attests processes by their Unix user, on loopback.

Both are built by Go, once, into the user's cache folder: about five minutes on two cores. They are built without the
plug-ins for clouds and clusters, which are most of the work. Nothing of a run is kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from programs import CACHE, build_fitted, free_ports, running

VERSION = "1.13.3"
TRUST_DOMAIN = "acme.example"
_HOME = CACHE / f"spire-{VERSION}"
_PLUGINS = {"disk", "jointoken", "memory", "uniqueid", "unix"}
_PLUGIN = re.compile(r'\t(?:\w+ )?".+/pkg/\w+/plugin/\w+/(\w+)"\n|\t\t(\w+)\.BuiltIn\(\),\n')
"""A line of Go that imports a plug-in, or lists one."""
_NODE = f"spiffe://{TRUST_DOMAIN}/node"
_SERVER = """
server {{
  bind_address = "127.0.0.1"
  bind_port = {port}
  socket_path = "{folder}/server.sock"
  trust_domain = "{domain}"
  data_dir = "{folder}"
  log_level = "INFO"
  ca_ttl = "1h"
  ratelimit {{ attestation = false, signing = false }}
  experimental {{ cache_reload_interval = "1s" }}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3", connection_string = "{folder}/entries.sqlite3" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "memory" {{ plugin_data {{}} }}
}}
"""
_AGENT = """
agent {{
  server_address = "127.0.0.1"
  server_port = {port}
  socket_path = "{folder}/public/agent.sock"
  trust_bundle_path = "{folder}/bundle.pem"
  trust_domain = "{domain}"
  data_dir = "{folder}/agent"
  log_level = "INFO"
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "disk" {{ plugin_data {{ directory = "{folder}/agent" }} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


class Spire:
    """A server, and what its operator can do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._token = ""
        self._agent = ExitStack()
        self.socket = f"unix://{folder}/public/agent.sock"
        """Of the Workload API."""

    def ask(self, *command: str) -> Any:
        """Ask the server as its operator."""
        socket = ["-socketPath", f"{self._folder}/server.sock", "-output", "json"]
        done = subprocess.run(
            [_HOME / "spire-server", *command, *socket], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return json.loads(done.stdout or "null")

    def enter(self, spiffe_id: str, *, user: int, ttl: int = 60) -> str:
        """Have each process of *user* (a uid) given certificates for *spiffe_id*; return the entry's id."""
        who = ["-spiffeID", spiffe_id, "-parentID", _NODE, "-selector", f"unix:uid:{user}"]
        said = self.ask("entry", "create", *who, "-x509SVIDTTL", str(ttl))
        return str(said["results"][0]["entry"]["id"])

    def remove(self, entry: str) -> None:
        self.ask("entry", "delete", "-entryID", entry)

    def rotate_authority(self) -> None:
        """Have the server sign with a new authority from now on. Both are in the bundle."""
        prepared = self.ask("localauthority", "x509", "prepare")["prepared_authority"]["authority_id"]
        self.ask("localauthority", "x509", "activate", "-authorityID", prepared)

    def healthy(self) -> bool:
        return self._check("spire-server", f"{self._folder}/server.sock")

    def prepare(self) -> None:
        """Lay down what the agent begins with."""
        shown = [_HOME / "spire-server", "bundle", "show", "-socketPath", f"{self._folder}/server.sock"]
        bundle = subprocess.run(shown, capture_output=True, check=True, timeout=30).stdout
        (self._folder / "bundle.pem").write_bytes(bundle)
        self._token = self.ask("token", "generate", "-spiffeID", _NODE)["value"]

    @contextmanager
    def agent(self) -> Iterator[None]:
        """Run the agent."""
        self._start_agent()
        try:
            yield
        finally:
            self._agent.close()

    @contextmanager
    def without_agent(self) -> Iterator[None]:
        """End the agent, for a while: it is the same one that comes back."""
        self._agent.close()
        try:
            yield
        finally:
            self._start_agent()

    def _start_agent(self) -> None:
        command = [_HOME / "spire-agent", "run", "-config", self._folder / "agent.conf", "-joinToken", self._token]
        log = self._folder / "agent.log"
        self._agent.enter_context(running(command, log, self._agent_healthy, seconds=60, cwd=self._folder))

    def _agent_healthy(self) -> bool:
        return self._check("spire-agent", f"{self._folder}/public/agent.sock")

    def _check(self, program: str, socket: str) -> bool:
        command = [_HOME / program, "healthcheck", "-socketPath", socket]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def _fit(source: Path) -> None:
    """Take out of the catalogs of plug-ins what is not used here."""
    for file in source.glob("pkg/*/catalog/*.go"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = (line for line in lines if not (found := _PLUGIN.fullmatch(line)) or (found[1] or found[2]) in _PLUGINS)
        file.write_text("".join(kept), encoding="utf-8")


@contextmanager
def spire() -> Iterator[Spire]:
    """Run SPIRE's server."""
    if not _HOME.exists():
        programs = ("./cmd/spire-server", "./cmd/spire-agent")
        build_fitted(_HOME, f"github.com/spiffe/spire@v{VERSION}", *programs, fit=_fit, options=[])
    folder = Path("/tmp") / f"zt-spire-{os.getpid()}"  # the path of a socket is short
    with ExitStack() as stack:
        for each in (folder, folder / "agent", folder / "public"):
            each.mkdir(mode=0o711)  # processes of other users ask, too
        stack.callback(shutil.rmtree, folder)
        (port,) = free_ports(1)
        for name, text in (("server", _SERVER), ("agent", _AGENT)):
            content = text.format(folder=folder, port=port, domain=TRUST_DOMAIN)
            (folder / f"{name}.conf").write_text(content, encoding="utf-8")
        command = [_HOME / "spire-server", "run", "-config", folder / "server.conf"]
        server = Spire(folder)
        stack.enter_context(running(command, folder / "server.log", server.healthy, seconds=60, cwd=folder))
        server.prepare()
        yield server
