"""The acceptance properties of Tip-Adapter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from fewshot.key_value_cache.cache_classifier import CachePoint
from fewshot.methods.tip_adapter import TipAdapter
from fewshot.methods.tip_adapter.method import sweep
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import held_out_splits
from tests.problems import World, make_problem, problems, repeated

quick = settings(max_examples=15, deadline=None)


def plain_logits(problem, features, *, alpha, beta):
    """The equations of the paper, with one-hot values."""
    values = one_hot(problem.support.labels, problem.num_classes).float()
    affinity = torch.exp(-beta * (1.0 - features @ problem.support.cache_keys.T))
    return problem.logit_scale * features @ problem.class_embeddings.T + alpha * affinity @ values


def logits(problem, features, **hyperparameters):
    return TipAdapter(**hyperparameters).fit(problem, seed=0).logits(features)


@quick
@given(made=problems(), alpha=st.floats(0, 50), beta=st.floats(0, 30))
def test_segment_sums_equal_the_product_with_one_hot_values(made, alpha, beta):
    problem, features = made
    expected = plain_logits(problem, features, alpha=alpha, beta=beta)
    torch.testing.assert_close(logits(problem, features, alpha=alpha, beta=beta), expected, rtol=1e-4, atol=1e-4)


@quick
@given(made=problems(), beta=st.floats(0, 30))
def test_alpha_zero_is_zero_shot_exactly(made, beta):
    problem, features = made
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    assert torch.equal(logits(problem, features, alpha=0.0, beta=beta), zero_shot)


@quick
@given(made=problems(), alpha=st.floats(0.1, 50), beta=st.floats(0, 30))
def test_listing_every_shot_twice_is_doubling_alpha(made, alpha, beta):
    problem, features = made
    twice = logits(repeated(problem, 2), features, alpha=alpha, beta=beta)
    torch.testing.assert_close(twice, logits(problem, features, alpha=2 * alpha, beta=beta), rtol=1e-4, atol=1e-4)


@quick
@given(made=problems(min_shots=1, equal=True), alpha=st.floats(0, 50))
def test_with_beta_zero_equal_shots_decide_nothing(made, alpha):
    problem, features = made
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    assert torch.equal(logits(problem, features, alpha=alpha, beta=0.0).argmax(1), zero_shot.argmax(1))


def test_the_sweep_gives_the_logits_of_a_fit():
    problem, _ = make_problem([3, 2, 4])
    points = [CachePoint(alpha, beta) for alpha in (0.0, 1.0, 30.0) for beta in (0.5, 8.0)]
    for split in held_out_splits(problem, seed=0):
        swept = dict(sweep(split, points))
        assert swept.keys() == set(points)
        for point, found in swept.items():
            expected = logits(split.problem, split.queries.features, **point._asdict())
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_meaningless_names_make_the_cache_dominate():
    there = World(8, name_noise=float("inf"), image_noise=0.6)
    problem, (features, labels) = there.problem([4] * 8), there.test_images(300)
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features).argmax(1)
    chosen = logits(problem, features).argmax(1)
    assert (zero_shot == labels).double().mean() < 0.3
    assert (chosen == labels).double().mean() > 0.9


def test_validation_images_rule_out_useless_examples():
    there = World(8, name_noise=0.1, image_noise=0.3)
    problem, (features, labels) = there.problem([4] * 8), there.test_images(300)
    noise = problem.with_support(type(problem.support)(there.directions(32, 3, 16), problem.support.labels))
    val = there.images(torch.arange(8).repeat(4))
    with_val = type(problem)(problem.label_space, problem.class_embeddings, noise.support, val, 100.0)
    assert (logits(with_val, features).argmax(1) == labels).double().mean() > 0.95


def test_one_shot_a_class_beats_meaningless_names_too():
    there = World(8, name_noise=float("inf"), image_noise=0.6)
    problem, (features, labels) = there.problem([1] * 8), there.test_images(300)
    assert (logits(problem, features).argmax(1) == labels).double().mean() > 0.7


@pytest.mark.slow
def test_ten_thousand_classes_of_sixteen_shots_stay_within_a_few_hundred_megabytes():
    from resource import RUSAGE_SELF, getrusage

    there = World(10_000, dim=32)
    classifier = TipAdapter(alpha=1.0, beta=5.0).fit(there.problem([16] * 10_000, views=1), seed=0)
    features, _ = there.test_images(1024)
    before = getrusage(RUSAGE_SELF).ru_maxrss
    classifier.logits(features)
    assert (getrusage(RUSAGE_SELF).ru_maxrss - before) * 1024 < 300 * 2**20
