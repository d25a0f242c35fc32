"""Finds, builds or installs a server that keeps traces, and runs it on free ports of loopback.

In this order: what ``ZT_AGENTS_JAEGER`` or ``ZT_AGENTS_PHOENIX`` names (a program); a Jaeger, then a Phoenix, that an
earlier run put into the user's cache folder; a Phoenix in this environment. With ``ZT_AGENTS_SERVERS=1`` one is put
into the cache folder: a Jaeger, built by Go (once; about five minutes on two cores), or, without Go, a Phoenix from
PyPI in a virtual environment of its own (once; about two minutes).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backends import Backend, Jaeger, Phoenix

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zt-agents"
_JAEGER_MODULE = "github.com/jaegertracing/jaeger@v1.76.0"
_JAEGER = _CACHE / "jaeger-v1.76.0" / "jaeger"
_PHOENIX_PACKAGE = "arize-phoenix>=20,<21"
_PHOENIX = _CACHE / "phoenix-20" / "bin" / "phoenix"

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
def running(name: str, folder: Path) -> Iterator[Backend]:
    """Run the server called *name* with its files in *folder*."""
    if name == "jaeger":
        program = os.environ.get("ZT_AGENTS_JAEGER") or (str(_JAEGER) if _JAEGER.exists() else _build_jaeger())
        http, grpc, query, query_grpc = free_ports(4)
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(http=http, grpc=grpc, query=query, query_grpc=query_grpc), encoding="utf-8")
        jaeger = Jaeger(http=http, grpc=grpc, query=query)
        with _process([program, "--config", str(config)], {}, folder, jaeger, seconds=60):
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
    with _process([program, "serve"], variables, folder, phoenix, seconds=120):
        yield phoenix


@contextmanager
def _process(
    command: list[str], variables: dict[str, str], folder: Path, server: Jaeger | Phoenix, *, seconds: float
) -> Iterator[None]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env={**clean, **variables})
        try:
            end = time.monotonic() + seconds
            while True:
                try:
                    server.ready()
                    break
                except OSError:
                    said = log.read_text(errors="replace")[-2000:]
                    assert process.poll() is None, f"{command[0]} did not start: {said}"
                    assert time.monotonic() < end, f"{command[0]} did not answer: {said}"
                    time.sleep(0.1)
            yield
        finally:
            process.kill()  # a graceful end takes Jaeger twenty seconds, and nothing it holds is to be kept
            process.wait()


def _build_jaeger() -> str:
    go = shutil.which("go")
    assert go is not None
    # Built as its own main module, in its own folder: so its go.sum and its one replacement count.
    download = [go, "mod", "download", "-json", _JAEGER_MODULE]
    source = json.loads(subprocess.run(download, capture_output=True, text=True, check=True).stdout)["Dir"]
    _JAEGER.parent.mkdir(parents=True, exist_ok=True)
    partial = _JAEGER.with_name(f"jaeger.{os.getpid()}")
    subprocess.run([go, "build", "-C", source, "-o", str(partial), "./cmd/jaeger"], check=True)
    partial.replace(_JAEGER)
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


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
