"""The step that measures one cell of an evaluation: a method, a number of shots, a draw."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cluster import Part, Store
from fewshot.backbones import ClipSpec
from ray_jobs.support import LabelledUnits
from ray_jobs.training import read_labelled

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.problem import Problem


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell trains on.

    Attributes:
        method: a method's name.
        hyperparameters: given ones; the others are chosen inside the shots.
        shots: examples a class.
        seed: of the draw and of the method.
        images: the examples.
    """

    method: str
    hyperparameters: Mapping[str, Any]
    shots: int
    seed: int
    images: tuple[str, ...]


@dataclass(slots=True)
class _Data:
    pool: Problem
    position: dict[str, int]
    features: Tensor
    truth: Tensor


@dataclass(frozen=True)
class EvaluateStep:
    """Trains and measures cells on cached features.

    Attributes:
        store: where the features are.
        spec: the backbone, for the text side.
        templates: prompts; None takes the backbone's own.
        pool: the train images, embedded.
        test: the test images, embedded.
    """

    store: Store
    spec: ClipSpec
    templates: tuple[str, ...] | None
    pool: LabelledUnits
    test: LabelledUnits

    def __hash__(self) -> int:
        """By what determines it."""
        return hash((self.store, self.spec, self.templates, self.pool.identity, self.test.identity))

    def setup(self) -> _Data:
        """Read all features and embed the prompts."""
        from fewshot.backbones import load_clip
        from fewshot.problem import Problem

        clip = load_clip(self.spec)
        space = self.pool.labels.space
        images, pool = read_labelled(self.store, self.pool)
        _, test = read_labelled(self.store, self.test)
        problem = Problem(space, clip.prototypes(space, self.templates), pool, val=None, logit_scale=clip.logit_scale)
        return _Data(problem, {image: i for i, image in enumerate(images)}, test.features, test.labels)

    def run(self, state: _Data, cell: Cell) -> Part:
        """Train on the cell's examples, then look at the test images, once."""
        import torch

        from fewshot.calibration import fit_calibrated
        from fewshot.methods import method_named
        from fewshot.metrics import Tally
        from fewshot.scoring import predict

        chosen = torch.tensor([state.position[image] for image in cell.images if image in state.position])
        problem = state.pool.with_support(state.pool.support[chosen])
        calibrated = fit_calibrated(method_named(cell.method, **cell.hyperparameters), problem, seed=cell.seed)
        scored = predict(calibrated, state.features)
        tally = Tally.of(state.truth, scored.label, scored.score, num_classes=problem.num_classes)
        result = {
            "method": cell.method,
            "shots": cell.shots,
            "seed": cell.seed,
            "accuracy": tally.accuracy,
            "macro_f1": tally.macro_f1,
            "ece": tally.ece,
            "temperature": calibrated.temperature,
            "hyperparameters": json.dumps(asdict(calibrated.method)),  # type: ignore[call-overload]
            "labels_consumed": len(chosen),
            "test_images": tally.rows,
            "per_class_accuracy": [_rounded(share) for share in tally.per_class_accuracy.tolist()],
        }
        return Part((json.dumps(result, indent=1) + "\n").encode(), {"cells": 1})


def _rounded(share: float) -> float | None:
    """None for a class that no test image is of: JSON has no NaN."""
    return None if math.isnan(share) else round(share, 6)
