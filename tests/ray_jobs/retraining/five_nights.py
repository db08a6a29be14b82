"""Nights of a project: classes added, labels corrected, a class removed, one renamed, nothing; and what each cost."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from cluster import Store
from tests.ray_jobs.place import fewshot, write_table
from tests.ray_jobs.retraining.project import Project


@dataclass(frozen=True)
class Changes:
    """What happens to the labels of a project, night by night. The first classes have folders of examples.

    Attributes:
        added: labels of images of the archive, of classes that are new.
        wrong: of some of these images, the class that is given first, and corrected a night later.
        removed: one of the first classes, whose folder is removed.
        renamed: one of the first classes, whose folder gets another name, and that name.
    """

    added: Mapping[str, str]
    wrong: Mapping[str, str]
    removed: str
    renamed: tuple[str, str]

    @property
    def nights(self) -> dict[str, Callable[[Project], None]]:
        """What is done before the turn of each night, in order."""
        added = sorted(set(self.added.values()))
        return {
            "the first version": lambda project: None,
            f"{len(added)} classes added": lambda project: _import(project, {**self.added, **self.wrong}, "import"),
            f"{len(self.wrong)} labels corrected": lambda project: _import(
                project, {image: self.added[image] for image in self.wrong}, "correction"
            ),
            "a class removed": lambda project: shutil.rmtree(project.place.examples / self.removed),
            "a class renamed": lambda project: _rename(project.place.examples, *self.renamed),
            "nothing": lambda project: None,
        }


def _import(project: Project, labels: Mapping[str, str], reason: str) -> None:
    rows = [(image, label, reason) for image, label in labels.items()]
    table = write_table(project.place.folder / "labels.csv", rows, ("image", "label", "reason"))
    outcome = fewshot("labels", "import", project.job, table, "--by", "ann")
    assert outcome.code == 0, outcome.messages


def _rename(folder: Path, old: str, new: str) -> None:
    (folder / old).rename(folder / new)


@dataclass(frozen=True)
class Cost:
    """What a turn did, counted by what it stored.

    Attributes:
        night: what had changed before it.
        moves: of the journal.
        production: number of the version afterwards.
        classes: of that version.
        examples_embedded: contents of examples whose features were new.
        archive_embedded: likewise of the archive.
        classifiers: that were fitted from features, twins included.
        units: trainings that were stored, one for each class and fold of methods that train class by class.
        labelled: images of the archive that were labelled.
        stored: objects that were written or changed, without leases.
        cpu_s: of this process.
    """

    night: str
    moves: tuple[str, ...]
    production: int
    classes: int
    examples_embedded: int
    archive_embedded: int
    classifiers: int
    units: int
    labelled: int
    stored: int
    cpu_s: float


def take_nights(project: Project, changes: Changes) -> Iterator[Cost]:
    """Take a turn each night, and yield what it cost.

    Raises:
        AssertionError: a turn fails.
    """
    for night, change in changes.nights.items():
        change(project)
        yield counted(project, night)


def counted(project: Project, night: str) -> Cost:
    """Take a turn, and count what it did."""
    before, kinds = _sizes(project.store), len(project.entries())
    started = time.process_time()
    outcome = project.turn()
    cpu_s = time.process_time() - started
    assert outcome.code == 0, outcome.messages
    new = [path for path, size in _sizes(project.store).items() if before.get(path) != size]
    state = project.state()
    assert state.production is not None
    features = [path for path in new if path.startswith("features/") and path.endswith(".parquet")]
    return Cost(
        night=night,
        moves=tuple(entry.move.kind for entry in project.entries()[kinds:]),
        production=state.production,
        classes=len(state.version(state.production).classes),
        examples_embedded=_rows(project.store, [path for path in features if "/examples-" in path]),
        archive_embedded=_rows(project.store, [path for path in features if "/examples-" not in path]),
        classifiers=sum(path.endswith("/card.json") for path in new),
        units=sum(path.startswith("trainings/") for path in new),
        labelled=_rows(project.store, [path for path in new if path.startswith("predictions/")]),
        stored=len(new),
        cpu_s=cpu_s,
    )


def _sizes(store: Store) -> dict[str, int]:
    return {path: size for path, size in store.sizes().items() if "lease" not in path}


def _rows(store: Store, paths: list[str]) -> int:
    return sum(pq.ParquetFile(io.BytesIO(store.get(path))).metadata.num_rows for path in paths)


def from_scratch(project: Project, output: str, *, keeps: Sequence[str] = ("labels",)) -> Project:
    """Train from the present labels in an output that has nothing else but some folders, and label the archive."""
    fresh = project.at(output)
    for folder in keeps:
        for path in project.store.list(folder):
            fresh.store.put(path, project.store.get(path))
    outcome = fresh.turn()
    assert outcome.code == 0, outcome.messages
    return fresh


def classifier_of(project: Project) -> dict[str, bytes]:
    """The objects of production's classifier, by path."""
    state = project.state()
    assert state.production is not None
    return {path: project.store.get(path) for path in project.store.list(state.version(state.production).folder)}
