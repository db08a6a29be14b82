"""The page of an evaluation: accuracy by method and number of examples, cascades, and the accuracy of each class."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from ray_jobs.report.charts import CurvePoint, LearningPoint, accuracy_by_cost, accuracy_by_shots
from ray_jobs.report.evaluation_table import MEASURES, Grid
from ray_jobs.report.markup import bar, element, outside, plural
from ray_jobs.report.page_templates import render_sections
from ray_jobs.results.cell_result import ClassRow
from ray_jobs.results.evaluation_result import CascadeRow, CascadeTable, EvaluationResult, EvaluationRow

MAX_CURVES = 24
"""Methods with a chart, the best ones."""
MAX_CLASSES = 200
"""Classes in the second table."""


def render_evaluation(result: EvaluationResult, class_rows: Sequence[ClassRow]) -> bytes:
    """Return the page, one self-contained file.

    Args:
        result: of the evaluation.
        class_rows: the accuracy of every class.
    """
    sections = (
        _means(Grid(result.table, result.protocol)),
        _learning_curves(result),
        _cascades(result.cascades),
        _classes(result.table, class_rows),
    )
    heading = element("h1", outside(result.title, limit=160))
    return render_sections(result.title, sections, heading=heading)


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


def _learning_curves(result: EvaluationResult) -> Iterator[Element]:
    """Yield a chart for each method; nothing where the numbers of examples are fewer than two."""
    measure = MEASURES[result.protocol][0]
    rows: dict[str, list[LearningPoint]] = defaultdict(list)
    for row in sorted(result.table, key=lambda row: row.shots):
        if (mean := row.means[measure]) is not None and row.shots > 0:
            rows[row.method].append(
                LearningPoint(row.shots, mean, *_interval(mean, row.deviations[measure], row.seeds))
            )
    curves = {method: points for method, points in rows.items() if len(points) > 1}
    if not curves:
        return
    yield element("h2", "More examples")
    note = (
        f"{measure.replace('_', ' ').capitalize()} of each method, in front of the others. The band is the "
        "95\u00a0% interval of the mean over draws of the examples (Student's t); one draw has none."
    )
    yield element("p", note, class_="note")
    ranked = sorted(curves, key=lambda method: (-curves[method][-1].accuracy, method))[:MAX_CURVES]
    charts = (
        element("figure", element("figcaption", method), accuracy_by_shots(method, curves[method], [*curves.values()]))
        for method in ranked
    )
    yield element("div", *charts, class_="charts")


def _interval(mean: float, deviation: float | None, draws: int) -> tuple[float, float]:
    if draws < 2 or deviation is None:
        return mean, mean
    from scipy.special import stdtrit

    half = float(stdtrit(draws - 1, 0.975)) * deviation / math.sqrt(draws)
    return max(0.0, mean - half), min(1.0, mean + half)


def _cell(grid: Grid, method: str, column: tuple[int, str]) -> Element:
    text, mean = grid.text(method, column), grid.mean(method, column)
    if mean is None:
        return element("td", text)
    best = element("strong", text) if grid.is_best(method, column) else text
    return element("td", best, bar(mean), class_="count")


def _cascades(table: CascadeTable | None) -> Iterator[Element]:
    """Yield a curve for each number of shots; nothing where no cascade was measured."""
    if table is None:
        return
    yield element("h2", f"{table.cheap}, then {table.method}")
    note = (
        f"{table.method} on the least certain images, each scored for the {table.candidates} classes most probable by "
        f"{table.cheap} (broken line: {table.cheap} alone). The ring is {table.method} alone: every image, scored for "
        "every class. Training is not counted."
    )
    yield element("p", note, class_="note")
    by_shots: dict[int, list[CascadeRow]] = defaultdict(list)
    for row in table.rows:
        by_shots[row.shots].append(row)
    yield element("div", *(_curve(shots, rows) for shots, rows in by_shots.items()), class_="charts")


def _curve(shots: int, rows: Sequence[CascadeRow]) -> Element:
    curve = [_point(row) for row in rows if row.what == "cascade"]
    alone = next((_point(row) for row in rows if row.what != "cascade"), None)
    return element("figure", element("figcaption", plural(shots, "shot")), accuracy_by_cost(curve, alone))


def _point(row: CascadeRow) -> CurvePoint:
    return CurvePoint(row.forwards_an_image, row.accuracy_mean)


def _classes(table: Sequence[EvaluationRow], class_rows: Sequence[ClassRow]) -> Iterator[Element]:
    """Yield the accuracy of each class at the most shots: darker cells are better, the hardest classes come first."""
    most = max(row.shots for row in table)
    methods = list(dict.fromkeys(row.method for row in table))
    values = {(row.method, row.label): row.accuracy_mean for row in class_rows if row.shots == most}
    names = dict.fromkeys(row.label for row in class_rows)

    def mean(name: str) -> float:
        known = [value for method in methods if (value := values.get((method, name))) is not None]
        return sum(known) / len(known) if known else 2.0

    yield element("h2", f"Each class, {plural(most, 'shot')}")
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
    return element("td", f"{100 * accuracy:.0f}", class_=f"count shade-{round(10 * accuracy)}")
