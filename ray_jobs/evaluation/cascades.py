"""The cascade on a labelled set: accuracy against cost, beside the cheap method alone and the diffusion model alone.

The test images take the place of the archive. All of them are escalated, the least certain first, so that one cascade
gives the accuracy of each smaller one; and once more with all classes as candidates, which gives the accuracy of the
diffusion model alone. Both use the same adapters, latents and cheap predictions.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from cluster import StageReport, Unit, fingerprint
from cluster.records import Shard
from fewshot.methods.table import needs_of
from ray_jobs.console.progress import Reporter
from ray_jobs.escalation import Escalation, escalation_identity
from ray_jobs.escalation.cost_curve import measure_escalation
from ray_jobs.escalation.stages import IncompleteError, Stages, open_stages
from ray_jobs.evaluation.design import Evaluation
from ray_jobs.inputs.archive import Listing
from ray_jobs.inputs.example_blocks import Examples
from ray_jobs.job_file.sections import EscalateSection
from ray_jobs.output.feature_parts import get_table
from ray_jobs.output.layout import CHEAP_PREDICTIONS, PREDICTIONS, prediction_parts
from ray_jobs.output.predictions import best_guesses, prediction_format
from ray_jobs.results.escalation_summary import CostPoint, MeasuredEscalation
from ray_jobs.results.evaluation_result import CascadeKind, CascadeRow
from ray_jobs.results.json_format import FormatError, JsonDocument
from ray_jobs.steps.predict import PredictStep
from ray_jobs.steps.train import Training

CASCADE = "cascade.json"
FRACTIONS = tuple(i / 20 for i in range(21))
"""Shares of escalated images at which means over draws are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCascade(JsonDocument):
    """The cascade of one draw.

    Attributes:
        shots: examples a class.
        seed: of the draw.
        curve: see `measure_escalation`.
        alone: the diffusion model alone; None if the budget did not pay for every image.
    """

    format_version: ClassVar[int] = 2
    shots: int
    seed: int
    curve: tuple[CostPoint, ...]
    alone: CostPoint | None


@dataclass(frozen=True)
class LabelledArchive:
    """The test images, as an archive.

    Attributes:
        units: that embed them.
    """

    units: tuple[Unit, ...]

    def shards(self) -> Iterator[Shard]:
        """Yield the shard of each unit."""
        for unit in self.units:
            yield unit.payload.shard

    def listing(self) -> Listing:
        """Return the listing of the shards."""
        shards = tuple((shard.fingerprint, shard.size) for shard in self.shards())
        return Listing(fingerprint([name for name, _ in shards]), shards, 0, ())


@dataclass(frozen=True)
class DrawCascade:
    """The cascade of one draw: to be measured, or measured before.

    Attributes:
        evaluation: the evaluation.
        section: its [escalate].
        shots: examples a class.
        seed: of the draw.
    """

    evaluation: Evaluation
    section: EscalateSection
    shots: int
    seed: int

    @cached_property
    def support(self) -> Examples:
        """The examples; a group holds those of one class."""
        return self.evaluation.examples(self.shots, self.seed)

    @cached_property
    def training(self) -> Training:
        """The training of the cheap method."""
        job, cheap = self.evaluation.job, self.evaluation.job.classifier
        diffusion = job.diffusion.spec if "diffusion" in needs_of(cheap.method, cheap.hyperparameters) else None
        return Training(
            job.clip.spec,
            job.clip.templates,
            cheap,
            self.seed,
            self.support,
            diffusion,
            validation=self.evaluation.validation_of(self.shots, self.seed),
        )

    @property
    def candidates(self) -> tuple[int, int]:
        """Classes scored for an image, at most: in the cascade, and by the diffusion model alone (all of them)."""
        classes = len(self.support.labels.space)
        return min(self.section.candidates, classes), classes

    @cached_property
    def folder(self) -> str:
        """The folder of its files, named after all that determines them."""
        identity = [
            prediction_format(),
            self.training.identity.to_json(),
            self.evaluation.test.identity,
            escalation_identity(self.section),
        ]
        method = self.evaluation.job.classifier.method
        return f"cascades/{method}/{self.shots}-shots-seed-{self.seed}-{fingerprint(identity)}"

    def stored(self) -> MeasuredCascade | None:
        """Return what was measured before; None if nothing was, or if it cannot be read."""
        path = f"{self.folder}/{CASCADE}"
        with suppress(FileNotFoundError, FormatError):
            return MeasuredCascade.from_json(self.evaluation.store.get(path), where=self.evaluation.store.url(path))
        return None

    def measure(self, stages: Stages) -> MeasuredCascade:
        """Predict the test images, escalate all of them, and measure the accuracy at each cost.

        Raises:
            IncompleteError: a unit failed.
        """
        cheap_predictions = self._predict(stages)
        some, every = (self._escalate(count, cheap_predictions, stages) for count in self.candidates)
        last = every.curve[-1]
        alone = last if last.fraction == 1.0 else None
        found = MeasuredCascade(shots=self.shots, seed=self.seed, curve=some.curve, alone=alone)
        self.evaluation.store.put(f"{self.folder}/{CASCADE}", found.to_bytes())
        return found

    def _predict(self, stages: Stages) -> list[str]:
        """Make the cheap predictions of the test images, with all classes in the order of their scores."""
        classifier, test = self.training.run(self.evaluation.store), self.evaluation.test
        step = PredictStep(
            self.evaluation.store, classifier, self.evaluation.job.clip.spec, top=len(self.support.labels.space)
        )
        parts = prediction_parts(f"{self.folder}/{CHEAP_PREDICTIONS}", test.paths)
        units = [Unit(part, features) for part, features in zip(parts, test.paths, strict=True)]
        stages.run("labelling", step, units)
        return parts

    def _escalate(self, candidates: int, cheap_predictions: Sequence[str], stages: Stages) -> MeasuredEscalation:
        run, archive = f"{self.folder}/of-{candidates}", LabelledArchive(self.evaluation.test.units)
        section = replace(self.section, candidates=max(2, candidates))
        escalation = Escalation(section, self.evaluation.store, run, archive, archive.listing(), self.support, None)
        if escalation.escalate(cheap_predictions, stages) is None:
            raise IncompleteError
        correct, readable = self._count_correct(run)
        labels = self.evaluation.ground_truth
        return measure_escalation(
            self.evaluation.store, run, labels, correct=correct, labelled=readable, images=readable
        )

    def _count_correct(self, run: str) -> tuple[int, int]:
        """Return the number of correct predictions, and of images that could be read."""
        correct = readable = 0
        for part in prediction_parts(f"{run}/{PREDICTIONS}", self.evaluation.test.paths):
            rows = get_table(self.evaluation.store, part, columns=["image", "top_labels"])
            for image, label in zip(rows["image"].to_pylist(), best_guesses(rows), strict=True):
                readable += label is not None
                correct += label == self.evaluation.ground_truth[image]
        return correct, readable


