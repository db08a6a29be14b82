"""Turns of all kinds, each prepared up to the moment at which it is taken."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.ray_jobs.place import CLASSES, Outcome, Place, picture, put
from tests.ray_jobs.retraining.project import Project, image, truth
from tests.strange_files import encode

IMAGES = 150
SHOTS = 5
SHARES = (0.4, 0.8)
"""Of a picture's own class in a hazy one; the rest is of another class."""
SUPERIOR = "retrain.policy=superior"


@dataclass(frozen=True)
class Scene:
    """A turn to take.

    Attributes:
        name: what it does.
        prepare: does all that comes before it.
        moves: what it adds to the journal, without mere comparisons.
        settings: of the job file.
    """

    name: str
    prepare: Callable[[Project], object]
    moves: tuple[str, ...]
    settings: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """Exit code of the command."""
        return 3 if "refused" in self.moves else 0


def hazy_project(place: Place) -> Project:
    """Return a project whose pictures are mixtures of classes, so that versions of its classifier differ."""
    project, rng = Project.fill(place, images=IMAGES, shots=SHOTS), np.random.default_rng(0)
    for number in range(IMAGES):
        put(place.archive / image(number), _hazy(number % 3, number, rng))
    for label, name in enumerate(CLASSES):
        for shot in range(SHOTS):
            put(place.examples / name / f"{shot}.jpg", _hazy(label, 1000 + shot, rng))
    return project


def _hazy(label: int, seed: int, rng: np.random.Generator) -> bytes:
    other, share = CLASSES[(label + int(rng.integers(1, 3))) % 3], rng.uniform(*SHARES)
    own, strange = (np.asarray(Image.open(io.BytesIO(picture(name, seed))), float) for name in (CLASSES[label], other))
    return encode(Image.fromarray((share * own + (1.0 - share) * strange).round().astype(np.uint8)), "JPEG")


def predicted(project: Project) -> dict[str, str]:
    """What production gives, by image; without those that cannot be read."""
    rows = [row for part in project.predictions().values() for row in pq.read_table(io.BytesIO(part)).to_pylist()]
    return {row["image"]: row["label"] for row in rows if row["label"] is not None}


def _after(*steps: Callable[[Project], object]) -> Callable[[Project], None]:
    def prepare(project: Project) -> None:
        for step in steps:
            step(project)

    return prepare


def turn(project: Project, *settings: str) -> Outcome:
    """Take a turn that must go well."""
    outcome = project.turn(*settings)
    assert outcome.result is not None, outcome.messages
    assert outcome.code == (3 if outcome.result["refused"] else 0), outcome.messages
    return outcome


def _label(first: int, end: int) -> Callable[[Project], None]:
    return lambda project: project.label(truth(range(first, end)))


def _promote_harm(project: Project) -> None:
    """Promote a version, and give labels by which the one before it is better."""
    turn(project)
    first = predicted(project)
    project.label(truth(range(9)))
    turn(project)
    second = predicted(project)
    unknown = [name for name in first if name not in truth(range(9))]
    worse = [name for name in unknown if first[name] != second[name]]
    equal = [name for name in unknown if first[name] == second[name]]
    assert len(worse) >= 10, "the versions are too much alike"
    project.label({name: first[name] for name in (*worse[:10], *equal[:60])})


def _label_wrongly(project: Project) -> None:
    project.label({name: CLASSES[(CLASSES.index(label) + 1) % 3] for name, label in truth(range(40)).items()})


FIRST = Scene("the first turn", lambda project: None, ("registered", "promoted"))
NEW_LABELS = Scene("promotes a version of new labels", _after(turn, _label(0, 9)), ("registered", "promoted"))
ROLLS_BACK = Scene("rolls back by itself", _promote_harm, ("rolled back", "registered"))
FREEZES = Scene(
    "freezes a candidate", _after(lambda project: turn(project, SUPERIOR), _label(0, 9)), ("registered",), (SUPERIOR,)
)
LATER_LABELS = Scene(
    "promotes another version", _after(turn, _label(0, 9), turn, _label(9, 18)), ("registered", "promoted")
)
HOLDS = Scene(
    "holds a candidate",
    _after(
        lambda project: turn(project, SUPERIOR),
        _label(0, 9),
        lambda project: turn(project, SUPERIOR),
        _label(9, 30),
    ),
    (),
    (SUPERIOR,),
)
REFUSES = Scene("refuses labels", _after(turn, _label_wrongly), ("refused",))
SCENES = (FIRST, NEW_LABELS, LATER_LABELS, ROLLS_BACK, FREEZES, HOLDS, REFUSES)
