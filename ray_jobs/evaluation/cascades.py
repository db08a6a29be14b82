"""The cascade on a labelled set: accuracy against cost, beside the cheap method alone and the diffusion model alone.

The test images stand for the archive. Every one of them is asked about, the least certain first, so that one cascade
tells what each smaller one would have come to; and once more among all classes, which is what the diffusion model says
by itself. Both know the same adapters, latents and first opinions.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq

from cluster import StageReport, Unit, fingerprint
from cluster.records import Shard
from fewshot.methods.table import needs_of
from ray_jobs.console.progress import Reporter
from ray_jobs.escalation import Escalation, escalation_identity
from ray_jobs.escalation.cost_curve import measure_cascades
from ray_jobs.escalation.stages import IncompleteError, Stages, stages_for
from ray_jobs.evaluation.design import Evaluation
from ray_jobs.inputs.archive import Listing
from ray_jobs.inputs.examples import LabelledUnits
from ray_jobs.job_file.sections import EscalateSection
from ray_jobs.output.layout import CHEAP_PREDICTIONS, PREDICTIONS, prediction_part
from ray_jobs.output.predictions import best_guesses, prediction_format
from ray_jobs.results.escalation_summary import CostPoint, MeasuredEscalation
from ray_jobs.results.evaluation_result import CascadeKind, CascadeRow
from ray_jobs.results.json_format import FormatError, JsonDocument
from ray_jobs.steps.predict import PredictStep
from ray_jobs.steps.train import Training

CASCADE = "cascade.json"
FRACTIONS = tuple(i / 20 for i in range(21))
"""Of the images, at which means over draws are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawCascade(JsonDocument):
    """The cascade of one draw.

    Attributes:
        shots: examples a class.
        seed: of the draw.
        curve: see `measure_cascades`.
        alone: the diffusion model alone; None if the budget did not pay for every image.
    """

    format_version: ClassVar[int] = 1
    shots: int
    seed: int
    curve: tuple[CostPoint, ...]
    alone: CostPoint | None


@dataclass(frozen=True)
class LabelledArchive:
    """The test images, as an archive.

    Attributes:
        units: what embeds them.
    """

    units: tuple[Unit, ...]

    def shards(self) -> Iterator[Shard]:
        """One for each unit."""
        for unit in self.units:
            yield unit.payload.shard

    def listing(self) -> Listing:
        """What is in it."""
        shards = tuple((shard.fingerprint, shard.size) for shard in self.shards())
        return Listing(fingerprint([name for name, _ in shards]), shards, 0, ())


@dataclass(frozen=True)
class Cascades:
    """The cascades of one draw.

    Attributes:
        work: the evaluation.
        section: its [escalate].
        shots: examples a class.
        seed: of the draw.
    """

    work: Evaluation
    section: EscalateSection
    shots: int
    seed: int

    @cached_property
    def support(self) -> LabelledUnits:
        """The examples, a unit a class."""
        return self.work.examples(self.shots, self.seed)

    @cached_property
    def training(self) -> Training:
        """Of the cheap method."""
        job, cheap = self.work.job, self.work.job.classifier
        diffusion = job.diffusion.spec if "diffusion" in needs_of(cheap.method, cheap.hyperparameters) else None
        return Training(job.clip.spec, job.clip.templates, cheap, self.seed, self.support, diffusion)

    @property
    def candidates(self) -> tuple[int, int]:
        """How many classes are asked about an image in the cascade, and by the diffusion model alone: all."""
        classes = len(self.support.labels.space)
        return min(self.section.candidates, classes), classes

    @cached_property
    def folder(self) -> str:
        """Where it is kept; in the name is all that determines it."""
        identity = [
            prediction_format(),
            self.training.identity.to_json(),
            self.work.test.identity,
            escalation_identity(self.section),
        ]
        method = self.work.job.classifier.method
        return f"cascades/{method}/{self.shots}-shots-seed-{self.seed}-{fingerprint(identity)}"

    def measured(self) -> DrawCascade | None:
        """What was measured before; None if nothing, or if it cannot be read."""
        path = f"{self.folder}/{CASCADE}"
        with suppress(FileNotFoundError, FormatError):
            return DrawCascade.from_json(self.work.store.get(path), where=self.work.store.url(path))
        return None

    def measure(self, stages: Stages) -> DrawCascade:
        """Label the test images, ask about all of them, and look.

        Raises:
            IncompleteError: a unit failed.
        """
        cheap_predictions = self._label(stages)
        some, every = (self._ask(count, cheap_predictions, stages) for count in self.candidates)
        last = every.curve[-1]
        alone = last if last.fraction == 1.0 else None
        found = DrawCascade(shots=self.shots, seed=self.seed, curve=some.curve, alone=alone)
        self.work.store.put(f"{self.folder}/{CASCADE}", found.to_bytes())
        return found

    def _label(self, stages: Stages) -> list[str]:
        """First opinions on the test images, with all classes in the order of their scores."""
        classifier, test = self.training.run(self.work.store), self.work.test
        step = PredictStep(self.work.store, classifier, self.work.job.clip.spec, top=len(self.support.labels.space))
        units = [
            Unit(prediction_part(f"{self.folder}/{CHEAP_PREDICTIONS}", i, unit.payload.shard.fingerprint), unit.path)
            for i, unit in enumerate(test.units)
        ]
        stages.run("labelling", step, units)
        return [unit.path for unit in units]

    def _ask(self, candidates: int, cheap_predictions: Sequence[str], stages: Stages) -> MeasuredEscalation:
        run, archive = f"{self.folder}/of-{candidates}", LabelledArchive(self.work.test.units)
        section = replace(self.section, candidates=max(2, candidates))
        asking = Escalation(section, self.work.store, run, archive, archive.listing(), self.support, None)
        if asking.carry_out(cheap_predictions, stages) is None:
            raise IncompleteError
        right, readable = self._right(run)
        return measure_cascades(self.work.store, run, self.work.truth, right=right, labelled=readable, images=readable)

    def _right(self, run: str) -> tuple[int, int]:
        """Predictions that are right, and images that could be read."""
        right = readable = 0
        for part in self.work.store.list(f"{run}/{PREDICTIONS}"):
            rows = pq.read_table(io.BytesIO(self.work.store.get(part)), columns=["image", "top_labels"])
            for image, label in zip(rows["image"].to_pylist(), best_guesses(rows), strict=True):
                readable += label is not None
                right += label == self.work.truth[image]
        return right, readable


