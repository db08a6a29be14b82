"""The page of an evaluation: which method, with how many examples, and which classes are the hard ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from ray_jobs.report.markup import document, element, outside
from ray_jobs.report.page import page_head

MAX_CLASSES = 200
"""Classes in the second table."""

Row = Mapping[str, Any]


def render_evaluation(result: Mapping[str, Any], per_class: Sequence[Row], shown: Mapping[str, str]) -> bytes:
    """The page, one self-contained file.

    Args:
        result: what the evaluation told: `title` and `table`.
        per_class: `method`, `shots`, `class` and `accuracy_mean` of every class.
        shown: the numbers to show, each with what follows the number of shots in a column's title.
    """
    sections = (_means(result, shown), _classes(result["table"], per_class))
    title = element("h1", outside(result["title"], limit=160))
    body = element("main", title, *(element("section", *section) for section in sections))
    return document(element("html", page_head(result["title"]), element("body", body), lang="en"))


def _means(result: Mapping[str, Any], shown: Mapping[str, str]) -> Iterator[Element]:
    yield element(
        "p", "Mean ± standard deviation over draws of the examples; the best of a column is bold.", class_="note"
    )
    table = result["table"]
    shots = sorted({row["shots"] for row in table})
    columns = [(count, number) for count in shots for number in shown]
    best = {column: max((_value(table, name, *column) for name in _methods(table)), default=0.0) for column in columns}
    titles = (f"{count} shot{'s' * (count > 1)}{shown[number]}" for count, number in columns)
    head = element("tr", element("th", "method"), *(element("th", title) for title in titles))
    rows = (
        element("tr", element("td", name), *(_cell(table, name, column, best[column]) for column in columns))
        for name in sorted(_methods(table), key=lambda name: -_value(table, name, *columns[-1]))
    )
    yield element("table", element("thead", head), element("tbody", *rows))


def _cell(table: Sequence[Row], method: str, column: tuple[int, str], best: float) -> Element:
    shots, number = column
    row = _row(table, method, shots)
    mean = None if row is None else row[f"{number}_mean"]
    if row is None or mean is None:
        return element("td", "–")
    told = f"{100 * mean:.1f} ± {100 * row[f'{number}_std']:.1f}"
    bar = element("span", element("span", style=f"width:{100 * mean:.1f}%"), class_="bar")
    return element("td", element("strong", told) if mean == best else told, bar, class_="count")


def _classes(table: Sequence[Row], per_class: Sequence[Row]) -> Iterator[Element]:
    """Accuracy of each class at the most shots: a darker cell is a better one, the hardest classes first."""
    most = max(row["shots"] for row in table)
    methods = list(_methods(table))
    values = {(row["method"], row["class"]): row["accuracy_mean"] for row in per_class if row["shots"] == most}
    names = dict.fromkeys(row["class"] for row in per_class)

    def mean(name: str) -> float:
        known = [value for method in methods if (value := values.get((method, name))) is not None]
        return sum(known) / len(known) if known else 2.0

    yield element("h2", f"Each class, {most} shot{'s' * (most > 1)}")
    yield element("p", "Accuracy in % of its test images, mean over draws; the hardest classes first.", class_="note")
    head = element("tr", element("th", "class"), *(element("th", method) for method in methods))
    rows = (
        element("tr", element("td", outside(name)), *(_shade(values.get((method, name))) for method in methods))
        for name in sorted(names, key=mean)[:MAX_CLASSES]
    )
    yield element("table", element("thead", head), element("tbody", *rows), class_="heat")
    if len(names) > MAX_CLASSES:
        yield element("p", f"and {len(names) - MAX_CLASSES} easier ones", class_="note")


def _shade(accuracy: float | None) -> Element:
    if accuracy is None:
        return element("td", "–")
    shade = f"background:color-mix(in srgb, var(--ok) {70 * accuracy:.0f}%, transparent)"
    return element("td", f"{100 * accuracy:.0f}", style=shade, class_="count")


def _methods(table: Sequence[Row]) -> dict[str, None]:
    return dict.fromkeys(row["method"] for row in table)


def _row(table: Sequence[Row], method: str, shots: int) -> Row | None:
    return next((row for row in table if (row["method"], row["shots"]) == (method, shots)), None)


def _value(table: Sequence[Row], method: str, shots: int, number: str) -> float:
    row = _row(table, method, shots)
    return -1.0 if row is None or row[f"{number}_mean"] is None else float(row[f"{number}_mean"])
