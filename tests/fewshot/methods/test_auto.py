"""A choice among methods: what it finds, what it tells, and what it leaves alone."""

import json
import logging
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.calibration.calibrate import ComparingMethod, calibration_splits, fit_calibrated, held_out_logits
from fewshot.errors import DataError
from fewshot.inference.classifier_files import load_classifier, read_card, save_classifier
from fewshot.method import TrainedMethod
from fewshot.methods import METHODS, build_method, needs_of
from fewshot.methods.auto import Auto
from fewshot.methods.auto.preference import FEW_SHOT_ACCURACY, SIMPLEST_FIRST, few_shot_choice, simplest_first
from fewshot.methods.linear_probe.method import TEXT_WEIGHTS
from fewshot.methods.table import comparable
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.model_selection.nested import compare_nested
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


def test_choice_and_fit_have_the_given_seed(monkeypatch):
    """No candidate here draws numbers, but one that trains by gradient descent does."""
    problem, _ = make_problem([4] * 3)
    kind, seen = type(build_method("nearest_mean")), []
    for step in ("select", "fit"):
        original = getattr(kind, step)

        def recording(self, part, *, original=original, step=step, seed, **given):
            seen.append((step, part is problem, seed))
            return original(self, part, seed=seed, **given)

        monkeypatch.setattr(kind, step, recording)
    auto, seed = Auto(candidates=("nearest_mean",)), 5
    auto.fit(problem, seed=seed)
    assert {own_seed for _, _, own_seed in seen} == {seed}
    assert [step for step, whole, _ in seen if whole] == ["select", "fit"]
    _, tried = auto.compare(problem, seed=seed, training_cache=InMemoryCache())
    assert tried == compare_nested(auto.members, problem, seed=seed, training_cache=InMemoryCache())


def test_the_report_has_the_nested_accuracy_of_every_candidate_the_winner_first():
    problem, _ = make_problem([6] * 5, name_noise=2.0)
    report = (calibrated := fit_calibrated(Auto(candidates=CHEAP), problem, seed=0)).report
    assert {trial.method for trial in report.candidates} == set(CHEAP)
    assert report.candidates[0].method == calibrated.method.name
    assert report.candidates[0].accuracy == report.nested_accuracy
    for trial in report.candidates:
        (alone,) = compare_nested([build_method(trial.method)], problem, seed=0, training_cache=InMemoryCache())
        assert (trial.accuracy, trial.nll) == (alone.accuracy, alone.nll)
    _, logits, labels = held_out_logits(calibrated.method, problem, seed=0)
    assert report.accuracy == float((logits.argmax(1) == labels).double().mean())


@settings(max_examples=6, deadline=None)
@given(candidates=st.permutations(CHEAP), seed=st.integers(0, 3))
def test_the_order_of_the_candidates_changes_nothing(candidates, seed):
    problem, _ = make_problem([3] * 5, name_noise=2.0)
    given, other = (Auto(candidates=tuple(names)) for names in (candidates, CHEAP))
    assert given.compare(problem, seed=seed, training_cache=InMemoryCache()) == other.compare(
        problem, seed=seed, training_cache=InMemoryCache()
    )


def test_what_was_tried_is_stored_on_the_card_and_comes_back():
    calibrated = fit_calibrated(Auto(candidates=CHEAP), make_problem([6] * 5)[0], seed=0)
    files = save_classifier(calibrated, {})
    card = read_card(files)
    assert card["method"] == calibrated.method.name
    assert [trial["method"] for trial in card["held_out"]["candidates"]] == [
        t.method for t in calibrated.report.candidates
    ]
    assert load_classifier(files).report == calibrated.report
    assert json.loads(json.dumps(card["held_out"]["candidates"]))[0]["accuracy"] == calibrated.report.nested_accuracy
    assert card["held_out"]["nested_accuracy"] == calibrated.report.nested_accuracy


def test_a_method_that_was_named_was_not_compared():
    report = fit_calibrated(build_method("zero_shot"), make_problem([6] * 5)[0], seed=0).report
    assert (report.candidates, report.nested_accuracy) == (None, report.accuracy)


