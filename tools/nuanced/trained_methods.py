"""The methods that are compared: TiF on the diffusion model, and methods on the embedded CLIP's features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.transforms.functional import to_pil_image

from fewshot.backbones import ClipBackbone
from fewshot.backbones.diffusion import DiffusionBackbone
from fewshot.classes import LabelSpace
from fewshot.demo.scenes import Glyphs, render
from fewshot.diffusion.adapter_training import train_adapters
from fewshot.diffusion.noise_errors import Queries, class_contexts, noise_errors
from fewshot.diffusion.random_draws import LatentImages
from fewshot.diffusion.time_grid import published_grid
from fewshot.methods import build_method
from fewshot.methods.tif import Tif
from fewshot.problem import Labelled, Problem
from tools.nuanced.problem_settings import CLASSES, Pictures, Setting

FEATURE_METHODS = ("zero_shot", "nearest_mean", "tip_adapter", "ape", "linear_probe")
CLIP_SIDE = 128
"""Side in pixels of the CLIP's pictures: larger than those of the diffusion model."""
GRID = 100
"""Number of time-steps scored, evenly spaced over the schedule."""
SEED = 0
"""Of trainings and noise. The seed of a setting changes the problem only."""


def label_space(setting: Setting, glyphs: Glyphs) -> LabelSpace:
    """Return the classes with the names of their emoji."""
    names = tuple(glyphs.names[i] for i in setting.classes(glyphs).tolist())
    return LabelSpace(names, names, ("",) * len(names))


def feature_logits(setting: Setting, glyphs: Glyphs, clip: ClipBackbone) -> Iterator[tuple[str, Tensor]]:
    """Yield each method of `FEATURE_METHODS` and its logits [N, K] of the test pictures."""
    space, support, test = label_space(setting, glyphs), setting.support(glyphs), setting.test(glyphs)
    views, queries = (_features(pictures, glyphs, clip) for pictures in (support, test))
    shots = Labelled(views[:, None], support.labels)
    problem = Problem(space, clip.prototypes(space), shots, None, clip.logit_scale)
    for name in FEATURE_METHODS:
        classifier = build_method(name).fit(problem, seed=SEED)
        yield name, classifier.logits(normalize(queries, dim=1))


def _features(pictures: Pictures, glyphs: Glyphs, clip: ClipBackbone) -> Tensor:
    drawn = render(pictures.scenes, glyphs, side=CLIP_SIDE)
    return clip.embed_images(torch.stack([clip.crop(to_pil_image(picture)) for picture in drawn]))


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """The noise errors of the test pictures.

    Attributes:
        errors: [N, K, GRID] float32, with adapters.
        steps: [GRID] int64, the time-steps.
        weights: [GRID] float64, TiF's.
    """

    errors: Tensor
    steps: Tensor
    weights: Tensor

    def labels(self, weights: Tensor | None = None) -> Tensor:
        """Return the class of smallest mean error, [N] int64; without weights [GRID], all time-steps weigh the same."""
        errors = self.errors.double()
        return (errors if weights is None else errors * weights).sum(dim=2).argmin(dim=1)

    def to_tensors(self) -> Mapping[str, Tensor]:
        """For safetensors."""
        return {"errors": self.errors, "steps": self.steps, "weights": self.weights}


def tif_errors(setting: Setting, glyphs: Glyphs, backbone: DiffusionBackbone) -> ErrorTable:
    """Train the adapters of all classes in one block, and ask every class about every test picture and time-step."""
    space, support, test = label_space(setting, glyphs), setting.support(glyphs), setting.test(glyphs)
    method = Tif()
    settings = method.adapter_settings(latent_side=backbone.latent_shape[-1], shots=len(support.labels) // CLASSES)
    mean, std = backbone.posterior(_pixels(support, glyphs, backbone))
    ids = backbone.token_ids(method.prompts(space))
    classes = [
        LatentImages(name, mean[support.labels == k], std[support.labels == k], ids[k])
        for k, name in enumerate(space.names)
    ]
    adapters = train_adapters(backbone, classes, settings, block_size=CLASSES, seed=SEED)
    weights = method.weights(mean, support.labels, num_steps=len(backbone.alphas_cumprod))
    steps = published_grid(GRID, len(backbone.alphas_cumprod))
    N = len(test.labels)
    image, label, step = (i.flatten() for i in torch.meshgrid(*map(torch.arange, (N, CLASSES, GRID)), indexing="ij"))
    errors = noise_errors(
        backbone,
        backbone.encode_images(_pixels(test, glyphs, backbone)),
        [f"{setting.name}/{i}" for i in range(N)],
        class_contexts(backbone, method.prompts(space), adapters, scale=settings.text_scale),
        Queries(image, label, steps[step]),
        seed=SEED,
        adapters=adapters.unet,
        scale=settings.unet_scale,
    )
    return ErrorTable(errors.view(N, CLASSES, GRID), steps, weights[steps])


def _pixels(pictures: Pictures, glyphs: Glyphs, backbone: DiffusionBackbone) -> Tensor:
    """[N, 3, H, W] uint8."""
    return (render(pictures.scenes, glyphs, side=backbone.longer_side) * 255).round().to(torch.uint8)
