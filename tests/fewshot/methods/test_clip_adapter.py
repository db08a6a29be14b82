"""The acceptance properties of CLIP-Adapter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

from fewshot.errors import DataError
from fewshot.feature_adapter import FeatureAdapterSettings, adapted, initial_network, train_bottleneck
from fewshot.methods.clip_adapter import ClipAdapter
from fewshot.methods.clip_adapter.functional import ClipAdapterPoint, sweep
from fewshot.methods.nearest_mean import NearestMean
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import InMemoryCache
from fewshot.prototypes import default_image_weight
from tests.plain_adamw import minimise
from tests.problems import World, make_problem, problems, renumbered, shuffled

quick = settings(max_examples=10, deadline=None)
SHORT = {"steps": 20}


def logits(problem, features, **hyperparameters):
    return ClipAdapter(**SHORT | hyperparameters).fit(problem, seed=0).logits(features)


def accuracy(logits, labels):
    return float((logits.argmax(1) == labels).double().mean())


@quick
@given(made=problems())
def test_without_network_and_means_it_is_zero_shot_exactly(made):
    problem, features = made
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    assert torch.equal(logits(problem, features, residual_ratio=0.0, image_weight=0.0), zero_shot)


@quick
@given(made=problems(min_shots=1), weight=st.sampled_from([0.5, 4.0]))
def test_without_network_it_is_the_nearest_class_mean(made, weight):
    problem, features = made
    nearest = NearestMean(text_weight=1 / weight).fit(problem, seed=0).logits(features)
    found = logits(problem, features, residual_ratio=0.0, image_weight=weight)
    torch.testing.assert_close(found, nearest, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("second_relu", [False, True])
def test_the_network_is_two_maps_with_a_relu_between_mixed_with_what_went_in(second_relu):
    network, features = initial_network(16, seed=0), World(3).directions(9, 16)
    learned = (features @ network["down"]).clamp(min=0) @ network["up"]
    learned = learned.clamp(min=0) if second_relu else learned
    expected = normalize(0.3 * learned + 0.7 * features, dim=1)
    torch.testing.assert_close(adapted(features, network, residual_ratio=0.3, second_relu=second_relu), expected)


def test_the_network_has_half_as_many_parameters_as_channels_squared():
    assert sum(part.numel() for part in initial_network(64, seed=0).values()) == 64 * 64 // 2


@quick
@given(length=st.floats(0.01, 100.0), seed=st.integers(0, 9))
def test_the_length_of_a_feature_makes_no_difference(length, seed):
    """So that unit rows stand for the raw features of the paper."""
    network, features = initial_network(16, seed=seed), World(3, seed=seed).directions(9, 16)
    long = adapted(length * features, network, residual_ratio=0.4, second_relu=False)
    torch.testing.assert_close(long, adapted(features, network, residual_ratio=0.4, second_relu=False))


def test_with_ratio_one_only_the_network_is_heard_even_if_it_is_silent():
    network, features = initial_network(16, seed=0), World(3).directions(9, 16)
    found = adapted(features, network, residual_ratio=1.0, second_relu=False)
    torch.testing.assert_close(found, normalize(torch.relu(features @ network["down"]) @ network["up"], dim=1))
    silent = {"down": network["down"], "up": torch.zeros_like(network["up"])}
    assert torch.equal(adapted(features, silent, residual_ratio=1.0, second_relu=False), torch.zeros_like(features))


def test_training_lowers_the_loss_and_leaves_the_class_rows_as_they_were():
    problem, _ = make_problem([6] * 5, name_noise=2.0)
    shots, rows = Shots.from_problem(problem), problem.class_embeddings.clone()

    def loss(steps):
        training = FeatureAdapterSettings(steps=steps)
        network = train_bottleneck(shots.views, shots.labels, rows, logit_scale=100.0, settings=training, seed=0)
        features = adapted(normalize(shots.views[:, 0], dim=1), network, residual_ratio=0.2, second_relu=False)
        return float(cross_entropy(100.0 * features @ rows.T, shots.labels))

    untrained_rows = problem.class_embeddings[shots.classes]
    rows = untrained_rows.clone()
    assert loss(200) < 0.5 * loss(0)
    assert torch.equal(rows, untrained_rows)


@quick
@given(made=problems(), seed=st.integers(0, 5))
def test_neither_the_order_of_the_shots_nor_the_numbers_of_the_classes_change_a_bit_of_the_training(made, seed):
    problem, _ = made
    permutation = torch.randperm(problem.num_classes, generator=torch.Generator().manual_seed(seed))
    one, other, third = (Shots.from_problem(p) for p in (problem, shuffled(problem), renumbered(problem, permutation)))
    assert torch.equal(one.views, other.views)
    assert torch.equal(one.views, third.views)
    assert torch.equal(one.labels, third.labels)
    assert torch.equal(one.classes, permutation[third.classes])
    assert torch.equal(one.classes[one.labels].sort().values, problem.support.labels.sort().values)


def test_the_sweep_gives_the_logits_that_a_fit_would_give():
    problem, _ = make_problem([3, 2, 4])
    method = ClipAdapter(**SHORT)
    points = [ClipAdapterPoint(ratio, weight) for ratio in (0.0, 0.2, 1.0) for weight in (0.0, 2.0)]
    for split in held_out_splits(problem, seed=0):
        fitted = method.fit(split.problem, seed=0)
        swept = dict(sweep(split, points, {"down": fitted.down, "up": fitted.up}, second_relu=False))
        assert swept.keys() == set(points)
        for point, found in swept.items():
            expected = logits(split.problem, split.queries.features, **point._asdict())
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_each_split_is_trained_once_for_choosing_and_calibrating():
    problem, _ = make_problem([4, 4, 4])
    training_cache, method, trained = InMemoryCache(), ClipAdapter(**SHORT), []

    def counting(key, make):
        return training_cache(key, lambda: trained.append(key) or make())

    for split in held_out_splits(problem, seed=0):
        method.pretrain_fold(split, seed=0, training_cache=counting)
    assert len(trained) == 4
    selected = method.select(problem, seed=0, training_cache=counting)
    for split in held_out_splits(problem, seed=0):
        selected.fit(split.problem, seed=0, training_cache=counting)
    assert len(trained) == 4


def test_meaningless_names_leave_it_at_least_the_nearest_class_mean():
    there = World(8, dim=64, name_noise=float("inf"), image_noise=1.5)
    problem, (features, labels) = there.problem([8] * 8), there.test_images(400)
    nearest = accuracy(NearestMean().fit(problem, seed=0).logits(features), labels)
    assert accuracy(ClipAdapter().fit(problem, seed=0).logits(features), labels) > nearest - 0.02


def test_the_network_takes_steps_of_adamw_without_decay():
    """Rate 3e-3 along half a cosine, betas 0.9 and 0.999, eps 1e-8; a fifth of the network in training."""
    problem, steps = World(3, image_noise=1.5).problem([3, 2, 4], views=1), 12
    shots = Shots.from_problem(problem)
    features, rows = normalize(shots.views[:, 0], dim=1).double(), problem.class_embeddings[shots.classes].double()

    def loss(network):
        learned = (features @ network["down"]).clamp(min=0.0) @ network["up"]
        mixed = normalize(0.2 * learned + 0.8 * features, dim=1)
        return cross_entropy(problem.logit_scale * mixed @ rows.T, shots.labels)

    start = initial_network(16, seed=0)
    expected = minimise(start, loss, steps=steps, rate=3e-3, eps=1e-8, weight_decay=0.0)
    found = ClipAdapter(steps=steps).fit(problem, seed=0)
    torch.testing.assert_close(found.down.double(), expected["down"], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.up.double(), expected["up"], rtol=0, atol=1e-4)


def test_with_one_shot_a_class_ratio_and_weight_are_the_defaults():
    problem, _ = make_problem([1, 1, 1])
    selected = ClipAdapter().select(problem, seed=0)
    assert (selected.residual_ratio, selected.image_weight) == (0.1, default_image_weight(problem))
    assert (selected.learning_rate, selected.steps, selected.second_relu) == (3e-3, 400, False)


def test_without_shots_the_network_adds_nothing():
    problem, features = make_problem([0, 0])
    classifier = ClipAdapter(residual_ratio=0.5, image_weight=0.0).fit(problem, seed=0)
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    torch.testing.assert_close(classifier.logits(features), zero_shot, rtol=1e-5, atol=1e-4)


def test_it_learns_what_class_means_cannot():
    """Channels that are loud and say nothing: a map of the features is what is needed."""
    there = World(6, dim=32, name_noise=0.5, image_noise=0.8)
    noise = 3.0 * there.directions(2, 32)
    problem, (features, labels) = there.problem([12] * 6, views=1), there.test_images(400)
    loud = torch.randn(len(problem.support), 1, 2, generator=there.generator) @ noise
    problem = problem.with_support(type(problem.support)(problem.support.views + 7 * loud, problem.support.labels))
    features = normalize(features + torch.randn(400, 2, generator=there.generator) @ noise, dim=1)
    nearest = accuracy(NearestMean().fit(problem, seed=0).logits(features), labels)
    assert accuracy(ClipAdapter().fit(problem, seed=0).logits(features), labels) > nearest + 0.05


@pytest.mark.parametrize("wrong", [{"residual_ratio": 1.5}, {"image_weight": -1.0}, {"learning_rate": 0.0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=f"clip_adapter.{next(iter(wrong))}"):
        ClipAdapter(**wrong)
