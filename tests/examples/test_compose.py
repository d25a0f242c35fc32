"""The compose file for Jaeger opens the ports that the page on evidence names, to this machine alone."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_jaeger() -> None:
    composed = yaml.safe_load((ROOT / "examples/jaeger/compose.yaml").read_text(encoding="utf-8"))
    (service,) = composed["services"].values()
    assert service["image"].startswith("jaegertracing/jaeger:")
    ports = [port.split(":") for port in service["ports"]]
    assert all(address == "127.0.0.1" and outside == inside for address, outside, inside in ports)
    named = set(re.findall(r"-p (\d+):", (ROOT / "docs/evidence.md").read_text(encoding="utf-8")))
    assert {"16686", "4318"} <= named <= {inside for _, _, inside in ports} == {"16686", "4317", "4318"}
