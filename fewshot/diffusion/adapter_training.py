"""Train one adapter a class on its few images (TiF, arXiv 2403.02649), many classes in one batch.

    loss of class k = mean |eps - eps_hat(x_t, t, prompt of k)|² + w · mean |eps - eps_hat(prior x_t, t, its prompt)|²

with t uniform, latents drawn from the VAE's posterior, and the class's adapters active in both terms. The classes'
losses are summed, so that each gets the gradient it would get alone; gradients are clipped a class at a time, over both
networks together; AdamW works an element at a time. So a block of G classes learns what G trainings would. A block
always has G classes, missing ones filled up, and the samples of a class derive from its name: an adapter has the same
bits whichever classes share its block.

Where we differ from the authors' code:

* The frozen weights are float32 or bfloat16 (theirs: float16 under autocast). Adapters, their gradients and moments
  are float32 in either; a product takes them rounded to the activations' precision.
* A seed, and no dropout (theirs leaves one of 0.1 in the text encoder's adapters).
* Images are encoded once. Their code changes brightness and contrast anew in each step, as `jitter` does.
* An image and a prior image share a forward: they are cropped to one size with the filter of inference (bicubic),
  theirs are not cropped, and resized with a bilinear one.
* Each epoch has an order of its own; theirs is that of the files.
* Each of their checkpoints sets s to 0.6 and 0.7 in the adapters that are being trained, and leaves it there. Here s
  stays 1 unless `full_scale_steps` is set.
* For models that predict velocity the loss is that of the noise, unless `target` is "prediction".
* Several samples of a class in a step, and stratified time-steps, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fewshot.backbones.diffusion.noise_schedule import add_noise
from fewshot.diffusion.image_jitter import jittered_pixels
from fewshot.diffusion.lora import BlockFilter, Pairs, StackedLora, initial_pairs, injected, sites, unet_sites
from fewshot.diffusion.random_draws import LatentImages, TrainingSamples, draw_samples
from fewshot.diffusion.recipe_settings import LossTarget, loss_weights
from fewshot.errors import DataError

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone

OnStep = Callable[[int, Tensor], None]
"""Called before each step with its number, from 0, and the losses [K] of the classes, float32 on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """Settings of adapter training. Defaults are the published values, but for `steps`, which depend on data and shots.

    Attributes:
        steps: of gradient descent, >= 0.
        rank: r >= 1; 8 or 16 as published.
        blocks: the blocks of the UNet that have adapters; published by the number of shots, see `block_filter_for`.
        samples: n, of a class in a step, and as many of the prior images, >= 1.
        unet_rate: learning rate of the UNet's adapters, constant, >= 0.
        text_rate: of the text encoder's.
        weight_decay: decoupled, >= 0.
        clip: bound on the norm of a class's gradient over both networks, >= 0.
        prior_weight: of the prior images' term, >= 0; it needs prior images.
        stratified: see `fewshot.diffusion.random_draws.draw_samples`.
        unet_scale: s of the UNet's adapters in inference.
        text_scale: of the text encoder's.
        full_scale_steps: steps with s = 1, after which s is that of inference, as in the authors' code from the first
            checkpoint on; None trains with s = 1 throughout.
        jitter: whether brightness and contrast of images are changed anew in each step, see `image_jitter`. As
            published, at the cost of encoding each sample.
        target: of the loss.
    """

    steps: int
    rank: int = 16
    blocks: BlockFilter = "none"
    samples: int = 1
    unet_rate: float = 1e-4
    text_rate: float = 5e-5
    weight_decay: float = 1e-2
    clip: float = 1.0
    prior_weight: float = 1.0
    stratified: bool = False
    unet_scale: float = 0.6
    text_scale: float = 0.7
    full_scale_steps: int | None = None
    jitter: bool = False
    target: LossTarget = "noise"

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        lowest = {"steps": 0, "rank": 1, "samples": 1, "full_scale_steps": 0}
        floats = ("unet_rate", "text_rate", "weight_decay", "clip", "prior_weight", "unet_scale", "text_scale")
        for name, low in (*lowest.items(), *((name, 0) for name in floats)):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= low):
                raise DataError(f"{name} must be a number from {low}, got {value!r}")

    def identity(self) -> dict[str, Any]:
        """Return all that determines the adapters, as JSON values. What came later is left out where it is off."""
        later = {"jitter": False, "target": "noise"}
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}

    def scales(self, step: int) -> tuple[float, float]:
        """Return s of the UNet's and of the text encoder's adapters at a training step."""
        if self.full_scale_steps is None or step < self.full_scale_steps:
            return 1.0, 1.0
        return self.unet_scale, self.text_scale


