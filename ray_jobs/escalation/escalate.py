"""Escalation, from first opinions to predictions: choose, encode, train, ask in rounds, merge."""

from __future__ import annotations

import math
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from cluster import Ledger, Store, Unit
from cluster.records import Shard
from ray_jobs.console.progress import Reporter
from ray_jobs.escalation.adapter_training import AdapterTraining
from ray_jobs.escalation.calibration import ANSWERS, EscalationCalibration
from ray_jobs.escalation.cost_model import ProbeUnit, budget_of, get_rate
from ray_jobs.escalation.decided_images import GAPS
from ray_jobs.escalation.merge_step import EscalatedPrediction, MergeStep, MergeUnit
from ray_jobs.escalation.scoring import Encoded, ImageScoring
from ray_jobs.escalation.selection import (
    Budget,
    EscalationCandidates,
    affordable,
    find_candidates,
    get_choice,
    to_parquet,
)
from ray_jobs.escalation.stages import IncompleteError, Stages, stages_for
from ray_jobs.inputs.archive import Listing
from ray_jobs.inputs.examples import LabelledUnits
from ray_jobs.job_file.sections import ClusterSection, EscalateSection
from ray_jobs.output.feature_parts import get_table
from ray_jobs.output.layout import PREDICTIONS
from ray_jobs.results.escalation_summary import EscalationSummary
from ray_jobs.steps.diffusion_worker import DiffusionStep
from ray_jobs.steps.example_latents import Examples
from ray_jobs.steps.latents import get_latents, latent_unit

CHEAP_PREDICTIONS = "cheap-predictions"
CHOICE, PROBE = "escalated.parquet", "probe.json"


def escalation_identity(section: EscalateSection) -> dict[str, Any]:
    """All of the section that determines predictions."""
    return asdict(section) | {"spec": section.spec.identity()}


class Shards(Protocol):
    """An archive, as far as it matters here."""

    def shards(self) -> Iterator[Shard]:
        """Its shards, in its order."""
        ...


