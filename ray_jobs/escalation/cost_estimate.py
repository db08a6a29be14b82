"""Upper bounds of the cost of escalation, before anything is spent: they follow from existing parts, nothing is run.

Before the cheap predictions are made, only the largest possible number of escalated images is known. What racing saves
is not estimated either: it depends on how similar the classes are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from cluster import Ledger, Store, Unit
from cluster.execution.executor import weight_left
from ray_jobs.escalation.adapter_training import AdapterTraining
from ray_jobs.escalation.cost_model import FORWARDS_PER_ENCODING, Probe, ProbeUnit, training_cost
from ray_jobs.escalation.escalate import NOISE_ERRORS, PROBE, SELECTION, Escalation
from ray_jobs.escalation.memory_estimate import estimate_memory
from ray_jobs.escalation.selection import EscalationCandidate, find_candidates, get_selection
from ray_jobs.output.layout import GAPS
from ray_jobs.results.cost_plan import BlockMemory, EscalationCost, PlannedStage
from ray_jobs.steps.adapter_files import trained_folders
from ray_jobs.steps.diffusion_worker import DiffusionWorker

if TYPE_CHECKING:
    from fewshot.diffusion.adapter_training import AdapterSettings


@dataclass(frozen=True)
class CostEstimate:
    """The cost of [escalate].

    Attributes:
        escalation: to estimate.
        cheap_predictions: the parts of the cheap predictions, existing or not.
        top: labels of a cheap prediction, at most.
        probe: rate of forwards; None if it was not measured.
        training_memory: of a block of adapters; None if it was not counted.
    """

    escalation: Escalation
    cheap_predictions: Sequence[str]
    top: int
    probe: Probe | None = None
    training_memory: BlockMemory | None = None

    def with_probe(self, *, gpu_share: float | None = None) -> CostEstimate:
        """Return the estimate with the rate measured by a worker of this run, or else measured here within seconds.

        Where the model is loaded for that, the memory of training is counted too.

        Args:
            gpu_share: GPUs of a worker of the job; None for a whole one.
        """
        with suppress(FileNotFoundError, KeyError, TypeError, ValueError):  # The job measures a damaged one anew.
            return replace(self, probe=Probe.from_json(self._store.get(f"{self._run}/{PROBE}")))
        worker = self.escalation.step.setup()
        probe = Probe.from_json(ProbeUnit().run(worker).data)
        return replace(self, probe=probe, training_memory=self._count_memory(worker, gpu_share))

    def stages(self) -> list[PlannedStage]:
        """Return the stages of escalation, in their order."""
        return [
            self._encode(),
            self._train(),
            *([] if self.escalation.calibration is None else [self._calibrate()]),
            self._score(),
        ]

    def cost(self) -> EscalationCost:
        """Return the cost of all stages together, at most."""
        known = [stage.forwards for stage in self.stages()]
        bounds = [forwards for forwards in known if forwards is not None]
        examples = FORWARDS_PER_ENCODING * self._num_examples
        forwards = None if len(bounds) < len(known) else min(sum(bounds), examples + self.budget)
        hours = self._hours(forwards)
        device = None if self.probe is None else self.probe.device
        on_gpu = device is not None and device.startswith("cuda")
        return EscalationCost(
            forwards=forwards,
            hours=hours,
            gpu_hours=hours if on_gpu or hours is None else 0.0,
            forwards_a_second=self.rate,
            device=device,
            training_memory=self.training_memory,
        )

    @property
    def finished(self) -> bool:
        """Whether every escalated image is decided."""
        return self._store.exists(f"{self._run}/{GAPS}")

    @property
    def budget(self) -> float:
        """Forwards that may be spent besides encoding the examples; infinity without a limit, or without a rate."""
        hours = self.escalation.section.budget_gpu_hours
        return math.inf if hours is None or self.rate is None else 3600.0 * hours * self.rate

    @property
    def rate(self) -> float | None:
        """Forwards a second of a worker; None if it was not measured."""
        return None if self.probe is None else self.probe.forwards_a_second

    @cached_property
    def selected(self) -> list[EscalationCandidate] | None:
        """The images to escalate; None before they are selected."""
        path = f"{self._run}/{SELECTION}"
        return get_selection(self._store, path) if self._store.exists(path) else None

    @cached_property
    def images(self) -> int | None:
        """Number of escalated images, at most; None if only reading the archive tells their number."""
        if self.selected is not None:
            return len(self.selected)
        listed = self.escalation.listing.images
        if listed is None:
            return None
        section = self.escalation.section
        most = math.floor(section.max_fraction * listed)
        if self.budget < math.inf:
            most = min(most, int(self.budget / (2 * section.steps + FORWARDS_PER_ENCODING)))
        return min(most, self._count_candidates()) if all(map(self._store.exists, self.cheap_predictions)) else most

    @property
    def classes_per_image(self) -> int:
        """Classes that are scored for an image, at most."""
        return min(self.escalation.section.candidates, self.top, len(self._labels))

    @property
    def _store(self) -> Store:
        return self.escalation.store

    @property
    def _run(self) -> str:
        return self.escalation.run

    @property
    def _example_units(self) -> dict[str, Unit]:
        return self.escalation.adapter_training.examples.units

    @property
    def _num_examples(self) -> int:
        return sum(unit.weight for unit in self._example_units.values())

    def _count_candidates(self) -> int:
        limit, most = self.escalation.score_limit, self.escalation.section.candidates
        return sum(1 for _ in find_candidates(self._store, self.cheap_predictions, below=limit, candidates=most))

    @cached_property
    def _settings(self) -> dict[str, list[AdapterSettings]]:
        """By label of a class with examples: its settings for each number of them that may be readable, rising."""
        from fewshot.backbones.diffusion import latent_shape

        method, side = self.escalation.adapter_training.method, latent_shape(self.escalation.section.spec)[1]
        found = {}
        for label, unit in self._example_units.items():
            settings = (method.adapter_settings(latent_side=side, shots=shots + 1) for shots in range(unit.weight))
            found[label] = list(dict.fromkeys(each for each in settings if each is not None))
        return {label: settings for label, settings in found.items() if settings}

    @property
    def _labels(self) -> Sequence[str]:
        """Classes that can be scored: those that can be trained, or all for a method that trains no adapters."""
        return list(self._settings) or self.escalation.support.labels.space.names

    @property
    def _labels_to_train(self) -> set[str]:
        """Classes whose adapters may be needed."""
        if self.selected is None:
            return set(self._settings)
        return {label for image in self.selected for label in image.candidates} & self._settings.keys()

    @property
    def _settings_to_train(self) -> set[AdapterSettings]:
        """The settings that these may be trained with."""
        return {each for label in self._labels_to_train for each in self._settings[label]}

    def _count_memory(self, worker: DiffusionWorker, gpu_share: float | None) -> BlockMemory | None:
        """Return the memory that training a block takes; None if nothing is left to train."""
        if not self._train().left:
            return None
        return estimate_memory(
            worker,
            self._settings_to_train,
            block_size=self.escalation.section.classes_per_block,
            with_prior=self.escalation.adapter_training.prior is not None,
            share=gpu_share,
        )

    def _encode(self) -> PlannedStage:
        selected = [] if self.selected is None else list(self.escalation.latent_units(self.selected).values())
        done, left = self._done([*self._example_units.values(), *selected]), None
        if self.images is not None:
            left = self._num_examples + self.images - done
        what = f"{self._num_examples} examples and {self._at_most(self.images)} images"
        forwards = None if left is None else FORWARDS_PER_ENCODING * left
        return self._stage("encode", what, done, left, forwards)

    def _train(self) -> PlannedStage:
        method, labels = self.escalation.section.method, self._labels_to_train
        folders = trained_folders(self._store, method)
        missing = [
            {label for label in labels if self._is_missing(training, label, folders)}
            for training in self.escalation.adapter_trainings
        ]
        left = len(set().union(*missing))
        most = left
        if self.selected is None and self.images is not None:
            most = min(left, self.images * self.classes_per_image)
        block_size = self.escalation.section.classes_per_block
        cost = sum(
            training_cost(min(most, len(each)), self._settings_to_train, block_size=block_size) for each in missing
        )
        prior_cost = self.escalation.adapter_training.prior_cost() if most else 0.0
        trains = f"{self._at_most(len(labels))} classes" if self._settings else "no adapters"
        return self._stage("train adapters", f"{method}: {trains}", len(labels) - left, most, prior_cost + cost)

    def _is_missing(self, training: AdapterTraining, label: str, folders: frozenset[str]) -> bool:
        """Return whether a training lacks the adapters of a class, however many of its examples are readable."""
        if training.for_calibration and not training.held_out.get(label):
            return False
        return not folders & {training.class_adapter(label, each).folder for each in self._settings[label]}

    def _calibrate(self) -> PlannedStage:
        calibration, steps = self.escalation.calibration, self.escalation.section.steps
        assert calibration is not None
        labels = self._labels_to_train if self._settings else self._labels
        images = sum(calibration.max_images(label) for label in labels if label in self._example_units)
        left = 0 if self.finished else images
        what = f"{self._at_most(images)} examples × {self.classes_per_image} classes × {steps} time-steps"
        return self._stage("calibrate", what, images - left, left, float(left * self.classes_per_image * steps))

    def _score(self) -> PlannedStage:
        steps = self.escalation.section.steps
        left = 0 if self.finished else self.images
        done = self.images if self.finished else 0
        pairs = None if left is None else left * self.classes_per_image
        if left and self.selected is not None:
            pairs = sum(len(image.candidates) for image in self.selected)
        what = f"{self._at_most(self.images)} images × {self.classes_per_image} classes × {steps} time-steps"
        return self._stage("score", what + self._round(), done, left, None if pairs is None else float(pairs * steps))

    def _round(self) -> str:
        """Return the round that scoring is in. Images are decided together, round by round."""
        if self.finished:
            return ""
        folders = (path.split("/")[-2] for path in self._store.list(f"{self._run}/{NOISE_ERRORS}"))
        begun = {name for name in folders if name.startswith("round-")}
        return f", in round {len(begun)}" if begun else ""

    def _done(self, units: Sequence[Unit]) -> int:
        return sum(unit.weight for unit in units) - weight_left(units, Ledger(self._store))

    def _at_most(self, number: int | None) -> str:
        known = "?" if number is None else str(number)
        return known if self.selected is not None else f"at most {known}"

    def _stage(self, stage: str, what: str, done: int | None, left: int | None, forwards: float | None) -> PlannedStage:
        most = None if forwards is None else min(forwards, self.budget if stage != "encode" else math.inf)
        return PlannedStage(
            stage=stage,
            what=what,
            done=done,
            left=left,
            at_most=self.selected is None and bool(left),
            forwards=most,
            hours=self._hours(most),
        )

    def _hours(self, forwards: float | None) -> float | None:
        return None if forwards is None or self.rate is None else forwards / self.rate / 3600.0
