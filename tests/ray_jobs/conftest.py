"""What the tests of jobs share: the tiny CLIP, and a place with an archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ray_jobs.place import Place
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny CLIP."""
    return write_tiny_clip(tmp_path_factory.mktemp("tiny_clip"))


@pytest.fixture
def place(tmp_path: Path, tiny_clip: Path) -> Place:
    """18 photographs of three classes, two broken files, two examples a class, and a job file."""
    return Place(tmp_path, tiny_clip).fill()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Place:
    """The same with the job done. Shared: leave it as it is."""
    place = Place(tmp_path_factory.mktemp("finished"), tiny_clip).fill()
    place.write_job(archive={"labels": str(place.truth)})
    assert place.classify().code == 0
    return place
