"""The cost of escalation, in forwards of the UNet, and the number of forwards that a budget in hours pays for."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cluster import Part, Store
from ray_jobs.escalation.selection import Budget
from ray_jobs.job_file.sections import EscalateSection
from ray_jobs.output.feature_parts import removed_if_damaged
from ray_jobs.output.layout import from_json, to_json
from ray_jobs.steps.diffusion_worker import DiffusionWorker

if TYPE_CHECKING:
    from fewshot.diffusion.adapter_training import AdapterSettings

FORWARDS_PER_SAMPLE = 4.0
"""Cost of a training sample, at most: a forward and the backward of a frozen network, through adapters."""
FORWARDS_PER_ENCODING = 6.0
"""Cost of encoding an image, at most; Stable Diffusion's VAE takes 1.4 forwards of its UNet, of 4 rows each."""
ROWS_PER_QUERY = 1.5
"""Rows of forwards at most, in the long run: the last forward of a unit, or of a class of it, is filled up."""
LAST_FORWARDS = 16
"""Forwards at the ends of rounds, at most, which may have few queries."""
PROBE_S = 3.0


@dataclass(frozen=True, slots=True)
class ProbeUnit:
    """Measures the rate of forwards on a worker."""

    def run(self, worker: DiffusionWorker) -> Part:
        """Measure the rate. It is stored, so that a resumed run plans with the same one."""
        import torch

        backbone = worker.backbone
        context = backbone.embed_texts(["a picture"]).expand(backbone.batch_size, -1, -1)
        noisy = torch.zeros(backbone.batch_size, *backbone.latent_shape)
        steps = torch.full((backbone.batch_size,), len(backbone.alphas_cumprod) // 2)
        with worker.device, torch.inference_mode():
            backbone.predict(noisy, steps, context)
            start, done = time.monotonic(), 0
            while time.monotonic() - start < PROBE_S:
                backbone.predict(noisy, steps, context).sum().item()
                done += len(noisy)
        return Part(to_json(asdict(Probe(done / (time.monotonic() - start), str(backbone.device)))))


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of a `ProbeUnit`.

    Attributes:
        forwards_a_second: of the UNet, on one worker.
        device: of that worker, in torch's words.
    """

    forwards_a_second: float
    device: str

    @classmethod
    def from_json(cls, data: bytes) -> Probe:
        """Read a part.

        Raises:
            KeyError, TypeError, ValueError: it is damaged.
        """
        values = from_json(data)
        rate = float(values["forwards_a_second"])
        if not 0 < rate < math.inf:
            raise ValueError(f"forwards_a_second must be positive and finite, got {rate}")
        return cls(rate, str(values["device"]))


def get_rate(store: Store, path: str) -> float:
    """Read the rate that a `ProbeUnit` measured, in forwards a second.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    with removed_if_damaged(store, path):
        return Probe.from_json(data).forwards_a_second


def class_training_cost(settings: AdapterSettings) -> float:
    """Return the cost of one class of a block, in forwards. A block costs this for each place, taken or filled up."""
    terms = 2 if settings.prior_weight else 1
    of_sample = FORWARDS_PER_SAMPLE + FORWARDS_PER_ENCODING * settings.jitter
    return of_sample * settings.steps * settings.samples * terms


def training_cost(num_classes: int, settings: Collection[AdapterSettings], *, block_size: int) -> float:
    """Return an upper bound of the cost of training classes in blocks, in forwards.

    Args:
        num_classes: how many.
        settings: that a class may be trained with. The classes of a block have the same, so that each of them may leave
            a block that is not full.
        block_size: classes of a block.
    """
    spread = num_classes + (block_size - 1) * min(num_classes, len(settings))
    blocks = min(num_classes, spread // block_size)
    return blocks * block_size * max(map(class_training_cost, settings), default=0.0)


def make_budget(
    section: EscalateSection,
    images: int,
    settings: Collection[AdapterSettings],
    rate: float | None,
    *,
    prior_cost: float = 0.0,
    held_out_images: int = 0,
) -> Budget:
    """Return the budget of a run.

    Args:
        section: of the job file.
        images: of the archive.
        settings: that classes may be trained with; none for a method without adapters.
        rate: forwards a second of a worker; needed where `budget_gpu_hours` is set.
        prior_cost: forwards spent before the first class is trained.
        held_out_images: examples of a class that calibration scores, at most.
    """
    hours, block_size = section.budget_gpu_hours, section.classes_per_block
    assert hours is None or rate is not None
    trainings = 2 if section.calibrate else 1  # Calibration trains every class a second time.
    last = LAST_FORWARDS * section.spec.max_batch_size
    return Budget(
        images=math.floor(section.max_fraction * images),
        forwards=None if hours is None or rate is None else 3600.0 * hours * rate - prior_cost - trainings * last,
        training_cost=lambda classes: trainings * training_cost(classes, settings, block_size=block_size),
        per_calibration=held_out_images * section.candidates * section.steps * ROWS_PER_QUERY,
        per_query=section.steps * ROWS_PER_QUERY,
        per_image=FORWARDS_PER_ENCODING,
    )
