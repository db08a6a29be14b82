"""Blends of learned rows, text embeddings and class means."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from fewshot.key_value_cache.kernel import Cache
from fewshot.prompt_learning import RowsPoint, blended_rows, class_means_of
from fewshot.prompt_learning.context_rows import choose_rows
from fewshot.prototypes import with_means
from tests.problems import World, make_problem


def test_full_share_without_means_returns_the_learned_rows():
    problem, learned = make_problem([2, 0, 3])[0], normalize(torch.eye(3, 16), dim=1)
    rows = blended_rows(learned, problem.class_embeddings, class_means_of(problem), RowsPoint(1.0, 0.0))
    assert torch.equal(rows, learned)


def test_zero_share_returns_text_with_class_means():
    problem, _ = make_problem([2, 0, 3])
    cache = Cache.from_problem(problem)
    for weight in (0.0, 0.5, 64.0):
        expected = with_means(problem.class_embeddings, cache.keys, cache.counts, image_weight=weight)
        rows = blended_rows(
            torch.zeros(3, 16), problem.class_embeddings, class_means_of(problem), RowsPoint(0.0, weight)
        )
        torch.testing.assert_close(rows, expected, atol=1e-6, rtol=0.0)


def test_a_class_without_shots_gets_no_mean():
    problem, _ = make_problem([2, 0, 3])
    learned = normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    rows = blended_rows(learned, problem.class_embeddings, class_means_of(problem), RowsPoint(0.5, 8.0))
    torch.testing.assert_close(rows[1], normalize(learned[1] + problem.class_embeddings[1], dim=0))


def test_too_few_held_out_images_take_the_default():
    def learned(part):
        raise AssertionError("nothing needs to be trained for the default")

    problem = World(6, name_noise=float("inf")).problem([4] * 6)
    given = {"prompt_share": None, "image_weight": None}
    point = choose_rows(problem, learned, **given, folds=1, seed=0)
    assert point.prompt_share == 0.5
    assert point.image_weight >= 4.0


def test_of_equal_points_the_closest_to_zero_shot_is_chosen():
    there = World(40, name_noise=0.1, image_noise=0.1)
    problem = there.problem([4] * 40)
    point = choose_rows(problem, lambda _: there.text, prompt_share=None, image_weight=0.0, folds=1, seed=0)
    assert point.prompt_share == 0.0


def test_informative_learned_rows_are_chosen():
    there = World(40, name_noise=float("inf"), image_noise=2.0)
    problem = there.problem([4] * 40)
    point = choose_rows(problem, lambda _: there.classes, prompt_share=None, image_weight=None, folds=1, seed=0)
    assert point.prompt_share == 1.0
    assert point.image_weight <= 2.0
