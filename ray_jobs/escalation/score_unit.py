"""Asking: which images, which classes, which time-steps in; errors of the predicted noise out."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np

from cluster import Part, Store
from ray_jobs.output.feature_parts import removed_if_damaged
from ray_jobs.steps.diffusion_worker import ClassPrompt, DiffusionWorker
from ray_jobs.steps.latents import get_latents


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Some images of a part of latents.

    Attributes:
        path: of the part.
        rows: of it.
    """

    path: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class ScoreUnit:
    """R questions about some images.

    Attributes:
        latents: where these are.
        classes: K classes that the questions are about.
        image: [R] int32, of the rows of all excerpts, one after the other.
        label: [R] int32 in [0, K).
        step: [R] int32, time-steps.
        seed: of the noise.
        scale: of the UNet's adapters.
        merged: ask a class at a time, with its adapters merged into the weights.
    """

    latents: tuple[Excerpt, ...]
    classes: tuple[ClassPrompt, ...]
    image: np.ndarray = field(repr=False)
    label: np.ndarray = field(repr=False)
    step: np.ndarray = field(repr=False)
    seed: int
    scale: float
    merged: bool = False

    def run(self, worker: DiffusionWorker) -> Part:
        """Answer the questions, in their order."""
        import torch

        from fewshot.diffusion.lora import concatenated
        from fewshot.diffusion.noise_errors import Queries, errors_by_class, noise_errors

        parts = [(get_latents(worker.store, each.path), list(each.rows)) for each in self.latents]
        ready = [worker.ready(class_prompt) for class_prompt in self.classes]
        adapters = [adapter for adapter, _ in ready if adapter is not None]
        asked = (torch.from_numpy(array.astype(np.int64)) for array in (self.image, self.label, self.step))
        errors = (errors_by_class if self.merged and adapters else noise_errors)(
            worker.backbone,
            torch.from_numpy(np.concatenate([part.posterior[rows, 0] for part, rows in parts])),
            [part.images[row] for part, rows in parts for row in rows],
            torch.cat([context for _, context in ready]),
            Queries(*asked),
            seed=self.seed,
            adapters=concatenated(adapters) if adapters else None,  # type: ignore[arg-type]
            scale=self.scale,
        )
        return Part(encoded(errors.numpy()), {"forwards": float(len(errors))})


def encoded(errors: np.ndarray) -> bytes:
    """A part as it is stored: an array in NumPy's format, float32."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(errors, np.float32), allow_pickle=False)
    return buffer.getvalue()


def get_errors(store: Store, path: str) -> np.ndarray:
    """A part from storage, [R] float32.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    with removed_if_damaged(store, path):
        errors: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
        return errors
