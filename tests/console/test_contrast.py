"""The colours of the style sheet can be told apart: WCAG 2.2, success criteria 1.4.3 and 1.4.11."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zt_agents.console

CSS = (Path(zt_agents.console.__file__).parent / "static" / "console.css").read_text(encoding="utf-8")
LIGHT, DARK = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
TEXT = [
    ("ink", "page"), ("ink", "raised"), ("ink", "wash"), ("faint", "page"), ("faint", "raised"), ("faint", "wash"),
    ("accent", "page"), ("accent", "raised"), ("on-accent", "accent"), ("on-mark", "mark"), ("alarm", "page"),
    ("alarm", "raised"), ("alarm", "wash"), ("page", "alarm"),
]  # fmt: skip
LINES = [("accent", "page"), ("accent", "raised"), ("edge", "page"), ("edge", "raised"), ("risk", "raised")]


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure_is_right() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("block", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(block: str) -> None:
    palette = colours(block)
    for pairs, least in ((TEXT, 4.5), (LINES, 3.0)):
        for one, other in pairs:
            assert contrast(palette[one], palette[other]) >= least, (one, other)


def test_dark_has_every_colour_that_light_has() -> None:
    assert colours(LIGHT).keys() == colours(DARK).keys()


def test_no_colour_stands_outside_the_palette() -> None:
    rest = CSS.replace(LIGHT, "").replace(DARK, "")
    assert re.findall(r"#[0-9a-f]{3,8}\b", rest) == []
