"""A turn that is killed at a storage write goes on as if nothing had been; `kill_points` takes all of them."""

from __future__ import annotations

import pytest

from tests.ray_jobs.place import Place
from tests.ray_jobs.retraining.kill_points import Prepared
from tests.ray_jobs.retraining.project import Project
from tests.ray_jobs.retraining.scenes import FIRST, NEW_LABELS, SCENES, Scene, hazy_project
from tests.s3.bucket import Bucket

pytestmark = pytest.mark.slow

POINTS = 2


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Place) -> Project:
    """A project whose output each test fills anew."""
    return hazy_project(Place(tmp_path_factory.mktemp("kills"), tiny_clip))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name.replace(" ", "-"))
def test_a_turn_killed_at_a_write_leaves_what_an_undisturbed_one_leaves(project: Project, scene: Scene) -> None:
    prepared = Prepared.of(project, scene)
    assert [line for point in prepared.points(POINTS) for line in prepared.survives(point)] == []


@pytest.mark.s3
@pytest.mark.parametrize("scene", [FIRST, NEW_LABELS], ids=lambda scene: scene.name.replace(" ", "-"))
def test_a_turn_killed_on_s3_leaves_what_an_undisturbed_one_leaves(
    tmp_path, tiny_clip, bucket: Bucket, scene: Scene
) -> None:
    project = hazy_project(Place(tmp_path, tiny_clip)).at(bucket.url("output"), bucket.storage)
    prepared = Prepared.of(project, scene)
    assert [line for point in prepared.points(2) for line in prepared.survives(point)] == []
