"""A choice among methods: what it finds, what it tells, and what it leaves alone."""

import json
import logging
from dataclasses import replace
from math import log

import pytest
import torch

from fewshot.calibration.calibrate import ComparingMethod, calibration_splits, fit_calibrated, held_out_logits
from fewshot.errors import DataError
from fewshot.inference.classifier_files import load_classifier, read_card, save_classifier
from fewshot.method import TrainedMethod
from fewshot.methods import build_method, needs_of
from fewshot.methods.auto import Auto
from fewshot.model_selection.candidates import measure_candidates
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.training_cache import InMemoryCache
from tests.problems import World, make_problem

CHEAP = ("nearest_mean", "tip_adapter", "zero_shot")


def world(**noise):
    return World(6, dim=32, seed=3, **noise)


def test_names_that_say_everything_make_the_text_win_over_useless_examples():
    there = world(name_noise=0.05, image_noise=0.3)
    problem = there.problem([4] * 6)
    noise = problem.support[torch.arange(24)]
    problem = problem.with_support(replace(noise, labels=noise.labels.roll(1)))
    val = there.images(torch.arange(6).repeat(8))
    assert Auto(candidates=("linear_probe", "zero_shot")).select(replace(problem, val=val), seed=0).name == "zero_shot"


def test_names_that_say_nothing_make_the_examples_win():
    problem = world(name_noise=float("inf"), image_noise=0.6).problem([4] * 6)
    assert Auto(candidates=("zero_shot", "nearest_mean")).select(problem, seed=0).name == "nearest_mean"


def test_the_winner_is_the_candidate_as_it_would_select_itself():
    problem, features = make_problem([4] * 5, name_noise=2.0)
    selected = Auto(candidates=CHEAP).select(problem, seed=0)
    alone = build_method(selected.name).select(problem, seed=0)
    assert selected == alone
    expected = alone.fit(problem, seed=0).logits(features)
    assert torch.equal(Auto(candidates=CHEAP).fit(problem, seed=0).logits(features), expected)


def test_the_report_tells_how_every_candidate_did_the_winner_first():
    problem, _ = make_problem([6] * 5, name_noise=2.0)
    calibrated = fit_calibrated(Auto(candidates=CHEAP), problem, seed=0)
    tried = calibrated.report.candidates
    assert {trial.method for trial in tried} == set(CHEAP)
    assert tried[0].method == calibrated.method.name
    assert tried[0].accuracy == calibrated.report.accuracy
    assert tried[0].nll == pytest.approx(calibrated.report.nll_after)
    for trial in tried:
        method = build_method(trial.method).select(problem, seed=0)
        _, logits, labels = held_out_logits(method, problem, seed=0)
        assert trial.accuracy == pytest.approx(float((logits.argmax(1) == labels).double().mean()))


def test_what_was_tried_is_stored_on_the_card_and_comes_back():
    calibrated = fit_calibrated(Auto(candidates=CHEAP), make_problem([6] * 5)[0], seed=0)
    files = save_classifier(calibrated, {})
    card = read_card(files)
    assert card["method"] == calibrated.method.name
    assert [trial["method"] for trial in card["held_out"]["candidates"]] == [
        t.method for t in calibrated.report.candidates
    ]
    assert load_classifier(files).report == calibrated.report
    assert json.loads(json.dumps(card["held_out"]["candidates"]))[0]["accuracy"] == calibrated.report.accuracy


def test_a_method_that_was_named_was_not_compared():
    assert fit_calibrated(build_method("zero_shot"), make_problem([6] * 5)[0], seed=0).report.candidates is None


@pytest.mark.parametrize("counts", [[1, 1, 1], [0, 0], [2, 1, 1]])
def test_where_nothing_can_be_compared_the_first_candidate_is_taken(counts):
    calibrated = fit_calibrated(Auto(candidates=CHEAP), make_problem(counts)[0], seed=0)
    assert calibrated.method.name == CHEAP[0]
    assert calibrated.report.candidates == ()


def test_all_candidates_are_asked_about_the_same_images_however_many_folds_they_use(monkeypatch):
    problem, _ = make_problem([8] * 4)
    monkeypatch.setattr(type(build_method("tip_adapter")), "folds", 2)
    method = Auto(candidates=("nearest_mean", "tip_adapter"))
    assert method.folds == 4
    _, tried = method.compare(problem, seed=0, training_cache=InMemoryCache())
    asked = sum(len(split.queries) for split in held_out_splits(problem, seed=0)[:2])
    assert all((trial.accuracy * asked) % 1 == pytest.approx(0.0, abs=1e-9) for trial in tried)
    nearest = build_method("nearest_mean").select(problem, seed=0)
    _, logits, labels = held_out_logits(nearest, problem, seed=0, folds=2)
    messages = next(trial.accuracy for trial in tried if trial.method == "nearest_mean")
    assert messages == float((logits.argmax(1) == labels).double().mean())


