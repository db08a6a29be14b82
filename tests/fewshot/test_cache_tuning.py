"""Training of the keys of a cache."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize, one_hot

from fewshot.cache import Cache
from fewshot.cache_tuning import Recipe, tune_keys, tuned_cache, votes_of_others
from fewshot.content import image_ids
from fewshot.problem import Labelled
from tests.problems import World, make_problem, problems, renumbered, repeated, shuffled

quick = settings(max_examples=10, deadline=None)
SHORT = Recipe(min_steps=10, epochs=1, batch_size=4)


def tuned(problem, *, recipe=SHORT):
    return tuned_cache(problem, recipe=recipe, seed=0)


@quick
@given(made=problems(min_shots=1), beta=st.floats(0, 20))
def test_the_votes_of_the_others_equal_the_product_with_one_hot_values_value_and_gradient(made, beta):
    problem, features = made
    cache = Cache.of(problem)
    own = torch.rand(len(cache.keys), len(features), generator=torch.Generator().manual_seed(0)) < 0.3
    keys, twin = (cache.keys.clone().requires_grad_() for _ in range(2))
    votes = votes_of_others(keys, cache.counts, features, own, beta=beta)
    affinity = torch.exp(-beta * (1.0 - features @ twin.T)) * ~own.T
    plain = affinity @ one_hot(cache.labels, problem.num_classes).float()
    torch.testing.assert_close(votes, plain, rtol=1e-4, atol=1e-5)
    weights = torch.arange(1.0, plain.numel() + 1).reshape(plain.shape) / plain.numel()
    for result in (votes, plain):
        (result * weights).sum().backward()
    torch.testing.assert_close(keys.grad, twin.grad, rtol=1e-4, atol=1e-4)


@quick
@given(made=problems())
def test_no_step_leaves_the_cache_as_it_is(made):
    problem, _ = made
    assert torch.equal(tuned(problem, recipe=Recipe(max_steps=0)), Cache.of(problem).keys)


@quick
@given(made=problems())
def test_the_order_of_the_shots_changes_no_bit(made):
    problem, _ = made
    assert torch.equal(tuned(problem), tuned(shuffled(problem)))


@quick
@given(made=problems(), seed=st.integers(0, 5))
def test_renumbering_the_classes_moves_the_keys_and_changes_no_bit(made, seed):
    problem, _ = made
    permutation = torch.randperm(problem.num_classes, generator=torch.Generator().manual_seed(seed))
    other = renumbered(problem, permutation)
    moved = permutation[Cache.of(other).labels].argsort(stable=True)
    assert torch.equal(tuned(problem), tuned(other)[moved])


def test_training_lowers_the_loss_of_images_that_do_not_see_themselves():
    problem = World(8, name_noise=float("inf"), image_noise=1.2).problem([6] * 8)
    cache = Cache.of(problem)
    ordered = problem.support[torch.argsort(problem.support.labels, stable=True)]
    before, after = (
        leave_one_out_loss(problem, ordered, keys) for keys in (cache.keys, tuned(problem, recipe=Recipe()))
    )
    assert after < 0.5 * before


def leave_one_out_loss(problem, images, keys):
    counts, cached = problem.counts, Cache.of(problem).keys
    own = cached @ images.keys.T > 1.0 - 1e-5
    assert own.sum(dim=0).eq(1).all()
    votes = votes_of_others(keys, counts, images.features, own, beta=3.0)
    return float(cross_entropy(50.0 * votes, images.labels))


def test_a_lone_image_of_two_classes_moves_no_key_of_its_own():
    """Hidden from its only image, the key of a class gets a gradient from the other class alone: it is pushed away."""
    problem, _ = make_problem([1, 1], image_noise=0.1)
    keys, trained = Cache.of(problem).keys, tuned(problem, recipe=Recipe(min_steps=20))
    away = (trained * keys.flip(0)).sum(dim=1) - (keys * keys.flip(0)).sum(dim=1)
    assert (away < 0.0).all()


def test_a_shot_that_is_listed_twice_sees_neither_of_its_keys():
    """If it saw one, it would be right from the start, and there would be nothing to learn."""
    problem, _ = make_problem([1, 1], image_noise=0.1)
    twice = repeated(problem, 2)
    moved, moved_twice = (
        (tuned(shots, recipe=Recipe(min_steps=20)) - Cache.of(shots).keys).norm(dim=1) for shots in (problem, twice)
    )
    torch.testing.assert_close(moved_twice[::2], moved, rtol=0.2, atol=0.0)


def test_equal_images_have_equal_ids_and_others_have_not():
    views = torch.eye(4)[[2, 0, 2, 3], None]
    assert image_ids(Labelled(views, torch.zeros(4, dtype=torch.int64))).tolist() == [0, 1, 0, 3]


def test_keys_that_no_image_asks_for_are_trained_like_the_others():
    """Features that were made by a generator can be asked about, cached, or both."""
    generator = torch.Generator().manual_seed(0)
    keys = normalize(torch.randn(6, 16, generator=generator), dim=1)
    trained = tune_keys(
        keys,
        torch.tensor([4, 2]),
        torch.randn(5, 1, 16, generator=generator),
        torch.tensor([0, 0, 1, 1, 0]),
        normalize(torch.randn(2, 16, generator=generator), dim=1),
        key_images=torch.arange(6),
        images=torch.arange(6, 11),
        logit_scale=100.0,
        recipe=SHORT,
        seed=0,
    )
    assert (trained - keys).norm(dim=1).gt(1e-4).all()


def test_small_sets_get_more_epochs_and_huge_ones_fewer():
    assert Recipe(epochs=20, min_steps=200, batch_size=256).steps(0) == 0
    assert Recipe(epochs=20, min_steps=200, batch_size=256).steps(40) == 200
    assert Recipe(epochs=20, min_steps=200, batch_size=256).steps(2561) == 220
    assert Recipe(epochs=20, max_steps=4000, batch_size=256).steps(160_000) == 4000
