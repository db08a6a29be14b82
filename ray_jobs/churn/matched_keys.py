"""Match images of two runs by their keys, where their parts are not of the same shards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def match_keys(before: pa.Table, after: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of two tables that are of the same images.

    A key that several images of a run have (members of different tars, perhaps) is matched as often as both runs have
    it: in the order of their sources, and then of the rows.

    Args:
        before: [n] rows with the columns image and source, both without nulls.
        after: [m] rows, likewise.

    Returns:
        k positions in `before`, and as many in `after`; no position occurs twice.
    """
    keys = _codes(before, after, "image")
    sources = _codes(before, after, "source")
    ranks = [_occurrences(key, source) for key, source in zip(keys, sources, strict=True)]
    most = 1 + max((int(rank.max(initial=0)) for rank in ranks), default=0)
    former, present = (key * most + rank for key, rank in zip(keys, ranks, strict=True))
    _, one, other = np.intersect1d(former, present, assume_unique=True, return_indices=True)
    return one, other


def _codes(before: pa.Table, after: pa.Table, column: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a number for each text of a column, in the order of the texts, the same in both tables."""
    texts = pa.chunked_array([*before[column].chunks, *after[column].chunks], pa.string()).combine_chunks()
    encoded = texts.dictionary_encode()
    order = np.argsort(np.array(encoded.dictionary.to_pylist(), dtype=object), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    codes = rank[encoded.indices.to_numpy()]
    return codes[: len(before)], codes[len(before) :]


def _occurrences(keys: NDArray[np.int64], sources: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many rows of the same key come before each row, by source and position."""
    order = np.lexsort((sources, keys))
    ordered = keys[order]
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    place = np.arange(len(ordered))
    found = np.empty(len(ordered), np.int64)
    found[order] = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return found