def train_adapters(
    backbone: DiffusionBackbone,
    classes: Sequence[LatentImages],
    settings: AdapterSettings,
    *,
    block_size: int,
    seed: int,
    prior: LatentImages | None = None,
    checkpointing: bool = False,
    on_step: OnStep | None = None,
) -> StackedLora:
    """Train the adapters of one block of classes.

    Args:
        backbone: the model, left unchanged. A forward has G · n rows, twice that with prior images, whatever its
            `batch_size`.
        classes: K in [1, G].
        settings: of the training.
        block_size: G. An adapter's last bits depend on it, and on nothing else about the other classes.
        seed: of the initial adapters and of all samples.
        prior: images that the adapters should leave as they are; None for no such term.
        checkpointing: compute the UNet's activations a second time instead of keeping them: the same bits for about a
            third more time, in a fraction of the memory (`fewshot.diffusion.training_memory`).
        on_step: called before each step, see `OnStep`.

    Returns:
        float32 on the backbone's device, without gradients, in the order of `classes`.

    Raises:
        DataError: too many classes, or none; the backbone computes in float16, where gradients vanish; or images that
            should be jittered have no pixels.
    """
    if not 1 <= len(classes) <= block_size:
        raise DataError(f"expected 1 to {block_size} classes in a block, got {len(classes)}")
    if backbone.dtype == torch.float16:
        raise DataError("adapters are not trained in float16, where gradients vanish; use float32 or bfloat16")
    block = [*classes, *[classes[-1]] * (block_size - len(classes))]
    lora = _initial_adapters(backbone, block, settings, seed=seed)
    optimizer = torch.optim.AdamW(
        [
            {"params": _tensors(lora.unet), "lr": settings.unet_rate},
            {"params": _tensors(lora.text), "lr": settings.text_rate},
        ],
        weight_decay=settings.weight_decay,
    )
    with torch.enable_grad(), _checkpointed(backbone.unet, checkpointing), _reproducible(backbone.device):
        for step in range(settings.steps):
            optimizer.zero_grad(set_to_none=True)
            losses = _add_gradients(backbone, lora, block, prior, settings, step=step, seed=seed)
            if on_step is not None:
                on_step(step, losses[: len(classes)].cpu())
            clip_gradients_by_class([*_tensors(lora.unet), *_tensors(lora.text)], settings.clip)
            optimizer.step()
    return lora.mapped(lambda tensor: tensor.detach()[: len(classes)])


def _initial_adapters(
    backbone: DiffusionBackbone, block: Sequence[LatentImages], settings: AdapterSettings, *, seed: int
) -> StackedLora:
    keys = [images.key for images in block]
    unet = initial_pairs(unet_sites(backbone.unet, settings.blocks), keys, rank=settings.rank, seed=seed)
    text = initial_pairs(sites(backbone.text_encoder), keys, rank=settings.rank, seed=seed)
    return StackedLora(unet, text).mapped(lambda tensor: tensor.to(backbone.device).requires_grad_())


@contextmanager
def _checkpointed(unet: Any, wanted: bool) -> Iterator[None]:
    """Let the blocks of a UNet compute their activations again in the backward pass, while the context lasts."""
    if not wanted:
        yield
        return
    unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        unet.disable_gradient_checkpointing()


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Avoid kernels on a GPU that add in any order, those of fused attention's backward among them."""
    if device.type == "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fills = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # It costs a write of every tensor, and finds mistakes.
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fills


def _tensors(pairs: Pairs) -> list[Tensor]:
    return [tensor for pair in pairs.values() for tensor in pair]


