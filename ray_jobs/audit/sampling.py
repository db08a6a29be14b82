"""The sample of a run, drawn while its predictions are read part by part."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.records.reading import ordered_map
from fewshot.audit import Sampler
from ray_jobs.audit.stored_draw import StoredDraw, StoredSample
from ray_jobs.output.feature_parts import READERS, view_table
from ray_jobs.output.runs import Run

COLUMNS = ["image", "source", "status", "top_labels", "score", "margin"]


def draw_sample(run: Run, draw: StoredDraw, images: int) -> StoredSample:
    """Draw a sample; memory grows with it and with the classes, not with the run.

    Args:
        run: of the draw, complete.
        draw: what determines the sample.
        images: number of images to draw.

    Raises:
        DataError: no image has a prediction, or more must be drawn for the strata.
        JobError: parts of the run are missing or damaged.
        StorageError: storage does not respond.
    """
    sampler = Sampler(key=draw.key, size=images, planned=draw.planned)
    learned, unreadable, left_out = pa.array(draw.learned_from, pa.string()), 0, 0

    def read(part: str) -> pa.Table:
        return view_table(run.store, part, columns=COLUMNS)

    for table in ordered_map(read, run.prediction_parts(), READERS):
        readable = table.filter(pc.not_equal(table["status"], "unreadable"))
        kept = readable.filter(pc.invert(pc.is_in(readable["image"], value_set=learned)))
        unreadable += len(table) - len(readable)
        left_out += len(readable) - len(kept)
        _add(sampler, kept)
    return StoredSample.from_draw(sampler.finish(), name=draw.name, unreadable=unreadable, learned_from=left_out)


def _add(sampler: Sampler, table: pa.Table) -> None:
    if len(table):
        images, sources, statuses = (
            pc.fill_null(table[name], "").to_pylist() for name in ("image", "source", "status")
        )
        guesses = pc.list_element(table["top_labels"], 0).to_pylist()
        scores, margins = (_numbers(table[name]) for name in ("score", "margin"))
        sampler.add(images, sources, statuses, guesses, scores, margins)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """[n] float64; NaN for null."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=float)
