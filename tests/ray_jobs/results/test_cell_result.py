"""Results of cells are stored flat, and read back as the values that were written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fewshot.digests import seal_json
from ray_jobs.results.cell_result import CellResult, ClassRow
from ray_jobs.results.json_format import FormatError

CELL = CellResult(
    method="ape",
    shots=4,
    seed=1,
    measures={"base_accuracy": 0.75, "new_accuracy": None},
    temperature=2.0,
    spread_power=0.5,
    least_spread=3.0,
    decided_by="ape",
    hyperparameters='{"alpha": 1.0}',
    held_out="{}",
    labels_consumed=12,
    test_images=15,
    per_class_accuracy=(0.5, None, 1.0),
)


def test_a_cell_is_read_back_as_it_was_written():
    assert CellResult.from_json(CELL.to_bytes(), where="cell.json") == CELL


def test_measures_of_a_cell_stand_behind_its_seed():
    names = list(json.loads(CELL.to_bytes()))
    assert names[:6] == ["format_version", "method", "shots", "seed", "base_accuracy", "new_accuracy"]
    assert list(CELL.to_row()) == names[1:-1]
    assert names[-1] == "digest"


@pytest.mark.parametrize(
    "change", [{"temperature": "warm"}, {"per_class_accuracy": 0.5}, {"base_accuracy": "high"}, {"format_version": 3}]
)
def test_a_cell_with_a_wrong_value_is_refused(change):
    with pytest.raises(FormatError, match=r"cell\.json"):
        CellResult.from_json(json.dumps(seal_json(json.loads(CELL.to_bytes()) | change)), where="cell.json")


def test_an_infinite_measure_is_null():
    found = CellResult.from_json(replace(CELL, measures={"ece": float("nan")}).to_bytes(), where="cell.json")
    assert found.measures == {"ece": None}


@pytest.mark.parametrize("accuracy", [0.25, None])
def test_a_class_row_names_its_label_class(accuracy):
    row = ClassRow(method="ape", shots=4, label="amber", accuracy_mean=accuracy, accuracy_std=accuracy)
    assert list(row.to_json()) == ["method", "shots", "class", "accuracy_mean", "accuracy_std"]
    assert ClassRow.from_row(row.to_json()) == row
