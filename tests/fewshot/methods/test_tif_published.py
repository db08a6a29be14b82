"""TiF as published, against its formulas written out plainly here, and against numbers that were frozen from them."""

from __future__ import annotations

import math

import pytest
import torch

from fewshot.classes import LabelSpace
from fewshot.diffusion.elimination import eliminate, plan_rounds, published_schedule
from fewshot.diffusion.time_grid import time_grid
from fewshot.methods import build_diffusion_scorer
from fewshot.methods.tif.published_runs import PUBLISHED_RUNS

SPACE = LabelSpace(("a", "b"), ("707", "727"), (None, None))
SHOTS = (1, 2, 4, 8, 16)
CLASSES, IMAGES = 100, 3

FROZEN_WEIGHTS = {170: 0.99107320615612, 283: 0.88209362196330, 500: 0.27827938592299, 999: 0.00427679347242}
"""For d = 10, by time-step, from `plain_weight`."""
FROZEN_SCORES = (0.13913039794, 0.10368682028, 0.09574805262)
"""Of the winners, from `plain_score`."""


def plain_weight(t, d):
    """w_t = OVL_t(d) / (OVL_t(d) + 1e-18 + sum over j < 500 of OVL_t(d + 1 + j)), for linear betas 1e-4 to 0.02."""
    share = math.prod(1.0 - (1e-4 + (0.02 - 1e-4) * i / 999) for i in range(t + 1))
    slope = math.sqrt(share) / (2.0 * math.sqrt(2.0) * math.sqrt(1.0 - share))
    nuanced, *larger = (1.0 - math.erf((d + j) * slope) for j in range(501))
    return nuanced / (nuanced + 1e-18 + sum(larger))


def plain_error(image, c, t):
    """An error table as a formula: the classes differ by a few parts in a thousand, more so at some time-steps."""
    favoured = (37 * image + 11) % CLASSES
    distance = min(abs(c - favoured), CLASSES - abs(c - favoured)) / CLASSES
    return 0.5 + 0.3 * math.sin(0.01 * t + image) + 0.02 * distance * math.cos(0.004 * t) ** 2


def plain_score(image, c, weights):
    """S(c): the mean over 500 time-steps 1, 3, ..., 999 of the weighted errors."""
    return sum(weights[t] * plain_error(image, c, t) for t in range(1, 1000, 2)) / 500


