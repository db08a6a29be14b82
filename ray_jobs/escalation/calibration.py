"""Calibration: the diffusion model's accuracy on examples that it was not trained on, and the temperature of its gaps.

Adapters of the candidate classes are trained a second time, without a quarter of the examples, and these are scored
like the archive: with the same schedule, and for the candidates of an escalated image. The gaps of their noise errors
fit a temperature (`fewshot.diffusion.error_gaps`). For a method that trains no adapters every example is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_jobs.escalation.adapter_training import AdapterTraining
from ray_jobs.escalation.decided_images import DecidedImages
from ray_jobs.escalation.scoring import EncodedImages, ImageScoring
from ray_jobs.escalation.selection import EscalationCandidate
from ray_jobs.escalation.stages import Stages
from ray_jobs.results.escalation_summary import CalibrationSummary
from ray_jobs.steps.diffusion_worker import DiffusionStep


@dataclass(frozen=True)
class EscalationCalibration:
    """Calibrates a diffusion model on held-out examples.

    Attributes:
        step: of the diffusion model.
        adapter_training: with held-out examples.
    """

    step: DiffusionStep
    adapter_training: AdapterTraining

    @classmethod
    def from_training(cls, adapter_training: AdapterTraining, step: DiffusionStep) -> EscalationCalibration:
        """Return the calibration of a model with these adapters."""
        return cls(step, replace(adapter_training, for_calibration=True))

    def max_images(self, label: str) -> int:
        """Return the number of held-out examples of a class, at most."""
        if self.adapter_training.trains_adapters:
            return len(self.adapter_training.held_out[label])
        return len(self.adapter_training.examples.images[label])

    def run(self, selected: Sequence[EscalationCandidate], folder: str, stages: Stages) -> CalibrationSummary:
        """Train adapters without the held-out examples, and score these.

        Args:
            selected: the escalated images.
            folder: of the parts of noise errors.
            stages: run the units.

        Raises:
            IncompleteError: a unit failed.
        """
        if not (images := self.held_out_images(selected)):
            return CalibrationSummary(images=0, accuracy=None, temperature=None)
        labels = sorted({label for image in images for label in image.candidates})
        self.adapter_training.train(labels, self.step, stages, stage_name="training adapters for calibration")
        units = list(self.adapter_training.examples.units.values())
        encoded = {i.part: EncodedImages(units[i.part].path, units[i.part].payload.rows) for i in images}
        scoring = ImageScoring(self.step, self.adapter_training, stage_name="calibrating")
        return _summarize(scoring.score(images, encoded, folder, stages))

    def held_out_images(self, selected: Sequence[EscalationCandidate]) -> list[EscalationCandidate]:
        """Return the held-out examples, each with the candidates of an escalated image that may be of its class.

        Args:
            selected: these images, the least certain first; the examples of a class take their candidates in turn.

        Returns:
            `label` is the class of the example, `part` the number of the class.
        """
        candidates: dict[str, list[tuple[str, ...]]] = {}
        for image in selected:
            for label in image.candidates:
                candidates.setdefault(label, []).append(image.candidates)
        found = []
        for part, label in enumerate(self.adapter_training.examples.units):
            for number, row in enumerate(self._held_out_rows(label) if label in candidates else []):
                name = self.adapter_training.examples.images[label][row]
                shared = candidates[label][number % len(candidates[label])]
                found.append(EscalationCandidate(0.0, name, part, row, shared, label))
        return found

    def _held_out_rows(self, label: str) -> list[int]:
        """Return the readable examples of a class that its adapters are not trained on."""
        latents = self.adapter_training.examples.latents.get(label)
        if latents is None:
            return []
        trained_on = self.adapter_training.training_rows(label) if self.adapter_training.trains_adapters else []
        return [row for row in latents.read.nonzero()[0].tolist() if row not in trained_on]


def _summarize(decided: DecidedImages) -> CalibrationSummary:
    import torch

    from fewshot.diffusion.error_gaps import fit_gap_temperature

    labels = torch.tensor([image.candidates.index(image.label) for image in decided.images])
    right = int((decided.scored.winner == labels).sum())
    temperature = fit_gap_temperature(decided.scored.gaps, decided.present, labels)
    return CalibrationSummary(images=len(labels), accuracy=right / len(labels), temperature=temperature)
