"""What asking costs, in forwards of the UNet, and how many of them a budget in hours is."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cluster import Part, Store
from ray_jobs.escalation.adapter_training import BLOCK
from ray_jobs.escalation.selection import Budget
from ray_jobs.job_file.sections import EscalateSection
from ray_jobs.output.feature_parts import removed_if_damaged
from ray_jobs.output.layout import to_json
from ray_jobs.steps.diffusion_worker import DiffusionWorker

if TYPE_CHECKING:
    from fewshot.diffusion.adapter_training import AdapterSettings

FORWARDS_A_SAMPLE = 4.0
"""What a sample of the training costs at most: a forward and the backward of a frozen network, through adapters."""
FORWARDS_AN_IMAGE = 6.0
"""What encoding costs at most; Stable Diffusion's VAE takes 1.4 forwards of its UNet, and its forwards have 4 rows."""
ROWS_A_QUESTION = 1.5
"""Rows of forwards at most, in the long run: the last forward of a unit, or of a class of it, is filled up."""
LAST_FORWARDS = 16
"""Forwards at the ends of rounds, at most, which may be for few questions."""
PROBE_S = 3.0


@dataclass(frozen=True, slots=True)
class ProbeUnit:
    """Times forwards on a worker."""

    def run(self, worker: DiffusionWorker) -> Part:
        """The rate, told once and for all: a resumed run goes by what the first one measured."""
        import torch

        backbone = worker.backbone
        context = backbone.embed_texts(["a picture"]).expand(backbone.batch_size, -1, -1)
        noisy = torch.zeros(backbone.batch_size, *backbone.latent_shape)
        steps = torch.full((backbone.batch_size,), len(backbone.alphas_cumprod) // 2)
        with torch.inference_mode():
            backbone.predict(noisy, steps, context)
            start, done = time.monotonic(), 0
            while time.monotonic() - start < PROBE_S:
                backbone.predict(noisy, steps, context).sum().item()
                done += len(noisy)
        return Part(to_json(asdict(Probe(done / (time.monotonic() - start), str(backbone.device)))))


@dataclass(frozen=True, slots=True)
class Probe:
    """What a `ProbeUnit` found.

    Attributes:
        forwards_a_second: of the UNet, on one worker.
        device: of that worker, in torch's words.
    """

    forwards_a_second: float
    device: str

    @classmethod
    def from_json(cls, data: bytes) -> Probe:
        """From its part.

        Raises:
            KeyError, TypeError, ValueError: it is damaged.
        """
        values = json.loads(data)
        rate = float(values["forwards_a_second"])
        if not 0 < rate < math.inf:
            raise ValueError(f"{rate} forwards a second")
        return cls(rate, str(values["device"]))


def get_rate(store: Store, path: str) -> float:
    """What a `ProbeUnit` found, from storage.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    with removed_if_damaged(store, path):
        return Probe.from_json(data).forwards_a_second


def training_cost(settings: AdapterSettings) -> float:
    """Of one class of a block, in forwards. A block costs this for each of its places, taken or filled up."""
    terms = 2 if settings.prior_weight else 1
    return FORWARDS_A_SAMPLE * settings.steps * settings.samples * terms


def learning_cost(classes: int, ways: Collection[AdapterSettings]) -> float:
    """Of some classes in blocks, in forwards, at most.

    Args:
        classes: how many.
        ways: how a class may be learned. Those of a block are learned the same way, so that each way may leave a block
            that is not full.
    """
    blocks = min(classes, (classes + (BLOCK - 1) * min(classes, len(ways))) // BLOCK)
    return blocks * BLOCK * max(map(training_cost, ways), default=0.0)


def budget_of(
    section: EscalateSection,
    images: int,
    ways: Collection[AdapterSettings],
    rate: float | None,
    *,
    before: float = 0.0,
    calibration_images: int = 0,
) -> Budget:
    """What may be spent.

    Args:
        section: of the job file.
        images: of the archive.
        ways: how classes are learned; none if nothing is.
        rate: forwards a second of a worker; needed where `budget_gpu_hours` is set.
        before: forwards that come before the first class is learned.
        calibration_images: examples of a class that the model is examined on, at most.
    """
    hours = section.budget_gpu_hours
    assert hours is None or rate is not None
    times = 2 if section.calibrate else 1  # For the exam a class is learned once more.
    last = LAST_FORWARDS * section.spec.max_batch_size
    return Budget(
        images=math.floor(section.max_fraction * images),
        forwards=None if hours is None or rate is None else 3600.0 * hours * rate - before - times * last,
        learning=lambda classes: times * learning_cost(classes, ways),
        per_calibration=calibration_images * section.candidates * section.steps * ROWS_A_QUESTION,
        per_query=section.steps * ROWS_A_QUESTION,
        per_image=FORWARDS_AN_IMAGE,
    )
