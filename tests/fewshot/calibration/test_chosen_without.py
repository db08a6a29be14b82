"""The accuracy with hyperparameters that were chosen without the image, where the truth is known."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest
import torch

from fewshot.calibration.abstention import HeldOutScores
from fewshot.calibration.calibrate import fit_calibrated, held_out_logits
from fewshot.inference.predict import predict
from fewshot.methods import build_method
from fewshot.model_selection.cross_validation import held_out_splits, query_parts, selection_splits
from fewshot.optimization.content_order import content_digests
from fewshot.optimization.training_cache import InMemoryCache
from tests.fewshot.model_selection import test_nested
from tests.fewshot.model_selection.test_nested import Lottery
from tests.problems import World, make_problem, shuffled


@pytest.fixture(autouse=True)
def a_short_lottery(monkeypatch):
    monkeypatch.setattr(test_nested, "TICKETS", 300)


def reports(method, problems):
    return [fit_calibrated(method, problem, seed=seed).report for seed, problem in enumerate(problems)]


def test_the_luck_of_many_hyperparameters_is_not_told():
    """A lottery is right on half of the images of two classes, whichever ticket is drawn."""
    found = reports(Lottery(), [World(2, dim=16, seed=seed).problem([12, 12], views=1) for seed in range(8)])
    assert mean(report.accuracy for report in found) > 0.7
    assert mean(report.nested_accuracy for report in found) == pytest.approx(0.5, abs=0.12)


def test_a_maximum_error_is_not_promised_on_luck():
    """The lottery is wrong on half of all images, and on a quarter of those that its ticket was chosen on."""
    given = {"flattered": 0, "chosen without": 0}
    for seed in range(16):
        problem = World(2, dim=16, seed=1000 + seed).problem([12, 12], views=1)
        calibrated = fit_calibrated(Lottery(), problem, seed=seed, max_error=0.4)
        _, logits, labels = held_out_logits(calibrated.method, problem, seed=seed)
        scores, predicted = torch.softmax(calibrated.scaling(logits), dim=1).max(dim=1)
        flattered = HeldOutScores(scores.numpy(), (predicted == labels).numpy())
        given["flattered"] += flattered.guarantee(0.4, confidence=0.9).error_bound is not None
        given["chosen without"] += calibrated.report.error_bound is not None
    assert given["flattered"] >= 6
    assert given["chosen without"] <= 2


def test_the_accuracy_of_a_large_grid_is_nearer_to_the_truth():
    method, told, chosen_without, truth = build_method("ape"), [], [], []
    for seed in range(5):
        there = World(5, dim=32, name_noise=float("inf"), image_noise=8.0, seed=seed)
        calibrated = fit_calibrated(method, there.problem([4] * 5, views=1), seed=seed)
        features, labels = there.test_images(1000)
        truth.append(float((predict(calibrated, features).label == labels).double().mean()))
        told.append(calibrated.report.accuracy)
        chosen_without.append(calibrated.report.nested_accuracy)
    assert mean(told) > mean(truth) + 0.1
    assert abs(mean(chosen_without) - mean(truth)) < (mean(told) - mean(truth)) / 2


def test_validation_images_are_left_out_of_the_choice_in_quarters():
    there = World(2, dim=16)
    problem = replace(there.problem([2, 2], views=1), val=there.images(torch.arange(24) % 2))
    report = fit_calibrated(Lottery(), problem, seed=0).report
    assert report.accuracy > 0.7
    assert report.nested_accuracy < 0.65


@pytest.mark.parametrize("folds", [1, 2])
def test_methods_with_few_folds_are_measured_on_these(folds, monkeypatch):
    monkeypatch.setattr(Lottery, "folds", folds)
    found = reports(Lottery(), [World(2, dim=16, seed=seed).problem([24, 24], views=1) for seed in range(8)])
    assert {report.images for report in found} == {12 * folds}
    assert mean(report.nested_accuracy for report in found) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("method", [build_method("zero_shot"), build_method("tip_adapter", alpha=20.0, beta=3.0)])
def test_without_a_choice_the_accuracy_is_the_same(method):
    report = fit_calibrated(method, make_problem([6, 6, 6])[0], seed=0).report
    assert report.nested_accuracy == report.accuracy


@pytest.mark.parametrize("counts", [[1, 1, 1], [0, 0]])
def test_nothing_is_told_where_nothing_is_held_out(counts):
    assert fit_calibrated(build_method("tip_adapter"), make_problem(counts)[0], seed=0).report.nested_accuracy is None


def test_nothing_is_trained_for_it():
    cache = InMemoryCache()
    method = build_method("tip_adapter_f", max_steps=3, min_steps=0)
    report = fit_calibrated(method, make_problem([8, 8, 8])[0], seed=0, training_cache=cache).report
    assert report.nested_accuracy is not None
    assert len(cache._states) == 5


def test_the_order_of_the_shots_changes_nothing():
    problem, _ = make_problem([7, 5, 4])
    one, other = (fit_calibrated(build_method("ape"), each, seed=2).report for each in (problem, shuffled(problem)))
    assert one.nested_accuracy == other.nested_accuracy


def test_parts_are_the_folds_or_quarters_of_a_single_one():
    problem, _ = make_problem([16, 16])
    splits = held_out_splits(problem, seed=0)
    assert [part.unique().tolist() for part in query_parts(splits, seed=0)] == [[0], [1], [2], [3]]
    assert query_parts(splits[:1], seed=0)[0].bincount().tolist() == [2, 2, 2, 2]


def test_images_that_are_left_out_are_learned_from_and_not_chosen_on():
    problem, _ = make_problem([8, 8])
    splits = held_out_splits(problem, seed=0)
    digests = content_digests(splits[0].queries)
    for not_chosen_on in (digests[:1], digests):
        chosen_on = selection_splits(replace(problem, not_chosen_on=frozenset(not_chosen_on)), seed=0)
        queries = [digest for split in chosen_on for digest in content_digests(split.queries)]
        expected = [digest for split in splits for digest in content_digests(split.queries)]
        assert queries == [digest for digest in expected if digest not in not_chosen_on]
        learned = {digest for split in chosen_on for digest in content_digests(split.problem.support)}
        assert learned >= set(not_chosen_on)
        assert {split.problem.not_chosen_on for split in chosen_on} == {frozenset()}
