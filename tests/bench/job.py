"""How much of its backbone's own rate a whole classify job reaches while it embeds."""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.bench.photographs import write_photographs
from tests.bench.result import Gate, Result, medians
from tests.bench.usage import python

PHOTOGRAPHS = "FEWSHOT_BENCH_DATA"
"""Names a folder with real photographs, at any depth; without it they are synthetic."""


def run(*, images: int, repeat: int) -> Result:
    """The bare backbone and the job in turns, in one process of their own.

    Args:
        images: number of images.
        repeat: rounds.
    """
    with tempfile.TemporaryDirectory() as folder:
        what = _photographs(Path(folder) / "images", images)
        usage = python("tests.bench.contenders.job", Path(folder) / "images", Path(folder) / "output", repeat)
    samples = defaultdict(list)
    for line in usage.output.splitlines():
        for name, value in json.loads(line).items():
            samples[name].append(value)
    found = medians(samples)
    rows = [
        {
            "contender": title,
            "images/s": 1 / found[f"{name}_wall_s"],
            "CPU ms an image": 1000 * found[f"{name}_cpu_s"],
            "share of the bare rate": found["bare_wall_s"] / found[f"{name}_wall_s"],
            "share of the bare CPU": found["bare_cpu_s"] / found[f"{name}_cpu_s"],
        }
        for name, title in (("bare", "backbone on ready tensors"), ("job", "the job while it embeds"))
    ]
    gate = Gate.at_least("share of the backbone's rate that the job reaches", rows[1]["share of the bare rate"], 0.9)
    return Result("job", f"{images} {what} photographs, embedded CLIP, one thread forward", rows, [gate])


def _photographs(folder: Path, count: int) -> str:
    """Fill a folder; tells with what."""
    if PHOTOGRAPHS not in os.environ:
        write_photographs(folder, count)
        return "synthetic"
    folder.mkdir()
    found = sorted(Path(os.environ[PHOTOGRAPHS]).rglob("*.jpg"))
    for index, path in enumerate(found[:: max(1, len(found) // count)][:count]):
        (folder / f"{index:06d}.jpg").write_bytes(path.read_bytes())
    return "real"
