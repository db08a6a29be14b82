"""An output with features and predictions that a test chooses, without a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.records import read_shard
from ray_jobs.inputs.archive import open_archive
from ray_jobs.output.feature_parts import FeatureRows, encode, write_parquet
from ray_jobs.output.layout import feature_part
from ray_jobs.output.predictions import SCHEMA
from tests.ray_jobs.place import picture
from tests.ray_jobs.written_run import LABELS, RUN, WrittenRun


def write_embedded(
    folder: Path,
    features: Mapping[str, Sequence[float] | None],
    *,
    predictions: Mapping[str, tuple[str, float | None]] | None = None,
    kind: str = "folder",
) -> WrittenRun:
    """Write an archive with an image a key, the features of each (None: unreadable), and a complete run.

    Args:
        folder: of everything.
        features: by key, in the archive's order.
        predictions: by key, the best guess and its score; None leaves all predictions out.
        kind: of archive.
    """
    content = picture("amber", 0)
    written = WrittenRun(folder).write(dict.fromkeys(features, content), kind=kind)
    dim = next((len(row) for row in features.values() if row is not None), 1)
    assert written.job.archive is not None
    for shard in open_archive(written.job.archive).shards():
        records = list(read_shard(shard))
        keys, rows = [record.key for record in records], [features[record.key] for record in records]
        views = np.array([[np.zeros(dim) if row is None else row] for row in rows], np.float32)
        errors = [None if row is not None else "it is broken" for row in rows]
        part = FeatureRows(keys, [record.source for record in records], errors, views.reshape(len(keys), 1, dim))
        written.store.put(feature_part("features/0/0", shard.fingerprint), encode(part))
        path = feature_part(LABELS, shard.fingerprint)
        if predictions is None:
            written.store.delete(path)
        else:
            table = [_row(key, record.source, predictions.get(key)) for key, record in zip(keys, records, strict=True)]
            written.store.put(path, write_parquet(pa.Table.from_pylist(table, SCHEMA)))
    if predictions is None:
        written.store.delete(f"{RUN}/metrics.json")
    return written


def _row(key: str, source: str, predicted: tuple[str, float | None] | None) -> dict[str, object]:
    if predicted is None:
        return {"image": key, "status": "unreadable", "error": "it is broken", "source": source}
    label, score = predicted
    top = {"top_labels": [label], "top_scores": None if score is None else [score]}
    return {"image": key, "label": label, "score": score, "status": "ok", "source": source, **top}
