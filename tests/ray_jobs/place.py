"""A small place to run jobs in: an archive whose truth is known, examples, a job file, and the command itself."""

from __future__ import annotations

import csv
import io
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import tomlkit
from PIL import Image
from typer.testing import CliRunner

from cluster import Store
from ray_jobs.commands.app import app
from ray_jobs.output.feature_parts import write_parquet
from tests.strange_files import encode, photo

CLASSES = ("amber", "blue", "cyan")
BROKEN = {"broken/empty.jpg": b"", "broken/text.jpg": b"this is no image\n" * 40}


def picture(label: str, seed: int) -> bytes:
    """A JPEG of a class: its colours tell which."""
    pixels = np.roll(np.asarray(photo(48, 40, seed=seed)), CLASSES.index(label), axis=-1)
    return encode(Image.fromarray(pixels), "JPEG")


@dataclass(frozen=True)
class Place:
    """A folder with everything that a job names.

    Attributes:
        folder: holds `archive/`, `examples/`, `truth.csv`, `job.toml` and what the job writes.
        clip: the folder of the tiny CLIP.
    """

    folder: Path
    clip: Path

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def examples(self) -> Path:
        return self.folder / "examples"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def job(self) -> Path:
        return self.folder / "job.toml"

    @property
    def truth(self) -> Path:
        return self.folder / "truth.csv"

    def fill(self, *, images: int = 18, shots: int = 2) -> Place:
        """Write an archive with two broken files in it, a folder of examples a class, and the job file."""
        labels = {f"photo_{index:03}.jpg": CLASSES[index % len(CLASSES)] for index in range(images)}
        for seed, (name, label) in enumerate(labels.items()):
            put(self.archive / name, picture(label, seed))
        for name, data in BROKEN.items():
            put(self.archive / name, data)
        for label in CLASSES:
            for shot in range(shots):
                put(self.examples / label / f"{shot}.jpg", picture(label, 1000 + shot))
        write_table(self.truth, labels.items())
        self.write_job()
        return self

    def write_job(self, **changes: dict[str, Any]) -> Path:
        """Write the job file, with keys of its sections added or replaced."""
        sections: dict[str, dict[str, Any]] = {
            "job": {"name": "test", "output": str(self.output)},
            "archive": {"uri": str(self.archive), "shard_images": 4},
            "support": {"uri": str(self.examples), "views": 1},
            "clip": {"model": str(self.clip), "batch_size": 4},
            "classifier": {"method": "tip_adapter"},
            "cluster": {"mode": "process"},
        }
        for name, keys in changes.items():
            sections[name] = sections.get(name, {}) | keys
        self.job.write_text(tomlkit.dumps(sections), encoding="utf-8")
        return self.job

    def classify(self, *settings: str) -> Outcome:
        """Run `fewshot classify` on the job file, in this process."""
        return fewshot("classify", self.job, *(word for setting in settings for word in ("--set", setting)))

    def features(self) -> dict[str, int]:
        """The parts of features that are there, with their times of change."""
        return written(self.output / "features")


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, the JSON of stdout (None if there was none), and what it told on stderr."""

    code: int
    result: Any
    messages: str

    @property
    def run(self) -> Path:
        return Path(self.result["run"])

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The predictions by image."""
        rows = [row for part in self.parts for row in pq.read_table(part).to_pylist()]
        assert len({row["image"] for row in rows}) == len(rows), "an image has several rows"
        return {row["image"]: row for row in rows}

    @property
    def bytes(self) -> dict[str, bytes]:
        """The parts of predictions, byte for byte, in the archive's order."""
        return {part.name: part.read_bytes() for part in self.parts}

    @property
    def parts(self) -> list[Path]:
        """The parts of predictions that are there, in the archive's order."""
        return parts_of_run(self.run)


def parts_of_run(run: Path, kind: str = "predictions") -> list[Path]:
    """The parts that the plan of a local run lists and that are there, in the archive's order."""
    listed = json.loads((run / "plan.json").read_text())[kind]
    return [part for name in listed if (part := run.parent.parent / name).exists()]


