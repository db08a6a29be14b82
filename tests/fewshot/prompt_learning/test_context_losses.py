"""The losses of CoOp and CoCoOp against their formulas, and the first values of what they train."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from fewshot.prompt_learning import conditional_context, shared_context
from fewshot.prompt_learning.conditional_context import initial_weights, shifts
from fewshot.prompt_learning.context_training import ContextTrainingSettings, sampled_classes
from tests.problems import World
from tests.towers import tiny_tower

DIM, SCALE = 16, 30.0
NAMES = ("cat", "dog", "bird", "red fox", "fish")
LABELS = torch.tensor([4, 0, 1, 2, 3, 3, 0])
SETTINGS = ContextTrainingSettings(
    context=3,
    words="",
    position="end",
    class_specific=False,
    steps=1,
    learning_rate=1e-2,
    optimizer="adam",
    batch_size=64,
    classes=3,
)


@pytest.fixture(scope="module")
def tower():
    return tiny_tower(DIM)


@pytest.fixture(scope="module")
def views():
    """Raw features, one view of each image, so that nothing is left to draw but the classes."""
    return 7.0 * World(5, dim=DIM).classes[LABELS][:, None]


def generator():
    return torch.Generator().manual_seed(3)


def the_sample(count):
    """The classes of a step, and the images of these classes."""
    classes = sampled_classes(LABELS, num_classes=len(NAMES), count=count, generator=generator())
    return classes, [row for row, label in enumerate(LABELS.tolist()) if label in classes]


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("specific", [False, True])
def test_the_loss_of_coop_is_the_cross_entropy_of_the_sampled_classes(tower, views, count, specific):
    context = (
        0.02 * torch.randn(5, 3, tower.width, generator=generator()) if specific else SETTINGS.start(tower, seed=0)
    )
    prompts, settings = tower.prompts(NAMES, context=3), replace(SETTINGS, classes=count)
    loss = shared_context._loss(tower, prompts, views, LABELS, settings, logit_scale=SCALE)
    found = loss({"context": context}, torch.arange(len(LABELS)), generator())
    classes, rows = the_sample(count)
    texts = normalize(tower.encode(prompts, context), dim=1)[classes]
    logits = SCALE * normalize(views[rows, 0], dim=1) @ texts.T
    targets = [classes.tolist().index(int(LABELS[row])) for row in rows]
    torch.testing.assert_close(found, cross_entropy(logits, torch.tensor(targets)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [3, 5])
def test_the_loss_of_cocoop_has_prompts_for_every_image(tower, views, count):
    weights = initial_weights(tower, SETTINGS, seed=0)
    weights["up.weight"] = 0.1 * torch.randn(weights["up.weight"].shape, generator=generator())
    prompts, settings = tower.prompts(NAMES, context=3), replace(SETTINGS, classes=count)
    loss = conditional_context._loss(tower, prompts, views, LABELS, settings, logit_scale=SCALE)
    found = loss(weights, torch.arange(len(LABELS)), generator())
    (classes, rows), losses = the_sample(count), []
    for row in rows:
        feature = normalize(views[row, 0], dim=0)
        hidden = (weights["down.weight"] @ feature + weights["down.bias"]).clamp(min=0.0)
        context = weights["context"] + weights["up.weight"] @ hidden + weights["up.bias"]
        logits = SCALE * normalize(tower.encode(prompts, context), dim=1)[classes] @ feature
        losses.append(logits.logsumexp(dim=0) - logits[classes.tolist().index(int(LABELS[row]))])
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-4, atol=1e-4)


def test_cocoop_begins_without_a_shift_behind_a_narrow_layer(tower):
    wide = tiny_tower(64)
    weights = initial_weights(wide, SETTINGS, seed=0)
    assert weights["down.weight"].shape == (4, 64)
    assert weights["up.weight"].shape == (wide.width, 4)
    assert 0.1 < float(weights["down.weight"].abs().max()) <= 64**-0.5
    assert not shifts(weights, torch.eye(64)).any()


def test_a_random_context_has_the_published_deviation(tower):
    start = replace(SETTINGS, context=100).start(tower, seed=0)
    assert float(start.std()) == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(start, replace(SETTINGS, context=100).start(tower, seed=1))


def test_gradient_descent_takes_the_published_steps(tower):
    """Momentum 0.9 and decay 5e-4; 10 images in batches of 5 are two steps an epoch."""
    settings = replace(SETTINGS, optimizer="sgd", learning_rate=2e-3, batch_size=5, steps=6)
    found = settings.descend({"p": torch.tensor(1.0)}, lambda p, *_: 3.0 * p["p"], images=10, seed=0)["p"]
    value, speed = 1.0, 0.0
    for rate in (1e-5, 1e-5, 2e-3, 2e-3, 1.5e-3, 1.5e-3):  # Half a cosine over three epochs: at 0 and at a third.
        speed = 0.9 * speed + 3.0 + 5e-4 * value
        value -= rate * speed
    assert float(found) == pytest.approx(value, abs=1e-6)
