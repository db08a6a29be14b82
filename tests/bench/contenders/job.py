"""The bare backbone and a whole job in turns: `python -m tests.bench.contenders.job IMAGES OUTPUT REPEAT`.

Writes one line of JSON for each round: wall seconds, CPU seconds and seconds in the forward of both, for an image.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from cluster import Event, UnitDone, WorkersReady
from fewshot.backbones import ClipBackbone, ClipSpec, load_clip
from fewshot.images import decode_pixels, side_before_resizing
from ray_jobs.classification.classify import classify
from ray_jobs.console.progress import Reporter
from ray_jobs.job_file.sections import (
    ArchiveSection,
    ClassifierSection,
    ClusterSection,
    Job,
    JobSection,
    SupportSection,
)


class Forward:
    """Replaces `ClipBackbone.embed_images`, and sums the time of its calls."""

    def __init__(self) -> None:
        self._embed_images, self.seconds = ClipBackbone.embed_images, 0.0

    def __call__(self, backbone: ClipBackbone, images: Tensor) -> Tensor:
        started = time.monotonic()
        features = self._embed_images(backbone, images)
        self.seconds += time.monotonic() - started
        return features


class Clock:
    """Wall and CPU time of this process, and the time in the forward, since the creation of the clock."""

    def __init__(self, forward: Forward) -> None:
        self.forward, self.started = forward, self._now(forward)

    @staticmethod
    def _now(forward: Forward) -> dict[str, float]:
        return {"wall_s": time.monotonic(), "cpu_s": time.process_time(), "forward_s": forward.seconds}

    def per_image(self, name: str, images: float) -> dict[str, float]:
        now = self._now(self.forward)
        return {f"{name}_{what}": (now[what] - self.started[what]) / images for what in now}


class Stopwatch(Reporter):
    """Measures the stage that embeds, from the moment when the worker is ready."""

    def __init__(self, forward: Forward) -> None:
        super().__init__(Console(stderr=True, quiet=True))
        self.forward = forward
        self.measured: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str, total: float | None, **_: str) -> Iterator[Callable[[Event], None]]:
        clock, embedded = Clock(self.forward), 0.0

        def on_event(event: Event) -> None:
            nonlocal clock, embedded
            if isinstance(event, WorkersReady):
                clock = Clock(self.forward)
            if isinstance(event, UnitDone):
                embedded += event.weight
                if title == "embedding":
                    self.measured = clock.per_image("job", embedded)

        yield on_event


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("repeat", type=int)
    options = parser.parse_args()
    backbone, paths = load_clip(ClipSpec()), sorted(options.images.iterdir())
    tensors = [to_tensor(backbone, path) for path in paths]
    support = write_support(options.output, paths)
    forward = Forward()
    ClipBackbone.embed_images = lambda clip, images: forward(clip, images)
    for turn in range(options.repeat):
        clock = Clock(forward)
        backbone.embed_images(torch.stack(tensors))
        bare = clock.per_image("bare", len(tensors))
        stopwatch = Stopwatch(forward)
        classify(make_job(options.images, support, options.output / str(turn)), stopwatch)
        sys.stdout.write(json.dumps(bare | stopwatch.measured) + "\n")


def to_tensor(backbone: ClipBackbone, path: Path) -> Tensor:
    return backbone.crop(decode_pixels(path.read_bytes(), min_side=side_before_resizing(backbone.longer_side)))


def write_support(folder: Path, paths: list[Path]) -> Path:
    """Write a table with two examples of two classes; they do not affect the measurement."""
    folder.mkdir()
    table = folder / "examples.csv"
    lines = [f"{path},{label}" for path, label in zip(paths[:4], "abab", strict=True)]
    table.write_text("\n".join(["image,label", *lines]) + "\n")
    return table


def make_job(images: Path, support: Path, output: Path) -> Job:
    """Return the job, for one process."""
    return Job(
        job=JobSection(name="bench", output=str(output)),
        archive=ArchiveSection(uri=str(images)),
        support=SupportSection(uri=str(support), views=0),
        classifier=ClassifierSection(method="tip_adapter"),
        cluster=ClusterSection(mode="process"),
    )


if __name__ == "__main__":
    main()
