"""Escalation, from first opinions to predictions: choose, encode, train, ask in rounds, merge."""

from __future__ import annotations

import io
import math
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow.parquet as pq

from cluster import Ledger, Store, Unit, fingerprint
from cluster.records import Shard
from ray_jobs.archive import Listing
from ray_jobs.escalation.adapters import adapter_folder, trained
from ray_jobs.escalation.choice import Budget, Doubtful, affordable, doubtful, from_parquet, to_parquet
from ray_jobs.escalation.examples import example_units
from ray_jobs.escalation.latents import Latents, get_latents, latent_unit
from ray_jobs.escalation.merging import MergeStep, MergeUnit
from ray_jobs.escalation.outcome import GAPS, Outcome
from ray_jobs.escalation.rounds import Contest, decide
from ray_jobs.escalation.scores import get_errors
from ray_jobs.escalation.spending import ProbeUnit, budget_of, forwards_a_second
from ray_jobs.escalation.stages import IncompleteError, Stages, stages_for
from ray_jobs.escalation.training import ADAPTERS_VERSION, AdapterUnit, Pupil
from ray_jobs.escalation.worker import DiffusionStep, Told
from ray_jobs.layout import PREDICTIONS
from ray_jobs.progress import Reporter
from ray_jobs.sections import ClusterSection, EscalateSection
from ray_jobs.support import LabelledUnits

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.diffusion.training import AdapterSettings
    from fewshot.methods import AskingMethod

