"""Keys and caches of trainings."""

from dataclasses import replace

import torch

from fewshot.optimization.training_cache import InMemoryCache, no_cache, training_key
from tests.problems import make_problem, renumbered, repeated, shuffled


def key(problem, **changes):
    return training_key("name", problem, **({"seed": 1, "rate": 0.1} | changes))


def test_keys_ignore_the_order_of_the_shots():
    problem, _ = make_problem([2, 3, 1])
    assert key(shuffled(problem)) == key(problem)


def test_keys_change_with_everything_else():
    problem, _ = make_problem([2, 2, 2])
    labels = problem.support.labels
    others = [
        key(problem, seed=2),
        key(problem, rate=0.2),
        key(problem, more=1),
        training_key("other", problem, seed=1, rate=0.1),
        key(repeated(problem, 2)),
        key(problem.with_support(problem.support[labels > 0])),
        key(problem.with_support(replace(problem.support, labels=(labels + 1) % 3))),
        key(problem.with_support(replace(problem.support, views=problem.support.views + 1))),
        key(replace(problem, class_embeddings=-problem.class_embeddings)),
        key(replace(problem, logit_scale=50.0)),
        key(renumbered(problem, torch.tensor([1, 0, 2]))),
    ]
    assert len({key(problem), *others}) == 1 + len(others)


def test_the_memory_cache_trains_once_and_no_cache_always():
    for training_cache, times in ((InMemoryCache(), 1), (no_cache, 3)):
        made = []
        for _ in range(3):
            state = training_cache("a", lambda made=made: made.append(1) or {"x": torch.ones(1)})
            assert state["x"] == 1
        assert len(made) == times
