"""Diffusion scorers: their prompts, their adapters, and the weights of time-steps."""

from __future__ import annotations

import pytest
import torch

from fewshot.classes import LabelSpace
from fewshot.diffusion.time_step_weights import attribute_weights, linear_alphas_cumprod, nuanced_size
from fewshot.errors import DataError, UnknownNameError
from fewshot.methods import build_diffusion_scorer

SPACE = LabelSpace(("a", "b"), ("red panda", "b {}"), (None, None))


def test_prompts_contain_each_name_unchanged():
    assert build_diffusion_scorer("diffusion_classifier").prompts(SPACE) == (
        "a picture of a red panda",
        "a picture of a b {}",
    )
    tif = build_diffusion_scorer("tif", template="a photo of a {}, a type of aircraft.")
    assert tif.prompts(SPACE)[0] == "a photo of a hta red panda, a type of aircraft."


def test_without_names_all_classes_have_one_prompt():
    tif = build_diffusion_scorer("tif", template="a photo of car {}", use_names=False)
    assert set(tif.prompts(SPACE)) == {"a photo of car hta"}


def test_tif_weighs_time_steps_by_the_nuanced_size_of_its_examples():
    latents, labels = (
        torch.randn(6, 4, 2, 2, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 0, 1, 1, 2, 2]),
    )
    weights = build_diffusion_scorer("tif").weights(latents, labels, num_steps=1000)
    assert torch.equal(weights, attribute_weights(linear_alphas_cumprod(1000), nuanced_size(latents, labels)))
    for other in (build_diffusion_scorer("tif", weighting="uniform"), build_diffusion_scorer("diffusion_classifier")):
        assert torch.equal(other.weights(latents, labels, num_steps=10), torch.ones(10, dtype=torch.float64))


def test_one_class_alone_weighs_all_time_steps_the_same():
    weights = build_diffusion_scorer("tif").weights(torch.zeros(2, 4, 2, 2), torch.tensor([0, 0]), num_steps=10)
    assert torch.equal(weights, torch.ones(10, dtype=torch.float64))


@pytest.mark.parametrize(
    ("shots", "steps", "blocks"),
    [(1, 60, "all-2"), (3, 100, "all-2"), (8, 700, "all-1"), (16, 1000, "none"), (99, 1000, "none")],
)
def test_for_stable_diffusion_the_defaults_are_the_published_ones(shots, steps, blocks):
    settings = build_diffusion_scorer("tif").adapter_settings(latent_side=64, shots=shots)
    assert (settings.steps, settings.blocks, settings.rank) == (steps, blocks, 16)
    assert (settings.unet_rate, settings.text_rate) == (1e-4, 5e-5)
    assert (settings.unet_scale, settings.text_scale) == (0.6, 0.7)
    assert settings.prior_weight == 1.0
    prior = build_diffusion_scorer("tif").prior(latent_side=64)
    assert (prior.count, prior.steps, prior.guidance) == (100, 50, 7.5)


def test_small_models_have_defaults_of_their_own():
    settings = build_diffusion_scorer("tif", steps=7, unet_scale=0.5).adapter_settings(latent_side=8, shots=4)
    assert (settings.steps, settings.unet_scale, settings.rank, settings.text_scale) == (7, 0.5, 8, 1.0)


def test_the_diffusion_classifier_learns_nothing():
    assert build_diffusion_scorer("diffusion_classifier").adapter_settings(latent_side=64, shots=4) is None


def test_unknown_names_and_values_out_of_range_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'tif'"):
        build_diffusion_scorer("tiff")
    with pytest.raises(DataError, match="Did you mean 'steps'"):
        build_diffusion_scorer("tif", step=3)
    with pytest.raises(DataError, match=r"tif\.steps must be an integer from 1 to 1,000,000"):
        build_diffusion_scorer("tif", steps=0)
    with pytest.raises(DataError, match="exactly one"):
        build_diffusion_scorer("tif", template="a photo")
    with pytest.raises(DataError, match=r"tif\.blocks"):
        build_diffusion_scorer("tif", blocks="all")


@pytest.mark.parametrize(("given", "side"), [(0, 64), (None, 8)])
def test_without_prior_images_nothing_is_preserved(given, side):
    tif = build_diffusion_scorer("tif", prior_images=given)
    assert tif.prior(latent_side=side) is None
    assert tif.adapter_settings(latent_side=side, shots=4).prior_weight == 0.0
