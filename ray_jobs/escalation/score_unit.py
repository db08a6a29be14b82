"""A unit of scoring: images, classes and time-steps in, noise errors out."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cluster import Part, Store
from fewshot.digests import PLACEHOLDER, check_seal, seal
from ray_jobs.output.feature_parts import removed_if_damaged
from ray_jobs.steps.diffusion_worker import ClassPrompt, DiffusionWorker
from ray_jobs.steps.latents import load_means

if TYPE_CHECKING:
    from fewshot.diffusion.noise_errors import ErrorNorm


@dataclass(frozen=True, slots=True)
class LatentRows:
    """Some images of a part of latents.

    Attributes:
        path: of the part.
        rows: of the images.
    """

    path: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class ScoreUnit:
    """R queries, each for the noise error of one image under one class at one time-step.

    Attributes:
        latents: the images.
        classes: K classes.
        image: [R] int32, of the rows of all `latents`, one after the other.
        label: [R] int32 in [0, K).
        step: [R] int32, time-steps.
        seed: of the noise.
        unet_scale: of the UNet's adapters.
        merged: whether to score one class at a time, with its adapters merged into the weights.
        norm: of the noise errors.
    """

    latents: tuple[LatentRows, ...]
    classes: tuple[ClassPrompt, ...]
    image: np.ndarray = field(repr=False)
    label: np.ndarray = field(repr=False)
    step: np.ndarray = field(repr=False)
    seed: int
    unet_scale: float
    merged: bool = False
    norm: ErrorNorm = "l2"

    def identity(self) -> list[object]:
        """Return all that determines the noise errors, as JSON values; the usual norm is not named."""
        latents = [[part.path, part.rows] for part in self.latents]
        classes = [[each.prompt, each.adapter] for each in self.classes]
        queries = [array.tolist() for array in (self.image, self.label, self.step)]
        return [latents, classes, queries, self.seed, self.unet_scale, self.merged, *[self.norm] * (self.norm != "l2")]

    def run(self, worker: DiffusionWorker) -> Part:
        """Compute the noise error of each query, in their order."""
        import torch

        from fewshot.diffusion.lora import concatenated_pairs, with_all_sites
        from fewshot.diffusion.noise_errors import Queries, errors_by_class, noise_errors

        means = load_means(worker, [each.path for each in self.latents])
        parts = [(part, list(each.rows)) for part, each in zip(means, self.latents, strict=True)]
        loaded = worker.load_classes(self.classes)
        adapters = [each.adapters for each in loaded if each.adapters is not None]
        queries = Queries(*(torch.from_numpy(array.astype(np.int64)) for array in (self.image, self.label, self.step)))
        with worker.device:
            errors = (errors_by_class if self.merged and adapters else noise_errors)(
                worker.backbone,
                torch.from_numpy(np.concatenate([part.mean[rows] for part, rows in parts])),
                [part.images[row] for part, rows in parts for row in rows],
                torch.cat([each.context for each in loaded]),
                queries,
                seed=self.seed,
                adapters=concatenated_pairs(with_all_sites(adapters)) if adapters else None,  # type: ignore[arg-type]
                scale=self.unet_scale,
                norm=self.norm,
            )
        return Part(_to_bytes(errors.numpy()), {"forwards": float(len(errors))})


def _to_bytes(errors: np.ndarray) -> bytes:
    """Return a part as stored: an array in NumPy's format, float32, and a digest behind it, which NumPy ignores."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(errors, np.float32), allow_pickle=False)
    return seal(buffer.getvalue() + PLACEHOLDER.encode())


def get_errors(store: Store, path: str) -> np.ndarray:
    """Read the noise errors of a part, [R] float32.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    with removed_if_damaged(store, path):
        check_seal(data)
        errors: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
        if not np.isfinite(errors).all():
            raise ValueError("noise errors that are not finite")
        return errors
