"""Means and deviations over the draws of an evaluation, computed by hand."""

from __future__ import annotations

import math

import pytest

from ray_jobs.report.evaluation_page import render_evaluation
from ray_jobs.report.evaluation_table import class_rows, mean_rows
from ray_jobs.results.cell_result import CellResult
from ray_jobs.results.evaluation_result import EvaluationResult, EvaluationRow


def cell(seed, measures, *, per_class=(1.0,)):
    return CellResult(
        method="ape",
        shots=4,
        seed=seed,
        measures=measures,
        temperature=1.0,
        spread_power=0.0,
        least_spread=0.0,
        decided_by="ape",
        hyperparameters="{}",
        held_out="{}",
        labels_consumed=8,
        test_images=10,
        per_class_accuracy=per_class,
    )


def halves(base, new):
    return {"base_accuracy": base, "new_accuracy": new, "harmonic_mean": 2.0 * base * new / (base + new)}


def test_the_harmonic_mean_is_that_of_the_means_and_the_mean_of_draws_another():
    cells = [cell(1, halves(0.9, 0.3)), cell(2, halves(0.5, 0.7))]
    (row,) = mean_rows(cells, "base-to-new")
    assert (row.seeds, row.means["base_accuracy"], row.means["new_accuracy"]) == (2, pytest.approx(0.7), 0.5)
    assert row.means["harmonic_mean"] == pytest.approx(2 * 0.7 * 0.5 / 1.2)
    draws = (2 * 0.9 * 0.3 / 1.2, 2 * 0.5 * 0.7 / 1.2)
    assert row.means["harmonic_mean_of_draws"] == pytest.approx(sum(draws) / 2)
    assert row.means["harmonic_mean_of_draws"] < row.means["harmonic_mean"]
    assert row.deviations["harmonic_mean_of_draws"] == pytest.approx(abs(draws[0] - draws[1]) / math.sqrt(2))
    assert row.deviations["base_accuracy"] == pytest.approx(0.4 / math.sqrt(2))


def test_without_images_of_a_half_there_is_no_harmonic_mean():
    measures = {"base_accuracy": 0.5, "new_accuracy": None, "harmonic_mean": None}
    (row,) = mean_rows([cell(1, measures)], "base-to-new")
    assert (row.means["harmonic_mean"], row.means["harmonic_mean_of_draws"]) == (None, None)
    assert row.deviations["base_accuracy"] == 0.0


def test_a_class_without_test_images_in_a_draw_has_the_mean_of_the_others():
    measures = {"accuracy": 0.5, "macro_f1": 0.5, "ece": 0.1}
    cells = [cell(seed, measures, per_class=(value, None)) for seed, value in enumerate((0.2, None, 0.6))]
    first, second = class_rows(cells, ["a", "b"])
    assert (first.label, first.accuracy_mean) == ("a", pytest.approx(0.4))
    assert (second.accuracy_mean, second.accuracy_std) == (None, None)


def result(*rows):
    table = tuple(
        EvaluationRow(method=method, shots=shots, seeds=seeds, means={"accuracy": mean}, deviations={"accuracy": std})
        for method, shots, seeds, mean, std in rows
    )
    values = {"title": "photos", "protocol": "few-shot", "complete": True, "failed_cells": (), "files": {}}
    return EvaluationResult(table=table, cascades=None, **values)


def test_the_page_has_a_learning_curve_with_intervals_for_each_method():
    rows = [("ape", 1, 3, 0.5, 0.05), ("ape", 4, 3, 0.7, 0.01), ("gda", 1, 1, 0.4, 0.0), ("gda", 4, 1, 0.8, 0.0)]
    html = render_evaluation(result(*rows), []).decode().replace("\u00a0", " ")
    assert html.index("Accuracy of gda by") < html.index("Accuracy of ape by")
    half = 4.302652729 * 0.05 / math.sqrt(3)
    assert f"1 example a class: accuracy 50.0 % ({100 * (0.5 - half):.1f} % to {100 * (0.5 + half):.1f} %)" in html
    assert "4 examples a class: accuracy 80.0 % (80.0 % to 80.0 %)" in html


def test_one_number_of_examples_makes_no_curve():
    html = render_evaluation(result(("ape", 1, 3, 0.5, 0.05), ("gda", 1, 3, 0.5, 0.05)), []).decode()
    assert "More examples" not in html