FEW_SHOTS = {
    1: {"a": {"nearest_mean": 40.0, "zero_shot": 90.0}, "b": {"nearest_mean": 40.0, "zero_shot": 10.0}},
    2: {"a": {"nearest_mean": 40.0, "zero_shot": 90.0}, "b": {"nearest_mean": 70.0, "zero_shot": 10.0}},
}


@pytest.mark.parametrize(
    ("counts", "name", "nested"),
    [
        ([1, 1, 1], "zero_shot", True),
        ([0, 0], "zero_shot", False),
        ([2, 1, 1], "zero_shot", True),
        ([2, 2, 2], "nearest_mean", True),
        ([2, 2, 0], "nearest_mean", True),
        ([7, 1], "nearest_mean", True),
    ],
)
def test_where_nothing_can_be_compared_the_best_with_as_many_shots_elsewhere_is_taken(
    monkeypatch, counts, name, nested
):
    monkeypatch.setattr("fewshot.methods.auto.preference.FEW_SHOT_ACCURACY", FEW_SHOTS)
    calibrated = fit_calibrated(Auto(candidates=CHEAP), make_problem(counts)[0], seed=0)
    assert calibrated.method.name == name
    assert calibrated.report.candidates == ()
    assert calibrated.report.nested_accuracy == (calibrated.report.accuracy if nested else None)


def test_all_candidates_are_compared_on_the_same_images_however_many_folds_they_use(monkeypatch):
    problem, _ = make_problem([8] * 4)
    monkeypatch.setattr(type(build_method("tip_adapter")), "folds", 2)
    method = Auto(candidates=("nearest_mean", "tip_adapter"))
    assert method.folds == 4
    _, tried = method.compare(problem, seed=0, training_cache=InMemoryCache())
    images = sum(len(split.queries) for split in held_out_splits(problem, seed=0)[:2])
    assert all((trial.accuracy * images) % 1 == pytest.approx(0.0, abs=1e-9) for trial in tried)


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

    seed = 4
    for split in calibration_splits(method, problem, seed=seed)[1]:
        method.pretrain_fold(split, seed=seed, training_cache=counting)
    assert sum(key.startswith("clip_adapter") for key in trained) == 2 + 3
    assert sum(key.startswith("linear_probe_path") for key in trained) == len(TEXT_WEIGHTS) * (4 + 6)
    pretrained = set(trained)
    method.select(problem, seed=seed, training_cache=counting)
    assert not any(key.startswith(("clip_adapter", "linear_probe_path")) for key in set(trained) - pretrained)


def test_with_two_shots_no_pair_of_folds_is_left_to_train_without():
    problem, _ = make_problem([2, 2, 2, 2])
    method, trained, cache = Auto(candidates=("nearest_mean", "linear_probe")), set(), InMemoryCache()

    def counting(key, make):
        trained.add(key)
        return cache(key, make)

    for split in calibration_splits(method, problem, seed=0)[1]:
        method.pretrain_fold(split, seed=0, training_cache=counting)
    assert len(trained) == len(TEXT_WEIGHTS) * 2


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
    assert all("shots=20 " in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ((), "at least one"),
        ([], "at least one"),
        (("ape", "ape"), "different"),
        (["ape", "gda", "ape"], "different"),
        (("ape", "auto"), "unknown method 'auto'"),
        (["tip_adaptor"], "Did you mean 'tip_adapter'"),
    ],
)
def test_candidates_that_make_no_sense_are_refused(candidates, message):
    with pytest.raises(DataError, match=message):
        Auto(candidates=candidates)


def test_candidates_may_be_a_list():
    assert Auto(candidates=["ape", "gda"]) == Auto(candidates=("ape", "gda"))
    assert hash(Auto(candidates=["ape", "gda"])) == hash(Auto(candidates=("ape", "gda")))


def test_every_method_has_a_place_in_the_order():
    assert sorted(SIMPLEST_FIRST) == sorted(METHODS.keys() - {"auto"})
    assert simplest_first(Auto().candidates) == [method.name for method in Auto().members] == list(Auto().candidates)


