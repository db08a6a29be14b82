from dataclasses import replace

import pytest
import torch

from fewshot.calibration.abstention import ABSTAIN_ALWAYS
from fewshot.calibration.calibrate import fit_calibrated, held_out_logits
from fewshot.errors import DataError
from fewshot.inference.predict import predict
from fewshot.methods import build_method
from tests.problems import World, make_problem

TIP = build_method("tip_adapter", alpha=20.0, beta=3.0)


def test_confidence_matches_accuracy_on_unseen_images():
    there = World(10, name_noise=2.0, image_noise=1.5)
    calibrated = fit_calibrated(build_method("tip_adapter"), there.problem([16] * 10), seed=0)
    features, labels = there.test_images(2000)
    scored = predict(calibrated, features)
    assert float(scored.score.mean()) == pytest.approx(float((scored.label == labels).double().mean()), abs=0.06)
    assert calibrated.report.ece_after < calibrated.report.ece_before
    assert calibrated.report.nll_after <= calibrated.report.nll_before


def test_accepted_predictions_keep_the_maximum_error():
    there = World(10, name_noise=2.0, image_noise=1.5)
    calibrated = fit_calibrated(build_method("tip_adapter"), there.problem([16] * 10), seed=0, max_error=0.25)
    features, labels = there.test_images(2000)
    scored = predict(calibrated, features)
    accepted = ~scored.abstained
    assert calibrated.report.error_bound <= 0.25
    assert 0.2 < float(accepted.double().mean()) < 1.0
    assert float((scored.label != labels)[accepted].double().mean()) <= 0.25


def test_without_a_guarantee_all_predictions_abstain():
    problem, features = make_problem([2, 2])
    calibrated = fit_calibrated(TIP, problem, seed=0, max_error=0.01)
    assert calibrated.threshold == ABSTAIN_ALWAYS
    assert calibrated.report.coverage == 0.0
    assert calibrated.report.error_bound is None
    assert predict(calibrated, features).abstained.all()


def test_another_maximum_error_is_as_if_trained_for_it():
    problem, features = make_problem([8, 8, 8])
    lax, none = (fit_calibrated(TIP, problem, seed=0, max_error=error) for error in (0.5, None))
    changed = none.with_max_error(0.5, confidence=0.9)
    assert (changed.threshold, changed.report) == (lax.threshold, lax.report)
    assert torch.equal(predict(changed, features).abstained, predict(lax, features).abstained)
    again = changed.with_max_error(None, confidence=0.9)
    assert (again.threshold, again.report) == (None, none.report)


def test_without_a_maximum_error_nothing_abstains():
    problem, features = make_problem([2, 2])
    calibrated = fit_calibrated(TIP, problem, seed=0)
    assert calibrated.threshold is None
    assert not predict(calibrated, features).abstained.any()


@pytest.mark.parametrize(
    ("counts", "source", "images"),
    [([3, 3], "folds", 6), ([3, 1], "folds", 3), ([1, 1, 1], "text", 3), ([0, 0], "none", 0)],
)
def test_the_report_names_the_held_out_source(counts, source, images):
    report = fit_calibrated(TIP, make_problem(counts)[0], seed=0).report
    assert (report.source, report.images) == (source, images)


def test_validation_images_are_used_for_calibration():
    val = make_problem([5, 5], seed=4)[0].support
    problem = replace(make_problem([1, 1])[0], val=val)
    source, logits, labels = held_out_logits(TIP, problem, seed=0)
    assert source == "val"
    by_hand = TIP.fit(problem, seed=0).logits(val.features)
    for label in (0, 1):
        found, expected = logits[labels == label], by_hand[val.labels == label]
        torch.testing.assert_close(found.sort(dim=0).values, expected.sort(dim=0).values, rtol=1e-4, atol=1e-4)


def test_probabilities_of_one_shot_are_no_scores_but_order_images():
    there = World(8, name_noise=float("inf"), image_noise=1.2)
    calibrated = fit_calibrated(build_method("tip_adapter"), there.problem([1] * 8), seed=0)
    assert not calibrated.has_scores
    features, labels = there.test_images(2000)
    scored = predict(calibrated, features)
    right = (scored.label == labels)[scored.margin.argsort()].double()
    assert float(scored.score.mean()) < 0.4 < float(right.mean())
    assert float(right[:1000].mean()) + 0.1 < float(right[1000:].mean())


@pytest.mark.parametrize(
    ("method", "counts", "calibrates"),
    [
        (TIP, [3, 3], True),
        (TIP, [3, 1], True),
        (TIP, [1, 1, 1], False),
        (TIP, [0, 0], False),
        (build_method("zero_shot"), [1, 1, 1], True),
        (build_method("zero_shot"), [1, 0], False),
        (build_method("zero_shot"), [0, 0], False),
    ],
)
def test_scores_need_images_that_the_classifier_has_not_learned_from(method, counts, calibrates):
    assert fit_calibrated(method, make_problem(counts)[0], seed=0).has_scores is calibrates


def test_validation_images_calibrate_one_shot():
    problem = replace(make_problem([1, 1])[0], val=make_problem([5, 5], seed=4)[0].support)
    assert fit_calibrated(TIP, problem, seed=0).has_scores


@pytest.mark.parametrize("wrong", [{"max_error": 0.0}, {"max_error": 1.5}, {"confidence": 1.0}])
def test_error_limits_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        fit_calibrated(TIP, make_problem([1, 1])[0], seed=0, **wrong)


def test_moving_to_a_device_keeps_every_value():
    calibrated = fit_calibrated(TIP, make_problem([2, 2])[0], seed=0)
    moved = calibrated.to("meta")
    assert calibrated.device.type == "cpu"
    assert moved.device.type == "meta"
    assert moved.classifier.keys.shape == calibrated.classifier.keys.shape
    assert moved.classifier.alpha == calibrated.classifier.alpha
