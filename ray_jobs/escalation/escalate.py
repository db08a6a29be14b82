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
from ray_jobs.escalation.adapter_training import Lessons
from ray_jobs.escalation.calibration import ANSWERS, Exam
from ray_jobs.escalation.cost_model import ProbeUnit, budget_of, get_rate
from ray_jobs.escalation.merge_step import MergeStep, MergeUnit, Verdict
from ray_jobs.escalation.results import GAPS
from ray_jobs.escalation.scoring import Asking, Encoded
from ray_jobs.escalation.selection import Budget, Doubtful, affordable, doubtful, get_choice, to_parquet
from ray_jobs.escalation.stages import IncompleteError, Stages, stages_for
from ray_jobs.inputs.archive import Listing
from ray_jobs.inputs.examples import LabelledUnits
from ray_jobs.job_file.sections import ClusterSection, EscalateSection
from ray_jobs.output.feature_parts import get_table
from ray_jobs.output.layout import PREDICTIONS
from ray_jobs.steps.diffusion_worker import DiffusionStep
from ray_jobs.steps.example_latents import Examples
from ray_jobs.steps.latents import get_latents, latent_unit

FIRST_OPINIONS = "first-opinions"
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
    def lessons(self) -> Lessons:
        """What is learned of the classes."""
        return Lessons(self.section, self.store, Examples(self.store, self.section.spec, self.support))

    @cached_property
    def exam(self) -> Exam | None:
        """What the model's answers are worth; None if nobody wants to know."""
        return Exam.after(self.lessons, self.step) if self.section.calibrate else None

    @property
    def courses(self) -> list[Lessons]:
        """All that is learned: the lessons, and those of the exam, if there is one."""
        return [self.lessons] if self.exam is None else [self.lessons, self.exam.lessons]

    @cached_property
    def step(self) -> DiffusionStep:
        """What all work on the diffusion model is units of."""
        return DiffusionStep(self.store, self.section.spec)

    @contextmanager
    def stages(self, opinions: Sequence[str], cluster: ClusterSection, reporter: Reporter) -> Iterator[Stages]:
        """What carries it out: as many workers as the job is worth."""
        done = self.store.exists(f"{self.run}/{GAPS}")  # Then only the predictions may be incomplete.
        images = 0 if done or self._missing(opinions) else self._images(opinions)
        asked = self.section.max_fraction * images * self.section.candidates * self.section.steps
        with stages_for(asked, cluster, Ledger(self.store), reporter, threads=self.section.threads) as stages:
            yield stages

    def carry_out(self, opinions: Sequence[str], stages: Stages) -> dict[str, Any] | None:
        """Turn first opinions into predictions.

        Args:
            opinions: the parts of the first opinions, in the archive's order.
            stages: what carries it out, and keeps what became of the units.

        Returns:
            what was asked and answered, for the metrics. Where something is missing (a first opinion, the answer of a
            failed unit) there is nothing to tell, and nothing is predicted: another choice would be made once it is
            there, and two choices in one run would contradict each other.
        """
        if missing := self._missing(opinions):
            told = f"nothing is asked before all is labelled: {missing} shards have no labels yet"
            stages.reporter.say(told, style="red")
            return None
        try:
            return self._carry_out(opinions, self._images(opinions), stages)
        except IncompleteError:
            return None

    def _missing(self, opinions: Sequence[str]) -> int:
        """First opinions that are not there."""
        folders = {posixpath.dirname(part) for part in opinions}
        return len(set(opinions).difference(*(Ledger(self.store).done(folder) for folder in folders)))

    def _carry_out(self, opinions: Sequence[str], images: int, stages: Stages) -> dict[str, Any]:
        stages.run("encoding examples", self.step, list(self.lessons.examples.units.values()))
        chosen = self._chosen(opinions, images, stages)
        stages.reporter.say(f"{len(chosen)} of {images} images go to {self.section.method}")
        archived = self.archived(chosen)
        stages.run("encoding images", self.step, list(archived.values()))
        labels = sorted({label for image in chosen for label in image.candidates})
        self.lessons.learn(labels, self.step, stages, called="training adapters")
        encoded = {part: Encoded(unit.path, unit.payload.rows) for part, unit in archived.items()}
        asking, images_there = Asking(self.step, self.lessons), self._still_there(chosen, encoded)
        outcome = asking.decided(images_there, encoded, f"{self.run}/answers", stages)
        result = None if self.exam is None else self.exam.held(chosen, f"{self.run}/{ANSWERS}", stages)
        self._merge(opinions, outcome.verdicts(None if result is None else result.temperature), stages)
        self.store.put(f"{self.run}/{GAPS}", outcome.to_parquet())
        told = {
            "method": self.section.method,
            "classes": len(labels),
            "exam": None if result is None else result.to_json(),
        }
        return outcome.to_json() | told | {"learned": len(labels) if self.lessons.learns else 0}

    def _images(self, opinions: Sequence[str]) -> int:
        """Images of the archive; where only reading tells, every part is read."""
        if self.listing.images is not None:
            return self.listing.images
        return sum(len(get_table(self.store, part, columns=["image"])) for part in opinions)

    def _chosen(self, opinions: Sequence[str], images: int, stages: Stages) -> list[Doubtful]:
        """Who is asked about; decided once for a run. Without a choice, predictions are those of one that is lost."""
        path = f"{self.run}/{CHOICE}"
        if not self.store.exists(path):
            for part in self.store.list(f"{self.run}/{PREDICTIONS}"):
                self.store.delete(part)
            chosen = affordable(self._doubtful(opinions), self._budget(images, stages), self._learned)
            self.store.put(path, to_parquet(chosen))
        return get_choice(self.store, path)

    @property
    def below(self) -> float:
        """Images with a smaller score may be asked about; all, where neither the section nor an error target says."""
        told = (limit for limit in (self.section.below, self.threshold) if limit is not None)
        return next(told, math.inf)

    def _doubtful(self, opinions: Sequence[str]) -> Iterator[Doubtful]:
        """Images that may be asked about, with those of their candidates that the method can answer for."""
        for image in doubtful(self.store, opinions, below=self.below, candidates=self.section.candidates):
            able = tuple(filter(self.lessons.answers_for, image.candidates))
            if len(able) > 1:
                yield replace(image, candidates=able)

    def _budget(self, images: int, stages: Stages) -> Budget:
        rate, path = None, f"{self.run}/{PROBE}"
        if self.section.budget_gpu_hours is not None:
            stages.run("timing the model", self.step, [Unit(path, ProbeUnit())])
            rate = get_rate(self.store, path)
        ways = {s for each in self.courses for label in each.examples.latents if (s := each.settings(label))}
        asked = max(map(self.exam.size, self.lessons.examples.units), default=0) if self.exam is not None else 0
        return budget_of(self.section, images, ways, rate, before=self.lessons.prior_cost(), exam_images=asked)

    @property
    def _learned(self) -> frozenset[str]:
        """Classes that nothing is left to learn of."""
        return frozenset.intersection(*(lessons.learned for lessons in self.courses))

    def archived(self, chosen: Sequence[Doubtful]) -> dict[int, Unit]:
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

    def _still_there(self, chosen: Sequence[Doubtful], encoded: Mapping[int, Encoded]) -> list[Doubtful]:
        """Without images that could be read when they were embedded, and cannot be read any more."""
        read = {}
        for part, of in encoded.items():
            found = get_latents(self.store, of.path).read.tolist()
            read.update({(part, row): ok for row, ok in zip(of.rows, found, strict=True)})
        return [image for image in chosen if read[image.part, image.row]]

    def _merge(self, opinions: Sequence[str], verdicts: Mapping[int, tuple[Verdict, ...]], stages: Stages) -> None:
        units = [
            Unit(
                f"{self.run}/{PREDICTIONS}/{part.rpartition('/')[2]}",
                MergeUnit(part, verdicts.get(index, ())),
                weight=self.listing.shards[index][1] or 1,
            )
            for index, part in enumerate(opinions)
        ]
        stages.run("deciding", MergeStep(self.store, self.section.method, self.threshold), units)
