"""CoOp learns a context, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from fewshot.errors import DataError
from fewshot.methods import build_method
from fewshot.methods.coop import Coop
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.training_cache import InMemoryCache
from fewshot.problem import LabelSpace
from fewshot.prompt_learning import context_rows
from tests import towers
from tests.problems import World, make_problem

PLAIN = {"prompt_share": 1.0, "image_weight": 0.0}


def accuracy(classifier, images):
    return float((classifier.logits(images.features).argmax(dim=1) == images.labels).float().mean())


def test_before_the_first_step_words_are_zero_shot_prompts():
    problem, _ = make_problem([2, 2, 2])
    model, tokenize = towers.clip()
    texts = [f"a photo of a {name}." for name in problem.label_space.prompt_names]
    expected = normalize(model.encode_text(tokenize(texts)), dim=1)
    classifier = Coop(words="a photo of a", steps=0, **PLAIN).fit(problem, seed=0)
    torch.testing.assert_close(classifier.rows, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"class_specific": True}, {"words": "a photo of a", "learning_rate": 0.1}, {"position": "middle"}],
)
def test_a_learned_context_separates_the_shots_better(options):
    problem = World(4, image_noise=0.3).problem([6] * 4)
    before, after = (Coop(steps=steps, **PLAIN, **options).fit(problem, seed=0) for steps in (0, 40))
    assert accuracy(after, problem.support) >= accuracy(before, problem.support) + 0.2


def test_the_published_schedule_learns_as_well():
    problem = World(4, image_noise=0.3).problem([6] * 4)
    method = Coop(optimizer="sgd", learning_rate=2e-2, batch_size=8, steps=60, **PLAIN)
    before, after = (replace(method, steps=steps).fit(problem, seed=0) for steps in (0, 60))
    assert accuracy(after, problem.support) >= accuracy(before, problem.support) + 0.2


def test_a_class_without_shots_takes_no_part_in_the_training():
    there = World(5)
    problem = there.problem([3, 3, 3, 3, 0])
    names = problem.label_space
    known = LabelSpace(names.names[:4], names.prompt_names[:4], names.descriptions[:4])
    without = replace(problem, label_space=known, class_embeddings=problem.class_embeddings[:4])
    method = Coop(steps=4, **PLAIN)
    one, other = method.fit(problem, seed=0), method.fit(without, seed=0)
    assert torch.equal(one.context, other.context)
    torch.testing.assert_close(one.rows[:4], other.rows, atol=1e-6, rtol=1e-5)


def test_the_context_can_be_put_before_new_names():
    problem, _ = make_problem([3, 3, 0])
    classifier = Coop(steps=4, **PLAIN).fit(problem, seed=0)
    late = context_rows(problem.text_tower, problem.label_space.prompt_names[2:], classifier.context)
    torch.testing.assert_close(late, classifier.rows[2:], atol=1e-6, rtol=1e-5)


def test_a_class_without_shots_gets_the_mean_context():
    problem, _ = make_problem([3, 0, 3, 3])
    context = Coop(class_specific=True, steps=4).fit(problem, seed=0).context
    assert context.shape == (4, 16, 32)
    assert (context[0] - context[2]).abs().max() > 1e-3
    torch.testing.assert_close(context[1], context[[0, 2, 3]].mean(dim=0))


def test_a_step_may_use_a_sample_of_the_classes():
    problem = World(8, image_noise=0.3).problem([4] * 8)
    before, after = (
        Coop(classes=4, steps=steps, learning_rate=0.05, **PLAIN).fit(problem, seed=0) for steps in (0, 40)
    )
    assert accuracy(after, problem.support) > accuracy(before, problem.support)


def test_the_tower_stays_as_it_was():
    problem, _ = make_problem([3, 3, 3])
    model, _ = towers.clip()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Coop(steps=3).fit(problem, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_each_training_is_done_once():
    problem, _ = make_problem([4] * 40)
    trained = []

    class Spy(InMemoryCache):
        def __call__(self, key, make):
            return super().__call__(key, lambda: (trained.append(key), make())[1])

    training_cache, method = Spy(), Coop(steps=2)
    method.pretrain_fold(held_out_splits(problem, seed=0)[0], seed=0, training_cache=training_cache)
    assert len(trained) == 1
    method.select(problem, seed=0, training_cache=training_cache).fit(problem, seed=0, training_cache=training_cache)
    assert len(trained) == len(set(trained)) == 2


@pytest.mark.parametrize("shots", [1, 4, 24])
def test_meaningless_names_leave_the_class_means(shots):
    there = World(6, name_noise=float("inf"), image_noise=0.7)
    problem, (features, labels) = there.problem([shots] * 6), there.test_images(200)

    def right(name, **options):
        logits = build_method(name, **options).fit(problem, seed=0).logits(features)
        return float((logits.argmax(dim=1) == labels).float().mean())

    assert right("coop", steps=10) >= right("nearest_mean") - 0.03


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt_share": 1.5},
        {"image_weight": -1.0},
        {"context": 0},
        {"steps": -1},
        {"learning_rate": 0.0},
        {"classes": 1},
        {"batch_size": 0},
        {"position": "behind"},
        {"optimizer": "lion"},
    ],
)
def test_hyperparameters_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=f"coop.{next(iter(wrong))}"):
        Coop(**wrong)


def test_a_problem_without_a_text_tower_is_refused():
    problem, _ = make_problem([3, 3])
    with pytest.raises(DataError, match="text tower"):
        Coop().fit(replace(problem, text_tower=None), seed=0)
