"""Training of the keys of a cache, as in Tip-Adapter-F."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, one_hot

from fewshot.key_value_cache.cache_training import (
    CacheTrainingSettings,
    GroupedShots,
    leave_one_out_votes,
    train_cache_keys,
)
from fewshot.key_value_cache.grids import default_beta
from fewshot.key_value_cache.kernel import Cache
from fewshot.optimization.content_order import image_ids
from fewshot.problem import Labelled
from tests.plain_adamw import minimise
from tests.problems import World, make_problem, problems, renumbered, repeated, shuffled

quick = settings(max_examples=10, deadline=None)
SHORT = CacheTrainingSettings(min_steps=10, epochs=1, batch_size=4)


def tuned(problem, *, training=SHORT):
    return train_cache_keys(problem, settings=training, seed=0)


@quick
@given(made=problems(min_shots=1), beta=st.floats(0, 20))
def test_leave_one_out_votes_equal_the_one_hot_product(made, beta):
    problem, features = made
    cache = Cache.from_problem(problem)
    own = torch.rand(len(cache.keys), len(features), generator=torch.Generator().manual_seed(0)) < 0.3
    keys, twin = (cache.keys.clone().requires_grad_() for _ in range(2))
    votes = leave_one_out_votes(keys, cache.counts, features, own, beta=beta)
    affinity = torch.exp(-beta * (1.0 - features @ twin.T)) * ~own.T
    plain = affinity @ one_hot(cache.labels, problem.num_classes).float()
    torch.testing.assert_close(votes, plain, rtol=1e-4, atol=1e-5)
    weights = torch.arange(1.0, plain.numel() + 1).reshape(plain.shape) / plain.numel()
    for result in (votes, plain):
        (result * weights).sum().backward()
    torch.testing.assert_close(keys.grad, twin.grad, rtol=1e-4, atol=1e-4)


@quick
@given(made=problems())
def test_zero_steps_leave_the_cache_unchanged(made):
    problem, _ = made
    assert torch.equal(tuned(problem, training=CacheTrainingSettings(max_steps=0)), Cache.from_problem(problem).keys)


@quick
@given(made=problems())
def test_the_order_of_the_shots_changes_no_bit(made):
    problem, _ = made
    assert torch.equal(tuned(problem), tuned(shuffled(problem)))


@quick
@given(made=problems(), seed=st.integers(0, 5))
def test_renumbering_classes_reorders_keys_bit_for_bit(made, seed):
    problem, _ = made
    permutation = torch.randperm(problem.num_classes, generator=torch.Generator().manual_seed(seed))
    other = renumbered(problem, permutation)
    moved = permutation[Cache.from_problem(other).labels].argsort(stable=True)
    assert torch.equal(tuned(problem), tuned(other)[moved])


def test_training_lowers_the_leave_one_out_loss():
    problem = World(8, name_noise=float("inf"), image_noise=1.2).problem([6] * 8)
    cache = Cache.from_problem(problem)
    ordered = problem.support[torch.argsort(problem.support.labels, stable=True)]
    before, after = (
        leave_one_out_loss(problem, ordered, keys)
        for keys in (cache.keys, tuned(problem, training=CacheTrainingSettings()))
    )
    assert after < 0.5 * before


def leave_one_out_loss(problem, images, keys):
    counts, cached = problem.counts, Cache.from_problem(problem).keys
    own = cached @ images.cache_keys.T > 1.0 - 1e-5
    assert own.sum(dim=0).eq(1).all()
    votes = leave_one_out_votes(keys, counts, images.features, own, beta=3.0)
    return float(cross_entropy(50.0 * votes, images.labels))


@quick
@given(classes=st.integers(2, 4), times=st.integers(1, 3))
def test_one_image_per_class_leaves_keys_untrained(classes, times):
    """A repeated shot, as in an oversampled fold, is not another image."""
    problem = repeated(make_problem([1] * classes)[0], times)
    assert torch.equal(tuned(problem), Cache.from_problem(problem).keys)


def test_one_class_with_two_images_trains_keys():
    problem, _ = make_problem([2, 1], image_noise=2.0)
    assert not torch.equal(tuned(problem), Cache.from_problem(problem).keys)


def test_only_equal_images_share_an_id():
    views = torch.eye(4)[[2, 0, 2, 3], None]
    assert image_ids(Labelled(views, torch.zeros(4, dtype=torch.int64))).tolist() == [0, 1, 0, 3]


def test_steps_stay_between_minimum_and_maximum():
    def steps(counts, **training):
        return CacheTrainingSettings(batch_size=10, **training).steps(
            GroupedShots.from_problem(make_problem(counts)[0])
        )

    assert steps([0, 0]) == 0
    assert steps([4, 4], epochs=20, min_steps=200) == 200
    assert steps([50, 51], epochs=20, min_steps=200) == 220
    assert steps([50, 51], epochs=20, max_steps=100) == 100


def test_keys_take_the_published_steps_of_adamw():
    """Rate 1e-3, betas 0.9 and 0.999, eps 1e-4, decay 0.01, half a cosine; gradients here are of the size of eps."""
    steps = 12
    problem = World(3, image_noise=1.5).problem([3, 2, 4], views=1)
    cache = Cache.from_problem(problem)
    features, labels = cache.keys.double(), cache.labels
    alpha, beta = 30.0 * problem.logit_scale * 3 / 9, default_beta(cache.keys)
    text = problem.logit_scale * features @ problem.class_embeddings.double().T

    def loss(parameters):
        affinity = torch.exp(-beta * (1.0 - features @ parameters["keys"].T)) * (1.0 - torch.eye(9).double())
        votes = affinity @ one_hot(labels, 3).double()
        return cross_entropy(text + alpha * votes, labels)

    expected = minimise({"keys": cache.keys}, loss, steps=steps, rate=1e-3, eps=1e-4, weight_decay=0.01)["keys"]
    found = tuned(problem, training=CacheTrainingSettings(min_steps=steps, epochs=0))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
