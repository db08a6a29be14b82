"""Score classes of images by the noise error: that of the noise which the model predicts given the class.

    e(image, class, t) = mean over C, h, w of (eps - eps_hat(sqrt(a) z + sqrt(1 - a) eps, t, context of the class))^2

Diffusion Classifier (arXiv 2303.16203) compares these errors over prompts (on four of its eight data sets absolute
differences in place of squared ones), TiF (arXiv 2403.02649) over prompts and adapters. Where we differ from their
code: latents, noise levels and the error are float32 in every precision (in half precision an error is rounded by about
as much as classes differ), and rows of any images, classes and steps share a forward, whose size never changes, so that
a row's bits do not depend on the other queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from fewshot.backbones.determinism import TEXT_BATCH, pad_with_copies, pad_with_zeros
from fewshot.backbones.diffusion.noise_schedule import add_noise
from fewshot.diffusion.lora import Pairs, StackedLora, injected, merged
from fewshot.diffusion.random_draws import image_noise
from fewshot.errors import DataError

if TYPE_CHECKING:
    from typing import Any

    from fewshot.backbones.diffusion import DiffusionBackbone


ErrorNorm = Literal["l2", "l1"]
"""Whether squared or absolute differences are averaged."""
MIN_ROWS_TO_MERGE = 64
"""Rows of one class from which merging its adapters is cheaper. Measured on the embedded model, relative to no
adapters: 1.12 merged and 1.11 stacked for 16 rows, 1.05 and 1.09 for 64, 1.00 and 1.10 for 1,024."""


@dataclass(frozen=True, slots=True)
class Queries:
    """R queries, each for the noise error of one image under one class at one time-step.

    Attributes:
        image: [R] int64 in [0, N).
        label: [R] int64 in [0, K).
        step: [R] int64 in [0, T).
    """

    image: Tensor
    label: Tensor
    step: Tensor

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            DataError: they differ.
        """
        if not len(self.image) == len(self.label) == len(self.step):
            raise DataError(f"queries differ in length: {len(self.image)}, {len(self.label)}, {len(self.step)}")

    def __len__(self) -> int:
        """R."""
        return len(self.image)

    def __getitem__(self, index: Tensor) -> Queries:
        """The queries selected by an index or a boolean mask, [r] or [R]."""
        return Queries(self.image[index], self.label[index], self.step[index])


@torch.no_grad()
def class_contexts(
    backbone: DiffusionBackbone, prompts: Sequence[str], adapters: StackedLora | None = None, *, scale: float = 1.0
) -> Tensor:
    """Encode the prompt of each class for the UNet.

    Args:
        backbone: the model.
        prompts: K, one for each class; they may be equal.
        adapters: of the K classes; each prompt is encoded with those of its class. None for the text encoder alone.
        scale: of the adapters; TiF's is 0.7.

    Returns:
        [K, L, width] float32 on the CPU.
    """
    rows = []
    with maybe_injected(backbone.text_encoder, None if adapters is None else adapters.text, scale=scale) as set_classes:
        for part in torch.split(torch.arange(len(prompts)), TEXT_BATCH):
            full = pad_with_copies(part, TEXT_BATCH)
            set_classes(full)
            ids = backbone.token_ids([prompts[label] for label in full.tolist()])
            rows.append(backbone.embed_ids(ids)[: len(part)].cpu())
    return torch.cat(rows)


@torch.inference_mode()
def noise_errors(
    backbone: DiffusionBackbone,
    latents: Tensor,
    keys: Sequence[str],
    contexts: Tensor,
    queries: Queries,
    *,
    seed: int,
    adapters: Pairs | None = None,
    scale: float = 1.0,
    norm: ErrorNorm = "l2",
) -> Tensor:
    """Compute the noise error of each query, one row of a forward of the UNet.

    A row's bits depend on its image, its class, its step and `seed`, not on the other queries or their order, for the
    same `backbone.batch_size`.

    Args:
        backbone: the model.
        latents: [N, C, h, w] float32, means of the posterior.
        keys: names of the N images; the noise of an image derives from its name.
        contexts: [K, L, width] float32.
        queries: R queries.
        seed: of the noise.
        adapters: of the K classes, for the UNet, in any precision; None for the UNet alone (Diffusion Classifier).
        scale: of the adapters; TiF's is 0.6.
        norm: of the error.

    Returns:
        [R] float32 on the CPU.

    Raises:
        DataError: the shapes do not fit together; or an error is not finite, so that it cannot decide anything.
    """
    _check(backbone, latents, keys, contexts)
    latents, contexts = latents.to(backbone.device), contexts.to(backbone.device, backbone.dtype)
    order, found = [], []
    with maybe_injected(backbone.unet, adapters, scale=scale) as set_classes:
        for rows in query_batches(queries, num_classes=len(contexts), size=backbone.batch_size):
            batch = queries[rows]
            drawn = _noise(batch, keys, backbone.latent_shape, seed=seed)  # While the device does the last forward.
            noise = drawn.to(backbone.device)
            set_classes(pad_with_zeros(batch.label, backbone.batch_size))
            noisy = add_noise(latents[batch.image], noise, batch.step, backbone.alphas_cumprod)
            parts = (pad_with_zeros(part, backbone.batch_size) for part in (noisy, batch.step, contexts[batch.label]))
            predicted = backbone.predict(*parts)[: len(rows)]
            difference = noise - predicted
            found.append((difference.square() if norm == "l2" else difference.abs()).mean(dim=(1, 2, 3)))
            order.append(rows)
    if not found:
        return torch.empty(0)
    return _finite(torch.cat(found).cpu(), backbone)[torch.cat(order).argsort()]


