"""Held-out scores beside the tensors of a stored classifier. Reading them takes no torch and no backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from fewshot.calibration.abstention import HeldOutScores
from fewshot.errors import DataError

NAMES = {"scores": "held_out.scores", "correct": "held_out.correct"}
"""Field of `HeldOutScores` to name of its tensor; no field of a classifier has a dot in its name."""


def read_held_out_scores(tensors: bytes, *, file: str) -> HeldOutScores:
    """Read the held-out scores of a stored classifier, on which a threshold for any maximum error rate is chosen.

    Args:
        tensors: content of the safetensors file of the classifier.
        file: its name, for errors.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return held_out_scores_from(safetensors.numpy.load(tensors), file=file)
    except safetensors.SafetensorError as error:
        raise DataError(f"{file} is damaged: {error}") from error


def held_out_scores_from(tensors: Mapping[str, Any], *, file: str) -> HeldOutScores:
    """Return the held-out scores among the tensors of a file.

    Args:
        tensors: by name, anything that numpy takes as an array.
        file: its name, for errors.

    Raises:
        DataError: they are missing, or not what they should be.
    """
    if missing := sorted(set(NAMES.values()) - tensors.keys()):
        raise DataError(f"{file} is damaged: {', '.join(missing)} is missing")
    found = HeldOutScores(**{field: np.asarray(tensors[name]) for field, name in NAMES.items()})
    if found.scores.dtype != np.float32 or found.correct.dtype != np.bool_:
        raise DataError(f"{file} is damaged: expected held-out scores in float32 and hits in bool")
    if found.scores.ndim != 1 or found.scores.shape != found.correct.shape:
        raise DataError(f"{file} is damaged: expected a hit or a miss for each held-out score")
    if bool(((found.scores < 0.0) | (found.scores > 1.0)).any()):
        raise DataError(f"{file} is damaged: held-out scores must lie in [0, 1]")
    return found
