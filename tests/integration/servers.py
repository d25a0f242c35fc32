"""Finds, builds or installs a server that keeps traces, and runs it on free ports of loopback.

In this order: what ``ZT_AGENTS_JAEGER`` or ``ZT_AGENTS_PHOENIX`` names (a program); a Jaeger, then a Phoenix, that an
earlier run put into the user's cache folder; a Phoenix in this environment. With ``ZT_AGENTS_SERVERS=1`` one is put
into the cache folder: a Jaeger, built by Go (once; about five minutes on two cores), or, without Go, a Phoenix from
PyPI in a virtual environment of its own (once; about two minutes).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backends import Backend, Jaeger, Phoenix
from programs import CACHE, build, free_ports, running

_JAEGER_MODULE = "github.com/jaegertracing/jaeger@v1.76.0"
_JAEGER = CACHE / "jaeger-v1.76.0" / "jaeger"
_PHOENIX_PACKAGE = "arize-phoenix>=20,<21"
_PHOENIX = CACHE / "phoenix-20" / "bin" / "phoenix"

CONFIG = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [jaeger_storage_exporter]}}
  telemetry: {{metrics: {{level: none}}}}
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 10000}}}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: "127.0.0.1:{query}"}}
    grpc: {{endpoint: "127.0.0.1:{query_grpc}"}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{http}"}}, grpc: {{endpoint: "127.0.0.1:{grpc}"}}}}}}
processors: {{batch: {{timeout: 50ms}}}}
exporters: {{jaeger_storage_exporter: {{trace_storage: memory}}}}
"""


def named() -> str:
    """Return which server the tests will run against, without looking further than that: it names the tests."""
    if os.environ.get("ZT_AGENTS_JAEGER"):
        return "jaeger"
    if os.environ.get("ZT_AGENTS_PHOENIX"):
        return "phoenix"
    if _JAEGER.exists():
        return "jaeger"
    if _PHOENIX.exists() or _installed_phoenix():
        return "phoenix"
    if os.environ.get("ZT_AGENTS_SERVERS") == "1":
        return "jaeger" if shutil.which("go") else "phoenix"
    return "no server"


@contextmanager
def keeping(name: str, folder: Path) -> Iterator[Backend]:
    """Run the server called *name* with its files in *folder*."""
    if name == "jaeger":
        program = os.environ.get("ZT_AGENTS_JAEGER") or (str(_JAEGER) if _JAEGER.exists() else _build_jaeger())
        http, grpc, query, query_grpc = free_ports(4)
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(http=http, grpc=grpc, query=query, query_grpc=query_grpc), encoding="utf-8")
        jaeger = Jaeger(http=http, grpc=grpc, query=query)
        command = [program, "--config", str(config)]
        with running(command, folder / "log", lambda: _ready(jaeger), seconds=60, cwd=folder):
            yield jaeger
        return
    program = os.environ.get("ZT_AGENTS_PHOENIX") or _installed_phoenix() or _install_phoenix()
    http, grpc = free_ports(2)
    variables = {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(http),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    phoenix = Phoenix(http=http, grpc=grpc)
    command = [program, "serve"]
    with running(command, folder / "log", lambda: _ready(phoenix), seconds=120, cwd=folder, env=variables):
        yield phoenix


def _ready(server: Jaeger | Phoenix) -> bool:
    try:
        server.ready()
    except OSError:
        return False
    return True


def _build_jaeger() -> str:
    build(_JAEGER.parent, _JAEGER_MODULE, "./cmd/jaeger")
    return str(_JAEGER)


def _installed_phoenix() -> str:
    return str(_PHOENIX) if _PHOENIX.exists() else shutil.which("phoenix", path=str(Path(sys.executable).parent)) or ""


def _install_phoenix() -> str:
    folder = _PHOENIX.parent.parent
    shutil.rmtree(folder, ignore_errors=True)  # what a run that was interrupted left behind
    venv.create(folder, with_pip=True)
    try:
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", _PHOENIX_PACKAGE], check=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return str(_PHOENIX)