def test_pretrained_folds_are_not_trained_again_and_no_candidate_trains_more_folds_than_it_uses(monkeypatch):
    problem, _ = make_problem([4, 4, 4])
    monkeypatch.setattr(type(build_method("clip_adapter")), "folds", 2)
    method, training_cache, trained = (
        Auto(candidates=("nearest_mean", "clip_adapter", "linear_probe")),
        InMemoryCache(),
        [],
    )

    def counting(key, make):
        return training_cache(key, lambda: trained.append(key) or make())

    for split in calibration_splits(method, problem, seed=0)[1]:
        method.pretrain_fold(split, seed=0, training_cache=counting)
    assert sum(key.startswith("clip_adapter") for key in trained) == 2
    assert sum(key.startswith("linear_probe_path") for key in trained) == 4
    pretrained = set(trained)
    method.select(problem, seed=0, training_cache=counting)
    assert not any(key.startswith(("clip_adapter", "linear_probe_path")) for key in set(trained) - pretrained)


def test_it_is_a_trained_and_a_comparing_method():
    assert isinstance(Auto(), TrainedMethod)
    assert isinstance(Auto(), ComparingMethod)
    assert not isinstance(build_method("clip_adapter"), ComparingMethod)


def test_it_needs_what_any_candidate_needs():
    assert needs_of("auto", {}) == frozenset().union(*(needs_of(name, {}) for name in Auto().candidates)) == frozenset()
    assert needs_of("auto", {"candidates": ["zero_shot", "safe"]}) == needs_of("safe", {}) == {"dense"}
    assert needs_of("auto", {"candidates": ("coop", "safe", "mcti")}) == {"dense", "text_tower", "diffusion"}


@pytest.mark.parametrize("candidates", [5, "safe", [["safe"]], [None], ["sofa"], {"safe": 1}])
def test_wrong_candidates_need_nothing_until_they_are_refused(candidates):
    assert needs_of("auto", {"candidates": candidates}) == frozenset()
    with pytest.raises(DataError, match=r"auto\.candidates"):
        build_method("auto", candidates=candidates)


def test_the_log_tells_what_was_tried(caplog):
    with caplog.at_level(logging.INFO, logger="fewshot"):
        Auto(candidates=CHEAP).select(make_problem([4] * 5)[0], seed=0)
    assert sorted(record.args[0] for record in caplog.records) == sorted(CHEAP)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ((), "at least one"),
        (("ape", "ape"), "different"),
        (("ape", "auto"), "unknown method 'auto'"),
        (["tip_adaptor"], "Did you mean 'tip_adapter'"),
    ],
)
def test_candidates_that_make_no_sense_are_refused(candidates, message):
    with pytest.raises(DataError, match=message):
        Auto(candidates=candidates)


def logits_with(hits):
    """Two classes, label 0: right where `hits` says so."""
    return torch.stack([torch.tensor(hits, dtype=torch.float32) * 2.0 - 1.0, torch.zeros(len(hits))], dim=1)


def test_a_lead_that_may_be_luck_leaves_the_preferred_in_front():
    labels = torch.zeros(40, dtype=torch.int64)
    preferred = logits_with([1] * 30 + [0] * 10)
    lucky = logits_with([0] * 3 + [1] * 31 + [0] * 6)
    first, second = measure_candidates({"preferred": preferred, "lucky": lucky}, labels)
    assert (first.method, second.method) == ("preferred", "lucky")
    assert first.behind == pytest.approx(1 / 40)
    assert first.standard_error == pytest.approx((7 / 40 - (1 / 40) ** 2) ** 0.5 / 40**0.5)
    assert (second.behind, second.standard_error) == (0.0, 0.0)


def test_a_lead_beyond_doubt_counts_whoever_is_preferred():
    labels = torch.zeros(40, dtype=torch.int64)
    ahead, behind, last = (logits_with([1] * hits + [0] * (40 - hits)) for hits in (36, 20, 10))
    order = [trial.method for trial in measure_candidates({"last": last, "behind": behind, "ahead": ahead}, labels)]
    assert order == ["ahead", "behind", "last"]


def test_likelihood_is_told_at_each_candidates_own_temperature():
    labels = torch.zeros(40, dtype=torch.int64)
    logits = logits_with([1] * 30 + [0] * 10)
    one, other = measure_candidates({"a": logits, "b": 7.0 * logits}, labels)
    assert one.nll == pytest.approx(other.nll, rel=1e-4)
    assert one.nll == pytest.approx(-(0.75 * log(0.75) + 0.25 * log(0.25)), abs=0.01)