def rows_alone(part: bytes) -> bytes:
    """A part of predictions without what names places: the metadata, and the fingerprint of what was trained from."""
    table = pq.read_table(io.BytesIO(part))
    assert len({*table["classifier"].to_pylist()} - {None}) <= 1
    return write_parquet(table.drop_columns(["classifier"]).replace_schema_metadata(None))


def fewshot(*words: object) -> Outcome:
    """Run a command in this process. An exception that is not an exit is a failure of the test."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Outcome(done.exit_code, json.loads(done.stdout) if done.stdout else None, done.stderr)


def put(path: Path, data: bytes) -> None:
    """Write a file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_table(path: Path, rows: Any, header: tuple[str, ...] = ("image", "label")) -> Path:
    """Write a csv file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def written(folder: Path) -> dict[str, int]:
    """All files below a folder that are whole, with their times of change in nanoseconds."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".tmp-"))
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


@dataclass(frozen=True)
class Cut:
    """How a process is cut off: by its own hand, so that it happens there however busy the machine is.

    Attributes:
        commits: how many objects it writes; whoever wants to write another one in it waits.
        number: the signal that it sends to itself then. After SIGSTOP it may go on.
        later_s: seconds from the beginning of the last write to the signal.
        gate: instead of being sent a signal, it goes on when there is such a file.
    """

    commits: int
    number: signal.Signals = signal.SIGKILL
    later_s: float = 0.0
    gate: Path | None = None

    def prepare(self) -> None:
        """Do this to the process that calls it. Renewals of the lease are no commits, and go on."""
        put, turns, is_over = Store.put, itertools.count(1), threading.Event()

        def strike() -> None:
            if self.gate is None:
                os.kill(os.getpid(), self.number)
            else:
                wait_until(self.gate.exists)
            is_over.set()

        def counted(store: Store, path: str, data: bytes) -> None:
            turn = 0 if "/lease/" in path else next(turns)
            if turn == self.commits:
                threading.Timer(self.later_s, strike).start()
            if turn > self.commits:
                is_over.wait()
            put(store, path, data)

        Store.put = counted  # type: ignore[method-assign]


def warm() -> ForkServerContext:
    """Starts processes that are forked from one in which everything that takes long to import has been imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["open_clip", "ray_jobs.classification.classify", "ray_jobs.evaluation.evaluate", "tests.ray_jobs.place"]
    )
    return context


def ray_workers() -> set[psutil.Process]:
    """The actors below this process that work, by what they call themselves."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::Worker"):
                found.add(process)
    return found


def process(command: str, job: Path, *settings: str, cut: Cut | None = None) -> BaseProcess:
    """The command in a process of its own, not yet started, which exits with its code; forked from one that is warm."""
    words = [word for setting in settings for word in ("--set", setting)]
    return warm().Process(target=_run, args=((command, str(job), *words), cut))


def _run(words: tuple[str, ...], cut: Cut | None) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    if cut is not None:
        cut.prepare()
    sys.exit(fewshot(*words).code)


def kill_again_and_again(
    command: str,
    job: Path,
    *settings: str,
    chance: random.Random,
    parts: tuple[int, int],
    runs: int,
    after: Callable[[], object] = lambda: None,
) -> int:
    """Run a command and kill it, each time after some more parts, until it gets to its end; how often it was killed.

    The driver gets no chance to clean up. Each run starts where the last one was cut off.

    Args:
        command: the command.
        job: the job file.
        settings: of the job.
        chance: when to kill.
        parts: bounds of how many objects a run may commit.
        runs: how many are started at most.
        after: called when a run has ended, however it did.
    """
    kills = 0
    for _ in range(runs):
        run = process(command, job, *settings, cut=Cut(chance.randint(*parts), later_s=chance.uniform(0, 0.02)))
        run.start()
        run.join()
        after()
        kills += run.exitcode == -signal.SIGKILL
        if run.exitcode == 0:
            break
    assert run.exitcode == 0
    return kills


def wait_until(holds: Callable[[], bool], timeout_s: float = 120.0) -> bool:
    """Wait for something, and say whether it came."""
    end = time.monotonic() + timeout_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.002)
    return holds()