@dataclass(frozen=True)
class Escalation:
    """What [escalate] adds to a run.

    Attributes:
        section: of the job file.
        store: the output.
        run: folder of the run.
        source, listing: the archive.
        support: the examples; a unit holds those of one class.
        threshold: the score that the classifier needs to be sure enough; None if it labels everything.
    """

    section: EscalateSection
    store: Store
    run: str
    source: Shards
    listing: Listing
    support: LabelledUnits
    threshold: float | None

    @cached_property
    def adapter_training(self) -> AdapterTraining:
        """What is learned of the classes."""
        return AdapterTraining(self.section, self.store, Examples(self.store, self.section.spec, self.support))

    @cached_property
    def calibration(self) -> EscalationCalibration | None:
        """What the model's answers are worth; None if nobody wants to know."""
        return EscalationCalibration.after(self.adapter_training, self.step) if self.section.calibrate else None

    @property
    def race_plans(self) -> list[AdapterTraining]:
        """All that is learned: the lessons, and those of the exam, if there is one."""
        return (
            [self.adapter_training]
            if self.calibration is None
            else [self.adapter_training, self.calibration.adapter_training]
        )

    @cached_property
    def step(self) -> DiffusionStep:
        """What all work on the diffusion model is units of."""
        return DiffusionStep(self.store, self.section.spec)

    @contextmanager
    def stages(self, cheap_predictions: Sequence[str], cluster: ClusterSection, reporter: Reporter) -> Iterator[Stages]:
        """What carries it out: as many workers as the job is worth."""
        done = self.store.exists(f"{self.run}/{GAPS}")  # Then only the predictions may be incomplete.
        images = 0 if done or self._missing(cheap_predictions) else self._images(cheap_predictions)
        asked = self.section.max_fraction * images * self.section.candidates * self.section.steps
        with stages_for(asked, cluster, Ledger(self.store), reporter, threads=self.section.threads) as stages:
            yield stages

    def carry_out(self, cheap_predictions: Sequence[str], stages: Stages) -> EscalationSummary | None:
        """Turn first opinions into predictions.

        Args:
            cheap_predictions: the parts of the first opinions, in the archive's order.
            stages: what carries it out, and keeps what became of the units.

        Returns:
            what was asked and answered, for the metrics. Where something is missing (a first opinion, the answer of a
            failed unit) there is nothing to tell, and nothing is predicted: another choice would be made once it is
            there, and two choices in one run would contradict each other.
        """
        if missing := self._missing(cheap_predictions):
            class_prompt = f"nothing is asked before all is labelled: {missing} shards have no labels yet"
            stages.reporter.say(class_prompt, style="red")
            return None
        try:
            return self._carry_out(cheap_predictions, self._images(cheap_predictions), stages)
        except IncompleteError:
            return None

    def _missing(self, cheap_predictions: Sequence[str]) -> int:
        """First opinions that are not there."""
        folders = {posixpath.dirname(part) for part in cheap_predictions}
        return len(set(cheap_predictions).difference(*(Ledger(self.store).done(folder) for folder in folders)))

    def _carry_out(self, cheap_predictions: Sequence[str], images: int, stages: Stages) -> EscalationSummary:
        stages.run("encoding examples", self.step, list(self.adapter_training.examples.units.values()))
        chosen = self._chosen(cheap_predictions, images, stages)
        stages.reporter.say(f"{len(chosen)} of {images} images go to {self.section.method}")
        archived = self.archived(chosen)
        stages.run("encoding images", self.step, list(archived.values()))
        labels = sorted({label for image in chosen for label in image.candidates})
        self.adapter_training.learn(labels, self.step, stages, called="training adapters")
        encoded = {part: Encoded(unit.path, unit.payload.rows) for part, unit in archived.items()}
        asking, images_there = ImageScoring(self.step, self.adapter_training), self._still_there(chosen, encoded)
        outcome = asking.decided(images_there, encoded, f"{self.run}/answers", stages)
        result = (
            None if self.calibration is None else self.calibration.acquire_run(chosen, f"{self.run}/{ANSWERS}", stages)
        )
        self._merge(
            cheap_predictions, outcome.escalated_predictions(None if result is None else result.temperature), stages
        )
        self.store.put(f"{self.run}/{GAPS}", outcome.to_parquet())
        return outcome.summary(
            method=self.section.method,
            classes=len(labels),
            learned=len(labels) if self.adapter_training.learns else 0,
            calibration=None if result is None else result.summary(),
        )

    def _images(self, cheap_predictions: Sequence[str]) -> int:
        """Images of the archive; where only reading tells, every part is read."""
        if self.listing.images is not None:
            return self.listing.images
        return sum(len(get_table(self.store, part, columns=["image"])) for part in cheap_predictions)

    def _chosen(self, cheap_predictions: Sequence[str], images: int, stages: Stages) -> list[EscalationCandidates]:
        """Who is asked about; decided once for a run. Without a choice, predictions are those of one that is lost."""
        path = f"{self.run}/{CHOICE}"
        if not self.store.exists(path):
            for part in self.store.list(f"{self.run}/{PREDICTIONS}"):
                self.store.delete(part)
            chosen = affordable(self._candidates(cheap_predictions), self._budget(images, stages), self._learned)
            self.store.put(path, to_parquet(chosen))
        return get_choice(self.store, path)

    @property
    def below(self) -> float:
        """Images with a smaller score may be asked about; all, where neither the section nor an error target says."""
        class_prompt = (limit for limit in (self.section.below, self.threshold) if limit is not None)
        return next(class_prompt, math.inf)

    def _candidates(self, cheap_predictions: Sequence[str]) -> Iterator[EscalationCandidates]:
        """Images that may be asked about, with those of their candidates that the method can answer for."""
        for image in find_candidates(
            self.store, cheap_predictions, below=self.below, candidates=self.section.candidates
        ):
            able = tuple(filter(self.adapter_training.answers_for, image.candidates))
            if len(able) > 1:
                yield replace(image, candidates=able)

    def _budget(self, images: int, stages: Stages) -> Budget:
        rate, path = None, f"{self.run}/{PROBE}"
        if self.section.budget_gpu_hours is not None:
            stages.run("timing the model", self.step, [Unit(path, ProbeUnit())])
            rate = get_rate(self.store, path)
        ways = {s for each in self.race_plans for label in each.examples.latents if (s := each.settings(label))}
        asked = (
            max(map(self.calibration.size, self.adapter_training.examples.units), default=0)
            if self.calibration is not None
            else 0
        )
        return budget_of(
            self.section, images, ways, rate, before=self.adapter_training.prior_cost(), calibration_images=asked
        )

    @property
    def _learned(self) -> frozenset[str]:
        """Classes that nothing is left to learn of."""
        return frozenset.intersection(*(adapter_training.learned for adapter_training in self.race_plans))

    def archived(self, chosen: Sequence[EscalationCandidates]) -> dict[int, Unit]:
        """By shard, in the archive's order: the unit that encodes its chosen images.

        Raises:
            IncompleteError: the archive is not what it was when it was listed.
        """
        rows: dict[int, list[int]] = defaultdict(list)
        for image in chosen:
            rows[image.part].append(image.row)
        names = {index: self.listing.shards[index][0] for index in rows}
        shards = {shard.fingerprint: shard for shard in self.source.shards() if shard.fingerprint in names.values()}
        if not set(names.values()) <= shards.keys():
            raise IncompleteError
        place = f"archive/{self.listing.place}"
        return {
            index: latent_unit(self.section.spec, place, shards[names[index]], rows[index]) for index in sorted(rows)
        }

    def _still_there(
        self, chosen: Sequence[EscalationCandidates], encoded: Mapping[int, Encoded]
    ) -> list[EscalationCandidates]:
        """Without images that could be read when they were embedded, and cannot be read any more."""
        read = {}
        for part, of in encoded.items():
            found = get_latents(self.store, of.path).read.tolist()
            read.update({(part, row): ok for row, ok in zip(of.rows, found, strict=True)})
        return [image for image in chosen if read[image.part, image.row]]

    def _merge(
        self,
        cheap_predictions: Sequence[str],
        escalated_predictions: Mapping[int, tuple[EscalatedPrediction, ...]],
        stages: Stages,
    ) -> None:
        units = [
            Unit(
                f"{self.run}/{PREDICTIONS}/{part.rpartition('/')[2]}",
                MergeUnit(part, escalated_predictions.get(index, ())),
                weight=self.listing.shards[index][1] or 1,
            )
            for index, part in enumerate(cheap_predictions)
        ]
        stages.run("deciding", MergeStep(self.store, self.section.method, self.threshold), units)
