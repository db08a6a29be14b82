"""How the pages look and read: contrast, names for screen readers, and what a narrow window needs."""

from __future__ import annotations

import re

import pytest

from ray_jobs.review.web_app import FOLDER

STYLE = (FOLDER / "static" / "review.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
)
TEXT = [
    ("ink", "page"),
    ("ink", "card"),
    ("ink", "track"),
    ("soft", "page"),
    ("soft", "card"),
    ("soft", "track"),
    ("accent", "page"),
    ("accent", "card"),
    ("on-accent", "accent"),
    ("marked", "card"),
    ("answered", "card"),
]
"""Colours of text on colours of what is behind it: at least 4.5, as WCAG AA asks."""
SHAPES = [("accent", "page"), ("marked", "page"), ("answered", "page"), ("soft", "card")]
"""Colours of borders that mean something: at least 3."""


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_is_twenty_one() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_have_enough_contrast(scheme: dict[str, str]) -> None:
    low = [(pair, contrast(scheme[pair[0]], scheme[pair[1]])) for pair in TEXT]
    assert [(pair, value) for pair, value in low if value < 4.5] == []
    shapes = [(pair, contrast(scheme[pair[0]], scheme[pair[1]])) for pair in SHAPES]
    assert [(pair, value) for pair, value in shapes if value < 3] == []


def test_both_schemes_have_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()
