"""The bare backbone and a whole job in turns: `python -m tests.bench.contenders.job IMAGES OUTPUT REPEAT`.

Writes a line of JSON a round: seconds of wall and CPU an image, of each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from cluster import Event, UnitDone, WorkersReady
from fewshot.backbones import ClipBackbone, ClipSpec, load_clip
from fewshot.images import decode
from ray_jobs.classify import classify
from ray_jobs.progress import Reporter
from ray_jobs.sections import ArchiveSection, ClassifierSection, ClusterSection, Job, JobSection, SupportSection


@dataclass
class Clock:
    """Wall and CPU of this process, since it was made."""

    wall: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=time.process_time)

    def an_image(self, name: str, images: float) -> dict[str, float]:
        return {
            f"{name}_wall_s": (time.monotonic() - self.wall) / images,
            f"{name}_cpu_s": (time.process_time() - self.cpu) / images,
        }


class Stopwatch(Reporter):
    """Takes the time of the stage that embeds, from the moment when the worker is ready."""

    def __init__(self) -> None:
        super().__init__(Console(stderr=True, quiet=True))
        self.took: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str, total: float | None) -> Iterator[Callable[[Event], None]]:
        clock, embedded = Clock(), 0.0

        def on_event(event: Event) -> None:
            nonlocal clock, embedded
            if isinstance(event, WorkersReady):
                clock = Clock()
            if isinstance(event, UnitDone):
                embedded += event.weight
                if title == "embedding":
                    self.took = clock.an_image("job", embedded)

        yield on_event


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("repeat", type=int)
    options = parser.parse_args()
    backbone, paths = load_clip(ClipSpec()), sorted(options.images.iterdir())
    tensors = [ready(backbone, path) for path in paths]
    support = write_support(options.output, paths)
    for turn in range(options.repeat):
        clock = Clock()
        backbone.embed_images(torch.stack(tensors))
        bare = clock.an_image("bare", len(tensors))
        stopwatch = Stopwatch()
        classify(describe(options.images, support, options.output / str(turn)), stopwatch)
        sys.stdout.write(json.dumps(bare | stopwatch.took) + "\n")


def ready(backbone: ClipBackbone, path: Path) -> torch.Tensor:
    return backbone.crop(decode(path.read_bytes(), min_side=2 * backbone.image_size))


def write_support(folder: Path, paths: list[Path]) -> Path:
    """Two examples of two classes: they only have to be there."""
    folder.mkdir()
    table = folder / "examples.csv"
    lines = [f"{path},{label}" for path, label in zip(paths[:4], "abab", strict=True)]
    table.write_text("\n".join(["image,label", *lines]) + "\n")
    return table


def describe(images: Path, support: Path, output: Path) -> Job:
    """The job, in one process."""
    return Job(
        job=JobSection(name="bench", output=str(output)),
        archive=ArchiveSection(uri=str(images)),
        support=SupportSection(uri=str(support), views=0),
        classifier=ClassifierSection(method="tip_adapter"),
        cluster=ClusterSection(mode="process"),
    )


if __name__ == "__main__":
    main()
