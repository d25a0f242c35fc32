from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from zt_agents.catalog.catalog import Catalog, Standing
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.catalog.specs import Effect, Tier, ToolDescription, ToolSpec
from zt_agents.errors import ConfigurationError

SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}}
READ = ToolDescription("read", "Read a thing.", SCHEMA, {"readOnlyHint": True})
SEND = ToolDescription("send", "Send — with \x1b[31m care.", {})


def written(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / "zt-agents.lock.json"
    ToolLock().accept([READ, SEND]).write(path)
    return path, json.loads(path.read_text())


def test_lock_stands_beside_its_policy() -> None:
    assert lock_path("conf/zt-agents.yaml") == Path("conf/zt-agents.lock.json")
    assert lock_path(Path("zt.prod.yml")) == Path("zt.prod.lock.json")


def test_missing_file_is_an_empty_lock(tmp_path: Path) -> None:
    lock = ToolLock.read(tmp_path / "none.lock.json")
    assert not lock.accepted
    assert not lock.parameters


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    lock = ToolLock.read(path)
    assert lock.fingerprints == ToolLock().accept([SEND, READ]).fingerprints
    assert lock.parameters == {"read": SCHEMA, "send": {}}
    assert lock.accepted["send"].description == SEND.description
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_file_is_sorted_and_plain(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    first = path.read_text()
    ToolLock().accept([SEND, READ]).write(path)
    assert path.read_text() == first
    assert first.isascii()
    assert "\x1b" not in first
    assert first.index('"read"') < first.index('"send"')


def test_accepting_replaces_one_tool_and_leaves_the_others() -> None:
    before = ToolLock().accept([READ, SEND])
    after = before.accept([ToolDescription("read", "Read another thing.", SCHEMA)])
    assert after.fingerprints["read"] != before.fingerprints["read"]
    assert after.fingerprints["send"] == before.fingerprints["send"]
    assert before.accepted["read"].description == "Read a thing."


def _edit(document: dict[str, Any], *path: str, value: Any) -> dict[str, Any]:
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("version",), 2, "version must be 1"),
        (("version",), True, "version must be 1"),
        (("version",), "1", "version must be 1"),
        (("extra",), 1, "keys must be exactly"),
        (("tools",), [], "must be an object"),
        (("tools", "read", "extra"), 1, "keys of tool 'read'"),
        (("tools", "read"), "sha256:0", "keys of tool 'read'"),
        (("tools", "read", "description"), None, "needs a text"),
        (("tools", "read", "parameters"), [], "needs a text"),
        (("tools", "read", "description"), "Read a thing, and send it.", "not that of the content"),
        (("tools", "read", "parameters", "type"), "array", "not that of the content"),
        (("tools", "read", "fingerprint"), "sha256:" + "0" * 64, "not that of the content"),
        (("tools", "read", "fingerprint"), None, "not that of the content"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, path: tuple[str, ...], value: Any, why: str) -> None:
    file, document = written(tmp_path)
    file.write_text(json.dumps(_edit(document, *path, value=value)))
    with pytest.raises(ConfigurationError, match=why):
        ToolLock.read(file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{} {}",
        '{"version": 1}',
        '{"version": 1, "version": 1, "tools": {}}',
        "[" * 100_000,
    ],
    ids=["empty", "open", "list", "null", "two", "no-tools", "repeated", "deep"],
)
def test_malformed_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.lock.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="was refused"):
        ToolLock.read(path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.lock.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ToolLock.read(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ToolLock.read(tmp_path)


def test_a_failed_write_leaves_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = written(tmp_path)
    before = path.read_text()

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="no space left"):
        ToolLock().write(path)
    assert path.read_text() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_standing() -> None:
    specs = {name: ToolSpec(name, Tier.LOW, frozenset({Effect.READ})) for name in ("read", "list")}
    catalog = Catalog(specs, ToolLock().accept([READ, SEND]))
    assert catalog.compare(READ) is Standing.ACCEPTED
    assert catalog.compare(ToolDescription("read", "Read a thing.", SCHEMA)) is Standing.ACCEPTED
    assert catalog.compare(ToolDescription("read", "Read a thing!", SCHEMA)) is Standing.DRIFTED
    assert catalog.compare(ToolDescription("list", "", {})) is Standing.UNRECORDED
    assert catalog.compare(SEND) is Standing.UNKNOWN, "an accepted description alone catalogues nothing"
    assert catalog.compare(ToolDescription("Read", "Read a thing.", SCHEMA)) is Standing.UNKNOWN
    assert catalog.get("read") is specs["read"]
    assert catalog.get("send") is None
    assert list(catalog) == ["read", "list"]


def test_an_empty_catalog_knows_nothing() -> None:
    assert Catalog({}, ToolLock()).compare(READ) is Standing.UNKNOWN
