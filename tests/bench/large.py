"""A million cached features and ten thousand classes of sixteen shots, in one thread and bounded memory."""

from __future__ import annotations

import json

from tests.bench.result import Gate, Result
from tests.bench.scoring import METHODS, SHOTS
from tests.bench.usage import run_python

GIB = 2**30
MAX_PEAK_BYTES = 4 * GIB
HOUR_S = 3600


def run(*, images: int, repeat: int, classes: int = 10_000) -> Result:
    """Run each method in its own process, which has all features in memory and labels a sample of them.

    Args:
        images: number of features in memory.
        repeat: rounds, each on other rows.
        classes: number of classes.
    """
    measured = {name: json.loads(_output(name, images, classes, repeat)) for name in METHODS}
    rows = [
        {
            "method": name,
            "images labelled": str(one["labelled"]),
            "images/s": one["rate"],
            "share of sgemm": one["share"],
            "peak GiB": one["peak_bytes"] / GIB,
            "hours for all (extrapolated)": images / one["rate"] / HOUR_S,
        }
        for name, one in measured.items()
    ]
    peak = max(one["peak_bytes"] for one in measured.values()) / GIB
    share = min(one["share"] for one in measured.values())
    gates = [
        Gate.at_most("peak of memory in GiB", peak, MAX_PEAK_BYTES / GIB),
        Gate.at_least("share of sgemm", share, 0.7),
    ]
    return Result("large", f"{images:,} features held, K = {classes:,}, S = {SHOTS}, one thread", rows, gates)


def _output(method: str, images: int, classes: int, repeat: int) -> str:
    return run_python("tests.bench.contenders.large", method, images, classes, repeat).output
