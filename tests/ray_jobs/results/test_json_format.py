"""Documents come back from their JSON as they were, and whatever else a file holds is refused by name."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.digests import seal_json
from ray_jobs.errors import JobError
from ray_jobs.results import (
    CascadeRow,
    CascadeTable,
    ClassificationMetrics,
    EvaluationResult,
    EvaluationRow,
    FormatError,
    RunPlan,
)
from ray_jobs.results.json_format import MAX_SHOWN, JsonDocument, JsonObject

WHERE = "runs/a/metrics.json"
ROW = EvaluationRow(method="ape", shots=4, seeds=2, means={"accuracy": 0.5, "ece": None}, deviations={"accuracy": 0.0})
CASCADE = CascadeRow(
    shots=4, seeds=2, what="cascade", fraction=0.0, forwards_an_image=0.0, accuracy_mean=0.5, accuracy_std=0.0
)
RESULT = EvaluationResult(
    title="groceries",
    protocol="few-shot",
    complete=True,
    table=(ROW,),
    cascades=CascadeTable(cheap="ape", method="tif", candidates=5, rows=(CASCADE,)),
    failed_cells=(),
    files={"table.csv": "blake2b:0"},
)
PLAN = RunPlan(kind="evaluation", job="a", classes=3, features=("f/1",), protocol="few-shot", cells=("e/1", "e/2"))
METRICS: JsonObject = {
    "format_version": 2,
    "complete": True,
    "failed_units": 0,
    "too_many_unreadable": False,
    "images": 3,
    "ok": 2,
    "abstained": 1,
    "unreadable": 0,
    "given_labels": None,
    "mean_score": 0.5,
    "measured": None,
    "reliability": {"rows": [1], "correct": [1], "confidence": [0.5]},
    "score_histogram": {"ok": [2], "abstained": [1]},
    "labels": {"b": 2, "a": 1},
    "skipped_entries": 0,
    "skipped_examples": [],
    "unreadable_examples": {"examples": 0, "such_as": [], "classes": []},
    "method": "ape",
    "hyperparameters": {"beta": 1.0, "candidates": ["ape"], "none": None},
    "temperature": 1.0,
    "spread_power": 0.0,
    "least_spread": 1.0,
    "threshold": None,
    "held_out": {"source": "folds", "images": 4, "accuracy": 0.5}
    | dict.fromkeys(
        ("nll_before", "nll_after", "ece_before", "ece_after", "max_error", "confidence", "coverage", "error_bound")
    )
    | {"candidates": None, "nested_accuracy": None},
    "escalated": None,
    "versions": {"fewshot": "0"},
    "labelled_shares": [
        {"max_error": 0.1, "needed": 22, "threshold": 0.5, "held_out_share": 0.25, "archive_share": None}
    ],
    "part_bytes": [700],
}


def read(document: JsonObject, kind: type[JsonDocument] = ClassificationMetrics) -> JsonDocument:
    return kind.from_json(json.dumps(seal_json(document)), where=WHERE)


@pytest.mark.parametrize("document", [RESULT, PLAN], ids=["evaluation", "plan"])
def test_a_document_comes_back_as_it_was_stored(document):
    assert type(document).from_json(document.to_bytes(), where=WHERE) == document


def test_metrics_keep_every_key_and_the_order_of_labels():
    found = read(METRICS)
    assert found.to_json() == METRICS
    assert list(found.labels) == ["b", "a"]
    assert next(iter(found.to_json())) == "format_version"


@given(st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_does_not_exist_is_null(number):
    document = replace(read(METRICS), mean_score=number)
    assert document.to_json()["mean_score"] is None
    assert type(document).from_json(document.to_bytes(), where=WHERE).mean_score is None


def test_measures_are_stored_flat_beside_the_method():
    (row,) = RESULT.to_json()["table"]
    assert row == {
        "method": "ape",
        "shots": 4,
        "seeds": 2,
        "accuracy_mean": 0.5,
        "ece_mean": None,
        "accuracy_std": 0.0,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3}, "has format 3; this version of fewshot reads format 2. Upgrade fewshot"),
        ({"format_version": 0}, "has format_version 0, expected 2"),
        ({"format_version": "2"}, "has format_version '2', expected 2"),
        ({"format_version": True}, "has format_version True, expected 2"),
        ({"colour": 1}, "unknown key colour"),
        ({"images": "3"}, "images: input should be a valid integer"),
        ({"ok": 2.5}, "ok: input should be a valid integer"),
        ({"unreadable_examples": {"examples": 0, "such_as": [], "classes": [], "x": 1}}, "unknown key unreadable_ex"),
        ({"held_out": {"images": 3}}, "key held_out.source is missing"),
        ({"temperature": None}, "temperature: input should be a valid number"),
    ],
)
def test_a_document_of_another_shape_is_refused_by_name(change, message):
    with pytest.raises(FormatError, match=r"^runs/a/metrics\.json ") as refused:
        read(METRICS | change)
    assert message in str(refused.value)
    assert isinstance(refused.value, JobError)


def test_a_missing_key_and_a_missing_version_are_named():
    with pytest.raises(FormatError, match="key images is missing"):
        read({key: value for key, value in METRICS.items() if key != "images"})
    with pytest.raises(FormatError, match="has no format_version, expected 2: it is from an older version"):
        read({key: value for key, value in METRICS.items() if key != "format_version"})


def test_of_many_mistakes_the_first_are_listed_and_the_others_counted():
    with pytest.raises(FormatError) as refused:
        read(METRICS | {f"colour{number}": number for number in range(8)})
    assert str(refused.value).count("unknown key colour") == MAX_SHOWN
    assert f" and {8 - MAX_SHOWN} more. " in str(refused.value)


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000, b"null", b'{"format_version": NaN}'])
def test_what_is_no_json_object_is_damaged(data):
    with pytest.raises(FormatError, match=r"is damaged: .*Delete it and run the job again"):
        RunPlan.from_json(data, where=WHERE)


def test_a_classification_without_an_archive_is_refused():
    document = PLAN.to_json() | {"kind": "classification"}
    with pytest.raises(FormatError, match="a classification needs an archive"):
        read(document, RunPlan)


def test_a_table_that_is_none_is_refused():
    with pytest.raises(FormatError, match="table"):
        read(RESULT.to_json() | {"table": "x"}, EvaluationResult)
    with pytest.raises(FormatError, match=r"table\.0"):
        read(RESULT.to_json() | {"table": [3]}, EvaluationResult)
