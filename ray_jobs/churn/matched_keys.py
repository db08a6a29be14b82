"""Match images of two runs by their keys, where their parts are not of the same shards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def match_keys(before: pa.Table, after: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of two tables that are of the same images.

    Several images of a run may have the same key (members of different tars, perhaps). Those of the same source are
    matched first, then the others, both in the order of their rows, as often as both runs have the key.

    Args:
        before: [n] rows with the columns image and source, both without nulls.
        after: [m] rows, likewise.

    Returns:
        k positions in `before`, and as many in `after`; no position occurs twice.
    """
    keys, sources = (_codes(before, after, column) for column in ("image", "source"))
    span = 1 + max(int(source.max(initial=0)) for source in sources)
    one, other = _matched(*(key * span + source for key, source in zip(keys, sources, strict=True)))
    left = np.setdiff1d(np.arange(len(before)), one), np.setdiff1d(np.arange(len(after)), other)
    by_key = _matched(keys[0][left[0]], keys[1][left[1]])
    return np.concatenate([one, left[0][by_key[0]]]), np.concatenate([other, left[1][by_key[1]]])


def _codes(before: pa.Table, after: pa.Table, column: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a number for each text of a column, the same in both tables."""
    texts = pa.chunked_array([*before[column].chunks, *after[column].chunks], pa.string()).combine_chunks()
    codes = texts.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes[: len(before)], codes[len(before) :]


def _matched(before: NDArray[np.int64], after: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of equal numbers: of a repeated one, the first with the first, and so on."""
    ranks = _occurrences(before), _occurrences(after)
    span = 1 + max(int(rank.max(initial=0)) for rank in ranks)
    _, one, other = np.intersect1d(
        before * span + ranks[0], after * span + ranks[1], assume_unique=True, return_indices=True
    )
    return one, other


def _occurrences(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """[n] int64, how many of the same value come before each one."""
    order = np.argsort(values, kind="stable")
    is_first = np.diff(values[order], prepend=-1) != 0
    place = np.arange(len(order))
    found = np.empty(len(order), np.int64)
    found[order] = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return found
