"""The charts of a report, as SVG inside the page.

Scores and how reliable they are; the error gaps of a diffusion model, and its accuracy against its cost. They are drawn
by hand: Altair with vl-convert gives the same bytes each time, too, but is 106 MB more to install, takes two seconds to
its first chart, and writes four times as many bytes for it, in fixed colours and without tooltips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from ray_jobs.report.markup import element, number, percent, plural
from ray_jobs.report.wrong_labels import CoveragePoint
from ray_jobs.results.classification_metrics import Reliability, ScoreHistogram

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 410, 28, 204
"""Edges of the plotting area."""
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
SMALL_WIDTH, SMALL_HEIGHT = 120, 36


def histogram(counts: ScoreHistogram, threshold: float | None) -> Element:
    """Draw a bar for the images of each score, abstained ones stacked on top.

    Args:
        counts: images by score.
        threshold: labels with a smaller score are withheld; None or above 1 draws no mark.
    """
    bins = list(zip(counts.ok, counts.abstained, strict=True))
    most = max(1, *(sum(bin_) for bin_ in bins))
    bars = [bar for index, bin_ in enumerate(bins) for bar in _stacked(index, len(bins), bin_, most)]
    mark = [] if threshold is None or threshold > 1 else _mark(threshold)
    levels = [(0.0, "0"), (1.0, number(most))]
    return _chart("Images by score", *_axes("score", levels, "images"), *bars, *mark)


def reliability(bins: Reliability) -> Element:
    """Draw accuracy over mean score of the images of each bin; on the diagonal scores are calibrated."""
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
    """Draw a bar for the mean gap of each bin of time-steps; above the line the winner's error is smaller.

    Args:
        gaps: runner-up's error less the winner's, in equal-width bins of the time-steps.
        counts: number of images in each mean; 0 draws no bar.
    """
    low, high = _range(gaps)
    levels = [(_position(value, low, high), f"{value:.2g}") for value in dict.fromkeys((low, 0.0, high))]
    axes = _axes("time-step, as a share of all: little noise … nothing but noise", levels, "error gap")
    bars = (
        _bar(_x(i / len(gaps)) + 1, _x((i + 1) / len(gaps)) - 1, _y(_position(0.0, low, high)), _y(height), tooltip)
        for i, height, tooltip in _gap_bars(gaps, counts, low, high)
    )
    return _chart("Error gap by time-step", *axes, *bars)


def small_gaps_by_time(gaps: Sequence[float], counts: Sequence[int]) -> Element:
    """Draw the bars of one image, to be shown beside it; `counts` are time-steps."""
    low, high = _range(gaps)
    width = SMALL_WIDTH / len(gaps)
    zero = SMALL_HEIGHT * (1.0 - _position(0.0, low, high))
    bars = (
        _bar(i * width + 1, (i + 1) * width - 1, zero, SMALL_HEIGHT * (1.0 - height), tooltip)
        for i, height, tooltip in _gap_bars(gaps, counts, low, high)
    )
    ends = {"x1": "0", "x2": str(SMALL_WIDTH), "y1": f"{zero:.1f}", "y2": f"{zero:.1f}"}
    line = element("line", class_="grid", **ends)
    size = f"0 0 {SMALL_WIDTH} {SMALL_HEIGHT}"
    return element("svg", line, *bars, viewBox=size, role="img", aria_label="Error gap by time-step")


class CurvePoint(NamedTuple):
    """A point of a curve of accuracy against cost.

    Attributes:
        cost: mean forwards an image, >= 0.
        accuracy: in [0, 1].
    """

    cost: float
    accuracy: float


def accuracy_by_cost(curve: Sequence[CurvePoint], alone: CurvePoint | None = None) -> Element:
    """Draw a line from the cheap method alone, whose accuracy continues as a broken line, to the full cascade.

    Args:
        curve: at rising costs, from 0.
        alone: the diffusion model on every image and class, marked by a ring; None if it was not measured.
    """
    accuracies = [point.accuracy for point in (*curve, *([] if alone is None else [alone]))]
    low, high = math.floor(20 * min(accuracies)) / 20, math.ceil(20 * max(accuracies)) / 20
    high = max(high, low + 0.05)
    most = max(*(point.cost for point in curve), alone.cost if alone else 0.0) or 1.0

    def place(point: CurvePoint) -> tuple[float, float]:
        return point.cost / most, _position(point.accuracy, low, high)

    places = [place(point) for point in curve]
    levels = [(tick, f"{low + tick * (high - low):.3g}") for tick in (0.0, 0.5, 1.0)]
    drawn = [
        _line(0.0, places[0][1], 1.0, places[0][1], class_="ideal"),
        element("polyline", points=" ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in places), class_="curve"),
        *(_point(*place(point), point, class_="point") for point in curve),
    ]
    if alone is not None:
        drawn.append(_point(*place(alone), alone, class_="alone", name="diffusion alone, "))
    return _chart("Accuracy by cost", *_axes("forwards an image", levels, "accuracy", most=most), *drawn)


def accuracy_by_coverage(curve: Sequence[CoveragePoint]) -> Element:
    """Draw accuracy over the share of images that get a label, with a band for its interval.

    Args:
        curve: at rising coverage, at least one point.
    """
    low = math.floor(20 * min(point.low for point in curve)) / 20
    low = min(low, 0.95)

    def place(coverage: float, accuracy: float) -> str:
        return f"{_x(coverage):.1f},{_y(_position(accuracy, low, 1.0)):.1f}"

    upper = [place(point.coverage, point.high) for point in curve]
    lower = [place(point.coverage, point.low) for point in reversed(curve)]
    levels = [(tick, f"{low + tick * (1.0 - low):.3g}") for tick in (0.0, 0.5, 1.0)]
    return _chart(
        "Accuracy by coverage",
        *_axes("share of the images that get a label", levels, "accuracy"),
        element("polygon", points=" ".join([*upper, *lower]), class_="band"),
        element("polyline", points=" ".join(place(point.coverage, point.accuracy) for point in curve), class_="curve"),
        *(_covered(point, _position(point.accuracy, low, 1.0)) for point in curve),
    )


class LearningPoint(NamedTuple):
    """A point of a curve of accuracy against the number of examples.

    Attributes:
        shots: examples a class, >= 1.
        accuracy: mean over draws, in [0, 1].
        low: lower end of an interval for it; the mean where there is one draw.
        high: upper end.
    """

    shots: int
    accuracy: float
    low: float
    high: float


def accuracy_by_shots(name: str, curve: Sequence[LearningPoint], others: Sequence[Sequence[LearningPoint]]) -> Element:
    """Draw a method's accuracy over the number of examples, on a logarithmic axis, before those of the others.

    Args:
        name: of the method.
        curve: at rising numbers of examples, two at least.
        others: curves of all methods, this one among them; they fix the axes.
    """
    every = [point for each in others for point in each]
    low = math.floor(20 * min(point.low for point in every)) / 20
    high = max(math.ceil(20 * max(point.high for point in every)) / 20, low + 0.05)
    shots = sorted({point.shots for point in every})
    least, span = math.log2(shots[0]), math.log2(shots[-1] / shots[0])

    def place(examples: int, accuracy: float) -> str:
        return f"{_x((math.log2(examples) - least) / span):.1f},{_y(_position(accuracy, low, high)):.1f}"

    def line(points: Sequence[LearningPoint], class_: str) -> Element:
        return element("polyline", points=" ".join(place(each.shots, each.accuracy) for each in points), class_=class_)

    levels = [(tick, f"{low + tick * (high - low):.3g}") for tick in (0.0, 0.5, 1.0)]
    ticks = [((math.log2(each) - least) / span, str(each)) for each in shots]
    band = [place(each.shots, each.high) for each in curve] + [place(each.shots, each.low) for each in reversed(curve)]
    return _chart(
        f"Accuracy of {name} by examples a class",
        *_axes("examples a class", levels, "accuracy", ticks=ticks),
        *(line(each, "other") for each in others),
        element("polygon", points=" ".join(band), class_="band"),
        line(curve, "curve"),
        *(_learned(each, place(each.shots, each.accuracy)) for each in curve),
    )


def _learned(point: LearningPoint, place: str) -> Element:
    x, y = place.split(",")
    between = f"{percent(point.low)} to {percent(point.high)}"
    words = f"{plural(point.shots, 'example')} a class: accuracy {percent(point.accuracy)} ({between})"
    return element("circle", element("title", words), cx=x, cy=y, r="3", class_="point")


def _covered(point: CoveragePoint, height: float) -> Element:
    between = f"{percent(point.low)} to {percent(point.high)}"
    words = f"the most certain {percent(point.coverage)}: accuracy {percent(point.accuracy)} ({between})"
    place = {"cx": f"{_x(point.coverage):.1f}", "cy": f"{_y(height):.1f}", "r": "3"}
    return element("circle", element("title", words), class_="point", **place)


def _point(x: float, y: float, point: CurvePoint, *, class_: str, name: str = "") -> Element:
    tooltip = element("title", f"{name}{point.cost:.3g} forwards an image: accuracy {percent(point.accuracy)}")
    return element("circle", tooltip, cx=f"{_x(x):.1f}", cy=f"{_y(y):.1f}", r="3", class_=class_)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and the largest value, with zero between them."""
    low, high = min(0.0, *values), max(0.0, *values)
    return low, high if high > low else 1.0


