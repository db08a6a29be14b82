"""A survey finds what is there, what is no image, and what is there twice, and reads little of the archive for it."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.records import content_digest, open_source
from ray_jobs.drafting import duplicates, examples_survey
from ray_jobs.drafting.archive_survey import survey_archive
from ray_jobs.drafting.duplicates import ArchiveCopy, ExampleContent, images_inside, repeated_examples
from ray_jobs.drafting.examples_survey import form_of_examples, survey_examples
from ray_jobs.inputs.examples import read_labels
from tests.cluster.records.archives import tar_bytes, write_folder
from tests.ray_jobs.place import picture, put, write_table


def content(image, label, data=b"same"):
    return ExampleContent(image, label, len(data), content_digest(data))


@pytest.fixture
def examples(tmp_path):
    """Two examples of each of two classes, a third class with a text file and a cut-off picture, two hidden entries."""
    files = {f"{label}/{seed}.jpg": picture(label, seed) for label in ("amber", "blue") for seed in range(2)}
    files |= {"cyan/notes": b"no image", "cyan/cut.jpg": picture("cyan", 1)[:200]}
    return write_folder(tmp_path / "examples", files | {"amber/.DS_Store": b"x", "blue/notes.txt": b"x"})


def survey(uri):
    labels = read_labels(str(uri))
    return survey_examples(str(uri), labels, labels)


def test_a_folder_for_each_class_is_counted_and_looked_at(examples):
    found, contents = survey(examples)
    assert (found.form, found.images, found.counts) == ("folder", 6, {"amber": 2, "blue": 2, "cyan": 2})
    assert (found.skipped, set(found.skipped_examples)) == (2, {"amber/.DS_Store", "blue/notes.txt"})
    assert (found.used, found.inspected, found.unreadable) == (6, 6, 2)
    reasons = {item.image: item.reason for item in found.unreadable_examples}
    assert reasons["cyan/notes"].startswith("not an image")
    assert reasons["cyan/cut.jpg"] == "truncated JPEG"
    assert [item.image for item in contents] == [
        f"{label}/{seed}.jpg" for label in ("amber", "blue") for seed in (0, 1)
    ]
    first = (examples / "amber/0.jpg").read_bytes()
    assert contents[0] == ExampleContent("amber/0.jpg", "amber", len(first), content_digest(first))


def test_tables_and_splits_are_recognised_by_name(examples):
    rows = [("amber/0.jpg", "amber"), ("blue/1.jpg", "blue"), ("missing.jpg", "blue"), ("", "only a name")]
    write_table(examples / "table.csv", rows)
    (examples / "rows.jsonl").write_text("".join(json.dumps({"image": i, "label": c}) + "\n" for i, c in rows))
    pq.write_table(pa.table({"image": [i for i, _ in rows], "label": [c for _, c in rows]}), examples / "t.parquet")
    for name, form in (("table.csv", "csv"), ("rows.jsonl", "jsonl"), ("t.parquet", "parquet")):
        found, contents = survey(examples / name)
        assert (found.form, found.counts) == (form, {"amber": 1, "blue": 2, "only a name": 0})
        assert [item.image for item in contents] == ["amber/0.jpg", "blue/1.jpg"]
        assert [(item.image, item.reason) for item in found.unreadable_examples] == [
            ("missing.jpg", f"not found in {examples}")
        ]
    splits = {"classes": ["a", "b"], "train": [["amber/0.jpg", 0]], "val": [], "test": [["blue/0.jpg", 1]]}
    (examples / "splits.json").write_text(json.dumps(splits))
    found, _ = survey(examples / "splits.json")
    assert (found.form, found.counts) == ("splits", {"a": 1, "b": 0})
    assert form_of_examples("s3://bucket/EXAMPLES.TSV", read_labels(str(examples))) == "csv"


def test_only_so_many_examples_are_read(examples, monkeypatch):
    monkeypatch.setattr(examples_survey, "MAX_INSPECTED", 3)
    monkeypatch.setattr(examples_survey, "_BLOCK", 2)
    found, contents = survey(examples)
    assert (found.used, found.inspected, len(contents)) == (6, 3, 3)


def test_only_examples_that_the_job_draws_are_read(examples):
    labels = read_labels(str(examples))
    found, contents = survey_examples(str(examples), labels, labels.drawn(1, 1))
    assert (found.images, found.used, found.inspected) == (6, 3, 3)
    assert len(contents) == 2


def test_repeated_examples_are_told_apart_by_class():
    repeats, contradictions = repeated_examples(
        [content("a/1", "a"), content("a/2", "a"), content("b/1", "b"), content("b/2", "b", b"other")]
    )
    assert repeats == 1
    (pair,) = contradictions
    assert (pair.image, pair.label, pair.other_image, pair.other_label) == ("a/1", "a", "b/1", "b")


def test_examples_inside_the_archive_are_found_by_path(tmp_path):
    put(tmp_path / "photos/x/1.jpg", b"1")
    put(tmp_path / "2.jpg", b"2")
    table = write_table(tmp_path / "t.csv", [("photos/x/1.jpg", "a"), ("2.jpg", "b"), ("s3://b/photos/3.jpg", "b")])
    labels = read_labels(str(table))
    assert images_inside(labels, str(tmp_path / "photos")) == {"photos/x/1.jpg"}
    assert images_inside(labels, "s3://b/photos/") == {"s3://b/photos/3.jpg"}
    assert images_inside(labels, str(tmp_path)) == {"photos/x/1.jpg", "2.jpg"}


def test_archive_images_with_the_bytes_of_an_example_are_found(tmp_path, monkeypatch):
    files = {"a.jpg": b"same", "b.jpg": b"also", "c/d.jpg": b"same", "long.jpg": b"longer than that", "n.txt": b"same"}
    folder = write_folder(tmp_path / "archive", files)
    source = open_source(str(folder), shard_records=2)
    read = []
    monkeypatch.setattr(duplicates, "pick", lambda shard, rows, **options: read.extend(rows) or pick(shard, rows))
    found, finder = survey_archive(source, [content("x/1", "x")])
    assert (found.kind, found.images, found.skipped, found.skipped_examples) == ("folder", 4, 1, ("n.txt",))
    assert (finder.compared, finder.all_compared, finder.count) == (True, True, 2)
    assert finder.shown == [ArchiveCopy("x/1", "x", "a.jpg"), ArchiveCopy("x/1", "x", "c/d.jpg")]
    assert len(read) == 3


def test_of_many_copies_the_first_are_shown_and_all_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_SHOWN", 2)
    folder = write_folder(tmp_path / "archive", {f"{index}.jpg": b"same" for index in range(5)})
    _, finder = survey_archive(open_source(str(folder)), [content("x/1", "x")])
    assert (len(finder.shown), finder.count) == (2, 5)


def test_images_that_the_listing_refuses_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "pick", lambda *_, **__: pytest.fail("read"))
    folder = write_folder(tmp_path / "archive", {"a.jpg": b"same"})
    _, finder = survey_archive(open_source(str(folder), max_bytes=3), [content("x/1", "x")])
    assert (finder.compared, finder.all_compared, finder.count) == (True, True, 0)


pick = duplicates.pick


@pytest.mark.parametrize("limit", ["MAX_CANDIDATES", "MAX_CANDIDATE_BYTES"])
def test_what_is_read_for_a_comparison_is_bounded(tmp_path, monkeypatch, limit):
    folder = write_folder(tmp_path / "archive", {f"{index}.jpg": b"same" for index in range(5)})
    monkeypatch.setattr(duplicates, limit, 2 if limit == "MAX_CANDIDATES" else 8)
    _, finder = survey_archive(open_source(str(folder)), [content("x/1", "x")])
    assert (finder.compared, finder.all_compared, finder.count) == (True, False, 2)


def test_archives_whose_listing_has_no_sizes_are_counted_and_not_compared(tmp_path):
    put(tmp_path / "a.tar", tar_bytes([("a.jpg", b"same")]))
    pq.write_table(pa.table({"image": [b"same", b"same"]}), tmp_path / "b.parquet")
    for name, images in (("a.tar", None), ("b.parquet", 2)):
        found, finder = survey_archive(open_source(str(tmp_path / name)), [content("x/1", "x")])
        assert (found.kind, found.images) == (name.partition(".")[2], images)
        assert (finder.compared, finder.all_compared, finder.count) == (False, False, 0)
