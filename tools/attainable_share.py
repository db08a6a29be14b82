"""Measure in how many cells a choice among methods could be within one standard error of the best of them.

    python -m tools.attainable_share CELLS...

Each CELLS is the `cells.parquet` of an evaluation of a data set with more than `--draws` seeds. An evaluation of a few
draws calls a choice right if the method with the best mean is ahead of it by at most one standard error of the
differences, draw by draw. A choice that knows which method is best in truth is not always right then: another may have
been luckier. Printed, for each data set and number of shots, is the share of all evaluations of so many of the draws in
which a choice is right that knows the mean accuracies of all draws, of the draws that are not evaluated, or nothing
(each method in turn). The first knows a little too much, the second too little.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

Accuracies = NDArray[np.float64]
"""[M, N]: of M methods on N draws of the examples."""
ROUNDING = 1e-12
"""What two equal numbers may differ by after rounding."""


def is_within_error(accuracies: Accuracies, chosen: int) -> bool:
    """Return whether a method is behind the one with the best mean by at most one standard error.

    Args:
        accuracies: [M, n], n >= 2.
        chosen: row of the method.
    """
    best = int(accuracies.mean(axis=1).argmax())
    behind = accuracies[best] - accuracies[chosen]
    return bool(behind.mean() <= behind.std(ddof=1) / len(behind) ** 0.5 + ROUNDING)


def attainable_shares(accuracies: Accuracies, *, draws: int) -> tuple[float, float, float]:
    """Return the three shares of the module, in [0, 1].

    Args:
        accuracies: [M, N], N > draws.
        draws: of an evaluation, >= 2.
    """
    everywhere = int(accuracies.mean(axis=1).argmax())
    right = []
    for evaluated in combinations(range(accuracies.shape[1]), draws):
        here = accuracies[:, evaluated]
        elsewhere = int(np.delete(accuracies, evaluated, axis=1).mean(axis=1).argmax())
        by_method = [is_within_error(here, method) for method in range(len(here))]
        right.append((by_method[everywhere], by_method[elsewhere], np.mean(by_method)))
    known, estimated, unknown = np.mean(np.array(right, dtype=np.float64), axis=0).tolist()
    return known, estimated, unknown


def read_cells(path: Path, methods: list[str]) -> dict[int, Accuracies]:
    """Return number of shots -> accuracies on the seeds that all methods have; only where there are some."""
    rows = pq.read_table(path, columns=["method", "shots", "seed", "accuracy"]).to_pylist()
    found = {(row["shots"], row["seed"], row["method"]): row["accuracy"] for row in rows}
    draws: dict[int, list[list[float]]] = {}
    for shots, seed in sorted({(shots, seed) for shots, seed, _ in found}):
        accuracies = [found.get((shots, seed, method)) for method in methods]
        if None not in accuracies:
            draws.setdefault(shots, []).append(accuracies)  # type: ignore[arg-type]
    return {shots: np.array(each, dtype=np.float64).T for shots, each in draws.items()}


def main() -> None:
    """Print a line for each data set and number of shots, and the means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cells", nargs="+", type=Path, metavar="CELLS")
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    shares = []
    for path in given.cells:
        for shots, accuracies in read_cells(path, given.methods).items():
            if accuracies.shape[1] > given.draws:
                shares.append(attainable_shares(accuracies, draws=given.draws))
                _print(f"{path.parent.name}, {shots}, {accuracies.shape[1]} draws", shares[-1])
    _print(f"mean of {len(shares)}", tuple(np.mean(shares, axis=0).tolist()))


def _print(name: str, shares: tuple[float, ...]) -> None:
    known, estimated, unknown = (f"{100 * share:.0f}" for share in shares)
    sys.stdout.write(f"{name} | known {known} | estimated {estimated} | unknown {unknown}\n")


if __name__ == "__main__":
    main()
