"""The page of an evaluation: which method, with how many examples, and which classes are the hard ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from ray_jobs.report.charts import accuracy_by_cost
from ray_jobs.report.classification_page import page_head
from ray_jobs.report.evaluation_table import Grid, Row
from ray_jobs.report.markup import document, element, outside, plural
from ray_jobs.results.evaluation_result import CascadeRow, CascadeTable, EvaluationResult, EvaluationRow

MAX_CLASSES = 200
"""Classes in the second table."""


def render_evaluation(result: EvaluationResult, per_class: Sequence[Row]) -> bytes:
    """The page, one self-contained file.

    Args:
        result: of the evaluation.
        per_class: `method`, `shots`, `class` and `accuracy_mean` of every class.
    """
    sections = (
        _means(Grid(result.table, result.protocol)),
        _cascades(result.cascades),
        _classes(result.table, per_class),
    )
    title = element("h1", outside(result.title, limit=160))
    body = element("main", title, *(element("section", *nodes) for section in sections if (nodes := list(section))))
    return document(element("html", page_head(result.title), element("body", body), lang="en"))


def _means(grid: Grid) -> Iterator[Element]:
    note = "Mean ± standard deviation over draws of the examples; the best of a column is bold."
    yield element("p", note, class_="note")
    last = list(grid.columns)[-1]
    head = element("tr", element("th", "method"), *(element("th", title) for title in grid.columns.values()))
    rows = (
        element("tr", element("td", method), *(_cell(grid, method, column) for column in grid.columns))
        for method in sorted(grid.methods, key=lambda method: grid.mean(method, last) or 0.0, reverse=True)
    )
    yield element("table", element("thead", head), element("tbody", *rows))


def _cell(grid: Grid, method: str, column: tuple[int, str]) -> Element:
    told, mean = grid.told(method, column), grid.mean(method, column)
    if mean is None:
        return element("td", told)
    bar = element("span", element("span", style=f"width:{100 * mean:.1f}%"), class_="bar")
    return element("td", element("strong", told) if grid.is_best(method, column) else told, bar, class_="count")


def _cascades(table: CascadeTable | None) -> Iterator[Element]:
    """A curve for each number of shots; nothing where no cascade was measured."""
    if table is None:
        return
    yield element("h2", f"{table.cheap}, then {table.method}")
    note = (
        f"What {table.method} is worth as the second opinion on the least certain images, each among the "
        f"{table.candidates} classes that are likeliest to {table.cheap} (broken line: {table.cheap} alone). "
        f"The ring is {table.method} alone, asked about every image among all classes. Training is not counted."
    )
    yield element("p", note, class_="note")
    by_shots: dict[int, list[CascadeRow]] = defaultdict(list)
    for row in table.rows:
        by_shots[row.shots].append(row)
    yield element("div", *(_curve(shots, rows) for shots, rows in by_shots.items()), class_="charts")


def _curve(shots: int, rows: Sequence[CascadeRow]) -> Element:
    curve = [row for row in rows if row.what == "cascade"]
    alone = next(((row.forwards_an_image, row.accuracy_mean) for row in rows if row.what != "cascade"), None)
    chart = accuracy_by_cost([row.forwards_an_image for row in curve], [row.accuracy_mean for row in curve], alone)
    return element("figure", element("figcaption", plural(shots, "shot")), chart)


def _classes(table: Sequence[EvaluationRow], per_class: Sequence[Row]) -> Iterator[Element]:
    """Accuracy of each class at the most shots: a darker cell is a better one, the hardest classes first."""
    most = max(row.shots for row in table)
    methods = list(dict.fromkeys(row.method for row in table))
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
