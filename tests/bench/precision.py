"""What bfloat16 changes about noise errors and decisions: the embedded diffusion model beside itself in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewshot.backbones.diffusion import DiffusionBackbone, DiffusionSpec, load_diffusion
from fewshot.demo.scenes import draw_scenes, load_glyphs, render
from fewshot.diffusion.adapter_training import AdapterSettings, train_adapters
from fewshot.diffusion.lora import StackedLora
from fewshot.diffusion.noise_errors import Queries, class_contexts, noise_errors
from fewshot.diffusion.random_draws import LatentImages
from tests.bench.result import Gate, Result

CLASSES, SHOTS, PROMPT = 8, 4, "a picture of a hta"
STEPS = torch.arange(20, 1000, 40)
UNDECIDED = 0.005
"""Gaps between the two best classes, as shares of the error, below which a decision may change."""


def run(*, images: int, repeat: int, training_steps: int = 120) -> Result:
    """Train adapters in both precisions, and score pictures with both in both.

    Args:
        images: pictures, a multiple of the number of classes.
        repeat: not used: nothing is timed.
        training_steps: of gradient descent.
    """
    del repeat
    models = {name: load_diffusion(DiffusionSpec(precision=name)) for name in ("fp32", "bf16")}
    settings = AdapterSettings(
        steps=training_steps, rank=8, samples=4, unet_rate=2e-3, text_rate=1e-3, stratified=True, prior_weight=0.0
    )
    full, labels = models["fp32"], torch.arange(CLASSES).repeat_interleave(images // CLASSES)
    (ids,) = full.token_ids([PROMPT])
    examples = [LatentImages(str(k), *_latents(full, k, SHOTS, seed=k).unbind(dim=1), ids) for k in range(CLASSES)]
    pictures = torch.cat([_latents(full, k, images // CLASSES, seed=100 + k)[:, 0] for k in range(CLASSES)])
    adapters = {}
    for name, model in models.items():
        trained = train_adapters(model, examples, settings, block_size=CLASSES, seed=0)
        adapters[name] = trained.mapped(lambda tensor: tensor.half().float())  # As they are stored.
    tables = {
        (trained, scored): _table(models[scored], pictures, adapters[trained])
        for trained in models
        for scored in models
    }
    reference = tables["fp32", "fp32"]
    rows = [_row(*name, table, reference, labels) for name, table in tables.items()]
    return Result("precision", "noise errors of the embedded model", rows, _gates([*tables.values()], reference))


def _latents(model: DiffusionBackbone, k: int, count: int, *, seed: int) -> Tensor:
    """[count, 2, C, h, w]: pictures of an emoji that the model was not trained on."""
    glyphs = load_glyphs()
    scenes = draw_scenes(torch.full((count,), glyphs.held_out[k]), generator=torch.Generator().manual_seed(seed))
    return torch.stack(model.posterior((render(scenes, glyphs) * 255).round().to(torch.uint8)), dim=1)


def _table(model: DiffusionBackbone, pictures: Tensor, adapters: StackedLora) -> Tensor:
    """[N, K, n] noise errors."""
    grid = torch.meshgrid(torch.arange(len(pictures)), torch.arange(CLASSES), STEPS, indexing="ij")
    return noise_errors(
        model,
        pictures,
        [str(number) for number in range(len(pictures))],
        class_contexts(model, [PROMPT] * CLASSES, adapters),
        Queries(*(part.flatten() for part in grid)),
        seed=0,
        adapters=adapters.unet,
    ).view(len(pictures), CLASSES, len(STEPS))


def _changed_gaps(table: Tensor, reference: Tensor) -> Tensor:
    """Return the gaps, in the reference, of the pictures that another class wins."""
    best = reference.mean(dim=2).sort(dim=1).values
    return ((best[:, 1] - best[:, 0]) / best[:, 0])[_winners(table) != _winners(reference)]


def _winners(table: Tensor) -> Tensor:
    return table.mean(dim=2).argmin(dim=1)


def _of_means(table: Tensor, reference: Tensor) -> float:
    means = reference.mean(dim=2)
    return float(((table.mean(dim=2) - means).abs() / means).max())


def _row(trained: str, scored: str, table: Tensor, reference: Tensor, labels: Tensor) -> dict[str, str | float]:
    winners = _winners(table)
    return {
        "trained in": trained,
        "scored in": scored,
        "difference of an error, median %": 100 * float(((table - reference).abs() / reference).median()),
        "of a mean, at most %": 100 * _of_means(table, reference),
        "same decisions": f"{int((winners == _winners(reference)).sum())} of {len(labels)}",
        "accuracy": float((winners == labels).float().mean()),
    }


def _gates(tables: Sequence[Tensor], reference: Tensor) -> list[Gate]:
    gaps = torch.cat([_changed_gaps(table, reference) for table in tables])
    largest = float(gaps.max()) if len(gaps) else 0.0
    return [
        Gate.at_most("largest difference of a mean error", max(_of_means(t, reference) for t in tables), 0.01),
        Gate.at_most("largest gap of a decision that changed", largest, UNDECIDED),
    ]