def _position(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def _gap_bars(
    gaps: Sequence[float], counts: Sequence[int], low: float, high: float
) -> Iterator[tuple[int, float, str]]:
    """Yield number, height in [0, 1] and tooltip of each bin with a mean."""
    for i, (gap, count) in enumerate(zip(gaps, counts, strict=True)):
        if count:
            steps = f"{100 * i / len(gaps):.0f}–{100 * (i + 1) / len(gaps):.0f}\u00a0% of the time-steps"
            yield i, _position(gap, low, high), f"{steps}: {gap:+.2g}, mean of {number(count)}"


def _bar(left: float, right: float, zero: float, end: float, tooltip: str) -> Element:
    """Draw a bar from the line of zero, up or down."""
    size = {"width": f"{right - left:.1f}", "height": f"{abs(zero - end):.1f}"}
    sign = "for" if end <= zero else "against"
    return element("rect", element("title", tooltip), x=f"{left:.1f}", y=f"{min(zero, end):.1f}", class_=sign, **size)


def _stacked(index: int, bins: int, heights: tuple[int, int], most: int) -> Iterator[Element]:
    """Draw a bin: labels given below, labels withheld on top."""
    low, high = index / bins, (index + 1) / bins
    tooltip = element(
        "title", f"score {low:.2f}–{high:.2f}: {number(heights[0])} labelled, {number(heights[1])} abstained"
    )
    below = 0
    for height, class_ in zip(heights, ("ok", "abstained"), strict=True):
        if height:
            top, bottom = _y((below + height) / most), _y(below / most)
            size = {"width": f"{_x(high) - _x(low) - 2:.1f}", "height": f"{bottom - top:.1f}"}
            yield element("rect", tooltip, x=f"{_x(low) + 1:.1f}", y=f"{top:.1f}", class_=class_, **size)
        below += height


def _mark(threshold: float) -> list[Element]:
    """Draw the threshold: a line with its value."""
    anchor = "end" if threshold > 0.5 else "start"
    shift = -5 if threshold > 0.5 else 5
    text = _text(_x(threshold) + shift, TOP - 7, f"withheld below {threshold:.2f}", text_anchor=anchor)
    return [_line(threshold, 0.0, threshold, 1.09, class_="threshold"), text]


def _dot(score: float, accuracy: float, images: int, most: int) -> Element:
    """Draw a bin of the reliability diagram, its area by the number of images."""
    tooltip = f"{plural(images, 'image')}: mean score {score:.2f}, accuracy {percent(accuracy)}"
    radius = 3.0 + 9.0 * math.sqrt(images / most)
    place = {"cx": f"{_x(score):.1f}", "cy": f"{_y(accuracy):.1f}", "r": f"{radius:.1f}"}
    return element("circle", element("title", tooltip), class_="dot", **place)


def _axes(
    name: str,
    levels: Sequence[tuple[float, str]],
    what: str,
    *,
    most: float = 1.0,
    ticks: Sequence[tuple[float, str]] | None = None,
) -> Iterator[Element]:
    """Draw lines at some levels, and ticks, from 0 to `most` unless they are given, with their names."""
    for height, label in levels:
        yield _line(0.0, height, 1.0, height, class_="grid")
        yield _text(LEFT - 6, _y(height) + 4, label, text_anchor="end")
    for tick, label in [(tick, f"{tick * most:.3g}") for tick in TICKS] if ticks is None else ticks:
        yield _text(_x(tick), BOTTOM + 16, label, text_anchor="middle")
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
