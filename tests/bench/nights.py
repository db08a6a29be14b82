"""Nights of a project on labelled photographs: what turns of `fewshot retrain` train and cost, beside all anew."""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow.parquet as pq

from tests.bench.job import PHOTOGRAPHS
from tests.bench.result import Gate, Result
from tests.ray_jobs.place import Place
from tests.ray_jobs.retraining.five_nights import Changes, Cost, classifier_of, from_scratch, take_nights
from tests.ray_jobs.retraining.project import Project

SET = "grocery"
METHODS = ("gda", "linear_probe")
"""One whose statistics of classes add up, and one whose classes are trained together."""
SHOTS, TEST = 6, 8
"""Images of a class: to learn from, and in the archive, to measure on."""
ADDED, WRONG = 0.25, 5
"""Share of the classes that are added in the second night; labels of them that are corrected in the third."""
RENAMED = "renamed class"

Row: TypeAlias = dict[str, str | float]


@dataclass(frozen=True)
class Groceries:
    """Files and labels of a project.

    Attributes:
        truth: class of each image of the archive, by its key.
        examples: of each class that has a folder of examples, their paths.
        changes: of the labels.
        source: folder of the photographs.
    """

    truth: Mapping[str, str]
    examples: Mapping[str, Sequence[str]]
    changes: Changes
    source: Path

    def write(self, place: Place) -> None:
        """Copy the photographs to where a job finds them."""
        copies = {place.archive / key: key for key in self.truth}
        copies |= {
            place.examples / name / Path(path).name: path for name, paths in self.examples.items() for path in paths
        }
        for copy, path in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((self.source / path).read_bytes())

    def accuracy(self, project: Project) -> float:
        """Return the share of images to measure on that production gives their class, of the classes that it has."""
        state = project.state()
        assert state.production is not None
        classes = state.version(state.production).classes
        old, new = self.changes.renamed
        names = {image: new if label == old and new in classes else label for image, label in self.truth.items()}
        parts = project.predictions().values()
        rows = [row for part in parts for row in pq.read_table(io.BytesIO(part)).to_pylist()]
        right = [row["label"] == names[row["image"]] for row in rows if self._is_measured(row["image"], names, classes)]
        return sum(right) / len(right)

    def _is_measured(self, image: str, names: Mapping[str, str], classes: Sequence[str]) -> bool:
        return image not in self.changes.added and names[image] in classes


def find_groceries(classes: int) -> Groceries:
    """Choose the photographs of so many classes.

    Raises:
        FileNotFoundError: no folder has the set.
    """
    folder = Path(os.environ.get(PHOTOGRAPHS, "/nowhere")) / SET
    if not (folder / "splits.json").exists():
        raise FileNotFoundError(f"{PHOTOGRAPHS} names no folder with {SET}/splits.json")
    content = json.loads((folder / "splits.json").read_text())
    names = content["classes"][:classes]
    paths: dict[str, dict[str, list[str]]] = {split: defaultdict(list) for split in ("train", "test")}
    for split, found in paths.items():
        for path, label in content[split]:
            if label < classes:
                found[names[label]].append(path)
    new = names[round(len(names) * (1.0 - ADDED)) :]
    added = {path: name for name in new for path in paths["train"][name][:SHOTS]}
    wrong = dict(zip(list(added)[::SHOTS][:WRONG], new[1:] + new[:1], strict=False))
    truth = {path: name for name in names for path in paths["test"][name][:TEST]} | added
    examples = {name: paths["train"][name][:SHOTS] for name in names if name not in new}
    changes = Changes(added, wrong, removed=names[1], renamed=(names[0], RENAMED))
    return Groceries(truth, examples, changes, folder)


def run(*, images: int, repeat: int, methods: Sequence[str] = METHODS) -> Result:
    """Take the nights, and after each train and label anew in another output, from the same features.

    After the last one that changes something, another output has nothing at all: what that costs is what the CPU time
    of the nights is compared with.

    Args:
        images: number of classes.
        repeat: has no meaning here: all but the CPU time is the same each time.
        methods: that are retrained.
    """
    del repeat
    groceries, rows, gates = find_groceries(images), list[Row](), list[Gate]()
    for method in methods:
        found = _nights(groceries, method)
        rows += found
        gates += _gates(found, groceries, method)
    return Result("nights", f"{images} classes of {SET}, {len(groceries.truth)} images to label", rows, gates)


def _nights(groceries: Groceries, method: str) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="nights-") as name:
        folder = Path(name)
        place, rows = Place(folder, folder), list[Row]()
        groceries.write(place)
        sections = {"clip": {"model": "embedded", "batch_size": 32}, "classifier": {"method": method}}
        sections |= {"archive": {"shard_images": 128}, "support": {"views": 0}}
        project = Project(place, str(place.output), sections=sections).with_job()
        for night, cost in enumerate(take_nights(project, groceries.changes)):
            fresh = from_scratch(project, str(folder / f"anew-{night}"), keeps=("labels", "features"))
            rows.append(_row(method, cost) | _compared(groceries, project, fresh))
            project.with_job()
        started = time.process_time()
        fresh = from_scratch(project, str(folder / "anew"))
        cpu_s = time.process_time() - started
        rows[-1] |= _compared(groceries, project, fresh)
        return [row | {"share of all anew": float(row["CPU s"]) / cpu_s} for row in rows]


def _row(method: str, cost: Cost) -> Row:
    return {
        "method": method,
        "night": cost.night,
        "version": f"{cost.production}",
        "classes": cost.classes,
        "new examples": cost.examples_embedded,
        "new archive": cost.archive_embedded,
        "classifiers": cost.classifiers,
        "trainings": cost.units,
        "labelled": cost.labelled,
        "CPU s": cost.cpu_s,
    }


def _compared(groceries: Groceries, project: Project, fresh: Project) -> Row:
    is_equal = classifier_of(fresh) == classifier_of(project) and fresh.predictions() == project.predictions()
    return {
        "accuracy %": 100.0 * groceries.accuracy(project),
        "anew %": 100.0 * groceries.accuracy(fresh),
        "equal bytes": "yes" if is_equal else "no",
    }


def _gates(rows: Sequence[Row], groceries: Groceries, method: str) -> list[Gate]:
    new = sum(map(len, groceries.examples.values())) + len(groceries.changes.added)
    embedded = sum(float(row["new examples"]) for row in rows)
    apart = max(abs(float(row["accuracy %"]) - float(row["anew %"])) for row in rows)
    shares = [float(row["share of all anew"]) for row in rows]
    unequal = sum(row["equal bytes"] == "no" for row in rows)
    return [
        Gate.at_most(f"{method}: nights with other bytes than anew", unequal, 0),
        Gate.at_most(f"{method}: examples embedded more often than once", embedded - new, 0),
        Gate.at_most(f"{method}: points of accuracy between the two, at most", apart, 0.0),
        Gate.at_most(f"{method}: CPU time of a night with changes, share of all anew, at most", max(shares[1:-1]), 0.5),
        Gate.at_most(f"{method}: the same of a night without changes", shares[-1], 0.05),
    ]
