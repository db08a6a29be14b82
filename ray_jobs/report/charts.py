"""The charts of a report, as SVG inside the page.

How sure the labels are and whether that is justified; what a diffusion model saw, and what its opinion costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from ray_jobs.report.markup import element, number, percent, plural
from ray_jobs.results.classification_metrics import Reliability, ScoreHistogram

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 410, 28, 204
"""Edges of the plotting area."""
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
SMALL_WIDTH, SMALL_HEIGHT = 120, 36


def histogram(counts: ScoreHistogram, threshold: float | None) -> Element:
    """Bars of how many images have which score, those of abstained images apart.

    Args:
        counts: images by score.
        threshold: below it labels are withheld; None or above 1 draws no mark.
    """
    bins = list(zip(counts.ok, counts.abstained, strict=True))
    most = max(1, *(sum(bin_) for bin_ in bins))
    bars = [bar for index, bin_ in enumerate(bins) for bar in _stacked(index, len(bins), bin_, most)]
    mark = [] if threshold is None or threshold > 1 else _mark(threshold)
    levels = [(0.0, "0"), (1.0, number(most))]
    return _chart("Images by score", *_axes("score", levels, "images"), *bars, *mark)


def reliability(bins: Reliability) -> Element:
    """Accuracy over mean score of the images of each bin; on the diagonal a score means what it says."""
    levels = [(tick, f"{tick:g}") for tick in TICKS]
    diagonal = _line(0.0, 0.0, 1.0, 1.0, class_="ideal")
    most = max(1, *bins.rows)
    dots = (
        _dot(total / images, right / images, images, most)
        for images, right, total in zip(bins.rows, bins.correct, bins.confidence, strict=True)
        if images
    )
    return _chart("Accuracy by score", *_axes("score", levels, "accuracy"), diagonal, *dots)


def gaps_by_time(gaps: Sequence[float], counts: Sequence[int]) -> Element:
    """Bars of the mean gap by time-step; above the line the winner's error is smaller.

    Args:
        gaps: runner-up's error less the winner's, in equal-width bins of the time-steps.
        counts: images that each is the mean of; without any, there is no bar.
    """
    low, high = _range(gaps)
    levels = [(_share(value, low, high), f"{value:.2g}") for value in dict.fromkeys((low, 0.0, high))]
    axes = _axes("time-step, as a share of all: little noise … nothing but noise", levels, "gap of errors")
    bars = (
        _bar(_x(i / len(gaps)) + 1, _x((i + 1) / len(gaps)) - 1, _y(_share(0.0, low, high)), _y(height), told)
        for i, height, told in _gaps(gaps, counts, low, high)
    )
    return _chart("Gap of errors by time-step", *axes, *bars)


def small_gaps_by_time(gaps: Sequence[float], counts: Sequence[int]) -> Element:
    """The same of one image, to be shown beside it; `counts` are time-steps."""
    low, high = _range(gaps)
    width = SMALL_WIDTH / len(gaps)
    zero = SMALL_HEIGHT * (1.0 - _share(0.0, low, high))
    bars = (
        _bar(i * width + 1, (i + 1) * width - 1, zero, SMALL_HEIGHT * (1.0 - height), told)
        for i, height, told in _gaps(gaps, counts, low, high)
    )
    ends = {"x1": "0", "x2": str(SMALL_WIDTH), "y1": f"{zero:.1f}", "y2": f"{zero:.1f}"}
    line = element("line", class_="grid", **ends)
    size = f"0 0 {SMALL_WIDTH} {SMALL_HEIGHT}"
    return element("svg", line, *bars, viewBox=size, role="img", aria_label="Gap of errors by time-step")


def accuracy_by_cost(
    costs: Sequence[float], accuracies: Sequence[float], alone: tuple[float, float] | None = None
) -> Element:
    """A line from the cheap method alone, whose accuracy goes on as a broken line, to the job as it ran.

    Args:
        costs: mean forwards an image, rising from 0.
        accuracies: at each of these costs.
        alone: cost and accuracy of the diffusion model among all classes, marked by a ring; None if nobody measured it.
    """
    every = [*accuracies, *([] if alone is None else [alone[1]])]
    low, high = math.floor(20 * min(every)) / 20, math.ceil(20 * max(every)) / 20
    high = max(high, low + 0.05)
    most = max(*costs, alone[0] if alone else 0.0) or 1.0
    points = [(c / most, _share(a, low, high)) for c, a in zip(costs, accuracies, strict=True)]
    levels = [(tick, f"{low + tick * (high - low):.3g}") for tick in (0.0, 0.5, 1.0)]
    drawn = [
        _line(0.0, points[0][1], 1.0, points[0][1], class_="ideal"),
        element("polyline", points=" ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points), class_="curve"),
        *(_point(x, y, "point", c, a) for (x, y), c, a in zip(points, costs, accuracies, strict=True)),
    ]
    if alone is not None:
        drawn.append(_point(alone[0] / most, _share(alone[1], low, high), "alone", *alone, who="diffusion alone, "))
    return _chart("Accuracy by cost", *_axes("forwards an image", levels, "accuracy", most=most), *drawn)


def _point(x: float, y: float, class_: str, cost: float, accuracy: float, who: str = "") -> Element:
    told = element("title", f"{who}{cost:.3g} forwards an image: accuracy {percent(accuracy)}")
    return element("circle", told, cx=f"{_x(x):.1f}", cy=f"{_y(y):.1f}", r="3", class_=class_)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest, with zero between them."""
    low, high = min(0.0, *values), max(0.0, *values)
    return low, high if high > low else 1.0


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def _gaps(gaps: Sequence[float], counts: Sequence[int], low: float, high: float) -> Iterator[tuple[int, float, str]]:
    """Of each bin that is the mean of anything: which it is, its height in [0, 1], and what it says."""
    for i, (gap, count) in enumerate(zip(gaps, counts, strict=True)):
        if count:
            steps = f"{100 * i / len(gaps):.0f}–{100 * (i + 1) / len(gaps):.0f}\u00a0% of the time-steps"
            yield i, _share(gap, low, high), f"{steps}: {gap:+.2g}, mean of {number(count)}"


def _bar(left: float, right: float, zero: float, end: float, told: str) -> Element:
    """From the line of zero up, or down."""
    size = {"width": f"{right - left:.1f}", "height": f"{abs(zero - end):.1f}"}
    sign = "for" if end <= zero else "against"
    return element("rect", element("title", told), x=f"{left:.1f}", y=f"{min(zero, end):.1f}", class_=sign, **size)


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


def _axes(name: str, levels: Sequence[tuple[float, str]], what: str, *, most: float = 1.0) -> Iterator[Element]:
    """Lines at some levels and ticks from 0 to `most`, with their names."""
    for height, label in levels:
        yield _line(0.0, height, 1.0, height, class_="grid")
        yield _text(LEFT - 6, _y(height) + 4, label, text_anchor="end")
    for tick in TICKS:
        yield _text(_x(tick), BOTTOM + 16, f"{tick * most:.3g}", text_anchor="middle")
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
