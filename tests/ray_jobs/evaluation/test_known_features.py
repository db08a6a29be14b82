"""Features that `classify` made are copied with the bytes of embedded ones, and only for the same images."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from cluster import Store
from cluster.records import Selected
from ray_jobs.evaluation import known_features
from ray_jobs.evaluation.design import Evaluation
from ray_jobs.evaluation.known_features import PARTS_HELD, _Parts, copy_known_features
from ray_jobs.job_file.reading import read_job
from ray_jobs.output.feature_parts import FeatureRows, encode
from tests.ray_jobs.evaluation.test_evaluate import evaluation as evaluation_place
from tests.ray_jobs.evaluation.test_evaluate import write_splits
from tests.ray_jobs.place import CLASSES, Place, fewshot

TEST_IMAGES = 15


@pytest.fixture(scope="module")
def classified(tmp_path_factory, tiny_clip):
    """An output with the features of all images, as an archive and as examples."""
    folder = tmp_path_factory.mktemp("known")
    write_splits(folder)
    place = evaluation_place(folder, tiny_clip)
    write_job(place)
    assert place.classify().code == 0
    return place


def write_job(place, **changes):
    images = str(place.folder / "images")
    section = {"splits": str(place.folder / "splits.json"), "images": images, "shots": [1, 2], "seeds": [1, 2]}
    sections = {"archive": {"uri": images}, "support": {"uri": images}}
    sections["evaluate"] = section | {"methods": ["zero_shot", "tip_adapter"]}
    for name, keys in changes.items():
        sections[name] = sections.get(name, {}) | keys
    place.write_job(**sections)


@pytest.fixture
def place(classified, tmp_path):
    """A copy of the place, in the same path as seen by its job, whose files may be changed."""
    shutil.copytree(classified.output, tmp_path / "output")
    return Place(tmp_path, classified.clip), classified


def opened(place, **changes):
    """The evaluation of the images of a classified place, in an output of its own."""
    own, classified = place
    write_job(classified, job={"output": str(own.output)}, **changes)
    job, problems = read_job(classified.job, needs=["evaluate"])
    assert (problems, job is None) == ([], False)
    return Evaluation.from_job(job)


def without_section(evaluation, name):
    object.__setattr__(evaluation.job, name, None)
    return evaluation


def embedded(evaluation, units):
    done = {unit.path for unit in units.units if evaluation.store.exists(unit.path)}
    return len(done), len(units.units)


@pytest.mark.slow
def test_copied_features_have_the_bytes_of_embedded_ones(place):
    evaluation = opened(place)
    images = len(evaluation.pool.images)
    assert copy_known_features(evaluation) == images + TEST_IMAGES
    assert copy_known_features(evaluation) == 0
    evaluation.store.delete(evaluation.pool.paths[0])
    assert copy_known_features(evaluation) == len(evaluation.pool.groups[0]) < images
    paths = (*evaluation.pool.paths, *evaluation.test.paths)
    copied = {path: evaluation.store.get(path) for path in paths}
    alone = place[0].folder / "alone"
    assert fewshot("evaluate", place[1].job, "--set", f"job.output={alone}").code == 0
    assert {path: (alone / path).read_bytes() for path in paths} == copied


@pytest.mark.slow
def test_without_an_archive_or_examples_the_other_is_copied(place):
    evaluation = without_section(opened(place), "archive")
    images = len(evaluation.pool.images)
    assert copy_known_features(evaluation) == images
    assert embedded(evaluation, evaluation.test)[0] == 0
    assert copy_known_features(without_section(opened(place), "support")) == TEST_IMAGES


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "train"])
def test_a_changed_image_is_embedded_anew(place, split):
    evaluation = opened(place)
    units = evaluation.test if split == "test" else evaluation.pool
    name = units.images[0]
    path = place[1].folder / "images" / name
    data, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    try:
        path.write_bytes(data + b"\0")
        evaluation = opened(place)
        copy_known_features(evaluation)
        units = evaluation.test if split == "test" else evaluation.pool
        copied = {
            item.reference
            for part, group in zip(units.paths, units.groups, strict=True)
            if evaluation.store.exists(part)
            for item in group
        }
        # All test images are in one part. Those of examples are one for each class, named after its contents.
        others = {image for image in units.images if image.split("/")[0] != name.split("/")[0]}
        assert copied == (set() if split == "test" else others)
    finally:
        path.write_bytes(data)
        os.utime(path, ns=times)


@pytest.mark.slow
def test_only_features_that_are_there_are_copied(place):
    evaluation = opened(place)
    for part in sorted((place[0].output / "features").glob("*/*/part-*.parquet")):
        part.unlink()
    assert copy_known_features(evaluation) == 0
    assert embedded(evaluation, evaluation.pool)[0] == embedded(evaluation, evaluation.test)[0] == 0


@pytest.mark.slow
def test_many_examples_are_not_read(place, monkeypatch):
    count = 11 * len(CLASSES)
    monkeypatch.setattr(known_features, "MAX_EXAMPLES", count - 1)
    assert copy_known_features(opened(place)) == TEST_IMAGES
    monkeypatch.setattr(known_features, "MAX_EXAMPLES", count)
    evaluation = opened(place)
    assert copy_known_features(evaluation) == len(evaluation.pool.images)


@pytest.mark.slow
def test_an_archive_that_cannot_be_opened_is_none(place):
    evaluation = opened(place, archive={"uri": str(place[1].folder / "missing")})
    assert copy_known_features(evaluation) == len(evaluation.pool.images)


@pytest.mark.slow
def test_images_are_found_under_another_name_of_their_folder(place):
    evaluation = opened(place, evaluate={"images": str(place[1].folder / "images/../images")})
    assert copy_known_features(evaluation) == len(evaluation.pool.images) + TEST_IMAGES


def feature_rows(number, *, errors=(None, "broken", None)):
    read = sum(error is None for error in errors)
    return FeatureRows(
        images=[f"{number}/{row}" for row in range(len(errors))],
        sources=["t.tar"] * len(errors),
        errors=list(errors),
        views=np.arange(len(errors) * 2 * 3, dtype=np.float32).reshape(len(errors), 2, 3) + 100 * number,
        dense=np.arange(read * 4 * 5, dtype=np.float16).reshape(read, 4, 5) + 100 * number,
    )


def test_rows_of_several_parts_keep_their_features_reasons_and_tokens(tmp_path):
    store, parts = Store(str(tmp_path)), [feature_rows(number) for number in range(2)]
    for number, part in enumerate(parts):
        store.put(f"{number}.parquet", encode(part))
    items = [Selected("a"), Selected("b"), Selected("c")]
    spots = [("1.parquet", 2), ("0.parquet", 1), ("0.parquet", 0)]
    rows = _Parts(store, dense=True).rows(items, spots)
    assert (rows.images, rows.sources, rows.errors) == (["a", "b", "c"], [""] * 3, [None, "broken", None])
    assert rows.views[[0, 2]].tolist() == [parts[1].views[2].tolist(), parts[0].views[0].tolist()]
    assert rows.dense is not None
    assert rows.dense.tolist() == [parts[1].dense[1].tolist(), parts[0].dense[0].tolist()]
    assert _Parts(store, dense=False).rows(items, spots).dense is None
    unread = _Parts(store, dense=True).rows(items[:1], spots[1:2])
    assert unread.dense is not None
    assert len(unread.dense) == 0


def test_only_a_few_parts_are_held(tmp_path, monkeypatch):
    store, loaded = Store(str(tmp_path)), []
    part = feature_rows(0)
    monkeypatch.setattr(known_features, "load", lambda _, path, dense: loaded.append(path) or part)
    parts = _Parts(store, dense=False)
    for number in [*range(PARTS_HELD), *range(PARTS_HELD), PARTS_HELD, PARTS_HELD - 1, 0]:
        parts.rows([Selected("a")], [(str(number), 0)])
    assert loaded == [*map(str, range(PARTS_HELD + 1)), "0"]
    assert len(parts._held) == PARTS_HELD
