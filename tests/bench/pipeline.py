"""CPU-seconds from a file to the model: our embedding stage, a plain DataLoader loop, Ray Data."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tests.bench.photographs import write_photographs
from tests.bench.result import Gate, Result
from tests.bench.usage import Usage, run_python

OURS, OURS_ON_RAY = "ours, in process", "ours, 2 workers on Ray"
PLAIN, PLAIN_WORKERS = "DataLoader, in process", "DataLoader, 2 workers"
RAY_DATA = "Ray Data"
CONTENDERS: Mapping[str, tuple[str, ...]] = {
    OURS: ("ours",),
    PLAIN: ("loader",),
    OURS_ON_RAY: ("ours", "--ray", "2"),
    PLAIN_WORKERS: ("loader", "--workers", "2"),
    RAY_DATA: ("ray_data",),
}
SMALL_SHARE = 10
"""Images of the large run for each one of the small run, which is long enough for every worker to start."""


def run(*, images: int, repeat: int) -> Result:
    """Run every contender on few and on many images, in turns.

    Args:
        images: number of images of the large run.
        repeat: rounds.
    """
    contenders = {name: how for name, how in CONTENDERS.items() if name != RAY_DATA or find_spec("pandas")}
    sizes = (max(1, images // SMALL_SHARE), images)
    cpu_s: dict[tuple[str, int], list[float]] = defaultdict(list)
    wall_s: dict[tuple[str, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            write_photographs(Path(folder) / str(size), size)
        for turn in range(repeat):
            for size in sizes:
                for name, how in contenders.items():
                    output = Path(folder) / f"{turn}-{name}-{size}"
                    usage = usage_of(how, Path(folder) / str(size), output)
                    cpu_s[name, size].append(usage.cpu_s)
                    wall_s[name, size].append(usage.wall_s)
    totals, walls = (
        {name: [median(samples[name, size]) for size in sizes] for name in contenders} for samples in (cpu_s, wall_s)
    )
    return result(totals, walls, sizes)


def usage_of(how: Sequence[str], images: Path, output: Path) -> Usage:
    """Run a contender in its own process, and check that it missed no image."""
    module, *options = how
    usage = run_python(f"tests.bench.contenders.{module}", images, output, *options)
    count = sum(1 for _ in images.iterdir())
    assert int(usage.output) == count, f"{how} embedded {usage.output} of {count} images"
    return usage


def result(
    totals: Mapping[str, Sequence[float]], walls: Mapping[str, Sequence[float]], sizes: tuple[int, int]
) -> Result:
    """Separate fixed from marginal cost.

    Args:
        totals: CPU-seconds of each contender, on few and on many images.
        walls: seconds from start to end of its process, likewise.
        sizes: these two numbers of images.
    """
    few, many = sizes
    marginal_ms = {name: 1000 * (large - small) / (many - few) for name, (small, large) in totals.items()}
    fixed_s = {name: large - many * marginal_ms[name] / 1000 for name, (_, large) in totals.items()}
    rows = [
        {
            "contender": name,
            "fixed CPU s": fixed_s[name],
            "CPU ms an image": marginal_ms[name],
            "ratio to DataLoader": marginal_ms[name] / marginal_ms[PLAIN],
            f"CPU s for {few:,}": totals[name][0],
            f"CPU s for {many:,}": totals[name][1],
            f"whole process, s for {few:,}": walls[name][0],
            f"s for {many:,}": walls[name][1],
        }
        for name in totals
    ]
    claim = "CPU an image, ours / DataLoader"
    gates = [
        Gate.at_most(f"{claim}, in process", marginal_ms[OURS] / marginal_ms[PLAIN], 1.15),
        Gate.at_most(f"{claim}, 2 workers", marginal_ms[OURS_ON_RAY] / marginal_ms[PLAIN_WORKERS], 1.15),
    ]
    if RAY_DATA in totals:
        gates.append(Gate.at_most("fixed CPU, ours on Ray / Ray Data", fixed_s[OURS_ON_RAY] / fixed_s[RAY_DATA], 1.0))
    without = "" if RAY_DATA in totals else " (without Ray Data: it needs pandas, which is not installed)"
    return Result("pipeline", f"from a 500 x 375 JPEG to a model that costs nothing{without}", rows, gates)
