"""The demo: the main job on an archive that ships with the project, with a Ray of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pyarrow.dataset as pads

from fewshot.demo import write_demo
from ray_jobs.classification.classify import classify
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import read_job, stop_if_any

EACH = 3
"""Examples of each kind that are shown."""

CONFIGS = Path(__file__).parents[1] / "configs"


def run_demo(folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Write the demo's archive and job file, and run the job.

    Args:
        folder: where everything goes.
        reporter: where to tell how it is going.

    Returns:
        the metrics of the run.

    Raises:
        JobError: the folder cannot be written.
    """
    job_file = folder / "job.toml"
    try:
        paths = write_demo(folder)
        _fill(CONFIGS / "demo.toml", job_file, folder)
        _fill(CONFIGS / "evaluate.toml", folder / "evaluate.toml", folder)
    except OSError as error:
        raise JobError([f"the demo cannot be written to {folder}: {error.strerror or error}"]) from error
    reporter.say(f"the demo's archive, examples and job file are in {folder}")
    job, problems = read_job(job_file)
    stop_if_any(problems)
    metrics = classify(job, reporter)
    return metrics | {
        "job_file": str(job_file),
        "examples": _examples(Path(metrics["predictions"]), paths.ground_truth),
    }


def _fill(template: Path, target: Path, folder: Path) -> None:
    """Write a job file for this folder and this machine."""
    text = template.read_text(encoding="utf-8")
    workers = min(4, os.cpu_count() or 1)
    target.write_text(text.replace("{folder}", folder.as_posix()).replace("{workers}", str(workers)), encoding="utf-8")


def _examples(predictions: Path, truth: Path) -> list[dict[str, Any]]:
    """A few predictions worth a look: the surest, the least sure, and files that are broken."""
    labels = dict(zip(*pa_csv.read_csv(truth).to_pydict().values(), strict=True))
    rows = pads.dataset(predictions).to_table(columns=["image", "label", "score", "status", "error"]).to_pylist()
    broken = [row for row in rows if row["status"] == "unreadable"]
    sure = sorted((row for row in rows if row["label"]), key=lambda row: (-row["score"], row["image"]))
    return [row | {"truth": labels.get(row["image"])} for row in (*sure[:EACH], *sure[-EACH:], *broken[:EACH])]
