"""Predictions are counted in the archive's order while later parts are being read."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from cluster import Store
from ray_jobs.classification import metrics
from ray_jobs.classification.metrics import _count_parts, _Counts
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.predictions import SCHEMA

CLASSES = ("a", "b")


@pytest.fixture
def parts(tmp_path):
    """A store, and the paths of twelve parts, the sixth of which is missing."""
    store, paths = Store(str(tmp_path)), [f"predictions/0/part-{index}.parquet" for index in range(12)]
    for index, path in enumerate(paths):
        row = {"image": str(index), "top_labels": ["a"], "score": 0.5, "status": "ok", "source": ""}
        if index != 5:
            store.put(path, write_parquet(pa.Table.from_pylist([row] * (index + 1), SCHEMA)))
    return store, paths


def test_parts_are_read_side_by_side_and_counted_in_order(parts, monkeypatch):
    (store, paths), together, get = parts, threading.Barrier(4), Store.get
    counts, plain = _Counts(CLASSES, None), _Counts(CLASSES, None)
    for path in paths:
        plain.part_bytes.append(store.size(path) if store.exists(path) else 0)

    def wait(store, path):
        if not path.endswith(("-9.parquet", "-10.parquet", "-11.parquet")):
            together.wait(timeout=60)
        return get(store, path)

    monkeypatch.setattr(Store, "get", wait)
    monkeypatch.setattr(metrics, "READERS", 4)
    assert len(list(_count_parts(store, paths, counts))) == counts.parts == 11
    assert counts.part_bytes == plain.part_bytes
    assert counts.images == sum(range(1, 13)) - 6
