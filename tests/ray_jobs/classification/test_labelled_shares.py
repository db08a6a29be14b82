"""How many examples a maximum error rate takes, counted before the training as calibration counts them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.calibration.abstention import HeldOutScores
from fewshot.calibration.calibrate import calibration_splits
from fewshot.methods import METHODS, build_method
from fewshot.methods.table import folds_of
from fewshot.model_selection import cross_validation
from ray_jobs.classification.labelled_shares import (
    FOLDS,
    MAX_ERRORS,
    MAX_HELD_OUT,
    MAX_PAIRS,
    held_out_examples,
    labelled_shares,
    rounded_up,
    shortage,
)
from tests.problems import World
from tests.ray_jobs.place import Place, fewshot, written


@given(
    counts=st.lists(st.integers(0, 9), min_size=2, max_size=5),
    method=st.sampled_from(["nearest_mean", "safe", "coop"]),
)
def test_held_out_examples_are_those_that_calibration_holds_out(counts, method):
    problem = World(len(counts)).problem(counts)
    _, splits = calibration_splits(build_method(method), problem, seed=1)
    found = held_out_examples(counts, folds=folds_of(method, {}))
    assert found == sum(len(split.queries) for split in splits)


def test_constants_are_those_of_calibration():
    expected = (cross_validation.FOLDS, cross_validation.MAX_QUERIES, cross_validation.MAX_COSINES)
    assert (FOLDS, MAX_HELD_OUT, MAX_PAIRS) == expected
    assert held_out_examples([MAX_HELD_OUT, MAX_HELD_OUT]) == MAX_HELD_OUT
    assert held_out_examples([2**17, 2**17]) == MAX_PAIRS // 2**18 < MAX_HELD_OUT


@pytest.mark.parametrize("name", METHODS)
def test_the_table_has_the_folds_of_each_method(name):
    assert folds_of(name, {}) == build_method(name).folds


def test_of_several_candidates_the_most_folds_count():
    assert folds_of("auto", {"candidates": ["coop", "safe"]}) == build_method("auto", candidates=("coop", "safe")).folds
    assert folds_of("auto", {"candidates": []}) == folds_of("auto", {}) == 4
    assert folds_of("no_such_method", {}) == 1


def test_shares_grow_with_what_the_held_out_scores_allow():
    scores = torch.linspace(0.0, 1.0, 100)
    shares = labelled_shares(HeldOutScores(scores.numpy(), (scores > 0.4).numpy()), 0.9)
    assert [share.max_error for share in shares] == list(MAX_ERRORS)
    assert [share.needed for share in shares] == [45, 22, 11, 7]
    coverages = [share.held_out_share for share in shares]
    assert coverages == sorted(coverages)
    assert 0.55 < coverages[0] < coverages[-1] < 0.9
    for share in shares:
        assert float((scores >= share.threshold).double().mean()) == pytest.approx(share.held_out_share)


def test_before_the_training_only_the_needed_examples_are_known():
    for share in labelled_shares(None, 0.9):
        assert share == replace(share, threshold=None, held_out_share=None, archive_share=None)


def test_where_nothing_would_be_labelled_there_is_no_threshold():
    for share in labelled_shares(HeldOutScores(np.ones(60, np.float32), np.zeros(60, bool)), 0.9):
        assert (share.threshold, share.held_out_share) == (None, 0.0)


def test_a_shortage_names_the_way_out():
    assert shortage(0.1, 22, 6, 0.318) == (
        "max_error = 0.1 needs at least 22 held-out examples, and there are 6: every prediction would be abstained."
        " Add examples, or raise max_error to 0.32."
    )
    assert shortage(0.1, 22, 0, None).endswith("Add examples.")
    assert [rounded_up(error) for error in (0.3, 0.07, 0.301, 0.9999, None)] == [0.3, 0.07, 0.31, None, None]


@pytest.fixture(scope="module")
def many(tmp_path_factory, tiny_clip):
    """A place with 36 examples, all of which are held out once. Its job has not run. Shared: only run it."""
    return Place(tmp_path_factory.mktemp("many"), tiny_clip).fill(images=12, shots=12)


@pytest.fixture
def trainings(monkeypatch):
    """The methods that were trained and calibrated, one entry a training."""
    from fewshot.calibration import calibrate

    made, fit = [], calibrate.fit_calibrated

    def counted(method, *arguments, **options):
        made.append(method.name)
        return fit(method, *arguments, **options)

    monkeypatch.setattr(calibrate, "fit_calibrated", counted)
    return made


@pytest.mark.slow
def test_another_maximum_error_trains_nothing_and_is_another_run(many, trainings):
    strict = many.classify("classifier.max_error=0.001")
    assert (strict.code, strict.result["ok"], strict.result["threshold"]) == (0, 0, 2.0)
    files, classifiers = many.features(), written(many.output / "classifiers")
    lax = many.classify("classifier.max_error=0.9")
    surer = many.classify("classifier.max_error=0.9", "classifier.confidence=0.99")
    none = many.classify()
    assert trainings == ["tip_adapter"]
    assert (many.features(), written(many.output / "classifiers")) == (files, classifiers)
    assert len({outcome.run for outcome in (strict, lax, surer, none)}) == 4
    assert lax.result["ok"] == none.result["ok"] == 12
    assert {row["classifier"] for row in lax.rows.values()} == {row["classifier"] for row in strict.rows.values()}
    assert [outcome.result["held_out"]["max_error"] for outcome in (strict, lax, none)] == [0.001, 0.9, None]
    assert surer.result["held_out"]["error_bound"] > lax.result["held_out"]["error_bound"]
    assert many.classify("classifier.max_error=0.001").result["did"] == "nothing"


@pytest.mark.slow
def test_the_shares_are_those_of_runs_with_that_maximum_error(many):
    table = many.classify().result["labelled_shares"]
    assert [row["max_error"] for row in table] == list(MAX_ERRORS)
    for row in table:
        outcome = many.classify(f"classifier.max_error={row['max_error']}")
        readable = outcome.result["images"] - outcome.result["unreadable"]
        assert outcome.result["ok"] == round(row["archive_share"] * readable)
        assert outcome.result["held_out"]["coverage"] == pytest.approx(row["held_out_share"])
        assert outcome.result["labelled_shares"] == table
        assert json.loads((outcome.run / "metrics.json").read_text())["labelled_shares"] == table
        assert row["threshold"] == (None if outcome.result["threshold"] > 1.0 else outcome.result["threshold"])
    assert [row["archive_share"] > 0.0 for row in table] == [False, True, True, True]


@pytest.mark.slow
def test_the_table_is_printed_and_on_the_page(many):
    outcome = many.classify("classifier.max_error=0.3")
    assert "share that would be labelled, with 90.0 % confidence in max_error" in outcome.messages
    assert "share of the held-out examples that would be labelled: " in many.classify("classifier.top=2").messages
    page = Path(outcome.result["report"]).read_text(encoding="utf-8")
    assert "What another max_error would label, by 36 held-out examples:" in page
    assert page.count("<tr>") >= 1 + len(MAX_ERRORS)


@pytest.mark.slow
def test_without_a_maximum_the_expected_error_is_printed(many, place):
    outcome = many.classify()
    held_out = outcome.result["held_out"]
    assert (held_out["coverage"], held_out["max_error"]) == (1.0, None)
    assert 1.0 - held_out["accuracy"] < held_out["error_bound"] < 1.0
    wrong, bound = (f"{100 * share:.1f} %" for share in (1.0 - held_out["nested_accuracy"], held_out["error_bound"]))
    expected = f"Expected error rate: {wrong} on 36 held-out examples, at most {bound} with 90.0 % confidence."
    assert expected in " ".join(outcome.messages.split())
    place.write_job(support={"shots": 1})
    assert "This is rather too high" in place.classify().messages


@pytest.mark.slow
def test_the_nested_accuracy_of_compared_methods_is_printed_stored_and_shown(many):
    candidates = 'classifier.hyperparameters={candidates=["nearest_mean", "zero_shot"]}'
    outcome = many.classify("classifier.method=auto", candidates)
    held_out = outcome.result["held_out"]
    assert held_out["nested_accuracy"] == held_out["candidates"][0]["accuracy"]
    wrong = f"Expected error rate: {100 * (1.0 - held_out['nested_accuracy']):.1f} % on"
    assert wrong in " ".join(outcome.messages.split())
    page = Path(outcome.result["report"]).read_text(encoding="utf-8")
    assert f"accuracy {100 * held_out['nested_accuracy']:.1f}" in page


@pytest.mark.slow
def test_an_accuracy_that_the_choice_flatters_is_named_as_such(many):
    outcome = many.classify("classifier.method=ape", "support.shots=3", "clip.templates=['{}']")
    held_out = outcome.result["held_out"]
    assert held_out["nested_accuracy"] < held_out["accuracy"]
    flattered = f"On the examples that hyperparameters were chosen on: {100 * (1.0 - held_out['accuracy']):.1f} %."
    assert flattered in " ".join(outcome.messages.split())
    page = Path(outcome.result["report"]).read_text(encoding="utf-8")
    assert "accuracy on the examples that hyperparameters were chosen on" in page


@pytest.mark.slow
def test_too_few_examples_are_reported_before_the_work_and_in_the_plan(place):
    place.write_job(classifier={"max_error": 0.1})
    told = "max_error = 0.1 needs at least 22 held-out examples, and there are 6: every prediction would be abstained."
    plan = fewshot("plan", place.job, "--no-probe")
    assert told in " ".join(plan.messages.split())
    limit = plan.result["error_limit"]
    assert (limit["max_error"], limit["held_out"], limit["needed"]) == (0.1, 6, 22)
    assert limit["least_error"] == pytest.approx(1.0 - 0.1 ** (1 / 6))
    assert {row["held_out_share"] for row in limit["shares"]} == {None}
    messages = " ".join(place.classify().messages.split())
    assert told in messages
    assert messages.index(told) < messages.index("embedding")


@pytest.mark.slow
def test_a_plan_counts_the_examples_and_knows_the_shares_of_a_trained_classifier(many):
    many.classify()
    plan = fewshot("plan", many.job, "--no-probe", "--set", "classifier.max_error=0.3")
    limit = plan.result["error_limit"]
    assert (limit["held_out"], limit["needed"]) == (36, 7)
    assert "max_error = 0.3 needs at least 7 held-out examples, all labelled right; there are 36" in plan.messages
    assert [row["held_out_share"] for row in limit["shares"]] == [
        row["held_out_share"] for row in many.classify().result["labelled_shares"]
    ]
    messages = fewshot("plan", many.job, "--no-probe").messages
    assert "36 held-out examples could guarantee a max_error of 0.07" in messages
