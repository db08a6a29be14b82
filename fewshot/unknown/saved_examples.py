"""Examples to compare images with, as one safetensors file with its own digest. This module works on bytes."""

from __future__ import annotations

import safetensors
import safetensors.torch
import torch
from torch.nn.functional import normalize

from fewshot.digests import PLACEHOLDER, check_seal, seal
from fewshot.errors import DataError
from fewshot.problem import Labelled
from fewshot.unknown.nearest_example import NearestExample, different_rows

FEATURES, SCORES = "features", "scores"
"""Names of the tensors. Scores of another meaning take another name, so that files of before are made anew."""


def save_examples(images: Labelled) -> bytes:
    """Return a file of the features of examples, and of how close each is to another; equal examples give equal bytes.

    Args:
        images: the examples; their labels and augmented views are not used.
    """
    rows = different_rows(images).float().cpu().contiguous()
    tensors = {FEATURES: rows, SCORES: NearestExample.from_rows(rows).scores}
    return seal(safetensors.torch.save(tensors, {"digest": PLACEHOLDER}))


def load_examples(data: bytes, *, file: str) -> NearestExample:
    """Read a file of examples.

    Args:
        data: from `save_examples`.
        file: its name, for errors.

    Raises:
        DataError: it is damaged, or no such file.
    """
    try:
        check_seal(data)
        tensors = safetensors.torch.load(data)
        rows, scores = tensors[FEATURES], tensors[SCORES]
    except (DataError, KeyError, safetensors.SafetensorError) as error:
        raise DataError(f"{file} is damaged: {error}") from error
    if rows.ndim != 2 or rows.dtype != torch.float32 or scores.dtype != torch.float64 or scores.shape != rows.shape[:1]:
        raise DataError(f"{file} is damaged: expected features [N, D] float32 and scores [N] float64")
    if not bool(rows.isfinite().all()) or not bool((scores[1:] >= scores[:-1]).all()) or bool(scores.isnan().any()):
        raise DataError(f"{file} is damaged: expected finite features, and scores in ascending order")
    return NearestExample(normalize(rows.double(), dim=1), scores)