def plain_stages(image, weights):
    """The published stages of FGVC for one image."""
    left, seen = list(range(CLASSES)), []
    for n, keep in ((20, 20), (50, 10), (100, 5), (500, 1)):
        stride = 500 // n
        seen += [entry for entry in range(stride // 2, 500, stride)[:n] if entry not in seen]
        scores = {c: sum(weights[2 * e + 1] * plain_error(image, c, 2 * e + 1) for e in seen) / len(seen) for c in left}
        left = sorted(left, key=scores.__getitem__)[:keep]
    return left[0]


@pytest.fixture(scope="module")
def latents():
    """Of two classes, at a distance of 10 in every quantile: d is 10."""
    one = torch.zeros(4, 4, 5, 5)
    return torch.cat([one, one + math.sqrt(100.0 / 25 / 4)]), torch.tensor([0] * 4 + [1] * 4)


@pytest.fixture(scope="module")
def grid(latents):
    scorer = build_diffusion_scorer("tif", recipe="published")
    return time_grid(scorer.weights(*latents, num_steps=1000), 500, scorer.scoring.spacing)


def test_weights_are_those_of_the_formula(grid):
    for t, frozen in FROZEN_WEIGHTS.items():
        assert plain_weight(t, 10.0) == pytest.approx(frozen, rel=1e-9)
    assert grid.steps.tolist() == list(range(1, 1000, 2))
    expected = [plain_weight(t, 10.0) for t in range(1, 1000, 2)]
    torch.testing.assert_close(grid.weights, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_images_go_to_the_class_of_the_smallest_weighted_sum_in_stages(grid):
    weights = {t: plain_weight(t, 10.0) for t in range(1, 1000, 2)}
    table = torch.tensor(
        [[[plain_error(image, c, t) for t in grid.steps.tolist()] for c in range(CLASSES)] for image in range(IMAGES)],
        dtype=torch.float64,
    )

    def errors_of(classes, entries):
        return table.gather(1, classes[..., None].expand(-1, -1, 500))[..., entries]

    plan = plan_rounds(published_schedule("fgvc"), CLASSES, weights=grid.weights)
    found = eliminate(errors_of, plan, images=IMAGES, weights=grid.weights)
    assert found.tolist() == [plain_stages(image, weights) for image in range(IMAGES)] == [11, 48, 85]
    sums = (table * grid.weights).mean(dim=2)
    for image, frozen in enumerate(FROZEN_SCORES):
        winner = int(found[image])
        assert plain_score(image, winner, weights) == pytest.approx(frozen, rel=1e-8)
        assert float(sums[image, winner]) == pytest.approx(frozen, rel=1e-8)


TEMPLATES = {
    "fgvc": ("a photo of a hta 707, a type of aircraft.", "a photo of an aircraft", 16),
    "isic2019": ("a high quality dermoscopic image of hta 707.", "a high quality dermoscopic image.", 8),
    "dukemtmc": (
        "a photo of person hta captured by surveillance camera.",
        "a photo of a person captured by surveillance camera.",
        16,
    ),
    "veri": (
        "a photo of car hta captured by surveillance camera.",
        "a photo of a car captured by surveillance camera.",
        16,
    ),
}
STEPS = {
    "fgvc": ((60, 60), (100, 100), (200, 200), (700, 300), (1000, 400)),
    "isic2019": ((150, 50), (200, 100), (500, 200), (700, 200), (800, 400)),
    "dukemtmc": ((200, 50), (250, 100), (400, 200), (700, 400), (1000, 400)),
    "veri": ((150, 50), (200, 100), (400, 200), (500, 400), (1000, 400)),
}
BLOCKS = ("all-2", "all-2", "all-2", "all-1", "none")


@pytest.mark.parametrize("side", [8, 64])
@pytest.mark.parametrize("data_set", PUBLISHED_RUNS)
def test_the_published_recipe_takes_the_settings_of_its_data_set(data_set, side):
    scorer = build_diffusion_scorer("tif", recipe="published", data_set=data_set)
    prompt, prior_prompt, rank = TEMPLATES[data_set]
    assert scorer.prompts(SPACE)[0] == prompt
    prior = scorer.prior(latent_side=side)
    assert (prior.prompt, prior.count, prior.steps, prior.guidance) == (prior_prompt, 100, 50, 7.5)
    for shots, steps, blocks in zip(SHOTS, STEPS[data_set], BLOCKS, strict=True):
        settings = scorer.adapter_settings(latent_side=side, shots=shots)
        assert (settings.steps, settings.full_scale_steps) == steps
        assert (settings.rank, settings.blocks, settings.samples, settings.stratified) == (rank, blocks, 1, False)
        assert (settings.unet_rate, settings.text_rate, settings.weight_decay) == (1e-4, 5e-5, 1e-2)
        assert (settings.clip, settings.prior_weight) == (1.0, 1.0)
        assert (settings.unet_scale, settings.text_scale) == (0.6, 0.7)
        assert (settings.jitter, settings.target) == (True, "prediction")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 7),
        ("rank", 3),
        ("blocks", "none"),
        ("samples", 2),
        ("unet_rate", 0.5),
        ("text_rate", 0.25),
        ("unet_scale", 0.1),
        ("text_scale", 0.2),
        ("full_scale_steps", 5),
        ("jitter", False),
        ("target", "noise"),
    ],
)
def test_each_part_of_the_recipe_can_be_set(name, value):
    scorer = build_diffusion_scorer("tif", recipe="published", **{name: value})
    assert getattr(scorer.adapter_settings(latent_side=64, shots=4), name) == value
    assert (
        getattr(build_diffusion_scorer("tif", recipe="published").adapter_settings(latent_side=64, shots=4), name)
        != value
    )


def test_prompts_spacing_and_norm_can_be_set_too():
    plain = build_diffusion_scorer("tif", recipe="published")
    assert (plain.scoring.spacing, plain.scoring.norm) == ("even", "l2")
    own = {"template": "{}!", "use_names": False, "prior_prompt": "a thing", "spacing": "by-weight", "norm": "l1"}
    scorer = build_diffusion_scorer("tif", recipe="published", **own)
    assert set(scorer.prompts(SPACE)) == {"hta!"}
    assert scorer.prior(latent_side=64).prompt == "a thing"
    assert (scorer.scoring.spacing, scorer.scoring.norm) == ("by-weight", "l1")
    named = build_diffusion_scorer("tif", recipe="published", data_set="veri", use_names=True)
    assert named.prompts(SPACE)[0] == "a photo of car hta 707 captured by surveillance camera."


def test_the_default_recipe_scores_and_trains_as_before():
    """Its adapters and noise errors keep their names: what came later is in none of them while it is off."""
    scorer = build_diffusion_scorer("tif")
    assert (scorer.scoring.spacing, scorer.scoring.norm) == ("by-weight", "l2")
    for side in (8, 64):
        settings = scorer.adapter_settings(latent_side=side, shots=4)
        assert (settings.full_scale_steps, settings.jitter, settings.target) == (None, False, "noise")
        assert not settings.identity().keys() & {"jitter", "target"}
    published = build_diffusion_scorer("tif", recipe="published").adapter_settings(latent_side=64, shots=4)
    assert published.identity().keys() - settings.identity().keys() == {"jitter", "target"}


def test_the_diffusion_classifier_scores_the_published_time_steps():
    published = build_diffusion_scorer("diffusion_classifier", recipe="published", norm="l1")
    assert (published.scoring.spacing, published.scoring.norm) == ("even", "l1")
    weights = published.weights(torch.zeros(2, 4, 2, 2), torch.tensor([0, 1]), num_steps=1000)
    assert time_grid(weights, 500, published.scoring.spacing).steps.tolist() == list(range(1, 1000, 2))
    default = build_diffusion_scorer("diffusion_classifier").scoring
    assert time_grid(weights, 500, default.spacing).steps.tolist() == list(range(0, 1000, 2))
