"""The rate of labelling cached features, beside one matrix product with as many operations; in one thread."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.calibration.abstention import HeldOutScores
from fewshot.calibration.calibrated_classifier import CalibratedClassifier, HeldOutReport
from fewshot.calibration.temperature import Scaling
from fewshot.inference.predict import TILE_ROWS, predict
from fewshot.methods import build_method
from fewshot.problem import Labelled, Problem
from tests.bench.result import Result, medians
from tests.problems import space

SHOTS, DIM = 16, 512
METHODS = {
    "tip_adapter": {"alpha": 1.0, "beta": 5.5},
    "gda": {"text_share": 0.2},
    "ape": {"alpha": 1.0, "beta": 5.5, "gamma": 0.1, "channel_fraction": 0.8, "similarity_weight": 0.7},
}


def run(*, images: int, repeat: int, classes: tuple[int, ...] = (100, 1000)) -> Result:
    """Score and multiply in turns.

    Args:
        images: number of features, rounded down to whole tiles, at least one.
        repeat: rounds.
        classes: numbers of classes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    features = normalize(torch.randn(max(1, images // TILE_ROWS) * TILE_ROWS, DIM, generator=generator), dim=1)
    rows = [_row(features, method, K, repeat) for K in classes for method in METHODS]
    torch.set_num_threads(threads)
    return Result("scoring", f"labels for features (S = {SHOTS}, D = {DIM}), one thread, beside one sgemm", rows)


@torch.inference_mode()
def _row(features: Tensor, method: str, K: int, repeat: int) -> dict[str, str | float]:
    classifier = classifier_of(method, K)
    flops = 2 * len(features) * matrix_columns(classifier) * DIM
    matrix = torch.randn(DIM, matrix_columns(classifier))
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: predict(classifier, features),
        "sgemm": lambda: features @ matrix,
    }
    cpu_s = defaultdict(list)
    for _ in range(repeat + 1):
        for name, contender in contenders.items():
            started = time.process_time()
            contender()
            cpu_s[name].append(time.process_time() - started)
    took = medians({name: values[1:] for name, values in cpu_s.items()})  # The first round warms up.
    return {
        "method": method,
        "K": str(K),
        "images/s": len(features) / took["ours"],
        "GFLOP/s": flops / took["ours"] / 1e9,
        "sgemm GFLOP/s": flops / took["sgemm"] / 1e9,
        "share of sgemm": took["sgemm"] / took["ours"],
    }


def problem_of(K: int) -> Problem:
    """Return a problem with shots and class embeddings in random directions, which do not affect the time."""
    generator = torch.Generator().manual_seed(0)
    text = normalize(torch.randn(K, DIM, generator=generator), dim=1)
    shots = Labelled(torch.randn(K * SHOTS, 1, DIM, generator=generator), torch.arange(K).repeat(SHOTS))
    return Problem(space(K), text, shots, None, 100.0)


def classifier_of(method: str, K: int) -> CalibratedClassifier:
    """Return a method with fixed hyperparameters, fitted to `problem_of`."""
    problem = problem_of(K)
    chosen = build_method(method, **METHODS[method])
    fitted = chosen.fit(problem, seed=0)
    names = problem.label_space.names
    nothing, report = HeldOutScores(np.zeros(0, np.float32), np.zeros(0, bool)), HeldOutReport("none", 0)
    return CalibratedClassifier(chosen, fitted, names, problem.logit_scale, Scaling(), None, report, nothing)


def matrix_columns(classifier: CalibratedClassifier) -> int:
    """Return the number of columns of one product of D rows with as many operations as the classifier's products."""
    matrices = (getattr(classifier.classifier, name, None) for name in ("text", "keys", "weight"))
    return sum(matrix.numel() for matrix in matrices if matrix is not None) // DIM
