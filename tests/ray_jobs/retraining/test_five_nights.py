"""What changed is what is trained, and what comes out is what training from scratch gives; `tests.bench nights`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ray_jobs.place import CLASSES, Place, put
from tests.ray_jobs.retraining.five_nights import Changes, classifier_of, from_scratch, take_nights
from tests.ray_jobs.retraining.project import Project
from tests.strange_files import encode
from tests.tiny_diffusion import write_tiny_diffusion

pytestmark = pytest.mark.slow

SHOTS, IMAGES = 5, 30
COLOURS = {"gold": (90.0, 80.0, 10.0), "rust": (150.0, 50.0, 20.0)}
"""Of images of classes that have no folder of examples."""
ADDED = {f"{name}_{number}.jpg": name for name in COLOURS for number in range(8)}
WRONG = {"gold_0.jpg": "rust", "rust_1.jpg": "gold"}
UNITS = 4
"""Of a class: one for the classifier, one to calibrate it, and both of its twin."""
CHANGES = Changes(ADDED, WRONG, removed=CLASSES[1], renamed=(CLASSES[0], "ochre"))


def project_in(folder: Path, clip: Path, **sections: dict[str, object]) -> Project:
    """A project with three classes of examples and five in its archive."""
    project = Project.fill(Place(folder, clip), images=IMAGES, shots=SHOTS, **sections)
    for number, (name, label) in enumerate(ADDED.items()):
        pixels = np.random.default_rng(number).normal(COLOURS[label], 8.0, (40, 48, 3)).clip(0, 255).astype(np.uint8)
        put(project.place.archive / name, encode(Image.fromarray(pixels), "JPEG"))
    return project


def test_statistics_are_added_up_and_equal_those_of_training_from_scratch(tmp_path: Path, tiny_clip: Path) -> None:
    project = project_in(tmp_path, tiny_clip)
    first, added, corrected, removed, renamed, nothing = costs = list(take_nights(project, CHANGES))
    assert [cost.production for cost in costs] == [1, 2, 3, 4, 5, 5]
    assert [cost.classes for cost in costs] == [3, 5, 5, 4, 4, 4]
    assert first.examples_embedded == len(CLASSES) * SHOTS
    assert added.examples_embedded == len(ADDED)
    assert [cost.examples_embedded for cost in (corrected, removed, renamed, nothing)] == [0] * 4
    assert first.archive_embedded == first.labelled > 0
    assert [cost.archive_embedded for cost in costs[1:]] == [0] * 5
    assert [cost.classifiers for cost in costs] == [2, 2, 2, 2, 2, 0]  # A classifier and its twin.
    assert (nothing.stored, nothing.labelled, nothing.moves) == (0, 0, ())
    fresh = from_scratch(project, str(tmp_path / "fresh"))
    assert classifier_of(fresh) == classifier_of(project)
    assert fresh.predictions() == project.predictions()


def test_tokens_are_trained_of_classes_that_changed_alone(tmp_path: Path, tiny_clip: Path) -> None:
    diffusion = write_tiny_diffusion(tmp_path / "diffusion")
    recipe = {"classes": 1, "steps": 2, "images": 1, "word": "photo"}
    project = project_in(
        tmp_path,
        tiny_clip,
        classifier={"method": "textual_inversion", "hyperparameters": recipe},
        diffusion={"model": str(diffusion), "batch_size": 8},
    )
    costs = list(take_nights(project, CHANGES))
    assert [cost.production for cost in costs] == [1, 2, 3, 4, 5, 5]
    assert [cost.units for cost in costs] == [UNITS * classes for classes in (3, 2, 2, 0, 0, 0)]
    fresh = from_scratch(project, str(tmp_path / "fresh"))
    assert set(fresh.store.list("trainings")) < set(project.store.list("trainings"))
    assert classifier_of(fresh) == classifier_of(project)
    assert fresh.predictions() == project.predictions()
