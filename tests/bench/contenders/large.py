"""Label some of a million cached features among ten thousand classes, and print rate and peak of memory."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.inference.predict import TILE_ROWS, predict
from tests.bench.scoring import DIM, classifier_of, matrix_columns

SAMPLE_ROWS = 2 * TILE_ROWS
"""Rows that a round labels, of all in memory."""
BLOCK_COLUMNS = 16_384
"""Columns of one product; the memory for its result is allocated before."""


def main(method: str, images: int, classes: int, repeat: int) -> None:
    """Print one JSON object."""
    torch.set_num_threads(1)
    calibrated = classifier_of(method, classes)
    features = unit_rows(images)
    matrix = torch.randn(DIM, matrix_columns(calibrated))
    result = torch.empty(TILE_ROWS, min(BLOCK_COLUMNS, matrix.shape[1]))
    ours_s = sgemm_s = 0.0
    for turn in range(repeat + 1):
        start = turn * max(0, images - SAMPLE_ROWS) // max(1, repeat)
        sample = features[start : start + SAMPLE_ROWS]
        ours = cpu_seconds(lambda sample=sample: predict(calibrated, sample))  # type: ignore[misc]
        sgemm = cpu_seconds(lambda sample=sample: multiply(sample, matrix, result))  # type: ignore[misc]
        if turn:  # The first round warms up.
            ours_s, sgemm_s = ours_s + ours, sgemm_s + sgemm
    labelled = repeat * min(images, SAMPLE_ROWS)
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured = {"rate": labelled / ours_s, "share": sgemm_s / ours_s, "labelled": labelled, "peak_bytes": peak_bytes}
    print(json.dumps(measured))  # noqa: T201


def unit_rows(images: int) -> Tensor:
    """Return [images, D] float32 unit rows in random directions, made one tile at a time."""
    generator, rows = torch.Generator().manual_seed(0), torch.empty(images, DIM)
    for tile in rows.split(TILE_ROWS):
        torch.randn(tile.shape, generator=generator, out=tile)
        normalize(tile, dim=1, out=tile)
    return rows


def multiply(rows: Tensor, matrix: Tensor, result: Tensor) -> None:
    """Compute the products alone, in the same tiles as the labels."""
    for tile in rows.split(TILE_ROWS):
        for block in matrix.split(BLOCK_COLUMNS, dim=1):
            torch.mm(tile, block, out=result[: len(tile), : block.shape[1]])


@torch.inference_mode()
def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    main(name, *map(int, numbers))
