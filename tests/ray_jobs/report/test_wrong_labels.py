"""What a report says of mistakes, where labels of the archive were given."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from ray_jobs.output.runs import read_run
from ray_jobs.report import wrong_labels
from ray_jobs.report.wrong_labels import (
    PAIRS,
    PICTURED,
    accuracy_against_coverage,
    find_mistakes,
    wilson_interval,
)
from tests.ray_jobs.report.test_report import PICTURES, Page, page_of, pictures_in_cards
from tests.ray_jobs.written_run import CLASSES, MEASURED, RUN, WrittenRun

PREDICTED = dict(zip(PICTURES, [CLASSES[i % 3] for i in range(8)], strict=True))
"""Of `WrittenRun`: the classes in turn, with falling scores."""
GIVEN = PREDICTED | {"a.png": "blue", "d.png": "cyan", "g.png": "cyan", "h.png": "amber"}


def found(run, truth, classes=CLASSES, *, has_scores=True):
    parts = read_run(run.store, RUN).prediction_parts()
    return find_mistakes(run.store, parts, truth, classes=classes, has_scores=has_scores)


def test_mistakes_are_counted_by_class_and_pair(tmp_path):
    mistakes = found(WrittenRun(tmp_path).write(PICTURES), GIVEN)
    wrong = [image for image in PICTURES if GIVEN[image] != PREDICTED[image]]
    assert (mistakes.images, mistakes.wrong) == (8, 4)
    assert [mistake.image for mistake in mistakes.most_certain] == wrong
    assert {(pair.given, pair.label): pair.images for pair in mistakes.confusions} == Counter(
        (GIVEN[image], PREDICTED[image]) for image in wrong
    )
    assert [pair.images for pair in mistakes.confusions] == [2, 1, 1]
    for counts in mistakes.classes:
        right = sum(GIVEN[i] == PREDICTED[i] == counts.name for i in PICTURES)
        assert counts.recall == right / Counter(GIVEN.values())[counts.name]
        assert counts.precision == right / Counter(PREDICTED.values())[counts.name]
    recalls = [counts.recall for counts in mistakes.classes]
    assert recalls == sorted(recalls)


def test_labels_of_other_classes_and_of_no_image_do_not_count(tmp_path):
    run = WrittenRun(tmp_path).write(PICTURES)
    mistakes = found(run, GIVEN | {"a.png": "red", "z.png": "blue"})
    assert (mistakes.images, mistakes.wrong) == (7, 3)
    assert found(run, GIVEN | {"a.png": "red"}, None).wrong == 4
    assert found(run, {"z.png": "blue"}) is None
    assert found(run, {}) is None


def test_what_is_shown_is_bounded_and_withheld_labels_are_marked(monkeypatch):
    rows = [("blue", "amber")] * (PICTURED + 1) + [("cyan", f"class {number}") for number in range(PAIRS + 1)]
    table = pa.table(
        {
            "image": [f"{number}.jpg" for number in range(len(rows))],
            "top_labels": [[label] for label, _ in rows],
            "score": [0.5] * len(rows),
            "margin": [0.1] * len(rows),
            "status": ["abstained", *["ok"] * (len(rows) - 1)],
        }
    )
    monkeypatch.setattr(wrong_labels, "view_table", lambda *_, **__: table)
    truth = {f"{number}.jpg": name for number, (_, name) in enumerate(rows)}
    mistakes = find_mistakes(None, ["predictions/0-a.parquet"], truth, classes=None, has_scores=True)
    assert (mistakes.wrong, len(mistakes.confusions)) == (len(rows), PAIRS)
    assert (mistakes.confusions[0].images, len(mistakes.confusions[0].examples)) == (PICTURED + 1, PICTURED)
    assert [each.image for each in mistakes.most_certain if each.withheld] == ["0.jpg"]
    assert {each.name for each in mistakes.classes[-2:]} == {"blue", "cyan"}  # No image is of them: they come last.


def test_without_scores_mistakes_are_ordered_by_margin(tmp_path):
    mistakes = found(WrittenRun(tmp_path, has_scores=False).write(PICTURES), GIVEN, has_scores=False)
    assert [mistake.image for mistake in mistakes.most_certain] == ["a.png", "d.png", "g.png", "h.png"]
    assert all(mistake.score is None for mistake in mistakes.most_certain)
    assert mistakes.curve[-1].accuracy == 0.5


def test_the_page_shows_mistakes_with_pictures(tmp_path):
    html = page_of(WrittenRun(tmp_path, metrics=MEASURED, given=GIVEN).write(PICTURES))
    page = Page(html)
    assert "Of 8 images with a given label, 4 (50.0 %) have another one" in html
    assert html.count("given: ") == 4
    assert "Accuracy by coverage" in html
    assert pictures_in_cards(html) == len(PICTURES) + 2 * 4
    assert page.classes("polygon") == {"band": 1}
    plain = page_of(WrittenRun(tmp_path / "plain").write(PICTURES))
    assert "Where it is wrong" not in plain


def test_labels_that_are_gone_cost_only_the_section(tmp_path, caplog):
    run = WrittenRun(tmp_path, metrics=MEASURED, given=GIVEN).write(PICTURES)
    (tmp_path / "given.csv").unlink()
    assert "Where it is wrong" not in page_of(run)
    assert "report without mistakes" in caplog.text


@given(rows=st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_the_curve_is_the_accuracy_of_the_most_certain(rows):
    certainty, correct = (np.array(column) for column in zip(*rows, strict=True))
    ranked = [right for _, right in sorted(rows, key=lambda row: -row[0])]
    points = list(accuracy_against_coverage(certainty.astype(np.float32), correct))
    assert points[-1].coverage == 1.0
    for point in points:
        count = round(point.coverage * len(rows))
        assert point.accuracy == pytest.approx(sum(ranked[:count]) / count)
        assert point.low <= point.accuracy <= point.high
    assert [point.coverage for point in points] == sorted({point.coverage for point in points})


def test_images_without_certainty_come_last_and_alone_give_no_curve():
    (*_, half, last) = accuracy_against_coverage(np.array([math.nan, 0.5], np.float32), np.array([False, True]))
    assert (half.coverage, half.accuracy, last.accuracy) == (0.5, 1.0, 0.5)
    assert not list(accuracy_against_coverage(np.array([math.nan], np.float32), np.array([True])))
    assert not list(accuracy_against_coverage(np.array([], np.float32), np.array([], bool)))


@pytest.mark.parametrize(("right", "count"), [(0, 1), (3, 10), (99, 100), (1000, 1000)])
def test_intervals_are_those_of_scipy(right, count):
    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson_interval(right / count, count) == pytest.approx((expected.low, expected.high))
