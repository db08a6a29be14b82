import math
from dataclasses import replace

import torch

from fewshot.key_value_cache.grids import alpha_grid, beta_grid, default_alpha, default_beta, mean_distance
from tests.problems import World, make_problem


def test_mean_distance_averages_over_pairs_of_keys():
    keys = World(6).classes
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    expected = sum(1.0 - float(keys[i] @ keys[j]) for i, j in pairs) / len(pairs)
    assert math.isclose(mean_distance(keys), expected, rel_tol=1e-5)


def test_equal_or_missing_keys_have_a_finite_grid():
    keys = World(2).classes[:1]
    for some in (keys, keys[:0], keys.repeat(5, 1)):
        assert all(0 < beta < math.inf for beta in (*beta_grid(some), default_beta(some)))


def test_the_alpha_grid_covers_the_published_range():
    problem, _ = make_problem([1, 1])
    alphas = alpha_grid(problem)
    assert alphas[0] == 0.0
    assert alphas[1] <= 0.25
    assert alphas[-1] >= 1000
    assert alphas == sorted(alphas)


def test_alpha_scales_with_the_logit_scale():
    problem, _ = make_problem([1, 1, 1])
    halved = replace(problem, logit_scale=50.0)
    assert math.isclose(default_alpha(halved), default_alpha(problem) / 2, rel_tol=0.01)
    assert math.isclose(alpha_grid(halved)[3], alpha_grid(problem)[3] / 2, rel_tol=0.01)


def test_less_informative_names_raise_the_default_alpha():
    alphas = [default_alpha(World(20, name_noise=noise).problem([1] * 20)) for noise in (0.1, 2.0, float("inf"))]
    assert alphas == sorted(alphas)
    assert alphas[-1] > 20 * alphas[0]


def test_for_the_features_of_imagenet_the_default_beta_is_the_published_one():
    assert default_beta(World(2).classes[:1]) == 5.5


def test_the_default_alpha_is_shared_by_the_shots_of_a_class():
    """300 exp(-14 r^1.5) spread / shots; with names that say nothing, r is 0."""
    problem, _ = make_problem([2, 2, 2], name_noise=float("inf"))
    wrong = problem.with_support(replace(problem.support, labels=zero_shot_errors(problem)))
    logits = problem.logit_scale * problem.support.features @ problem.class_embeddings.T
    spread = float(logits.double().std(dim=1, correction=0).mean())
    shots = 6 / int((wrong.counts > 0).sum())
    assert math.isclose(default_alpha(wrong), 300.0 * spread / shots, rel_tol=0.01)


def zero_shot_errors(problem):
    """Labels that the text gets wrong, each of them."""
    return ((problem.support.features @ problem.class_embeddings.T).argmax(dim=1) + 1) % problem.num_classes


def test_without_shots_the_default_alpha_is_zero():
    problem, _ = make_problem([0, 0])
    assert default_alpha(problem) == 0.0


def test_defaults_ignore_the_order_of_the_shots():
    problem, _ = make_problem([3, 1, 2])
    other = problem.with_support(problem.support[torch.arange(5, -1, -1)])
    assert default_alpha(other) == default_alpha(problem)
    assert default_beta(other.support.cache_keys) == default_beta(problem.support.cache_keys)
