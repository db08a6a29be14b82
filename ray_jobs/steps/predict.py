"""The step that labels: a part of features in, a part of predictions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cluster import Part, Store
from fewshot.backbones import ClipSpec
from ray_jobs.output.classifiers import get_classifier
from ray_jobs.output.feature_parts import FeatureRows, counts, load, write_parquet

if TYPE_CHECKING:
    from fewshot.calibration.calibrated_classifier import CalibratedClassifier
    from fewshot.inference.predict import Predictions

SCHEMA = pa.schema(
    [
        pa.field("image", pa.string()),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("margin", pa.float32()),
        pa.field("top_labels", pa.list_(pa.string())),
        pa.field("top_scores", pa.list_(pa.float32())),
        pa.field("decided_by", pa.string()),
        pa.field("status", pa.string()),
        pa.field("error", pa.string()),
        pa.field("source", pa.string()),
    ]
)
"""A prediction row. `label` is the best guess also where `status` is "abstained"; null where "unreadable"."""


@dataclass(frozen=True, slots=True)
class PredictStep:
    """Labels images with a stored classifier.

    Attributes:
        store: where features and the classifier are.
        classifier: the classifier's folder in the store.
        spec: the backbone; loaded only for a classifier that needs a part of it. Its number of CPU threads is fixed
            for all products, because it decides last bits.
        top: classes listed for each image.
    """

    store: Store
    classifier: str
    spec: ClipSpec
    top: int = 5

    def setup(self) -> CalibratedClassifier:
        """Load the classifier."""
        import torch

        torch.set_num_threads(self.spec.threads)
        return get_classifier(self.store, self.classifier, self.spec)

    def run(self, state: CalibratedClassifier, features: str) -> Part:
        """Label one part.

        Args:
            state: from `setup`.
            features: path of the part of features.
        """
        import torch

        from fewshot.inference.predict import predict
        from fewshot.method import PoolingClassifier, features_for
        from fewshot.problem import Labelled

        rows = load(self.store, features, dense=isinstance(state.classifier, PoolingClassifier))
        read = np.array([error is None for error in rows.errors], dtype=bool)
        dense = None if rows.dense is None else torch.from_numpy(rows.dense)
        images = Labelled(torch.from_numpy(rows.views[read]), torch.zeros(int(read.sum()), dtype=torch.int64), dense)
        unit_rows = features_for(state.classifier, images)
        scored = predict(state, unit_rows, top=self.top)
        summary = counts(rows.errors) | {"abstained": float(scored.abstained[: len(unit_rows)].sum())}
        return Part(write_parquet(_table(rows, read, scored, state)), summary)


def _table(rows: FeatureRows, read: np.ndarray, scored: Predictions, classifier: CalibratedClassifier) -> pa.Table:
    """One row an image, in the order of the features."""
    names = np.array(classifier.class_names, dtype=object)
    position = np.where(read, np.cumsum(read) - 1, -1)
    take = pa.array(position, pa.int64(), mask=~read)
    top = scored.top_labels.shape[1]
    offsets = pa.array(np.arange(len(scored) + 1) * top, pa.int32())
    scores = pa.array(scored.top_scores.reshape(-1).numpy(), pa.float32())
    of_read = {
        "label": pa.array(names[scored.label.numpy()], pa.string()),
        "score": pa.array(scored.score.numpy(), pa.float32()),
        "margin": pa.array(scored.margin.numpy(), pa.float32()),
        "top_labels": pa.ListArray.from_arrays(
            offsets, pa.array(names[scored.top_labels.reshape(-1).numpy()], pa.string())
        ),
        "top_scores": pa.ListArray.from_arrays(offsets, scores),
        "decided_by": pa.array([type(classifier.method).name] * len(scored), pa.string()),
        "status": pa.array(np.where(scored.abstained.numpy(), "abstained", "ok"), pa.string()),
    }
    columns = {name: column.take(take) for name, column in of_read.items()}
    columns["status"] = columns["status"].fill_null("unreadable")
    columns |= {
        "image": pa.array(rows.images, pa.string()),
        "error": pa.array(rows.errors, pa.string()),
        "source": pa.array(rows.sources, pa.string()),
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)