def cascades_of(work: Evaluation) -> list[Cascades]:
    """Those of every draw; none without [escalate], or where classes without examples are asked for.

    Every test image is asked about, whatever the section says of `below` and `max_fraction`; its budget is shared out.
    Scores play no part, so nobody is examined.
    """
    if work.job.escalate is None or not work.draws_cascades:
        return []
    draws, hours = list(work.draws), work.job.escalate.budget_gpu_hours
    share = None if hours is None else hours / (2 * len(draws))
    section = replace(work.job.escalate, below=None, max_fraction=1.0, budget_gpu_hours=share, calibrate=False)
    return [Cascades(work, section, shots, seed) for shots, seed in draws]


def measure_all(
    work: Evaluation, cascades: Sequence[Cascades], reporter: Reporter
) -> tuple[list[DrawCascade], list[StageReport]]:
    """Measure the cascades that were not measured before, on one set of workers.

    Returns:
        what they came to, without those that are incomplete; and what became of the units.
    """
    known = [(cascade, cascade.measured()) for cascade in cascades]
    found = [each for _, each in known if each is not None]
    left = [cascade for cascade, each in known if each is None]
    if not left:
        return found, []
    section = left[0].section
    questions = len(left) * sum(left[0].candidates) * len(work.test.images) * section.steps
    with stages_for(questions, work.job.cluster, work.ledger, reporter, threads=section.threads) as stages:
        for cascade in left:
            with suppress(IncompleteError):
                found.append(cascade.measure(stages))
    return found, stages.reports


def mean_cascades(found: Sequence[DrawCascade]) -> list[CascadeRow]:
    """Over the draws of each number of shots.

    Args:
        found: from `Cascades.measure`.
    """
    rows = []
    for shots in sorted({each.shots for each in found}):
        draws = [each for each in found if each.shots == shots]
        most = min(draw.curve[-1].fraction for draw in draws)
        rows += [
            _row(shots, "cascade", fraction, [_at(fraction, draw.curve) for draw in draws])
            for fraction in FRACTIONS
            if fraction <= most
        ]
        alone = [each.alone for each in draws if each.alone is not None]
        if len(alone) == len(draws):
            at = [(point.forwards_an_image, point.accuracy) for point in alone]
            rows.append(_row(shots, "diffusion alone", 1.0, at))
    return rows


def _at(fraction: float, curve: Sequence[CostPoint]) -> tuple[float, float]:
    """Forwards an image and accuracy at a fraction, between the points of a curve."""
    known = [point.fraction for point in curve]
    forwards = np.interp(fraction, known, [point.forwards_an_image for point in curve])
    return float(forwards), float(np.interp(fraction, known, [point.accuracy for point in curve]))


def _row(shots: int, what: CascadeKind, fraction: float, at: Sequence[tuple[float, float]]) -> CascadeRow:
    forwards, accuracies = zip(*at, strict=True)
    return CascadeRow(
        shots=shots,
        seeds=len(at),
        what=what,
        fraction=fraction,
        forwards_an_image=statistics.fmean(forwards),
        accuracy_mean=statistics.fmean(accuracies),
        accuracy_std=statistics.stdev(accuracies) if len(at) > 1 else 0.0,
    )
