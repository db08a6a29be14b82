"""The demo: the main job on an archive that ships with the project, with a Ray of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from fewshot.demo import write_demo
from ray_jobs.classification.classify import FinishedClassification, classify
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import read_job, stop_if_any
from ray_jobs.output.predictions import best_guesses
from ray_jobs.results.json_format import JsonObject, JsonValue, to_plain

EACH = 3
"""Examples of each kind that are shown."""

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRow(JsonValue):
    """A prediction that the demo shows.

    Attributes:
        image: its key.
        label: the predicted class; None where the image is abstained or unreadable.
        guess: the most probable class, also where the image is abstained; None where it is unreadable.
        score: calibrated probability of `guess`; None where the image is unreadable, or scores are not calibrated.
        status: "ok", "abstained" or "unreadable".
        error: why the image could not be read.
        ground_truth: the right label; None where there is none.
    """

    image: str
    label: str | None
    guess: str | None
    score: float | None
    status: str
    error: str | None
    ground_truth: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedDemo:
    """What the demo comes to.

    Attributes:
        finished: the classification.
        job_file: path of the job file.
        examples: a few predictions.
    """

    finished: FinishedClassification
    job_file: str
    examples: tuple[DemoRow, ...]

    def to_json(self) -> JsonObject:
        """Return what `classify` prints, the job file and the examples."""
        return self.finished.to_json() | {"job_file": self.job_file, "examples": to_plain(self.examples)}


def run_demo(folder: Path, reporter: Reporter) -> FinishedDemo:
    """Write the demo's archive and job file, and run the job.

    Args:
        folder: where everything goes.
        reporter: shows the progress.

    Raises:
        JobError: the folder cannot be written.
    """
    job_file = folder / "job.toml"
    try:
        with reporter.waiting("writing the demo's archive"):
            paths = write_demo(folder)
        _fill(CONFIGS / "demo.toml", job_file, folder)
        _fill(CONFIGS / "evaluate.toml", folder / "evaluate.toml", folder)
    except OSError as error:
        raise JobError([f"the demo cannot be written to {folder}: {error.strerror or error}"]) from error
    reporter.say(f"the demo's archive, examples and job file are in {folder}")
    job, problems = read_job(job_file)
    stop_if_any(problems)
    finished = classify(job, reporter)
    return FinishedDemo(
        finished=finished,
        job_file=str(job_file),
        examples=tuple(_examples(finished.run.predictions().table, paths.ground_truth)),
    )


def _fill(template: Path, target: Path, folder: Path) -> None:
    """Write a job file for this folder and this machine."""
    text = template.read_text(encoding="utf-8")
    workers = min(4, os.cpu_count() or 1)
    target.write_text(text.replace("{folder}", folder.as_posix()).replace("{workers}", str(workers)), encoding="utf-8")


def _examples(predictions: pa.Table, ground_truth: Path) -> list[DemoRow]:
    """A few predictions worth a look: the most certain, the least certain, and files that are broken."""
    labels = dict(zip(*pa_csv.read_csv(ground_truth).to_pydict().values(), strict=True))
    names = ("image", "label", "score", "status", "error")
    columns = zip(*(predictions[name].to_pylist() for name in names), best_guesses(predictions), strict=True)
    rows = [
        DemoRow(**dict(zip((*names, "guess"), values, strict=True)), ground_truth=labels.get(values[0]))
        for values in columns
    ]
    broken = [row for row in rows if row.status == "unreadable"]
    certainty = dict(zip(predictions["image"].to_pylist(), _certainties(predictions), strict=True))
    sure = sorted((row for row in rows if row.guess is not None), key=lambda row: (-certainty[row.image], row.image))
    return [*sure[:EACH], *sure[-EACH:], *broken[:EACH]]


def _certainties(predictions: pa.Table) -> list[float]:
    """The scores, or the margins of a classifier that gives none; 0 for unreadable images."""
    scores, margins = (predictions[name].to_pylist() for name in ("score", "margin"))
    return [margin or 0.0 if score is None else score for score, margin in zip(scores, margins, strict=True)]
