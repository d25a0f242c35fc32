"""A console for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from reception import MakeReception, Reception


@pytest.fixture
def reception(tmp_path: Path) -> Reception:
    return Reception(tmp_path)


@pytest.fixture
def make_reception(tmp_path: Path) -> MakeReception:
    def make(**parts: object) -> Reception:
        folder = tmp_path / f"reception-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return Reception(folder, **parts)

    return make
