"""What asking a diffusion model will cost, before anything is spent: a look at what there is, nothing is run.

Until the cheap method has had its say nobody knows which images are doubtful, only how many can be asked about at most.
What racing will save is not foretold either: it depends on how alike the classes are. So all costs are bounds.
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
from ray_jobs.escalation.cost_model import FORWARDS_AN_IMAGE, Probe, ProbeUnit, learning_cost
from ray_jobs.escalation.decided_images import GAPS
from ray_jobs.escalation.escalate import CHOICE, PROBE, Escalation
from ray_jobs.escalation.selection import EscalationCandidates, find_candidates, get_choice
from ray_jobs.results.cost_plan import EscalationCost, PlannedStage
from ray_jobs.steps.adapter_files import trained

if TYPE_CHECKING:
    from fewshot.diffusion.adapter_training import AdapterSettings


@dataclass(frozen=True)
class CostEstimate:
    """What [escalate] will come to.

    Attributes:
        escalation: that will be carried out.
        cheap_predictions: the parts of the first opinions, there or not.
        top: labels that a first opinion lists at most.
        probe: how fast forwards are; None if nobody measured.
    """

    escalation: Escalation
    cheap_predictions: Sequence[str]
    top: int
    probe: Probe | None = None

    def measured(self) -> CostEstimate:
        """The same with a rate: what a worker of this run measured, or else what this machine does in a few seconds."""
        with suppress(FileNotFoundError, KeyError, TypeError, ValueError):  # What is damaged, the job measures anew.
            return replace(self, probe=Probe.from_json(self._store.get(f"{self._run}/{PROBE}")))
        worker = self.escalation.step.setup()
        return replace(self, probe=Probe.from_json(ProbeUnit().run(worker).data))

    def stages(self) -> list[PlannedStage]:
        """Return the stages of escalation, in their order."""
        return [
            self._encode(),
            self._train(),
            *([] if self.escalation.calibration is None else [self._calibrate()]),
            self._ask(),
        ]

    def cost(self) -> EscalationCost:
        """Return the cost of all stages together, at most."""
        known = [stage.forwards for stage in self.stages()]
        examples = FORWARDS_AN_IMAGE * sum(
            unit.weight for unit in self.escalation.adapter_training.examples.units.values()
        )
        bounds = [forwards for forwards in known if forwards is not None]
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
        )

    @property
    def finished(self) -> bool:
        """Whether every image that is asked about is decided."""
        return self._store.exists(f"{self._run}/{GAPS}")

    @property
    def budget(self) -> float:
        """Forwards that may be spent on more than encoding the examples."""
        hours = self.escalation.section.budget_gpu_hours
        return math.inf if hours is None or self.rate is None else 3600.0 * hours * self.rate

    @property
    def rate(self) -> float | None:
        """Forwards a second of a worker."""
        return None if self.probe is None else self.probe.forwards_a_second

    @cached_property
    def chosen(self) -> list[EscalationCandidates] | None:
        """Who is asked about; None as long as that is not decided."""
        path = f"{self._run}/{CHOICE}"
        return get_choice(self._store, path) if self._store.exists(path) else None

    @cached_property
    def images(self) -> int | None:
        """How many images are asked about, at most; None if nobody can tell."""
        if self.chosen is not None:
            return len(self.chosen)
        known = self.escalation.listing.images
        if known is None:
            return None
        section = self.escalation.section
        most = math.floor(section.max_fraction * known)
        if self.budget < math.inf:
            most = min(most, int(self.budget / (2 * section.steps + FORWARDS_AN_IMAGE)))
        return min(most, self._candidates) if all(map(self._store.exists, self.cheap_predictions)) else most

    @property
    def candidates(self) -> int:
        """Classes that are asked about an image, at most."""
        return min(self.escalation.section.candidates, self.top, len(self._labels))

    @property
    def _store(self) -> Store:
        return self.escalation.store

    @property
    def _run(self) -> str:
        return self.escalation.run

    @property
    def _candidates(self) -> int:
        below, candidates = self.escalation.below, self.escalation.section.candidates
        return sum(1 for _ in find_candidates(self._store, self.cheap_predictions, below=below, candidates=candidates))

    @cached_property
    def _settings(self) -> dict[str, list[AdapterSettings]]:
        """By label: how a class with examples is learned, for each number of them that may be readable, rising."""
        from fewshot.backbones.diffusion import latent_shape

        method, side = self.escalation.adapter_training.method, latent_shape(self.escalation.section.spec)[1]
        found = {}
        for label, unit in self.escalation.adapter_training.examples.units.items():
            settings = (method.adapter_settings(latent_side=side, shots=shots + 1) for shots in range(unit.weight))
            found[label] = list(dict.fromkeys(each for each in settings if each is not None))
        return {label: settings for label, settings in found.items() if settings}

    @property
    def _labels(self) -> Sequence[str]:
        """Classes that can be asked about: those that can be learned, or all for a method that learns nothing."""
        return list(self._settings) or self.escalation.support.labels.space.names

    @property
    def _in_question(self) -> set[str]:
        """Classes that may have to be learned."""
        if self.chosen is None:
            return set(self._settings)
        return {label for image in self.chosen for label in image.candidates} & self._settings.keys()

    def _encode(self) -> PlannedStage:
        examples = list(self.escalation.adapter_training.examples.units.values())
        chosen = [] if self.chosen is None else list(self.escalation.archived(self.chosen).values())
        done, left = self._done(examples + chosen), None
        if self.images is not None:
            left = sum(unit.weight for unit in examples) + self.images - done
        what = f"{sum(unit.weight for unit in examples)} examples and {self._count(self.images)} images"
        forwards = None if left is None else FORWARDS_AN_IMAGE * left
        return self._row("encode", what, done, left, forwards, at_most=self.chosen is None)

    def _train(self) -> PlannedStage:
        there, labels = trained(self._store, self.escalation.section.method), self._in_question
        race_plans = self.escalation.race_plans
        missing = [
            {label for label in labels if self._missing(adapter_training, label, there)}
            for adapter_training in race_plans
        ]
        left = len(set().union(*missing))
        done = len(labels) - left
        most = left if self.chosen is not None or self.images is None else min(left, self.images * self.candidates)
        ways = {how for label in labels for how in self._settings[label]}
        cost = sum(learning_cost(min(most, len(each)), ways) for each in missing)
        before = self.escalation.adapter_training.prior_cost() if most else 0.0
        name = self.escalation.section.method
        what = f"{name}: {self._count(len(labels))} classes" if self._settings else f"{name} learns nothing"
        return self._row("train adapters", what, done, most, before + cost, at_most=self.chosen is None)

    def _missing(self, adapter_training: AdapterTraining, label: str, there: frozenset[str]) -> bool:
        """Whether a class is not learned, however many of its examples can be read; for an exam, once more."""
        if adapter_training.for_calibration and not adapter_training.withheld.get(label):
            return False
        return not there & {adapter_training.class_adapter(label, how).folder for how in self._settings[label]}

    def _calibrate(self) -> PlannedStage:
        calibration, section = self.escalation.calibration, self.escalation.section
        assert calibration is not None
        labels = self._in_question if self._settings else self._labels
        images = sum(
            calibration.size(label) for label in labels if label in self.escalation.adapter_training.examples.units
        )
        left = 0 if self.finished else images
        what = f"{self._count(images)} examples × {self.candidates} classes × {section.steps} time-steps"
        forwards = float(left * self.candidates * section.steps)
        return self._row("examine", what, images - left, left, forwards, at_most=self.chosen is None)

    def _ask(self) -> PlannedStage:
        section = self.escalation.section
        left = 0 if self.finished else self.images
        done = self.images if self.finished else 0
        questions = None if left is None else left * self.candidates
        if left and self.chosen is not None:
            questions = sum(len(image.candidates) for image in self.chosen)
        what = f"{self._count(self.images)} images × {self.candidates} classes × {section.steps} time-steps"
        forwards = None if questions is None else float(questions * section.steps)
        return self._row("ask", what + self._rounds(), done, left, forwards, at_most=self.chosen is None)

    def _rounds(self) -> str:
        """How far asking has come. Images are decided together, round by round."""
        if self.finished:
            return ""
        begun = {path.split("/")[-2] for path in self._store.list(f"{self._run}/answers")}
        return f", in round {len(begun)}" if begun else ""

    def _done(self, units: Sequence[Unit]) -> int:
        return sum(unit.weight for unit in units) - weight_left(units, Ledger(self._store))

    def _count(self, number: int | None) -> str:
        class_prompt = "?" if number is None else str(number)
        return class_prompt if self.chosen is not None else f"at most {class_prompt}"

    def _row(
        self, stage: str, what: str, done: int | None, left: int | None, forwards: float | None, *, at_most: bool
    ) -> PlannedStage:
        most = None if forwards is None else min(forwards, self.budget if stage != "encode" else math.inf)
        return PlannedStage(
            stage=stage,
            what=what,
            done=done,
            left=left,
            at_most=at_most and bool(left),
            forwards=most,
            hours=self._hours(most),
        )

    def _hours(self, forwards: float | None) -> float | None:
        return None if forwards is None or self.rate is None else forwards / self.rate / 3600.0
