"""Two turns at the same time, and people who move the registry during one: one production, and nothing double."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ray_jobs.place import Outcome, Place
from tests.ray_jobs.retraining.disturbances import interrupt_before, run_together, suspend_before
from tests.ray_jobs.retraining.kill_points import Prepared
from tests.ray_jobs.retraining.project import Project
from tests.ray_jobs.retraining.scenes import LATER_LABELS, NEW_LABELS, hazy_project
from tests.s3.bucket import Bucket

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Project:
    """A project whose output each test fills anew."""
    return hazy_project(Place(tmp_path_factory.mktemp("two"), tiny_clip))


@pytest.fixture(scope="module")
def new_labels(project: Project) -> Prepared:
    """A turn that promotes a version."""
    return Prepared.of(project, NEW_LABELS)


@pytest.fixture(scope="module")
def later_labels(project: Project) -> Prepared:
    """A turn that promotes a third version."""
    return Prepared.of(project, LATER_LABELS)


def point_of(prepared: Prepared, part: str, *, last: bool = False) -> int:
    """Number of the first or last write to a path with a part in it."""
    found = [point for point, path in enumerate(prepared.paths, start=1) if part in path]
    return found[-1 if last else 0]


@pytest.mark.parametrize("part", ["classifiers/", "/journal/", "predictions/"])
def test_a_second_turn_ends_and_names_the_first(new_labels: Prepared, part: str) -> None:
    project, ended = new_labels.project, list[Outcome]()
    project.restore(new_labels.before)
    first = interrupt_before(new_labels.words, point_of(new_labels, part), lambda: ended.append(project.turn()))
    assert first.code == 0, first.messages
    (second,) = ended
    assert second.code != 0
    assert "is being written by" in second.messages
    assert new_labels.harm() == []


def test_of_turns_that_begin_at_once_one_does_the_work(new_labels: Prepared) -> None:
    project = new_labels.project
    project.restore(new_labels.before)
    ended = run_together(new_labels.words, 3)
    assert 0 in {each.code for each in ended}
    assert all(each.code == 0 or "is being written by" in each.messages for each in ended), ended
    assert new_labels.harm() == []


@pytest.mark.parametrize("part", ["classifiers/", "/journal/", "predictions/"])
def test_a_turn_that_was_suspended_for_long_does_nothing_twice(new_labels: Prepared, part: str) -> None:
    """Meanwhile another one takes its lease over, and does the work."""
    project, ended = new_labels.project, list[Outcome]()
    project.restore(new_labels.before)
    first = suspend_before(new_labels.words, point_of(new_labels, part), lambda: ended.append(project.turn()))
    assert [each.code for each in ended] == [0], ended[0].messages
    assert first.code == 0 or "meanwhile" in first.messages or "taken over" in first.messages, first.messages
    assert new_labels.harm() == []


@pytest.mark.parametrize(
    ("part", "last"),
    [
        ("/lease/", False),
        ("classifiers/", False),
        ("/journal/", False),
        ("/journal/", True),
        ("predictions/", True),
        ("/drift/", False),
        ("/churn.json", True),
        ("/lease/", True),
    ],
)
def test_a_rollback_during_a_turn_is_respected(later_labels: Prepared, part: str, *, last: bool) -> None:
    assert later_labels.respects_rollback(point_of(later_labels, part, last=last)) == []


@pytest.mark.s3
def test_turns_on_s3_keep_each_other_and_people_apart(tmp_path: Path, tiny_clip: Path, bucket: Bucket) -> None:
    project = hazy_project(Place(tmp_path, tiny_clip)).at(bucket.url("output"), bucket.storage)
    prepared = Prepared.of(project, LATER_LABELS)
    project.restore(prepared.before)
    ended = run_together(prepared.words, 2)
    assert 0 in {each.code for each in ended}
    assert all(each.code == 0 or "is being written by" in each.messages for each in ended), ended
    assert prepared.harm() == []
    assert prepared.respects_rollback(point_of(prepared, "/journal/", last=True)) == []
    assert prepared.respects_rollback(point_of(prepared, "predictions/")) == []
