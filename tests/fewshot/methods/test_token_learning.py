"""Textual inversion and MC-TI as methods."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from fewshot.diffusion.tokens import LearnedTokens, choose_point
from fewshot.errors import DataError
from fewshot.methods import build_method
from fewshot.methods.token_learning import Mcti, TextualInversion
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.training_cache import InMemoryCache
from tests.problems import World, make_problem
from tests.tiny_diffusion import with_diffusion

PLAIN = {"calibration": "none", "image_weight": 0.0}
QUICK = {"images": 2, "classes": 5, "learning_rate": 0.02}


class Spy(InMemoryCache):
    def __init__(self):
        super().__init__()
        self.trained = []

    def __call__(self, key, make):
        return super().__call__(key, lambda: (self.trained.append(key), make())[1])


def accuracy(classifier, features, labels):
    return float((classifier.logits(features).argmax(dim=1) == labels).float().mean())


def test_separating_classes_is_worth_more_than_reconstructing_them():
    there = World(5, image_noise=0.3)
    problem, images = with_diffusion(there.problem([4] * 5, views=1)), there.test_images(200)
    training_cache = InMemoryCache()

    def right(gamma, calibration):
        method = Mcti(gamma=gamma, steps=25, calibration=calibration, image_weight=0.0, **QUICK)
        return accuracy(method.fit(problem, seed=0, training_cache=training_cache), *images)

    assert right(1.0, "none") >= right(0.0, "none") + 0.3
    assert right(1.0, "support_mean") >= 0.9


def test_the_coupled_loss_separates_texts_without_the_unet():
    there = World(5, image_noise=0.3)
    problem, images = with_diffusion(there.problem([4] * 5, views=1)), there.test_images(200)
    method = Mcti(alpha=0.0, gamma=0.0, coupled=1.0, steps=40, **PLAIN, **QUICK)
    assert accuracy(method.fit(problem, seed=0), *images) >= 0.9


def test_mcti_without_its_regulariser_is_textual_inversion():
    problem = with_diffusion(make_problem([2, 2])[0])
    one = Mcti(gamma=0.0, steps=2, **PLAIN, **QUICK).fit(problem, seed=0)
    other = TextualInversion(steps=2, **PLAIN, **QUICK).fit(problem, seed=0)
    assert torch.equal(one.rows, other.rows)


def test_a_class_without_shots_has_no_token_and_is_never_the_label():
    there = World(4)
    problem = with_diffusion(there.problem([3, 0, 3, 3]))
    for calibration in ("none", "support_mean"):
        classifier = Mcti(steps=2, alpha=0.0, calibration=calibration).fit(problem, seed=0)
        assert classifier.tokens[1].abs().max() == 0
        features, _ = there.test_images(100)
        assert 1 not in classifier.logits(torch.cat([features, -features])).argmax(dim=1)


def test_names_play_no_part():
    problem = with_diffusion(make_problem([2, 2, 2])[0])
    names = replace(problem.label_space, names=("x", "y", "z"), prompt_names=("x", "y", "z"))
    other = replace(problem, label_space=names, class_embeddings=problem.class_embeddings.flip(0))
    method, training_cache = Mcti(steps=1, alpha=0.0), Spy()
    assert torch.equal(
        method.fit(problem, seed=0, training_cache=training_cache).rows,
        method.fit(other, seed=0, training_cache=training_cache).rows,
    )
    assert len(training_cache.trained) == len(set(training_cache.trained)) == 1


def test_each_block_is_trained_once_and_found_again():
    problem = with_diffusion(World(8).problem([5] * 8))
    training_cache, method = Spy(), Mcti(steps=1, alpha=0.0, classes=3)
    method.pretrain_fold(held_out_splits(problem, seed=0)[0], seed=0, training_cache=training_cache)
    assert len(training_cache.trained) == 3
    method.select(problem, seed=0, training_cache=training_cache).fit(problem, seed=0, training_cache=training_cache)
    assert len(training_cache.trained) == len(set(training_cache.trained)) == 6


def test_new_classes_retrain_mcti_but_not_textual_inversion():
    problem = with_diffusion(World(5).problem([1, 1, 1, 1, 1], views=1))
    fewer = problem.with_support(problem.support[problem.support.labels != 4])

    def trained(name):
        training_cache, method = Spy(), build_method(name, steps=0, classes=1, **PLAIN)
        for part in (fewer, problem):
            method.fit(part, seed=0, training_cache=training_cache)
        return len(training_cache.trained)

    assert (trained("textual_inversion"), trained("mcti")) == (5, 9)


@pytest.mark.parametrize(("spread", "expected"), [(1.0, "support_mean"), (0.0, "none")])
def test_the_calibration_is_chosen_where_it_wins_on_held_out_shots(spread, expected):
    there = World(6, dim=64, image_noise=0.3)
    common = normalize(torch.ones(64), dim=0)
    there.classes = normalize(there.classes + common, dim=1)
    problem = there.problem([24] * 6, views=1)
    nearer_to_everything = spread * torch.linspace(-1.0, 1.0, 6)[:, None] * common
    rows = normalize(there.classes + nearer_to_everything, dim=1)

    def learned(part):
        return LearnedTokens(tokens=torch.zeros(6, 32), rows=rows)

    point = choose_point(problem, learned, calibration=None, image_weight=0.0, folds=1, seed=0)
    assert point.calibration == expected


def test_with_one_shot_a_class_texts_stand_uncalibrated_beside_the_means():
    problem = with_diffusion(World(3).problem([1, 1, 1], views=1))
    chosen = Mcti(steps=0, alpha=0.0, classes=3).select(problem, seed=0)
    assert (chosen.calibration, chosen.image_weight) == ("none", 1.0)


@pytest.mark.parametrize("name", ["textual_inversion", "mcti"])
def test_steps_and_rate_follow_the_size_of_the_model(name):
    def chosen(side, **given):
        recipe = build_method(name, **given).training(latent_side=side)
        return recipe.steps, recipe.learning_rate, recipe.pool, recipe.target

    assert chosen(8) == (100, 1e-2, "eos", "noise")
    assert chosen(64) == chosen(96) == (3100, 2e-3, "eos", "noise")
    assert chosen(64, steps=7, learning_rate=0.5) == (7, 0.5, "eos", "noise")
    for side in (8, 64):
        assert chosen(side, recipe="published") == (3100, 2e-3, "placeholder", "prediction")
        own = {"steps": 7, "learning_rate": 0.5, "pool": "eos", "target": "noise"}
        assert chosen(side, recipe="published", **own) == (7, 0.5, "eos", "noise")


def test_the_published_recipe_compares_text_rows_alone():
    problem = with_diffusion(World(3).problem([8] * 3))
    quick = QUICK | {"steps": 2, "alpha": 0.0, "classes": 3}
    method = Mcti(recipe="published", **quick)
    chosen = method.select(problem, seed=0)
    assert (chosen.calibration, chosen.image_weight) == ("none", 0.0)
    own = Mcti(pool="placeholder", target="prediction", **PLAIN, **quick)
    one, other = method.fit(problem, seed=0), own.fit(problem, seed=0)
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.offsets, other.offsets)
    weighted = Mcti(recipe="published", image_weight=1.0, **quick).fit(problem, seed=0)
    assert not torch.equal(weighted.rows, one.rows)


@pytest.mark.parametrize("name", ["textual_inversion", "mcti"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"calibration": "query_mean"},
        {"image_weight": -1.0},
        {"steps": -1},
        {"images": 0},
        {"learning_rate": 0.0},
        {"pool": "mean"},
        {"classes": 0},
    ],
)
def test_hyperparameters_out_of_range_are_refused(name, wrong):
    with pytest.raises(DataError, match=f"{name}.{next(iter(wrong))}"):
        build_method(name, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"gamma": -1.0}, {"alpha": -1.0}, {"gamma_end": 0.0}, {"gamma_schedule": "linear"}, {"coupled": -1}, {"scale": 0}],
)
def test_hyperparameters_of_mcti_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=f"mcti.{next(iter(wrong))}"):
        Mcti(**wrong)


def test_a_problem_without_the_right_model_is_refused():
    problem = with_diffusion(make_problem([2, 2])[0])
    with pytest.raises(DataError, match="the problem has none"):
        Mcti().fit(replace(problem, diffusion=None), seed=0)
    other = replace(problem.diffusion, projection=torch.zeros(24, 32))
    with pytest.raises(
        DataError, match=r"24 dimensions but the image features 16.*SD 1\.x with ViT-L-14 .*; SD 2\.x fits no CLIP"
    ):
        Mcti().fit(replace(problem, diffusion=other), seed=0)
