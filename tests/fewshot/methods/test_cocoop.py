"""CoCoOp shifts the context from image to image, for the classes on the shortlist of an image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.errors import DataError
from fewshot.methods.cocoop import Cocoop
from fewshot.methods.coop import Coop
from fewshot.problem import LabelSpace
from fewshot.prompt_learning import RowsPoint, blended_rows
from fewshot.prompt_learning.conditional_context import shifts
from tests import towers
from tests.problems import World, make_problem

PLAIN = {"prompt_share": 1.0, "image_weight": 0.0}
BLENDED = {"prompt_share": 0.5, "image_weight": 0.5}


def plain_logits(classifier, problem, features) -> Tensor:
    """The definition: an image at a time, all names anew."""
    tower, names = problem.text_tower, problem.label_space.prompt_names
    point = RowsPoint(classifier.prompt_share, classifier.image_weight)
    rows = []
    for feature in features:
        context = classifier.weights["context"] + shifts(classifier.weights, feature[None])[0]
        learned = normalize(tower.encode(tower.prompts(names, context=len(context)), context), dim=1)
        rows.append(100.0 * blended_rows(learned, classifier.text, classifier.means, point) @ feature)
    return torch.stack(rows)


@pytest.fixture(scope="module")
def trained():
    """A problem of 12 classes, one of them without shots, other images, and what was learned."""
    problem, features = make_problem([3] * 11 + [0], image_noise=0.5)
    return problem, features, Cocoop(steps=30, shortlist=12, **BLENDED).fit(problem, seed=0)


def test_with_all_classes_on_the_shortlist_the_logits_are_the_definition(trained):
    problem, features, classifier = trained
    expected = plain_logits(classifier, problem, features)
    torch.testing.assert_close(classifier.logits(features), expected, atol=1e-3, rtol=1e-5)


def test_images_do_get_prompts_of_their_own(trained):
    _, features, classifier = trained
    assert shifts(classifier.weights, features).std(dim=0).max() > 1e-3


def test_on_a_shortlist_only_differences_are_exact(trained):
    problem, features, classifier = trained
    exact = plain_logits(classifier, problem, features)
    point = RowsPoint(classifier.prompt_share, classifier.image_weight)
    independent = 100.0 * features @ blended_rows(classifier.learned, classifier.text, classifier.means, point).T
    logits = replace(classifier, shortlist=4).logits(features)
    best = independent.argsort(dim=1, descending=True)[:, :4]
    on, own = logits.gather(1, best), exact.gather(1, best)
    torch.testing.assert_close(on - on[:, :1], own - own[:, :1], atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(on.mean(dim=1), independent.gather(1, best).mean(dim=1), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(logits.scatter(1, best, 0.0), independent.scatter(1, best, 0.0), atol=1e-4, rtol=1e-5)


def test_a_network_that_shifts_nothing_is_coop():
    problem, features = make_problem([3, 3, 3])
    options = {"words": "a photo of a", "steps": 0}
    conditional = Cocoop(**options, **BLENDED).fit(problem, seed=0)
    common = Coop(**options, **BLENDED).fit(problem, seed=0)
    torch.testing.assert_close(conditional.logits(features), common.logits(features), atol=1e-3, rtol=1e-5)


def test_rows_of_zeros_cost_no_text_tower(trained, monkeypatch):
    problem, features, classifier = trained
    encoded = []
    encode = type(problem.text_tower).encode

    def counted(self, prompts, context, **options):
        encoded.append(len(prompts))
        return encode(self, prompts, context, **options)

    monkeypatch.setattr(type(problem.text_tower), "encode", counted)
    tile = torch.zeros(1024, features.shape[1])
    tile[:5] = features[:5]
    logits = replace(classifier, shortlist=3).logits(tile)
    assert sum(encoded) == 5 * 3
    assert (logits[5:] == 0).all()
    assert (replace(classifier, shortlist=3).logits(tile[5:]) == 0).all()


def test_context_and_network_learn_and_the_tower_does_not():
    problem, _ = make_problem([3, 3, 3])
    model, _ = towers.clip()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start, end = (Cocoop(steps=steps).fit(problem, seed=0).weights for steps in (0, 5))
    assert all(not torch.equal(start[name], end[name]) for name in start)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_learned_prompts_separate_the_shots_better():
    problem = World(4, image_noise=0.3).problem([6] * 4)
    images = problem.support

    def right(steps):
        logits = Cocoop(words="", steps=steps, **PLAIN).fit(problem, seed=0).logits(images.features)
        return float((logits.argmax(dim=1) == images.labels).float().mean())

    assert right(60) >= right(0) + 0.2


def test_a_class_without_shots_takes_no_part_in_the_training():
    problem = World(5).problem([3, 3, 3, 3, 0])
    names = problem.label_space
    known = LabelSpace(names.names[:4], names.prompt_names[:4], names.descriptions[:4])
    method = Cocoop(steps=4, **PLAIN)
    one = method.fit(problem, seed=0).weights
    other = method.fit(
        replace(problem, label_space=known, class_embeddings=problem.class_embeddings[:4]), seed=0
    ).weights
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("wrong", [{"shortlist": 0}, {"prompt_share": -0.1}, {"context": 0}, {"optimizer": "lion"}])
def test_hyperparameters_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=f"cocoop.{next(iter(wrong))}"):
        Cocoop(**wrong)
