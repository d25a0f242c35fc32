"""The key beside the audit log: made once, private, and never half there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zt_agents.config import hash_key
from zt_agents.errors import ConfigurationError


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    key = hash_key(path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert hash_key(path) == key
    assert [each.name for each in tmp_path.iterdir()] == ["log.key"]


def test_all_who_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(hash_key, [tmp_path / "log.key"] * 32))
    assert len(keys) == 1


def test_a_key_that_is_there_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.key"
    key = hash_key(path)

    def read_only(*_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr("os.open", read_only)
    assert hash_key(path) == key


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    hash_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"can be read by other users\. Run: chmod 600"):
        hash_key(path)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="does not hold 32 bytes"):
        hash_key(path)


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="could not be read"):
        hash_key(path)
    assert not (tmp_path / "elsewhere").exists()
