"""The exam: what the model's answers are worth, measured on examples that it was not shown.

Adapters of the classes in question are learned once more, without a quarter of the examples, and the model is asked
about these as it is about the archive: with the same schedule, and among candidates that some doubtful image has. What
it answers fits a temperature (`fewshot.diffusion.confidence`). A model that learned nothing can be asked about every
example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_jobs.escalation.adapter_training import AdapterTraining
from ray_jobs.escalation.decided_images import Outcome
from ray_jobs.escalation.scoring import Encoded, ImageScoring
from ray_jobs.escalation.selection import EscalationCandidates
from ray_jobs.escalation.stages import Stages
from ray_jobs.results.escalation_summary import CalibrationSummary
from ray_jobs.steps.diffusion_worker import DiffusionStep

ANSWERS = "exam"
"""Folder of a run."""


@dataclass(frozen=True, slots=True)
class Result:
    """How the exam went.

    Attributes:
        images: that were asked about.
        right: of them.
        temperature: of the gaps of errors; None where nothing could be asked.
    """

    images: int
    right: int
    temperature: float | None

    def summary(self) -> CalibrationSummary:
        """Return what the metrics state."""
        accuracy = self.right / self.images if self.images else None
        return CalibrationSummary(images=self.images, accuracy=accuracy, temperature=self.temperature)


@dataclass(frozen=True)
class EscalationCalibration:
    """What is asked, and of whom.

    Attributes:
        step: what all work on the model is units of.
        adapter_training: of the model that is examined.
    """

    step: DiffusionStep
    adapter_training: AdapterTraining

    @classmethod
    def after(cls, adapter_training: AdapterTraining, step: DiffusionStep) -> EscalationCalibration:
        """The exam of a model that had these lessons."""
        return cls(step, replace(adapter_training, for_calibration=True))

    def size(self, label: str) -> int:
        """How many examples of a class are asked about, at most."""
        if self.adapter_training.learns:
            return len(self.adapter_training.withheld[label])
        return len(self.adapter_training.examples.images[label])

    def acquire_run(self, chosen: Sequence[EscalationCandidates], folder: str, stages: Stages) -> Result:
        """Teach, ask and mark.

        Args:
            chosen: the images that will be asked about.
            folder: where answers go.
            stages: what carries it out.

        Raises:
            IncompleteError: a unit failed.
        """
        if not (questions := self.questions(chosen)):
            return Result(0, 0, None)
        labels = sorted({label for question in questions for label in question.candidates})
        self.adapter_training.learn(labels, self.step, stages, called="training for the exam")
        units = list(self.adapter_training.examples.units.values())
        encoded = {q.part: Encoded(units[q.part].path, units[q.part].payload.rows) for q in questions}
        asking = ImageScoring(self.step, self.adapter_training, name="exam")
        return _marked(asking.decided(questions, encoded, folder, stages))

    def questions(self, chosen: Sequence[EscalationCandidates]) -> list[EscalationCandidates]:
        """Examples that were not learned from, each among the candidates of an image that may be of its class.

        Args:
            chosen: these images, the least certain first; each lends its candidates as often as any other.

        Returns:
            `label` is the class that the example is of, `part` the number of the class.
        """
        sets: dict[str, list[tuple[str, ...]]] = {}
        for image in chosen:
            for label in image.candidates:
                sets.setdefault(label, []).append(image.candidates)
        found = []
        for part, label in enumerate(self.adapter_training.examples.units):
            for number, row in enumerate(self._rows(label) if label in sets else []):
                name = self.adapter_training.examples.images[label][row]
                candidates = sets[label][number % len(sets[label])]
                found.append(EscalationCandidates(0.0, name, part, row, candidates, label))
        return found

    def _rows(self, label: str) -> list[int]:
        """Examples of a class that can be asked about."""
        latents = self.adapter_training.examples.latents.get(label)
        if latents is None:
            return []
        shown = self.adapter_training.rows(label) if self.adapter_training.learns else []
        return [row for row in latents.read.nonzero()[0].tolist() if row not in shown]


def _marked(outcome: Outcome) -> Result:
    import torch

    from fewshot.diffusion.confidence import fit_gap_temperature

    labels = torch.tensor([image.candidates.index(image.label) for image in outcome.images])
    right = int((outcome.decision.winner == labels).sum())
    temperature = fit_gap_temperature(outcome.decision.gaps, outcome.present, labels)
    return Result(len(labels), right, temperature)
