"""Escalation, from cheap predictions to predictions: select, encode, train, score in rounds, merge."""

from __future__ import annotations

import math
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Protocol

from cluster import Ledger, Store, Unit
from cluster.records import Shard
from ray_jobs.console.progress import Reporter
from ray_jobs.escalation.adapter_training import AdapterTraining
from ray_jobs.escalation.calibration import EscalationCalibration
from ray_jobs.escalation.cost_model import ProbeUnit, get_rate, make_budget
from ray_jobs.escalation.merge_step import EscalatedPrediction, MergeStep, MergeUnit
from ray_jobs.escalation.scoring import EncodedImages, ImageScoring
from ray_jobs.escalation.selection import (
    Budget,
    EscalationCandidate,
    find_candidates,
    get_selection,
    select_affordable,
    selection_to_parquet,
)
from ray_jobs.escalation.stages import IncompleteError, Stages, open_stages
from ray_jobs.inputs.archive import Listing
from ray_jobs.inputs.example_blocks import Examples
from ray_jobs.job_file.sections import ClusterSection, EscalateSection
from ray_jobs.output.feature_parts import get_table
from ray_jobs.output.layout import GAPS, PREDICTIONS, prediction_parts, present_parts
from ray_jobs.results.escalation_summary import CalibrationSummary, EscalationSummary
from ray_jobs.steps.diffusion_worker import DiffusionStep
from ray_jobs.steps.example_latents import ExampleLatents
from ray_jobs.steps.latents import get_latents, latent_unit

ESCALATION_VERSION = 5
"""Part of the name of every run with [escalate]: raised when files of escalation change."""
SELECTION, PROBE = "escalated.parquet", "probe.json"
NOISE_ERRORS, CALIBRATION_ERRORS = "noise-errors", "calibration-errors"
"""Folders of a run."""


def escalation_identity(section: EscalateSection) -> dict[str, object]:
    """Return all that determines how predictions are escalated, as JSON values."""
    return asdict(section) | {"spec": section.spec.identity(), "version": ESCALATION_VERSION}


class ShardSource(Protocol):
    """An archive whose shards can be listed."""

    def shards(self) -> Iterator[Shard]:
        """Yield the shards, in the archive's order."""
        ...


