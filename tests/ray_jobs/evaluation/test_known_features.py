"""Features that `classify` made are copied with the bytes of embedded ones, and only for the same images."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pyarrow.parquet as pq
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
from tests.ray_jobs.place import Place, fewshot

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


def embedded(evaluation):
    """How many units of test images are done."""
    return sum(evaluation.store.exists(path) for path in evaluation.test.paths)


@pytest.mark.slow
def test_copied_features_have_the_bytes_of_embedded_ones(place):
    evaluation = opened(place)
    assert copy_known_features(evaluation) == TEST_IMAGES
    assert copy_known_features(evaluation) == 0
    copied = {path: evaluation.store.get(path) for path in evaluation.test.paths}
    alone = place[0].folder / "alone"
    assert fewshot("evaluate", place[1].job, "--set", f"job.output={alone}").code == 0
    assert {path: (alone / path).read_bytes() for path in copied} == copied


@pytest.mark.slow
def test_train_images_are_found_among_the_examples_of_classify(place):
    evaluation = opened(place)
    assert evaluation.pool.units == ()
    found = evaluation.pool.read(evaluation.store)
    alone = place[0].folder / "alone"
    assert fewshot("evaluate", place[1].job, "--set", f"job.output={alone}").code == 0
    embedded = evaluation.train.find(Store(str(alone))).read(Store(str(alone)))
    assert (found.images, found.errors) == (embedded.images, embedded.errors)
    assert found.views.tobytes() == embedded.views.tobytes()


@pytest.mark.slow
def test_without_an_archive_nothing_is_copied(place):
    evaluation = without_section(opened(place), "archive")
    assert (copy_known_features(evaluation), embedded(evaluation)) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "train"])
def test_a_changed_image_is_embedded_anew(place, split):
    evaluation = opened(place)
    name = evaluation.test.images[0] if split == "test" else evaluation.train.images[0]
    path = place[1].folder / "images" / name
    data, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    try:
        path.write_bytes(data + b"\0")
        evaluation = opened(place)
        assert copy_known_features(evaluation) == 0  # All images are in one shard of the archive.
        assert evaluation.pool.weight_left == (0 if split == "test" else 1 + evaluation.views)
    finally:
        path.write_bytes(data)
        os.utime(path, ns=times)


@pytest.mark.slow
def test_only_features_that_are_there_are_copied(place):
    for part in sorted((place[0].output / "features").glob("*/*/part-*.parquet")):
        part.unlink()
    evaluation = opened(place)
    assert (copy_known_features(evaluation), embedded(evaluation)) == (0, 0)
    assert evaluation.pool.weight_left == evaluation.pool.weight


@pytest.mark.slow
def test_a_lost_part_keeps_no_other_from_being_copied(tmp_path, tiny_clip, monkeypatch):
    monkeypatch.setattr("ray_jobs.evaluation.design.TEST_BLOCK", 1)
    write_splits(tmp_path)
    classified = evaluation_place(tmp_path, tiny_clip)
    write_job(classified, archive={"shard_images": 1})
    assert classified.classify().code == 0
    evaluation = opened((classified, classified), archive={"shard_images": 1})
    parts = {path: set(pq.read_table(path)["image"].to_pylist()) for path in classified.output.rglob("part-*.parquet")}
    lost = next(path for path, images in parts.items() if evaluation.test.images[0] in images)
    lost.unlink()
    left = TEST_IMAGES - len(parts[lost] & set(evaluation.test.images))
    assert left > 0
    assert copy_known_features(evaluation) == left


@pytest.mark.slow
def test_an_archive_that_cannot_be_opened_is_none(place):
    evaluation = opened(place, archive={"uri": str(place[1].folder / "missing")})
    assert copy_known_features(evaluation) == 0


@pytest.mark.slow
def test_images_are_found_under_another_name_of_their_folder(place):
    evaluation = opened(place, evaluate={"images": str(place[1].folder / "images/../images")})
    assert copy_known_features(evaluation) == TEST_IMAGES


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