def _add_gradients(
    backbone: DiffusionBackbone,
    lora: StackedLora,
    block: Sequence[LatentImages],
    prior: LatentImages | None,
    settings: AdapterSettings,
    *,
    step: int,
    seed: int,
) -> Tensor:
    """Return the loss of each class of a block, [G] float32, and add their gradients to those of the adapters.

    The rows of a forward are ordered by class, then by term, then by sample.
    """
    sources = [(images, images.key) for images in block]
    if prior is not None and settings.prior_weight > 0:
        sources = [pair for images in block for pair in ((images, images.key), (prior, images.key))]
    count, terms = settings.samples, len(sources) // len(block)
    draws = [
        draw_samples(
            images,
            key,
            step,
            count=count,
            num_steps=len(backbone.alphas_cumprod),
            stratified=settings.stratified,
            seed=seed,
            encoded=encoded,
        )
        for (images, key), encoded in zip(sources, _encoded(backbone, sources, settings, step, seed), strict=True)
    ]
    ids = torch.stack([images.token_ids for images, _ in sources])
    samples = TrainingSamples(*map(torch.cat, zip(*draws, strict=True)))
    with _noise_errors(backbone, lora, ids, samples, settings.scales(step)) as errors:
        weighted = errors * loss_weights(backbone, samples.steps, settings.target)
        by_term = weighted.view(len(block), terms, count).mean(dim=2)
        losses = by_term[:, 0] if terms == 1 else by_term[:, 0] + settings.prior_weight * by_term[:, 1]
        losses.sum().backward()  # type: ignore[no-untyped-call]
    return losses.detach()


def _encoded(
    backbone: DiffusionBackbone,
    sources: Sequence[tuple[LatentImages, str]],
    settings: AdapterSettings,
    step: int,
    seed: int,
) -> list[tuple[Tensor, Tensor] | None]:
    """Return mean and std of the images that each source gives a step, after the jitter; None for each without it."""
    if not settings.jitter:
        return [None] * len(sources)
    drawn = [jittered_pixels(images, key, step, count=settings.samples, seed=seed) for images, key in sources]
    mean, std = backbone.posterior(torch.cat(drawn))
    return list(zip(*(torch.split(part, settings.samples) for part in (mean, std)), strict=True))


@contextmanager
def _noise_errors(
    backbone: DiffusionBackbone, lora: StackedLora, ids: Tensor, samples: TrainingSamples, scales: tuple[float, float]
) -> Iterator[Tensor]:
    """Compute the noise error of each row, [B] float32.

    The UNet's adapters stay in place while the context lasts: a backward with checkpoints runs its blocks again.

    Args:
        backbone: the model.
        lora: adapters of G classes.
        ids: [P, L] int64, prompts, the same number for each class, class after class.
        samples: B rows, the same number for each prompt, prompt after prompt.
        scales: s of the UNet's and the text encoder's adapters.
    """
    prompts, rows = len(ids) // len(lora), len(samples.steps) // len(lora)
    classes = torch.arange(len(lora))
    with injected(backbone.text_encoder, lora.text, scale=scales[1], rows_per_class=prompts) as set_classes:
        set_classes(classes.repeat_interleave(prompts))
        contexts = backbone.embed_ids(ids).repeat_interleave(rows // prompts, dim=0)
    noise = samples.noise.to(backbone.device)
    noisy = add_noise(samples.latents.to(backbone.device), noise, samples.steps, backbone.alphas_cumprod)
    with injected(backbone.unet, lora.unet, scale=scales[0], rows_per_class=rows) as set_classes:
        set_classes(classes.repeat_interleave(rows))
        yield (noise - backbone.predict(noisy, samples.steps, contexts)).square().mean(dim=(1, 2, 3))


@torch.no_grad()
def clip_gradients_by_class(tensors: Sequence[Tensor], bound: float) -> None:
    """Scale the gradients of each class down to a norm, as `torch.nn.utils.clip_grad_norm_` does for one class.

    Args:
        tensors: [G, …] each, the first dimension over the classes; their gradients are changed in place.
        bound: on a class's norm over all tensors.
    """
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients])
    factor = (bound / (squares.sum(dim=0).sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))