@dataclass(frozen=True)
class Escalation:
    """The escalation of a run.

    Attributes:
        section: of the job file.
        store: the output.
        run: folder of the run.
        source, listing: the archive.
        support: the examples; a group holds those of one class.
        threshold: of the classifier, below which it abstains; None if it labels everything.
    """

    section: EscalateSection
    store: Store
    run: str
    source: ShardSource
    listing: Listing
    support: Examples
    threshold: float | None

    @cached_property
    def adapter_training(self) -> AdapterTraining:
        """The adapters of the classes."""
        return AdapterTraining(self.section, self.store, ExampleLatents(self.store, self.section.spec, self.support))

    @cached_property
    def calibration(self) -> EscalationCalibration | None:
        """The calibration of the diffusion model; None without `calibrate`."""
        return EscalationCalibration.from_training(self.adapter_training, self.step) if self.section.calibrate else None

    @property
    def adapter_trainings(self) -> list[AdapterTraining]:
        """The training on all examples and, with calibration, the one without the held-out examples."""
        calibration = [] if self.calibration is None else [self.calibration.adapter_training]
        return [self.adapter_training, *calibration]

    @cached_property
    def step(self) -> DiffusionStep:
        """The step of all work with the diffusion model."""
        return DiffusionStep(self.store, self.section.spec)

    @property
    def score_limit(self) -> float | None:
        """Images with a smaller score may be escalated, see `find_candidates`; None: those below the threshold."""
        if self.section.below is not None:
            return self.section.below
        return math.inf if self.threshold is None else None

    @contextmanager
    def open_stages(
        self, cheap_predictions: Sequence[str], cluster: ClusterSection, reporter: Reporter
    ) -> Iterator[Stages]:
        """Start workers, as many as the remaining work pays for."""
        done = self.store.exists(f"{self.run}/{GAPS}")  # Then only the predictions may be incomplete.
        images = 0 if done or self._count_missing(cheap_predictions) else self._count_images(cheap_predictions)
        queries = self.section.max_fraction * images * self.section.candidates * self.section.steps
        with open_stages(queries, cluster, Ledger(self.store), reporter, spec=self.section.spec) as stages:
            yield stages

    def escalate(self, cheap_predictions: Sequence[str], stages: Stages) -> EscalationSummary | None:
        """Turn cheap predictions into predictions.

        Args:
            cheap_predictions: the parts of the cheap predictions, in the archive's order.
            stages: run the units, and collect their reports.

        Returns:
            A summary for the metrics. None where a part is missing (cheap predictions, or noise errors of a failed
            unit): then nothing is predicted, since another selection would be made once the part is there, and two
            selections in one run would contradict each other.
        """
        if missing := self._count_missing(cheap_predictions):
            shards = f"{missing} of {len(cheap_predictions)} shards"
            stages.reporter.say(f"nothing is escalated: {shards} have no cheap predictions yet", style="red")
            return None
        try:
            return self._escalate(cheap_predictions, self._count_images(cheap_predictions), stages)
        except IncompleteError:
            return None

    def _count_missing(self, cheap_predictions: Sequence[str]) -> int:
        folders = {posixpath.dirname(part) for part in cheap_predictions}
        return len(set(cheap_predictions).difference(*(Ledger(self.store).done(folder) for folder in folders)))

    def _count_images(self, cheap_predictions: Sequence[str]) -> int:
        """Return the images of the archive; if the listing has no number, every part is read."""
        if self.listing.images is not None:
            return self.listing.images
        return sum(len(get_table(self.store, part, columns=["image"])) for part in cheap_predictions)

    def _escalate(self, cheap_predictions: Sequence[str], images: int, stages: Stages) -> EscalationSummary:
        stages.run("encoding examples", self.step, list(self.adapter_training.examples.units.values()))
        selected = self._select(cheap_predictions, images, stages)
        stages.reporter.say(f"{self.section.method} scores {len(selected)} of {images} images")
        units = self.latent_units(selected)
        stages.run("encoding images", self.step, list(units.values()))
        labels = sorted({label for image in selected for label in image.candidates})
        self.adapter_training.train(labels, self.step, stages, stage_name="training adapters")
        encoded = {part: EncodedImages(unit.path, unit.payload.rows) for part, unit in units.items()}
        scoring, readable = ImageScoring(self.step, self.adapter_training), self._readable(selected, encoded)
        decided = scoring.score(readable, encoded, f"{self.run}/{NOISE_ERRORS}", stages)
        calibration = self._calibrate(selected, stages)
        temperature = None if calibration is None else calibration.temperature
        self._merge(cheap_predictions, decided.escalated_predictions(temperature), stages)
        self.store.put(f"{self.run}/{GAPS}", decided.to_parquet())
        trained = len(labels) if self.adapter_training.trains_adapters else 0
        return decided.summary(
            method=self.section.method, classes=len(labels), trained=trained, calibration=calibration
        )

    def _calibrate(self, selected: Sequence[EscalationCandidate], stages: Stages) -> CalibrationSummary | None:
        if self.calibration is None:
            return None
        return self.calibration.run(selected, f"{self.run}/{CALIBRATION_ERRORS}", stages)

    def _select(self, cheap_predictions: Sequence[str], images: int, stages: Stages) -> list[EscalationCandidate]:
        """Return the images to escalate, selected once for a run. If that selection is lost, so are its predictions."""
        path = f"{self.run}/{SELECTION}"
        if not self.store.exists(path):
            for part in present_parts(self.store, self._merged_parts(cheap_predictions)):
                self.store.delete(part)
            budget = self._budget(images, stages)
            selected = select_affordable(self._candidates(cheap_predictions), budget, self._trained_labels)
            self.store.put(path, selection_to_parquet(selected))
        return get_selection(self.store, path)

    def _candidates(self, cheap_predictions: Sequence[str]) -> Iterator[EscalationCandidate]:
        """Yield the images that may be escalated, with those of their candidate classes that the method can score."""
        limit, most = self.score_limit, self.section.candidates
        for image in find_candidates(self.store, cheap_predictions, below=limit, candidates=most):
            scorable = tuple(filter(self.adapter_training.can_score, image.candidates))
            if len(scorable) > 1:
                yield replace(image, candidates=scorable)

    def _budget(self, images: int, stages: Stages) -> Budget:
        rate, path = None, f"{self.run}/{PROBE}"
        if self.section.budget_gpu_hours is not None:
            stages.run("timing the diffusion model", self.step, [Unit(path, ProbeUnit())])
            rate = get_rate(self.store, path)
        trainings, held_out = self.adapter_trainings, 0
        settings = {s for each in trainings for label in each.examples.latents if (s := each.adapter_settings(label))}
        if self.calibration is not None:
            held_out = max(map(self.calibration.max_images, self.adapter_training.examples.units), default=0)
        prior_cost = self.adapter_training.prior_cost()
        return make_budget(self.section, images, settings, rate, prior_cost=prior_cost, held_out_images=held_out)

    @property
    def _trained_labels(self) -> frozenset[str]:
        """Labels of the classes that need no more training."""
        return frozenset.intersection(*(training.trained_labels for training in self.adapter_trainings))

    def _merged_parts(self, cheap_predictions: Sequence[str]) -> list[str]:
        """Return the parts of predictions of the same shards. They are the run's own."""
        return prediction_parts(f"{self.run}/{PREDICTIONS}", cheap_predictions)

    def latent_units(self, selected: Sequence[EscalationCandidate]) -> dict[int, Unit]:
        """Return, by number of the shard, the unit that encodes its selected images.

        Raises:
            IncompleteError: the archive has changed since it was listed.
        """
        rows: dict[int, list[int]] = defaultdict(list)
        for image in selected:
            rows[image.part].append(image.row)
        names = {index: self.listing.shards[index][0] for index in rows}
        shards = {shard.fingerprint: shard for shard in self.source.shards() if shard.fingerprint in names.values()}
        if not set(names.values()) <= shards.keys():
            raise IncompleteError
        folder = f"archive/{self.listing.place}"
        return {
            index: latent_unit(self.section.spec, folder, shards[names[index]], rows[index]) for index in sorted(rows)
        }

    def _readable(
        self, selected: Sequence[EscalationCandidate], encoded: Mapping[int, EncodedImages]
    ) -> list[EscalationCandidate]:
        """Return the images without those that could be read when they were embedded, and no longer can."""
        read = {}
        for part, images in encoded.items():
            found = get_latents(self.store, images.path).read.tolist()
            read.update({(part, row): ok for row, ok in zip(images.rows, found, strict=True)})
        return [image for image in selected if read[image.part, image.row]]

    def _merge(
        self,
        cheap_predictions: Sequence[str],
        escalated_predictions: Mapping[int, tuple[EscalatedPrediction, ...]],
        stages: Stages,
    ) -> None:
        units = [
            Unit(
                merged,
                MergeUnit(part, escalated_predictions.get(index, ())),
                weight=self.listing.shards[index][1] or 1,
            )
            for index, (part, merged) in enumerate(
                zip(cheap_predictions, self._merged_parts(cheap_predictions), strict=True)
            )
        ]
        stages.run("merging predictions", MergeStep(self.store, self.section.method, self.threshold), units)