def plan_cascades(evaluation: Evaluation) -> list[DrawCascade]:
    """Return the cascade of every draw; none without [escalate], or for protocols with classes without examples.

    All test images are escalated, whatever `below` and `max_fraction` are; the budget is divided among the cascades.
    They are not calibrated, as no measure depends on scores.
    """
    if evaluation.job.escalate is None or not evaluation.has_cascades:
        return []
    draws, hours = list(evaluation.draws), evaluation.job.escalate.budget_gpu_hours
    share = None if hours is None else hours / (2 * len(draws))
    section = replace(evaluation.job.escalate, below=None, max_fraction=1.0, budget_gpu_hours=share, calibrate=False)
    return [DrawCascade(evaluation, section, shots, seed) for shots, seed in draws]


def measure_cascades(
    evaluation: Evaluation, cascades: Sequence[DrawCascade], reporter: Reporter
) -> tuple[list[MeasuredCascade], list[StageReport]]:
    """Measure the cascades that were not measured before, on one set of workers.

    Returns:
        The complete cascades, and the reports of the stages.
    """
    known = [(cascade, cascade.stored()) for cascade in cascades]
    measured = [found for _, found in known if found is not None]
    missing = [cascade for cascade, found in known if found is None]
    if not missing:
        return measured, []
    section = missing[0].section
    queries = len(missing) * sum(missing[0].candidates) * len(evaluation.test.images) * section.steps
    with open_stages(queries, evaluation.job.cluster, evaluation.ledger, reporter, spec=section.spec) as stages:
        for cascade in missing:
            with suppress(IncompleteError):
                measured.append(cascade.measure(stages))
    return measured, stages.reports


def mean_cascades(cascades: Sequence[MeasuredCascade]) -> list[CascadeRow]:
    """Return the means over the draws of each number of shots."""
    rows = []
    for shots in sorted({cascade.shots for cascade in cascades}):
        draws = [cascade for cascade in cascades if cascade.shots == shots]
        most = min(draw.curve[-1].fraction for draw in draws)
        rows += [
            _mean_row(shots, "cascade", fraction, [_interpolate(draw.curve, fraction) for draw in draws])
            for fraction in FRACTIONS
            if fraction <= most
        ]
        alone = [draw.alone for draw in draws if draw.alone is not None]
        if len(alone) == len(draws):
            points = [(point.forwards_an_image, point.accuracy) for point in alone]
            rows.append(_mean_row(shots, "diffusion alone", 1.0, points))
    return rows


def _interpolate(curve: Sequence[CostPoint], fraction: float) -> tuple[float, float]:
    """Return forwards an image and accuracy at a fraction, between the points of a curve."""
    known = [point.fraction for point in curve]
    forwards = np.interp(fraction, known, [point.forwards_an_image for point in curve])
    return float(forwards), float(np.interp(fraction, known, [point.accuracy for point in curve]))


def _mean_row(shots: int, what: CascadeKind, fraction: float, points: Sequence[tuple[float, float]]) -> CascadeRow:
    forwards, accuracies = zip(*points, strict=True)
    return CascadeRow(
        shots=shots,
        seeds=len(points),
        what=what,
        fraction=fraction,
        forwards_an_image=statistics.fmean(forwards),
        accuracy_mean=statistics.fmean(accuracies),
        accuracy_std=statistics.stdev(accuracies) if len(points) > 1 else 0.0,
    )
