"""What a diffusion model decided in a run, what that cost, and what it was worth where labels are known."""

from __future__ import annotations

from dataclasses import dataclass

from ray_jobs.results.json_format import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSummary(JsonValue):
    """How the diffusion model did on examples that its adapters were not trained on.

    Attributes:
        images: number of these examples.
        accuracy: share of them decided right, in [0, 1]; None without any.
        temperature: of the gaps of errors; None where there was nothing to fit it to, so that decisions have no score.
    """

    images: int
    accuracy: float | None
    temperature: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPoint(JsonValue):
    """One cascade: a share of the images, the least certain ones, goes to the diffusion model.

    Attributes:
        images: number of images that go there.
        fraction: their share of the archive, in [0, 1].
        forwards_an_image: forwards of the UNet per image of the archive, training not counted.
        accuracy: of all predictions whose label is known, in [0, 1].
    """

    images: int
    fraction: float
    forwards_an_image: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEscalation(JsonValue):
    """What escalation was worth, measured against given labels.

    Attributes:
        labelled_images: escalated images whose label is known.
        corrected: labels that became right.
        spoiled: labels that became wrong.
        accuracy_before: of the cheap predictions, over all images whose label is known, in [0, 1].
        accuracy: of the predictions, over the same images.
        curve: what smaller cascades would have come to, from no escalated image to all of them.
    """

    labelled_images: int
    corrected: int
    spoiled: int
    accuracy_before: float
    accuracy: float
    curve: tuple[CostPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationSummary(JsonValue):
    """What a diffusion model decided.

    Attributes:
        method: name of the method.
        images: number of escalated images.
        decided_otherwise: of these, images whose label is not that of the cheap prediction.
        forwards: forwards of the UNet that were spent on decisions.
        forwards_if_exhaustive: forwards that scoring every candidate at every time-step would have taken.
        time_steps: time-steps of an image, at most.
        classes: number of classes among the candidates.
        learned: of these, classes with a trained adapter.
        calibration: how it did on held-out examples; None if it was not calibrated.
        measured: what it was worth; None where no label of the archive is known.
    """

    method: str
    images: int
    decided_otherwise: int
    forwards: int
    forwards_if_exhaustive: int
    time_steps: int
    classes: int
    learned: int
    calibration: CalibrationSummary | None
    measured: MeasuredEscalation | None = None