@pytest.mark.parametrize(
    ("method", "extended"),
    [
        ("gda", "gda_u"),
        ("nearest_mean", "archive_nearest_mean"),
        ("linear_probe", "archive_linear_probe"),
        ("rla", "archive_rla"),
        ("tip_adapter", "tip_x"),
        ("tip_adapter", "ape"),
        ("tip_adapter", "tip_adapter_f"),
        ("ape", "ape_t"),
        ("safe", "safe_a"),
        ("coop", "cocoop"),
        ("tip_adapter_f", "ship_tip_adapter_f"),
        ("clip_adapter", "ship_clip_adapter"),
        ("coop", "ship_coop"),
    ],
)
def test_a_method_is_simpler_than_one_that_extends_it(method, extended):
    assert simplest_first([extended, method]) == [method, extended]


def no_training(key, make):
    raise AssertionError(f"{key} is trained")


@pytest.mark.parametrize("shots", [2, 5])
def test_a_probe_is_not_compared_among_too_many_classes(monkeypatch, shots):
    limited = replace(METHODS["linear_probe"], compared_up_to=5)
    monkeypatch.setitem(METHODS, "linear_probe", limited)
    auto, cache = Auto(candidates=("linear_probe", "nearest_mean")), InMemoryCache()
    few, _ = make_problem([shots] * 5, name_noise=2.0)
    many, _ = make_problem([shots] * 6, name_noise=2.0)
    if shots > 2:
        assert {trial.method for trial in auto.compare(few, seed=0, training_cache=cache)[1]} == {*auto.candidates}
        assert {trial.method for trial in auto.compare(many, seed=0, training_cache=cache)[1]} == {"nearest_mean"}
    assert auto.select(many, seed=0, training_cache=no_training).name == "nearest_mean"
    for split in held_out_splits(many, seed=0):
        auto.pretrain_fold(split, seed=0, training_cache=no_training)


def test_a_probe_is_compared_where_nothing_else_is_left(monkeypatch):
    monkeypatch.setitem(METHODS, "linear_probe", replace(METHODS["linear_probe"], compared_up_to=5))
    problem, _ = make_problem([3] * 6)
    assert Auto(candidates=("linear_probe",)).select(problem, seed=0).name == "linear_probe"
    assert comparable(["linear_probe", "gda"], classes=5) == ["linear_probe", "gda"]
    assert comparable(["linear_probe", "gda"], classes=6) == ["gda"]


def test_with_few_shots_the_accuracies_with_the_next_smaller_number_decide(monkeypatch):
    monkeypatch.setattr("fewshot.methods.auto.preference.FEW_SHOT_ACCURACY", FEW_SHOTS)
    chosen = {shots: few_shot_choice(["zero_shot", "nearest_mean"], shots=shots) for shots in (0, 1, 1.9, 2, 5.5)}
    assert chosen == {0: "zero_shot", 1: "zero_shot", 1.9: "zero_shot", 2: "nearest_mean", 5.5: "nearest_mean"}


def test_with_few_shots_methods_that_are_not_measured_on_each_set_do_not_take_part(monkeypatch):
    measured = {1: {"a": {"gda": 50.0, "rla": 90.0}, "b": {"gda": 50.0}}}
    monkeypatch.setattr("fewshot.methods.auto.preference.FEW_SHOT_ACCURACY", measured)
    assert few_shot_choice(["rla", "gda"], shots=1) == "gda"


def test_with_few_shots_the_simplest_of_equals_and_of_unmeasured_methods_is_taken(monkeypatch):
    assert few_shot_choice(["textual_inversion", "ship_coop"], shots=1) == "ship_coop"
    assert few_shot_choice(["mcti", "nearest_mean"], shots=1) == "nearest_mean"
    equal = {1: {"a": {"gda": 50.0, "rla": 60.0}, "b": {"gda": 60.0, "rla": 50.0}}}
    monkeypatch.setattr("fewshot.methods.auto.preference.FEW_SHOT_ACCURACY", equal)
    assert few_shot_choice(["rla", "gda"], shots=1) == "gda"


def test_with_few_shots_no_data_set_decides_on_which_auto_is_reported():
    reported = {"dreambooth", "grocery", "signdigits", "trashnet"}
    for accuracies in FEW_SHOT_ACCURACY.values():
        assert not reported & accuracies.keys()
        assert all(accuracy.keys() >= set(Auto().candidates) for accuracy in accuracies.values())