def _finite(errors: Tensor, backbone: DiffusionBackbone) -> Tensor:
    """Return the errors, if all are finite: a minimum over NaN is NaN, so that such a class would win."""
    if wrong := int((~errors.isfinite()).sum()):
        name = str(backbone.dtype).removeprefix("torch.")
        raise DataError(
            f"{wrong} of {len(errors)} noise errors of the diffusion model are not finite in {name}"
            + ("" if backbone.dtype == torch.float32 else '; set precision = "bf16" or "fp32"')
        )
    return errors


def errors_by_class(
    backbone: DiffusionBackbone,
    latents: Tensor,
    keys: Sequence[str],
    contexts: Tensor,
    queries: Queries,
    *,
    seed: int,
    adapters: Pairs,
    scale: float = 1.0,
    norm: ErrorNorm = "l2",
) -> Tensor:
    """Compute `noise_errors` a class at a time, with its adapters merged into the weights.

    The forwards then cost what they cost without adapters, where stacked ones cost a tenth more, which pays for a merge
    from about `MIN_ROWS_TO_MERGE` rows on. The errors are equal but for rounding, so a choice between the two functions
    must not depend on how queries are cut into units.
    """
    errors = torch.empty(len(queries))
    for label in queries.label.unique().tolist():  # type: ignore[no-untyped-call]
        rows = (queries.label == label).nonzero().squeeze(1)
        with merged(backbone.unet, adapters, label, scale=scale):
            errors[rows] = noise_errors(backbone, latents, keys, contexts, queries[rows], seed=seed, norm=norm)
    return errors


@contextmanager
def maybe_injected(model: Any, pairs: Pairs | None, *, scale: float) -> Iterator[Callable[[Tensor], None]]:
    """Inject adapters if there are any, see `injected`; otherwise leave the model as it is."""
    if not pairs:
        yield lambda _: None
        return
    with injected(model, pairs, scale=scale) as set_classes:
        yield set_classes


def query_batches(queries: Queries, *, num_classes: int, size: int) -> Iterator[Tensor]:
    """Group the queries that share a forward: of few images and steps, whose noise is made once, in order of class.

    Args:
        queries: R queries.
        num_classes: K.
        size: rows in a forward, at most.

    Yields:
        [b] int64, the numbers of the queries in a forward; every query once.
    """
    steps = int(queries.step.max()) + 1 if len(queries) else 1
    position = (queries.image * steps + queries.step) * num_classes + queries.label
    for rows in torch.split(position.argsort(stable=True), size):
        if len(rows):
            yield rows[queries.label[rows].argsort(stable=True)]


def _noise(queries: Queries, keys: Sequence[str], shape: Sequence[int], *, seed: int) -> Tensor:
    """[b, C, h, w] float32: made once for rows with the same image and step."""
    pairs = list(zip(queries.image.tolist(), queries.step.tolist(), strict=True))
    made = {(image, step): image_noise(seed, keys[image], step, shape) for image, step in dict.fromkeys(pairs)}
    return torch.stack([made[pair] for pair in pairs])


def _check(backbone: DiffusionBackbone, latents: Tensor, keys: Sequence[str], contexts: Tensor) -> None:
    if latents.shape != (len(keys), *backbone.latent_shape):
        expected = [len(keys), *backbone.latent_shape]
        raise DataError(f"latents must be [N, C, h, w] = {expected} beside N keys, got {list(latents.shape)}")
    width = backbone.text_encoder.config.hidden_size
    if contexts.ndim != 3 or contexts.shape[2] != width:
        raise DataError(f"contexts must be [K, L, {width}], got {list(contexts.shape)}")
