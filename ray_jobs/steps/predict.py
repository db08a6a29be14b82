"""The step that labels: a part of features in, a part of predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cluster import Part, Store
from fewshot.backbones import ClipSpec
from ray_jobs.output.classifiers import ClassifierRef
from ray_jobs.output.feature_parts import counts, load, write_parquet
from ray_jobs.output.predictions import PredictionOrigin, ScoredPart, build_predictions

if TYPE_CHECKING:
    from fewshot.calibration.calibrated_classifier import CalibratedClassifier
    from fewshot.conformal import LabelSetRule
    from fewshot.unknown import UnknownTest


class Loaded(NamedTuple):
    """A classifier, what makes its label sets, and its test of images of no class; None for what it does not have."""

    classifier: CalibratedClassifier
    label_set_rule: LabelSetRule | None
    unknown_test: UnknownTest | None


@dataclass(frozen=True, slots=True)
class PredictStep:
    """Labels images with a stored classifier.

    Attributes:
        store: holds the features.
        classifier: the classifier.
        spec: the backbone; loaded only for a classifier that needs a part of it. Its number of CPU threads is fixed
            for all products, because it decides last bits.
        top: classes listed for each image.
        origin: of the images, for the metadata of the predictions; None for an intermediate result.
    """

    store: Store
    classifier: ClassifierRef
    spec: ClipSpec
    top: int = 5
    origin: PredictionOrigin | None = None

    def setup(self) -> Loaded:
        """Load the classifier."""
        import torch

        torch.set_num_threads(self.spec.threads)
        calibrated, test = self.classifier.load(self.spec), self.classifier.unknown_test()
        tested_by = None if test is None else test.to(calibrated.device)
        return Loaded(calibrated, self.classifier.label_set_rule(), tested_by)

    def run(self, state: Loaded, features: str) -> Part:
        """Label one part.

        Args:
            state: from `setup`.
            features: path of the part of features.
        """
        import torch

        from fewshot.inference.predict import NOT_FINITE, predict, with_label_sets
        from fewshot.method import PoolingClassifier, features_for
        from fewshot.problem import Labelled

        calibrated, rule, test = state
        rows = load(self.store, features, dense=isinstance(calibrated.classifier, PoolingClassifier))
        read = np.array([error is None for error in rows.errors], dtype=bool)
        dense = None if rows.dense is None else torch.from_numpy(rows.dense)
        images = Labelled(torch.from_numpy(rows.views[read]), torch.zeros(int(read.sum()), dtype=torch.int64), dense)
        unit_rows = features_for(calibrated.classifier, images)
        scored = predict(calibrated, unit_rows, top=self.top)
        errors = _errors(rows.errors, np.flatnonzero(read)[~scored.finite.numpy()], NOT_FINITE)
        views = images.views[scored.finite, 0]
        scored, label_sets = with_label_sets(scored[scored.finite], rule, views)
        part = ScoredPart(
            images=rows.images,
            sources=rows.sources,
            errors=errors,
            scored=scored,
            has_scores=calibrated.has_scores,
            classes=calibrated.class_names,
            method=type(calibrated.method).name,
            classifier=self.classifier.name,
            label_sets=label_sets,
            tested=None if test is None else test(views),
        )
        summary = counts(errors) | {"abstained": float(scored.abstained.sum())}
        return Part(write_parquet(build_predictions(part, self.origin)), summary)


def _errors(errors: Sequence[str | None], lost: np.ndarray, reason: str) -> list[str | None]:
    """Return the errors with a reason at the lost rows, too."""
    rows = set(lost.tolist())
    return [reason if row in rows else error for row, error in enumerate(errors)]
