"""`python -m tests.bench --help`."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.bench import (
    archive,
    audit,
    churn,
    decode,
    device,
    diffusion,
    drift,
    export,
    gpu,
    job,
    large,
    lora,
    million,
    nights,
    overhead,
    pipeline,
    precision,
    promotion,
    random_labels,
    reading,
    report,
    review,
    scale,
    scoring,
    search,
    split,
    suggestion,
)

RUN = {
    "decode": decode.run,
    "pipeline": pipeline.run,
    "device": device.run,
    "job": job.run,
    "scoring": scoring.run,
    "large": large.run,
    "lora": lora.run,
    "diffusion": diffusion.run,
    "precision": precision.run,
    "overhead": overhead.run,
    "scale": scale.run,
    "split": split.run,
    "archive": archive.run,
    "audit": audit.run,
    "drift": drift.run,
    "promotion": promotion.run,
    "nights": nights.run,
    "reading": reading.run,
    "million": million.run,
    "search": search.run,
    "suggestion": suggestion.run,
    "suggestion_parts": suggestion.run_parts,
    "random_labels": random_labels.run,
    "report": report.run,
    "churn": churn.run,
    "review": review.run,
    "export": export.run,
    "gpu": gpu.run,
}
IMAGES = {
    "decode": 20,
    "pipeline": 10_000,
    "device": 20_000,
    "job": 300,
    "scoring": 8192,
    "large": 1_000_000,
    "lora": 16,
    "diffusion": 10_000,
    "precision": 48,
    "overhead": 1000,
    "scale": 40,
    "split": 40,
    "archive": 1_000_000,
    "audit": 1000,
    "drift": 200,
    "promotion": 1000,
    "nights": 40,
    "reading": 4000,
    "million": 1_000_000,
    "search": 1_000_000,
    "suggestion": 100_000,
    "suggestion_parts": 100_000,
    "random_labels": 100_000,
    "report": 1_000_000,
    "churn": 1_000_000,
    "review": 1_000_000,
    "export": 1_000_000,
    "gpu": 8192,
}
SIZES = (
    "Size of each benchmark, in what it counts: images, units, time-steps, replays, projects or classes. Gates are set"
    f" for the default ({', '.join(f'{name} {size:,}' for name, size in IMAGES.items())})."
)
LOG_COLUMNS = 200
"""Width of tables in a file or a pipe, where nothing is cut off."""
Name = StrEnum("Name", list(RUN))
BY_NAME = ("gpu", "drift", "nights", "suggestion", "suggestion_parts", "random_labels")
"""What takes a GPU, or labelled photographs."""
ON_ANY_MACHINE = [name for name in Name if name not in BY_NAME]


def main(
    names: Annotated[
        list[Name] | None,
        typer.Argument(help="Benchmarks to run (default: all that need neither a GPU nor labelled photographs)."),
    ] = None,
    images: Annotated[int | None, typer.Option(min=10, help=SIZES)] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the median is reported.")] = 3,
    output: Annotated[Path, typer.Option(help="Folder for the results as JSON.")] = Path(".bench"),
) -> None:
    """Measure decoding, the pipeline, a whole job, scoring and the executors, each beside a baseline of the same run.

    Exits with 1 if a gate is missed. docs/benchmarks.md has the numbers of a run, and tests/bench/__init__.py explains
    them, benchmark by benchmark.
    """
    console, missed = Console() if sys.stdout.isatty() else Console(width=LOG_COLUMNS), False
    output.mkdir(exist_ok=True)
    for name in names or ON_ANY_MACHINE:
        result = RUN[name](images=images or IMAGES[name], repeat=repeat)
        console.print(result.to_rich())
        missed = missed or not all(gate.holds for gate in result.gates)
        machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "when": datetime.now(UTC).isoformat()}
        document = machine | {"repeat": repeat} | result.to_json()
        (output / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    raise typer.Exit(int(missed))


if __name__ == "__main__":
    typer.run(main)
