"""Which images a sample of the archive has, and how it is kept."""

from dataclasses import replace

import numpy as np
import pytest

from cluster import Store
from ray_jobs.errors import JobError
from ray_jobs.inputs.archive import Listing
from ray_jobs.output.classifiers import TrainingIdentity
from ray_jobs.output.feature_parts import FeatureRows, encode
from ray_jobs.output.layout import feature_part
from ray_jobs.steps.archive_sample import (
    ArchiveSample,
    draw_sample,
    drawn_shards,
    keep_sample,
    kept_sample,
    lowest,
    lowest_rows,
    sample_of,
    sample_size,
    without_bursts,
)


def rows(names, *, broken=()):
    values = np.eye(100, dtype=np.float32)[[int(name[1:]) for name in names]][:, None]
    return FeatureRows(list(names), [""] * len(names), ["broken" if n in broken else None for n in names], values)


NAMES = [f"i{number}" for number in range(50)]


def listing(shards, place="here"):
    return Listing(place, tuple(shards), 0, ())


@pytest.mark.parametrize(("classes", "size"), [(2, 10_000), (100, 10_000), (250, 25_000), (20_000, 1_000_000)])
def test_a_sample_has_a_hundred_images_a_class_within_limits(classes, size):
    assert sample_size(classes) == size


@pytest.mark.parametrize("block", [1, 7, 50])
def test_parts_and_their_order_do_not_change_the_sample(block):
    parts = [rows(NAMES[start : start + block]) for start in range(0, 50, block)]
    expected = lowest([rows(NAMES)], 8)
    for order in (parts, parts[::-1]):
        found = lowest(order, 8)
        assert found.images == expected.images
        assert np.array_equal(found.views, expected.views)


def test_an_added_image_replaces_at_most_one():
    before = lowest_rows(NAMES, 8)
    after = lowest_rows([*NAMES, "i99"], 8)
    assert len(set(before) - set(after)) <= 1


def test_unreadable_images_are_in_no_sample():
    assert sorted(lowest([rows(NAMES, broken=NAMES[:45])], 8).images) == sorted(NAMES[45:])


def test_frames_of_a_burst_count_once():
    names = ["a3", "b1", "a1", "a2", "c1"]
    angles = {"a1": 0.0, "a2": 0.05, "a3": 0.1, "b1": 3.0, "c1": 0.0}
    values = np.array([[[np.cos(angles[name]), np.sin(angles[name])]] for name in names], np.float32)
    found = without_bursts(FeatureRows(names, [""] * 5, [None] * 5, values))
    assert sorted(found.images) == ["a1", "b1", "c1"]


def test_of_many_shards_only_some_are_read():
    shards = [(f"s{number}", 10) for number in range(20)]
    drawn = drawn_shards(shards, 45)
    assert len(drawn) == 5
    assert drawn == drawn_shards(shards[::-1], 45)
    assert len(drawn_shards([*shards, ("of unknown size", None)], 45)) == 21


def test_the_contents_and_the_features_name_a_sample():
    one, grown = listing([("a", 1)]), listing([("a", 1), ("b", 1)])
    names = {sample_of(*what, classes=K).name for what in ((one, "f"), (grown, "f"), (one, "g")) for K in (2, 500)}
    assert len(names) == 6


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path))
    store.put(feature_part("f", "a"), encode(rows(NAMES)))
    return store


def test_a_sample_is_kept_though_the_archive_grows(store):
    one, grown = (sample_of(listing(s), "f", classes=2) for s in ([("a", 50)], [("a", 50), ("b", 1)]))
    assert kept_sample(store, "note.json", one) == one
    draw_sample(store, one, listing([("a", 50)]), "f")
    keep_sample(store, "note.json", one, renew=False)
    assert kept_sample(store, "note.json", grown) == ArchiveSample(one.name, one.size, is_kept=True)
    assert len(one.load(store)) == 50
    keep_sample(store, "note.json", grown, renew=True)
    assert kept_sample(store, "note.json", grown) == grown


def test_a_kept_sample_that_is_gone_is_not_drawn_from_another_archive(store):
    kept = ArchiveSample("gone", 10, is_kept=True)
    with pytest.raises(JobError, match='archive_sample = "renew"'):
        draw_sample(store, kept, listing([("a", 50)]), "f")


def test_a_sample_without_a_readable_image_is_empty_and_not_kept(store):
    broken = FeatureRows(NAMES, [""] * len(NAMES), ["broken"] * len(NAMES), np.zeros((len(NAMES), 1, 1), np.float32))
    store.put(feature_part("f", "a"), encode(broken))
    empty, later = (sample_of(listing(s), "f", classes=2) for s in ([("a", 50)], [("a", 50), ("b", 1)]))
    draw_sample(store, empty, listing([("a", 50)]), "f")
    assert empty.load(store) is None
    for renew in (False, True):
        keep_sample(store, "note.json", empty, renew=renew)
        assert kept_sample(store, "note.json", later) == later


def test_two_runs_do_not_keep_two_samples(store):
    one, other = (ArchiveSample(name, 10) for name in "ab")
    keep_sample(store, "note.json", one, renew=False)
    keep_sample(store, "note.json", one, renew=False)
    with pytest.raises(JobError, match="another run"):
        keep_sample(store, "note.json", other, renew=False)


def test_only_classifiers_that_learn_from_the_archive_are_named_after_a_sample():
    without = TrainingIdentity(clip={}, templates=None, method="gda", hyperparameters={}, seed=0, support="s")
    assert "archive_sample" not in without.to_json()
    names = {replace(without, archive_sample=name).folder for name in (None, "one", "other")}
    assert len(names) == 3
