"""Tiles: a number, what it is called, and what it means."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from ray_jobs.report.markup import element


def tile(name: str, value: str, meaning: str, class_: str = "") -> Element:
    """One tile; `class_` colours it."""
    parts = (
        element("span", name, class_="name"),
        element("strong", value),
        element("span", meaning, class_="meaning"),
    )
    return element("div", *parts, class_=f"tile {class_}".rstrip())
