"""The two charts of a report, as SVG inside the page: how sure the labels are, and whether that is justified."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from ray_jobs.report.markup import element, number, percent, plural

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 410, 28, 204
"""Edges of the plotting area."""
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def histogram(counts: Mapping[str, Sequence[int]], threshold: float | None) -> Element:
    """Bars of how many images have which score, those of abstained images apart.

    Args:
        counts: "ok" and "abstained" -> images in each of the equal-width bins of [0, 1].
        threshold: below it labels are withheld; None or above 1 draws no mark.
    """
    bins = list(zip(counts["ok"], counts["abstained"], strict=True))
    most = max(1, *(sum(bin_) for bin_ in bins))
    bars = [bar for index, bin_ in enumerate(bins) for bar in _stacked(index, len(bins), bin_, most)]
    mark = [] if threshold is None or threshold > 1 else _mark(threshold)
    levels = [(0.0, "0"), (1.0, number(most))]
    return _chart("Images by score", *_axes("score", levels, "images"), *bars, *mark)


def reliability(rows: Sequence[int], correct: Sequence[int], confidence: Sequence[float]) -> Element:
    """Accuracy over mean score of the images of each bin; on the diagonal a score means what it says.

    Args:
        rows: images of each bin.
        correct: of those, labelled right.
        confidence: their summed scores.
    """
    levels = [(tick, f"{tick:g}") for tick in TICKS]
    diagonal = _line(0.0, 0.0, 1.0, 1.0, class_="ideal")
    most = max(1, *rows)
    dots = (
        _dot(total / images, right / images, images, most)
        for images, right, total in zip(rows, correct, confidence, strict=True)
        if images
    )
    return _chart("Accuracy by score", *_axes("score", levels, "accuracy"), diagonal, *dots)


def _stacked(index: int, bins: int, heights: tuple[int, int], most: int) -> Iterator[Element]:
    """One bin: labels given below, labels withheld on top."""
    low, high = index / bins, (index + 1) / bins
    told = element(
        "title", f"score {low:.2f}–{high:.2f}: {number(heights[0])} labelled, {number(heights[1])} abstained"
    )
    below = 0
    for height, class_ in zip(heights, ("ok", "abstained"), strict=True):
        if height:
            top, bottom = _y((below + height) / most), _y(below / most)
            size = {"width": f"{_x(high) - _x(low) - 2:.1f}", "height": f"{bottom - top:.1f}"}
            yield element("rect", told, x=f"{_x(low) + 1:.1f}", y=f"{top:.1f}", class_=class_, **size)
        below += height


def _mark(threshold: float) -> list[Element]:
    """The threshold: a line with its value."""
    anchor = "end" if threshold > 0.5 else "start"
    shift = -5 if threshold > 0.5 else 5
    text = _text(_x(threshold) + shift, TOP - 7, f"withheld below {threshold:.2f}", text_anchor=anchor)
    return [_line(threshold, 0.0, threshold, 1.09, class_="threshold"), text]


def _dot(score: float, accuracy: float, images: int, most: int) -> Element:
    """One bin of the reliability diagram, its area by the number of images."""
    told = f"{plural(images, 'image')}: mean score {score:.2f}, accuracy {percent(accuracy)}"
    radius = 3.0 + 9.0 * math.sqrt(images / most)
    place = {"cx": f"{_x(score):.1f}", "cy": f"{_y(accuracy):.1f}", "r": f"{radius:.1f}"}
    return element("circle", element("title", told), class_="dot", **place)


def _axes(name: str, levels: Sequence[tuple[float, str]], what: str) -> Iterator[Element]:
    for height, label in levels:
        yield _line(0.0, height, 1.0, height, class_="grid")
        yield _text(LEFT - 6, _y(height) + 4, label, text_anchor="end")
    for tick in TICKS:
        yield _text(_x(tick), BOTTOM + 16, f"{tick:g}", text_anchor="middle")
    yield _text(RIGHT, BOTTOM + 32, name, text_anchor="end")
    yield _text(0, TOP - 14, what)


def _chart(title: str, *drawn: Element) -> Element:
    return element("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)


def _line(x1: float, y1: float, x2: float, y2: float, *, class_: str) -> Element:
    ends = {"x1": _x(x1), "y1": _y(y1), "x2": _x(x2), "y2": _y(y2)}
    return element("line", class_=class_, **{name: f"{value:.1f}" for name, value in ends.items()})


def _text(x: float, y: float, text: str, **attributes: str) -> Element:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **attributes)


def _x(value: float) -> float:
    return LEFT + value * (RIGHT - LEFT)


def _y(value: float) -> float:
    return BOTTOM - value * (BOTTOM - TOP)
