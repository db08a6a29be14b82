"""The escalation of a run: its decisions and their cost, and its accuracy where labels are known."""

from __future__ import annotations

from dataclasses import dataclass

from ray_jobs.results.json_format import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSummary(JsonValue):
    """The accuracy of the diffusion model on held-out examples, which its adapters were not trained on.

    Attributes:
        images: number of these examples.
        accuracy: share of them labelled right, in [0, 1]; None without any.
        temperature: of the gaps of errors; None without any, so that decisions have no score.
    """

    images: int
    accuracy: float | None
    temperature: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPoint(JsonValue):
    """A cascade that escalates a share of the images, the least certain ones.

    Attributes:
        images: number of escalated images.
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
    """The accuracy of escalation, measured against given labels.

    Attributes:
        labelled_images: escalated images whose label is known.
        corrected: labels that became right.
        spoiled: labels that became wrong.
        accuracy_before: of the cheap predictions, over all images whose label is known, in [0, 1].
        accuracy: of the predictions, over the same images.
        curve: smaller cascades, from no escalated image to all of them.
    """

    labelled_images: int
    corrected: int
    spoiled: int
    accuracy_before: float
    accuracy: float
    curve: tuple[CostPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationSummary(JsonValue):
    """The decisions of a diffusion model in a run, and their cost.

    Attributes:
        method: name of the method.
        images: number of escalated images.
        labels_changed: of these, images whose label is not that of the cheap prediction.
        forwards: forwards of the UNet that were spent on decisions.
        forwards_if_exhaustive: forwards that scoring every candidate at every time-step would have taken.
        time_steps: time-steps of an image, at most.
        classes: number of classes among the candidates.
        trained_classes: of these, classes with trained adapters.
        calibration: on held-out examples; None without calibration.
        measured: against given labels; None where no label of the archive is known.
    """

    method: str
    images: int
    labels_changed: int
    forwards: int
    forwards_if_exhaustive: int
    time_steps: int
    classes: int
    trained_classes: int
    calibration: CalibrationSummary | None
    measured: MeasuredEscalation | None = None
