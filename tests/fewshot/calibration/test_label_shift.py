"""Held-out images with weights and thinned stand for an archive with other shares of the classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.calibration.label_shift import class_weights, effective_number, thinned
from fewshot.calibration.temperature import Scaling, fit_scaling, fit_temperature
from fewshot.errors import DataError
from fewshot.evaluation.metrics import expected_calibration_error, negative_log_likelihood
from fewshot.methods.gda_u import GdaU
from tests.problems import World

SHARES = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
K = 6
SKEWED = torch.tensor([0.5, 0.3, 0.1, 0.06, 0.03, 0.01])


def skewed(*, seed, shots=8, count=300):
    """Return a problem with as many examples of each class, and images and labels of an archive that is skewed."""
    world = World(K, dim=24, image_noise=1.5, name_noise=float("inf"), seed=seed)
    problem = world.problem([shots] * K, views=1)
    labels = torch.multinomial(SKEWED, count, replacement=True, generator=world.generator)
    features = world.images(labels).features
    return replace(problem, archive=features), features, labels


def known():
    """A method that knows the shares, and learns no means from the archive, which is as good here and quicker."""
    shares = {f"class_{label}": float(share) for label, share in enumerate(SKEWED)}
    return GdaU(shares=shares, text_share=0.0, weight=0.0)


def test_weights_turn_means_of_examples_into_means_of_the_archive():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    weights = class_weights(labels, SHARES)
    assert float(weights.mean()) == pytest.approx(1.0)
    of_class = torch.zeros(3, dtype=torch.float64).index_add_(0, labels, weights) / len(labels)
    torch.testing.assert_close(of_class, SHARES)


def test_shares_of_classes_without_examples_are_left_out():
    weights = class_weights(torch.tensor([0, 2, 2]), SHARES)
    torch.testing.assert_close(weights[0] / weights[1], torch.tensor(14.0, dtype=torch.float64))
    assert len(class_weights(torch.zeros(0, dtype=torch.int64), SHARES)) == 0
    with pytest.raises(DataError, match="positive"):
        class_weights(torch.tensor([0]), torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_equal_weights_count_every_image_and_keep_all():
    even = class_weights(torch.arange(40) % 4, torch.full((4,), 0.25, dtype=torch.float64))
    assert effective_number(40, even) == pytest.approx(40.0)
    assert effective_number(30, torch.tensor([2.0] * 10 + [1.0] * 20)) == pytest.approx(40**2 / 60)
    assert thinned(even, seed=0).all()


def test_thinned_images_have_the_shares_of_the_archive():
    labels = torch.arange(30_000) % 3
    kept = thinned(class_weights(labels, SHARES), seed=0)
    found = torch.bincount(labels[kept], minlength=3) / kept.sum()
    torch.testing.assert_close(found.double(), SHARES, rtol=0.0, atol=0.01)
    assert kept[labels == 0].all()


def test_a_weight_of_two_is_an_image_twice():
    generator = torch.Generator().manual_seed(0)
    logits, labels = 3.0 * torch.randn(30, 4, generator=generator), torch.arange(30) % 4
    twice, weights = torch.cat([torch.arange(30), torch.arange(10)]), torch.ones(30, dtype=torch.float64)
    weights[:10] = 2.0
    confidence, correct = torch.softmax(logits, dim=1).max(dim=1).values, logits.argmax(dim=1) == labels
    for measure, one in (
        (negative_log_likelihood, (logits, labels)),
        (expected_calibration_error, (confidence, correct)),
    ):
        assert measure(*one, weights) == pytest.approx(measure(*(part[twice] for part in one)), rel=1e-5)
    # The targets are softened by the number of images that the weights are worth, 50^2 / 60, not by 40.
    weighted, repeated = (
        fit_temperature(logits, labels, weights=weights),
        fit_temperature(logits[twice], labels[twice]),
    )
    assert weighted == pytest.approx(repeated, rel=0.02)


def test_weights_of_one_change_no_scaling():
    generator = torch.Generator().manual_seed(1)
    logits, labels = 3.0 * torch.randn(40, 4, generator=generator), torch.arange(40) % 4
    plain, weighted = fit_scaling(logits, labels), fit_scaling(logits, labels, torch.ones(40, dtype=torch.float64))
    assert weighted == Scaling(pytest.approx(plain.temperature, rel=1e-4), plain.spread_power, plain.least_spread)


def test_with_known_shares_the_accuracy_in_the_archive_is_told(monkeypatch):
    told, true, confidence, plain = (np.zeros(8) for _ in range(4))
    for seed in range(8):
        problem, features, labels = skewed(seed=seed)
        found = fit_calibrated(known(), problem, seed=0)
        scores, predicted = torch.softmax(found.scaling(found.classifier.logits(features)), dim=1).max(dim=1)
        told[seed], true[seed] = found.report.accuracy, (predicted == labels).double().mean()
        confidence[seed] = scores.mean()
        with monkeypatch.context() as patched:
            patched.setattr("fewshot.calibration.calibrate._weights", lambda *_: None)
            plain[seed] = fit_calibrated(known(), problem, seed=0).report.accuracy
    assert abs((told - true).mean()) < 0.05
    assert abs((confidence - true).mean()) < 0.1
    assert (plain - true).mean() < -0.1


def test_the_guarantee_holds_in_a_skewed_archive_of_known_shares():
    kept = wrong = 0
    for seed in range(8):
        problem, features, labels = skewed(seed=seed, shots=32)
        found = fit_calibrated(known(), problem, seed=0, max_error=0.1)
        scores, predicted = torch.softmax(found.scaling(found.classifier.logits(features)), dim=1).max(dim=1)
        labelled = scores >= found.threshold
        kept, wrong = kept + int(labelled.sum()), wrong + int((predicted != labels)[labelled].sum())
    assert wrong <= 0.1 * kept
    assert kept > 0


def test_the_order_of_the_examples_thins_no_other_images():
    problem, _, _ = skewed(seed=0)
    flipped = problem.with_support(problem.support[torch.arange(len(problem.support)).flip(0)])
    one, other = (fit_calibrated(known(), each, seed=0).held_out for each in (problem, flipped))
    assert one == other
