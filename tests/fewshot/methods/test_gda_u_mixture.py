"""The scores by which GDA-U gives images to classes, and the settings of its specification."""

from dataclasses import replace
from math import log2

import pytest
import torch

from fewshot.calibration.temperature import fit_temperature
from fewshot.methods.gda import Gda
from fewshot.methods.gda_u import GdaU
from fewshot.methods.gda_u.functional import balanced_offsets, learned_means
from fewshot.methods.gda_u.method import coarse_temperature, shares_of
from fewshot.model_selection import archive_gain
from tests.problems import World, make_problem

TEMPERATURE = 3.0


def method(**values):
    return GdaU(**{"text_share": 0.4, "shares": {}, "temperature": TEMPERATURE, "weight": 1.0} | values)


@pytest.fixture
def problem():
    """Ragged shots of three views, a class without any, and an archive."""
    made, features = make_problem([2, 4, 0, 3], views=3)
    return replace(made, archive=features)


def centred(scores):
    """Scores less their mean over the classes, which no probability depends on."""
    return scores - scores.mean(dim=1, keepdim=True)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_scores_of_the_classes_are_the_logits_of_gda_over_the_temperature(problem, share):
    mixture, sample = method(text_share=share).mixture(problem)
    plane = mixture.scores(mixture.anchors.means)
    found = (sample.double() @ plane.weight.T + plane.bias)[:, :-1]
    expected = Gda(text_share=share).fit(problem, seed=0).logits(sample).double() / TEMPERATURE
    torch.testing.assert_close(centred(found), centred(expected), rtol=1e-4, atol=1e-3)


def test_the_text_of_the_background_is_the_mean_of_all_texts(problem):
    mixture, _ = method(text_share=1.0).mixture(problem)
    plane = mixture.scores(mixture.anchors.means)
    torch.testing.assert_close(plane.weight[-1], plane.weight[:-1].mean(dim=0))
    assert not plane.bias.any()


def test_an_anchor_weighs_as_many_images_as_are_labelled_however_many_views(problem):
    mixture, _ = method().mixture(problem)
    assert mixture.anchors.weights.tolist() == [2.0, 4.0, 1.0, 3.0]


def test_unknown_shares_are_even_and_loose_and_not_used_for_prediction(problem):
    mixture, sample = method().mixture(problem)
    even = torch.full((4,), 0.25, dtype=torch.float64)
    means = learned_means(mixture.anchors, sample, mixture.scores, shares=even, firmness=0.5)
    expected, found = mixture.classifier(means), method().fit(problem, seed=0)
    assert torch.equal(found.weight, expected.weight)
    assert torch.equal(found.bias, expected.bias)


def test_known_shares_are_firm_and_used_for_prediction(problem):
    known = {"class_0": 0.7, "class_2": 0.1}
    mixture, sample = method().mixture(problem)
    shares = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    means = learned_means(mixture.anchors, sample, mixture.scores, shares=shares, firmness=9.0)
    plain, found = mixture.classifier(means), method(shares=known).fit(problem, seed=0)
    offsets = balanced_offsets(sample, mixture.scores(means), shares, firmness=9.0)[:-1]
    torch.testing.assert_close(found.weight, plain.weight)
    torch.testing.assert_close(found.bias - plain.bias, (TEMPERATURE * offsets).float(), rtol=1e-4, atol=1e-4)


def test_shares_sum_to_one_with_a_class_that_has_hardly_any():
    shares = shares_of({"a": 1.0, "b": 0.0}, ("a", "b"))
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(shares[1] / shares[0]) == pytest.approx(0.0005)


@pytest.mark.parametrize("scale", [3.0, 10.0, 40.0, 150.0])
def test_the_temperature_is_the_nearest_half_power_of_two(scale):
    world = World(5, image_noise=1.5)
    features, labels = world.test_images(200)
    logits = scale * features @ world.classes.T
    found = coarse_temperature(logits, labels)
    assert 2.0 * log2(found) == pytest.approx(round(2.0 * log2(found)), abs=1e-9)
    assert abs(log2(found / fit_temperature(logits, labels))) <= 0.25 + 1e-6


def test_the_temperature_stays_between_a_sixteenth_and_256():
    labels = torch.arange(40) % 4
    certain, misleading = torch.eye(4)[labels], 1e4 * torch.eye(4)[(labels + 1) % 4]
    assert coarse_temperature(1e-2 * certain, labels) == 1.0 / 16.0
    assert coarse_temperature(misleading, labels) == 256.0


def test_one_example_a_class_has_the_temperature_of_the_specification():
    problem, features = make_problem([1, 1, 1], views=1)
    assert GdaU().select(replace(problem, archive=features), seed=0).temperature == pytest.approx(1 / 0.30)


def test_a_temperature_that_is_given_is_kept(problem):
    assert GdaU(temperature=5.0).select(problem, seed=0).temperature == 5.0


@pytest.mark.parametrize("used", [True, False])
def test_the_archive_is_used_if_hidden_examples_of_the_expected_shares_say_so(problem, used, monkeypatch):
    seen = []

    def decide(without, helped, labels, *, shares):
        seen.append((without[0], helped[0], labels, shares))
        return used, ()

    monkeypatch.setattr(archive_gain, "compare_with_archive", decide)
    selected = GdaU().select(problem, seed=0)
    assert selected.weight == float(used)
    ((*names, labels, shares),) = seen
    assert names == ["gda", "gda_u"]
    assert len(labels) == 9
    mixture, sample = selected.mixture(problem)
    plane = mixture.scores(mixture.anchors.means)
    masses = torch.softmax(sample.double() @ plane.weight.T + plane.bias, dim=1).sum(dim=0)[:-1]
    torch.testing.assert_close(shares, masses / masses.sum())