FIRST_OPINIONS = "first-opinions"
CHOICE, PROBE = "escalated.parquet", "probe.json"
BLOCK = 8
"""Classes that are trained in one batch."""


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
    def method(self) -> AskingMethod:
        """Who is asked."""
        from fewshot.methods import asking_method_named

        return asking_method_named(self.section.method, **self.section.hyperparameters)

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
        stages.run("encoding examples", self.step, list(self.examples.values()))
        chosen = self._chosen(opinions, images, stages)
        stages.reporter.say(f"{len(chosen)} of {images} images go to {self.section.method}")
        archived = self.archived(chosen)
        stages.run("encoding images", self.step, list(archived.values()))
        labels = sorted({label for image in chosen for label in image.candidates})
        stages.run("training adapters", self.step, self._lessons(labels))
        outcome = self._decided(chosen, archived, labels, stages)
        self._merge(opinions, outcome, stages)
        self.store.put(f"{self.run}/{GAPS}", outcome.to_parquet())
        learned = len(labels) if self._learns else 0
        return outcome.to_json() | {"method": self.section.method, "classes": len(labels), "learned": learned}

    def _images(self, opinions: Sequence[str]) -> int:
        """Images of the archive; where only reading tells, every part is read."""
        if self.listing.images is not None:
            return self.listing.images
        return sum(pq.read_metadata(io.BytesIO(self.store.get(part))).num_rows for part in opinions)

    @cached_property
    def examples(self) -> dict[str, Unit]:
        """By label: the unit that encodes a class's examples."""
        label_of = dict(zip(self.support.labels.images, self.support.labels.labels, strict=True))
        names, images = self.support.labels.space.names, iter(self.support.images)
        found = {}
        for unit in example_units(self.section.spec, self.support):
            label = {label_of[next(images)] for _ in range(unit.weight)}.pop()
            found[names[label]] = unit
        return found

    @cached_property
    def _learned(self) -> dict[str, Latents]:
        """By label: latents of the classes that have an example that could be read."""
        latents = {label: get_latents(self.store, unit.path) for label, unit in self.examples.items()}
        return {label: found for label, found in latents.items() if found.read.any()}

    def _chosen(self, opinions: Sequence[str], images: int, stages: Stages) -> list[Doubtful]:
        """Who is asked about; decided once for a run."""
        path = f"{self.run}/{CHOICE}"
        if not self.store.exists(path):
            chosen = affordable(self._doubtful(opinions), self._budget(images, stages), self._trained)
            self.store.put(path, to_parquet(chosen))
        return from_parquet(self.store.get(path))

    @property
    def below(self) -> float:
        """Images with a smaller score may be asked about; all, where neither the section nor an error target says."""
        told = (limit for limit in (self.section.below, self.threshold) if limit is not None)
        return next(told, math.inf)

    def _doubtful(self, opinions: Sequence[str]) -> Iterator[Doubtful]:
        """Images that may be asked about, with those of their candidates that the method can answer for."""
        for image in doubtful(self.store, opinions, below=self.below, candidates=self.section.candidates):
            able = tuple(label for label in image.candidates if not self._learns or label in self._learned)
            if len(able) > 1:
                yield replace(image, candidates=able)

    @property
    def _learns(self) -> bool:
        return self.method.adapter_settings(latent_side=1, shots=1) is not None

    def _settings(self, label: str) -> AdapterSettings | None:
        """How a class is learned."""
        latents = self._learned[label]
        return self.method.adapter_settings(latent_side=latents.posterior.shape[-1], shots=int(latents.read.sum()))

    def _budget(self, images: int, stages: Stages) -> Budget:
        rate, path = None, f"{self.run}/{PROBE}"
        if self.section.budget_gpu_hours is not None:
            stages.run("timing the model", self.step, [Unit(path, ProbeUnit())])
            rate = forwards_a_second(self.store.get(path))
        dearest = max(
            (s for label in self._learned if (s := self._settings(label))),
            key=lambda settings: settings.steps * settings.samples,
            default=None,
        )
        return budget_of(self.section, images, dearest, rate)

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

    def pupil(self, label: str, settings: AdapterSettings) -> Pupil:
        """A class that is learned, and where its adapters go."""
        prompt, latents = self._prompts[label], self.examples[label].path
        identity = [ADAPTERS_VERSION, asdict(settings), BLOCK, self.section.seed, label, prompt, latents]
        return Pupil(label, prompt, latents, adapter_folder(self.section.method, fingerprint(identity)))

    @cached_property
    def _prompts(self) -> dict[str, str]:
        space = self.support.labels.space
        return dict(zip(space.names, self.method.prompts(space), strict=True))

    @cached_property
    def _trained(self) -> frozenset[str]:
        """Labels of the classes that are learned already."""
        there = trained(self.store, self.section.method)
        settings = {label: self._settings(label) for label in self._learned}
        return frozenset(label for label, s in settings.items() if s is None or self.pupil(label, s).folder in there)

    def _lessons(self, labels: Sequence[str]) -> list[Unit]:
        """Blocks of classes that are still to be learned, those of a block in the same way."""
        alike: dict[AdapterSettings, list[Pupil]] = defaultdict(list)
        for label in labels:
            if (settings := self._learns and self._settings(label)) and label not in self._trained:
                alike[settings].append(self.pupil(label, settings))
        return [
            self._lesson(settings, pupils[start : start + BLOCK])
            for settings, pupils in alike.items()
            for start in range(0, len(pupils), BLOCK)
        ]

    def _lesson(self, settings: AdapterSettings, pupils: Sequence[Pupil]) -> Unit:
        name = fingerprint([pupil.folder for pupil in pupils])
        unit = AdapterUnit(tuple(pupils), settings, BLOCK, self.section.seed)
        return Unit(f"adapters/{self.section.method}/blocks/{name}.json", unit, weight=len(pupils))

    def _told(self, label: str) -> Told:
        settings = self._settings(label) if self._learns else None
        if settings is None:
            return Told(self._prompts[label])
        return Told(self._prompts[label], self.pupil(label, settings).folder, settings.text_scale)

    def _decided(
        self, chosen: Sequence[Doubtful], archived: Mapping[int, Unit], labels: Sequence[str], stages: Stages
    ) -> Outcome:
        """Ask in rounds until every image is decided."""
        import torch

        images, steps = self._still_there(chosen, archived), self._grid()
        contest = self._contest(images, archived, labels, steps.numpy())

        def ask(number: int, image: np.ndarray, column: np.ndarray, entry: np.ndarray) -> np.ndarray:
            units = list(contest.units(f"{self.run}/answers/round-{number:02d}", image, column, entry))
            stages.run(f"asking, round {number + 1}", self.step, [unit for unit, _ in units])
            answers = np.zeros(len(image), np.float32)
            for unit, rows in units:
                answers[rows] = get_errors(self.store, unit.path)
            return answers

        present = torch.from_numpy(contest.candidates >= 0)
        decision = decide(self.section.schedule, present, len(steps), ask, error_rate=self.section.error_rate)
        return Outcome(images, decision, steps)

    def _contest(
        self, images: Sequence[Doubtful], archived: Mapping[int, Unit], labels: Sequence[str], steps: np.ndarray
    ) -> Contest:
        """Who competes for which image, and where its latents are."""
        index = {label: i for i, label in enumerate(labels)}
        candidates = np.full((len(images), max((len(image.candidates) for image in images), default=1)), -1)
        for row, image in zip(candidates, images, strict=True):
            row[: len(image.candidates)] = [index[label] for label in image.candidates]
        parts = {shard: number for number, shard in enumerate(archived)}
        rows = {shard: unit.payload.rows for shard, unit in archived.items()}
        scales = {s.unet_scale for label in labels if (s := self._learns and self._settings(label))}
        return Contest(
            parts=tuple(unit.path for unit in archived.values()),
            part=np.array([parts[image.part] for image in images], dtype=np.int64),
            row=np.array([rows[image.part].index(image.row) for image in images], dtype=np.int64),
            candidates=candidates,
            told=tuple(self._told(label) for label in labels),
            steps=steps,
            seed=self.section.seed,
            scale=scales.pop() if scales else 1.0,
        )

    def _still_there(self, chosen: Sequence[Doubtful], archived: Mapping[int, Unit]) -> list[Doubtful]:
        """Without images that could be read when they were embedded, and cannot be read any more."""
        read = {}
        for shard, unit in archived.items():
            found = get_latents(self.store, unit.path)
            read.update({(shard, row): ok for row, ok in zip(unit.payload.rows, found.read.tolist(), strict=True)})
        return [image for image in chosen if read[image.part, image.row]]

    def _grid(self) -> Tensor:
        """Time-steps at equal mass of the method's weights."""
        import torch

        from fewshot.diffusion.time_grid import support_grid

        latents = list(self._learned.values())
        mean = torch.from_numpy(np.concatenate([part.posterior[part.read, 0] for part in latents]))
        labels = torch.arange(len(latents)).repeat_interleave(torch.tensor([int(part.read.sum()) for part in latents]))
        weights = self.method.weights(mean, labels, num_steps=latents[0].num_steps)
        return support_grid(weights, min(self.section.steps, int((weights > 0).sum())))

    def _merge(self, opinions: Sequence[str], outcome: Outcome, stages: Stages) -> None:
        verdicts = outcome.verdicts()
        units = [
            Unit(
                f"{self.run}/{PREDICTIONS}/{part.rpartition('/')[2]}",
                MergeUnit(part, verdicts.get(index, ())),
                weight=self.listing.shards[index][1] or 1,
            )
            for index, part in enumerate(opinions)
        ]
        stages.run("deciding", MergeStep(self.store, self.section.method), units)
