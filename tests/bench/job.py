"""The rate of a whole classify job while it embeds, as a share of its backbone's own rate."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.bench.photographs import write_photographs
from tests.bench.result import Gate, Result
from tests.bench.usage import run_python

PHOTOGRAPHS = "FEWSHOT_BENCH_DATA"
"""Environment variable with a folder of real photographs, at any depth; without it, they are synthetic."""


def run(*, images: int, repeat: int) -> Result:
    """Run the bare backbone and the job in turns, in one separate process.

    Args:
        images: number of images.
        repeat: rounds.
    """
    with tempfile.TemporaryDirectory() as folder:
        kind = _write_images(Path(folder) / "images", images)
        usage = run_python("tests.bench.contenders.job", Path(folder) / "images", Path(folder) / "output", repeat)
    return _result(f"{images} {kind} photographs", [json.loads(line) for line in usage.output.splitlines()])


def _result(title: str, rounds: Sequence[Mapping[str, float]]) -> Result:
    """Return medians over rounds; shares are taken within a round, where both run under the same load."""
    rows = [
        {
            "contender": contender,
            "images/s": median(1 / one[f"{name}_wall_s"] for one in rounds),
            "CPU ms an image": median(1000 * one[f"{name}_cpu_s"] for one in rounds),
            "forward is running": median(one[f"{name}_forward_s"] / one[f"{name}_wall_s"] for one in rounds),
            "share of the bare rate": median(one["bare_wall_s"] / one[f"{name}_wall_s"] for one in rounds),
        }
        for name, contender in (("bare", "backbone on ready tensors"), ("job", "the job while it embeds"))
    ]
    gate = Gate.at_least("share of its time in which the job's forward is running", rows[1]["forward is running"], 0.9)
    return Result("job", f"{title}, embedded CLIP, one thread forward", rows, [gate])


def _write_images(folder: Path, count: int) -> str:
    """Fill a folder with photographs; return "real" or "synthetic"."""
    if PHOTOGRAPHS not in os.environ:
        write_photographs(folder, count)
        return "synthetic"
    folder.mkdir()
    found = sorted(Path(os.environ[PHOTOGRAPHS]).rglob("*.jpg"))
    for index, path in enumerate(found[:: max(1, len(found) // count)][:count]):
        (folder / f"{index:06d}.jpg").write_bytes(path.read_bytes())
    return "real"
