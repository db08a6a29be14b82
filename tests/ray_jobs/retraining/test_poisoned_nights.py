"""Nights with wrong labels: refused with their classes named, while production and its predictions stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ray_jobs.registry.moves import Refused
from tests.ray_jobs.place import CLASSES, Place, put
from tests.ray_jobs.retraining.project import Project, image, truth
from tests.ray_jobs.retraining.scenes import predicted, turn
from tests.strange_files import encode

pytestmark = pytest.mark.slow

GOLD = [f"gold_{number}.jpg" for number in range(20)]
"""Images of a class that has no example at first."""
GOLDEN = (90.0, 80.0, 10.0)
"""Their colour."""
WRONG = 0.3


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> tuple[Project, dict[str, bytes]]:
    """A project with a version in production, and its output."""
    project = Project.fill(Place(tmp_path_factory.mktemp("poison"), tiny_clip), images=120)
    for number, name in enumerate(GOLD):
        pixels = np.random.default_rng(number).normal(GOLDEN, 8.0, (40, 48, 3)).clip(0, 255).astype(np.uint8)
        put(project.place.archive / name, encode(Image.fromarray(pixels), "JPEG"))
    turn(project)
    project.label(truth(range(12)))
    turn(project)
    return project, project.objects()


@pytest.fixture
def project(started: tuple[Project, dict[str, bytes]]) -> Project:
    """The project with two versions, the second of them in production."""
    project, objects = started
    project.restore(objects)
    return project


def poisoned(images: Iterable[int], seed: int = 0) -> dict[str, str]:
    """Labels of images, 30 % of which are those of the next class."""
    labels = truth(images)
    names = sorted(labels)
    wrong = np.random.default_rng(seed).choice(names, round(WRONG * len(names)), replace=False)
    return labels | {str(name): CLASSES[(CLASSES.index(labels[str(name)]) + 1) % 3] for name in wrong}


def wrong_of(labels: dict[str, str]) -> set[str]:
    """The classes that were wrongly given."""
    right = truth(range(120))
    return {label for name, label in labels.items() if name in right and right[name] != label}


def take_refused_turn(project: Project, named: set[str]) -> Refused | None:
    """Take a turn whose labels must be refused; return what the journal got, None if that is there already."""
    before, predictions, entries = project.left(), project.predictions(), len(project.entries())
    outcome = turn(project)
    after = project.left()
    assert outcome.result["refused"]
    assert outcome.result["trained"] == 0
    assert (after.run, after.classifier) == (before.run, before.classifier)
    assert project.predictions() == predictions
    assert before.objects.items() <= after.objects.items()
    assert outcome.result["production"] == 2
    new = [entry.move for entry in project.entries()[entries:] if entry.move.kind != "compared"]
    if not new:
        return None
    (refused,) = new
    assert isinstance(refused, Refused)
    assert set(refused.classes) >= named
    assert all(name in outcome.messages for name in named)
    return refused


def test_a_poisoned_night_is_refused_and_the_next_good_one_goes_on(project: Project) -> None:
    labels = poisoned(range(12, 52))
    project.label(labels)
    assert take_refused_turn(project, wrong_of(labels)) is not None
    assert take_refused_turn(project, wrong_of(labels)) is None
    project.label(truth(range(12, 52)), by="bob")
    assert turn(project).result["production"] == 3


def test_good_labels_after_a_poisoned_night_do_not_hide_it(project: Project) -> None:
    labels = poisoned(range(12, 42))
    project.label(labels)
    take_refused_turn(project, wrong_of(labels))
    project.label(truth(range(42, 110)))
    assert take_refused_turn(project, wrong_of(labels)) is not None
    project.label(truth(range(12, 42)), by="bob")
    outcome = turn(project)
    assert (outcome.result["production"], outcome.result["refused"]) == (3, False)


def test_a_night_that_is_poisoned_while_a_class_is_added_is_refused(project: Project) -> None:
    labels = poisoned(range(12, 52))
    project.label(labels | dict.fromkeys(GOLD[:8], "gold"))
    take_refused_turn(project, wrong_of(labels))
    project.label(truth(range(12, 52)), by="bob")
    assert turn(project).result["production"] == 3
    assert "gold" in project.state().version(3).classes


def test_poison_that_comes_twice_is_refused_twice(project: Project) -> None:
    first, second = poisoned(range(12, 42)), poisoned(range(42, 72), seed=1)
    project.label(first)
    take_refused_turn(project, wrong_of(first))
    project.label(second)
    refused = take_refused_turn(project, wrong_of(first) | wrong_of(second))
    assert refused is not None
    assert refused.images == 60
    project.label(truth(range(12, 42)), by="bob")
    take_refused_turn(project, wrong_of(second))
    project.label(truth(range(42, 72)), by="bob")
    assert turn(project).result["production"] == 3


def test_learned_labels_that_are_changed_to_wrong_ones_are_refused(project: Project) -> None:
    project.label(truth(range(12, 90)))
    turn(project)
    changed = {name: CLASSES[(CLASSES.index(label) + 1) % 3] for name, label in truth(range(60, 90)).items()}
    before = project.left()
    project.label(changed, by="bob")
    outcome = turn(project)
    assert outcome.result["refused"]
    assert project.left().classifier == before.classifier


def test_a_second_name_of_a_class_is_told(project: Project) -> None:
    project.label(dict.fromkeys([image(number) for number in range(12, 33, 3)], "ambr"))
    assert "new: ambr; production sees 7 of the 7 images of ambr as amber" in turn(project).messages


def test_wrong_images_in_a_new_class_are_told_and_watched(project: Project) -> None:
    """Nothing can contradict the first labels of a class; those that know better are the labels that come later."""
    wrong = [image(number) for number in range(12, 15)]
    project.label(dict.fromkeys([*GOLD[:7], *wrong], "gold"))
    outcome = turn(project)
    assert "gold: new" in outcome.messages
    assert (outcome.result["production"], outcome.result["watched"]) == (3, True)
    labels = predicted(project)
    assert {labels[name] for name in GOLD} == {"gold"}
    assert sum(labels[name] == label for name, label in truth(range(120)).items()) >= 117
