"""The generator with the authors' settings against a plain twin of their training, in float64."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from fewshot.backbones.text_tower import TextTower
from fewshot.feature_synthesis import vae_training
from fewshot.feature_synthesis.vae import initial_weights
from fewshot.feature_synthesis.vae_training import GeneratorSettings, train
from fewshot.methods import build_method
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import InMemoryCache
from tests.problems import World
from tests.towers import clip

EPOCHS = 6


@pytest.fixture
def tower():
    """A text tower of its own in float64, which is the default type as long as it lives."""
    model, tokenizer = copy.deepcopy(clip(16))
    torch.set_default_dtype(torch.float64)
    yield TextTower(model.double(), tokenizer)
    torch.set_default_dtype(torch.float32)


def adam_w(weights, gradients, moments, step, rate):
    """One step of AdamW, written out."""
    for weight, gradient, (first, second) in zip(weights, gradients, moments, strict=True):
        weight.mul_(1.0 - rate * 0.01)
        first.mul_(0.9).add_(0.1 * gradient)
        second.mul_(0.999).add_(0.001 * gradient**2)
        size = (second / (1.0 - 0.999**step)).sqrt() + 1e-8
        weight.sub_(rate * (first / (1.0 - 0.9**step)) / size)


def twin(tower, prompts, features, labels, *, seed, rate):
    """Each step: all images in one batch, their posterior, one draw of it, decoded by the text tower."""
    w = initial_weights(dim=tower.dim, width=tower.width, latent=tower.dim, context=4, seed=seed)
    moments = [(torch.zeros_like(value), torch.zeros_like(value)) for value in w.values()]
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, EPOCHS + 1):
        rows = torch.randperm(len(features), generator=generator)
        torch.randint(1, (len(rows),), generator=generator)  # of the one augmented view
        noise = torch.randn(len(rows), tower.dim, generator=generator)
        leaves = {name: value.requires_grad_() for name, value in w.items()}
        hidden = (features[rows] @ leaves["encoder.hidden.weight"].T + leaves["encoder.hidden.bias"]).clamp(min=0.0)
        mean = hidden @ leaves["encoder.mean.weight"].T + leaves["encoder.mean.bias"]
        log_variance = hidden @ leaves["encoder.log_variance.weight"].T + leaves["encoder.log_variance.bias"]
        latent = mean + (0.5 * log_variance).exp() * noise
        inner = (latent @ leaves["generator.hidden.weight"].T + leaves["generator.hidden.bias"]).clamp(min=0.0)
        shift = inner @ leaves["generator.out.weight"].T + leaves["generator.out.bias"]
        made = normalize(tower.encode(prompts[labels[rows]], leaves["prompts"] + shift[:, None]), dim=1)
        divergence = -0.5 * (1.0 + log_variance - mean**2 - log_variance.exp()).sum(dim=1).mean()
        loss = ((made - features[rows]) ** 2).sum(dim=1).mean() + divergence
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        w = {name: value.detach() for name, value in w.items()}
        adam_w(w.values(), gradients, moments, step, rate(step - 1))
    return w


NAMES = ["cat", "dog", "bird"]


def nine_shots(views):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(3).repeat(3)
    return Shots(torch.randn(9, views, 16, generator=generator), labels, torch.arange(3), torch.arange(9))


def test_the_default_generator_differs_by_half_a_cosine(tower):
    shots, settings = nine_shots(1), GeneratorSettings(steps=EPOCHS, batch_size=256)
    ours = train(NAMES, shots, tower, settings, seed=3)
    theirs = twin(
        tower,
        tower.prompts(NAMES, context=4),
        normalize(shots.views[:, 0], dim=1),
        shots.labels,
        seed=3,
        rate=lambda step: 1e-3 * 0.5 * (1.0 + math.cos(math.pi * step / EPOCHS)),
    )
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-6)


def test_no_image_is_seen_in_more_than_the_published_epochs(tower, monkeypatch):
    monkeypatch.setattr(vae_training, "MAX_EPOCHS", 2)
    shots, settings = nine_shots(1), GeneratorSettings(steps=100, batch_size=3)
    many, six = (train(NAMES, shots, tower, replace(settings, steps=steps), seed=3) for steps in (100, 2 * 3))
    assert all(torch.equal(value, six[name]) for name, value in many.items())


def test_the_weights_begin_as_published():
    weights = initial_weights(dim=24, width=20, latent=12, context=4, seed=0)
    shapes = {name: tuple(value.shape) for name, value in weights.items() if not name.endswith("bias")}
    assert shapes == {
        "prompts": (4, 20),
        "encoder.hidden.weight": (2048, 24),
        "encoder.mean.weight": (12, 2048),
        "encoder.log_variance.weight": (12, 2048),
        "generator.hidden.weight": (4096, 12),
        "generator.out.weight": (20, 4096),
    }
    for name, value in weights.items():
        assert float(value.std()) == pytest.approx(0.0 if name.endswith("bias") else 0.02, rel=0.2)


def test_the_published_generator_equals_a_plain_training(tower, monkeypatch):
    monkeypatch.setattr(vae_training, "MAX_EPOCHS", EPOCHS)
    shots, names = nine_shots(2), NAMES
    settings = GeneratorSettings.published(len(shots.labels))
    assert (settings.batch_size, settings.steps, settings.kl_weight) == (256, EPOCHS, 1.0)
    ours = train(names, shots, tower, settings, seed=3)
    features = normalize(shots.views[:, 1], dim=1)
    theirs = twin(tower, tower.prompts(names, context=4), features, shots.labels, seed=3, rate=lambda _: 1e-3)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-6)


def test_default_settings_keep_the_keys_of_their_trainings():
    assert GeneratorSettings().identity() == {
        "context": 4,
        "kl_weight": 1.0,
        "steps": 200,
        "batch_size": 8,
        "learning_rate": 1e-3,
    }
    assert GeneratorSettings.published(600).identity()["steps"] == 50 * 3


@pytest.mark.parametrize("name", ["ship_clip_adapter", "ship_coop", "ship_tip_adapter_f"])
def test_the_published_recipe_reaches_generator_and_plain_method(name):
    problem = World(4).problem([3, 3, 0, 0], views=2)
    cache = InMemoryCache()
    short = {"ship_clip_adapter": {"steps": 2}, "ship_coop": {"steps": 2}, "ship_tip_adapter_f": {"epochs": 1}}[name]
    method = build_method(name, recipe="published", generator_steps=2, **short)
    selected = method.select(problem, seed=0, training_cache=cache)
    method.fit(problem, seed=0, training_cache=cache)
    own = {"ship_clip_adapter": "image_weight", "ship_coop": "image_weight"}.get(name)
    assert own is None or getattr(selected, own) == 0.0
    assert name != "ship_coop" or selected.prompt_share == 1.0
    assert method._generator(problem).kl_weight == 1.0
    assert replace(method, kl_weight=0.25)._generator(problem).kl_weight == 0.25
    trainings = {key.rpartition("-")[0] for key in cache._states}
    plain = name.removeprefix("ship_")
    assert f"{plain}_published" in trainings or plain == "coop"
