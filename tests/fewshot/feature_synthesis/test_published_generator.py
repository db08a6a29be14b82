"""The generator with the authors' settings against a plain twin of their training, in float64."""

from __future__ import annotations

import copy

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


def adam_w(weights, gradients, moments, step):
    """One step of AdamW at the constant published rate, written out."""
    for weight, gradient, (first, second) in zip(weights, gradients, moments, strict=True):
        weight.mul_(1.0 - 1e-3 * 0.01)
        first.mul_(0.9).add_(0.1 * gradient)
        second.mul_(0.999).add_(0.001 * gradient**2)
        size = (second / (1.0 - 0.999**step)).sqrt() + 1e-8
        weight.sub_(1e-3 * (first / (1.0 - 0.9**step)) / size)


def twin(tower, prompts, features, labels, *, seed):
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
        adam_w(w.values(), gradients, moments, step)
    return w


def test_the_published_generator_equals_a_plain_training(tower, monkeypatch):
    monkeypatch.setattr(vae_training, "MAX_EPOCHS", EPOCHS)
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(3).repeat(3)
    shots = Shots(torch.randn(9, 2, 16, generator=generator), labels, torch.arange(3), torch.arange(9))
    names = ["cat", "dog", "bird"]
    settings = GeneratorSettings.published(len(shots.labels))
    assert (settings.batch_size, settings.steps, settings.kl_weight) == (256, EPOCHS, 1.0)
    ours = train(names, shots, tower, settings, seed=3)
    features = normalize(shots.views[:, 1], dim=1)
    theirs = twin(tower, tower.prompts(names, context=4), features, shots.labels, seed=3)
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
    trainings = {key.rpartition("-")[0] for key in cache._states}
    plain = name.removeprefix("ship_")
    assert f"{plain}_published" in trainings or plain == "coop"
