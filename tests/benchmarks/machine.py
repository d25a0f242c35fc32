"""On which machine, and how busy it was."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "langchain-core", "pydantic", "opentelemetry-sdk", "cel-expr-python",
    "openinference-instrumentation-langchain", "opentelemetry-instrumentation-langchain", "tenuo",
)  # fmt: skip


def describe() -> str:
    """Return one line on processor, Python and load, and one on the packages."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{_processor()}, {os.cpu_count()} cores; {python}; load average {load()}"
    return f"{machine}\n{', '.join(filter(None, map(_release, _PACKAGES)))}"


def load() -> str:
    """Return how many processes wanted the processor in the last minute."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _release(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""
