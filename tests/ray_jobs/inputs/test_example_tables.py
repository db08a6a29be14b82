"""Tables of examples: Hugging Face ones with the images in them, several as one, and the folder of their paths."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import StorageError
from cluster.storage.retry import Retry
from fewshot.data import SplitChoice
from fewshot.errors import DataError
from ray_jobs.evaluation.design import Evaluation
from ray_jobs.inputs.class_warnings import warnings_about_classes
from ray_jobs.inputs.example_tables import LabelOptions
from ray_jobs.inputs.examples import labelled_units, read_labels, read_splits
from ray_jobs.inputs.ground_truth import read_given_labels, read_ground_truth
from ray_jobs.job_file.reading import parse_job
from ray_jobs.job_file.sections import ArchiveSection
from tests.cluster.records.archives import write_folder
from tests.cluster.records.s3_server import s3_server
from tests.ray_jobs.place import CLASSES, fewshot, put, write_table


def hugging_face(path, images, labels, names):
    """A table as `datasets` writes it: images as structs, labels as integers, their names in the metadata."""
    cells = [{"bytes": data, "path": "image.jpg"} for data in images]
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
    table = pa.table({"image": cells, "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=2)
    return path


def found(uri, split=None, **others):
    """Image -> label."""
    options = LabelOptions(split=SplitChoice(split, "support.split"), **others)
    labels = read_labels(str(uri), options=options)
    return {image: labels.space.names[label] for image, label in zip(labels.images, labels.labels, strict=True)}


def refused(uri, split=None, **others):
    with pytest.raises(DataError) as caught:
        found(uri, split, **others)
    return str(caught.value)


def test_examples_in_a_table_give_the_predictions_of_the_same_examples_in_folders(place):
    folders = place.classify("support.views=0")
    examples = [(label, shot) for shot in range(2) for label in CLASSES]
    images = [(place.examples / label / f"{shot}.jpg").read_bytes() for label, shot in examples]
    labels = [CLASSES.index(label) for label, _ in examples]
    table = hugging_face(place.folder / "train.parquet", images, labels, CLASSES)
    outcome = place.classify(f"support.uri={table}", "support.views=0")
    assert (folders.code, outcome.code) == (0, 0), outcome.messages
    labels_of = [{key: row["label"] for key, row in done.rows.items()} for done in (folders, outcome)]
    assert labels_of[0] == labels_of[1]
    plan = fewshot("plan", place.job, "--no-probe", "--set", f"support.uri={table}")
    assert plan.result["examples_of_class"] == dict.fromkeys(CLASSES, 2)
    assert all(f"{label} " in plan.messages for label in CLASSES)


def test_examples_in_a_table_are_identified_by_their_contents(tmp_path):
    def parts(first):
        table = hugging_face(tmp_path / "t.parquet", [first, b"b", b"c"], [0, 1, 1], ["x", "y"])
        labels = read_labels(str(table))
        groups = [["t.parquet#1"], ["t.parquet#2", "t.parquet#3"]]
        return labelled_units(labels, groups, features="f", views=0).paths

    one, other = parts(b"a"), parts(b"A")
    assert one[0] != other[0]
    assert one[1] == other[1]


def write_splits(folder, *names):
    for number, name in enumerate(names):
        hugging_face(folder / name, [f"{number}{row}".encode() for row in range(2)], [0, 1], ["cat", "dog"])
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"),
        ("train/0000.parquet", "train/0001.parquet", "test/0000.parquet"),
        ("train.parquet", "train_extra.parquet", "test.parquet"),
    ],
)
def test_tables_named_after_their_splits_are_chosen_or_refused(tmp_path, names):
    write_splits(tmp_path, *names)
    message = refused(tmp_path)
    assert "tables of several splits (test, train)" in message
    assert 'support.split = "train"' in message
    expected = {f"{name}#{row + 1}": label for name in names[:2] for row, label in enumerate(("cat", "dog"))}
    assert found(tmp_path, "training") == expected
    assert len(found(tmp_path, "all")) == 6


def test_tables_with_numbers_and_with_names_of_classes_are_not_mixed(tmp_path):
    write_splits(tmp_path, "0.parquet", "1.parquet")
    pq.write_table(pa.table({"image": [b"7"], "label": [1]}), tmp_path / "2.parquet")
    assert "the labels of 2.parquet are numbers, those of 0.parquet are names; expected one kind" in refused(tmp_path)


def test_a_glob_of_tables_is_read_as_one(tmp_path):
    write_splits(tmp_path / "data", "train-0.parquet", "train-1.parquet", "test-0.parquet")
    images = found(tmp_path / "data/train-*.parquet")
    assert set(images) == {f"train-{table}.parquet#{row}" for table in (0, 1) for row in (1, 2)}


def test_several_tables_of_paths_have_each_its_own_folder(tmp_path):
    for name in ("a", "b"):
        put(tmp_path / name / "t.parquet", b"")
        pq.write_table(
            pa.table({"image": ["1.jpg", "./2.jpg"], "label": ["cat", "dog"]}), tmp_path / name / "t.parquet"
        )
    assert found(tmp_path) == {"a/1.jpg": "cat", "a/2.jpg": "dog", "b/1.jpg": "cat", "b/2.jpg": "dog"}
    pq.write_table(pa.table({"image": [b"1"], "label": ["cat"]}), tmp_path / "b/t.parquet")
    assert "some tables hold images and others refer to them" in refused(tmp_path)


def test_labels_of_a_table_in_object_storage_are_read_without_its_images(tmp_path):
    big = [bytes([value]) * (6 << 20) for value in range(3)]
    table = hugging_face(tmp_path / "t.parquet", big, [0, 1, 0], ["cat", "dog"]).read_bytes()
    with s3_server() as server:
        server.objects["sets/t.parquet"] = table
        labels = read_labels("s3://bucket/sets/t.parquet", storage=server.storage)
        assert labels.counts == {"cat": 2, "dog": 1}
        assert sum(method == "GET" for method, _ in server.requests) <= 3
        server.objects.clear()
        with pytest.raises(DataError, match=r"there is no s3://bucket/sets/t\.parquet"):
            read_labels("s3://bucket/sets/t.parquet", storage=server.storage)


def test_an_outage_is_no_damaged_table(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise StorageError("down")

    table = hugging_face(tmp_path / "t.parquet", [b"a"], [0], ["cat"])
    monkeypatch.setattr("cluster.records.reading.RETRY", Retry(deadline_s=0.0))
    monkeypatch.setattr("cluster.records.streams._LocalParts.__call__", fail)
    with pytest.raises(StorageError, match="down"):
        read_labels(str(table))


def test_a_column_of_splits_is_chosen_or_refused(tmp_path):
    rows = [("a.jpg", "cat", "train"), ("b.jpg", "dog", "train"), ("c.jpg", "cat", "test")]
    (tmp_path / "data").mkdir()  # Folders beside the table's own are searched for images.
    table = write_table(tmp_path / "data/t.csv", rows, header=("image", "label", "split"))
    assert "several splits (test: 1, train: 2 rows)" in refused(table)
    assert found(table, "train") == {"a.jpg": "cat", "b.jpg": "dog"}
    assert "has no split 'val'" in refused(table, "val")


COOP = {"train": [["cat/1.jpg", 0, "cat"], ["dog/1.jpg", 1, "dog"]], "val": [], "test": [["cat/2.jpg", 0, "cat"]]}


@pytest.mark.parametrize(
    ("splits", "images"),
    [("split.json", "101_ObjectCategories"), ("splits/split.json", "images"), ("splits/split.json", ".")],
)
def test_the_folder_of_the_images_is_named_and_never_guessed(tmp_path, splits, images):
    write_folder(tmp_path / images, {path: b"x" for path, *_ in COOP["train"] + COOP["test"]})
    put(tmp_path / splits, json.dumps(COOP).encode())
    put(tmp_path / "other/cat/1.jpg", b"x")
    way = (tmp_path / images).resolve()
    assert f'set support.images = "{way}"' in refused(tmp_path / splits)
    labels = read_labels(str(tmp_path / splits), options=LabelOptions(images=str(way)))
    assert (labels.folder, labels.images) == (str(way), ("cat/1.jpg", "dog/1.jpg"))
    text = f'[job]\nname = "x"\noutput = "{tmp_path}/out"\n[evaluate]\nsplits = "{tmp_path / splits}"\n'
    job, _ = parse_job(text, "job.toml")
    with pytest.raises(DataError, match=r"set evaluate\.images = "):
        Evaluation.from_job(job)
    job, _ = parse_job(f'{text}images = "{way}"\n', "job.toml")
    assert Evaluation.from_job(job).splits.test == (("cat/2.jpg", 0),)


@pytest.mark.parametrize("splits", ["", "train", "t.csv"])
def test_an_evaluation_of_anything_but_a_splits_file_is_refused_with_the_layout(tmp_path, splits):
    write_folder(tmp_path, {f"{split}/cat/1.jpg": b"x" for split in ("train", "test")})
    write_table(tmp_path / "t.csv", [("train/cat/1.jpg", "cat")])
    with pytest.raises(DataError, match=r"expected a splits\.json, a JSON file such as"):
        read_splits(str(tmp_path / splits), None)


def test_a_table_whose_images_are_nowhere_is_read(tmp_path):
    put(tmp_path / "data/t.csv", b"")  # Beside `tmp_path` other tests have their images.
    table = write_table(tmp_path / "data/t.csv", [("a.jpg", "cat"), ("https://host/b.jpg", "dog")])
    assert found(table) == {"a.jpg": "cat", "https://host/b.jpg": "dog"}


def test_paths_of_a_table_start_in_the_folder_that_is_named(tmp_path):
    table = write_table(tmp_path / "t.csv", [("a.jpg", "cat"), ("b.jpg", "dog")])
    assert read_labels(str(table), options=LabelOptions(images="s3://bucket/photos")).folder == "s3://bucket/photos"
    images = hugging_face(tmp_path / "t.parquet", [b"a", b"b"], [0, 1], ["cat", "dog"])
    assert "holds the images themselves" in refused(images, images="photos")


def given(path, **others):
    return ArchiveSection(uri="photos", labels=str(path), **others)


def test_ground_truth_of_several_splits_needs_a_choice(tmp_path):
    put(tmp_path / "s.json", json.dumps(COOP).encode())
    rows = [("a.jpg", "cat", "train"), ("b.jpg", "dog", "test")]
    table = write_table(tmp_path / "t.csv", rows, header=("image", "label", "split"))
    for labels in (tmp_path / "s.json", table):
        with pytest.raises(DataError, match=r"several splits.*archive\.labels_split"):
            read_given_labels(given(labels))
    assert read_ground_truth(given(tmp_path / "s.json", labels_split="test"), ("cat", "dog")) == {"cat/2.jpg": 0}
    names = ("cat", "dog")
    assert read_ground_truth(given(table, labels_split="all"), names) == {"a.jpg": 0, "b.jpg": 1}
    write_folder(tmp_path / "sets", {f"{split}/{label}/1.jpg": b"x" for split in ("train", "test") for label in names})
    with pytest.raises(DataError, match=r'Set archive\.labels_split = "train"'):
        read_given_labels(given(tmp_path / "sets"))


def test_keys_of_ground_truth_are_compared_as_one_name(tmp_path):
    table = write_table(tmp_path / "t.csv", [("./x/a.jpg", "cat"), ("x//b.jpg", "dog")])
    assert read_ground_truth(given(table), ("cat", "dog")) == {"x/a.jpg": 0, "x/b.jpg": 1}
    table = write_table(tmp_path / "w.csv", [(".\\x\\a.jpg", "cat"), ("x\\b.jpg", "dog")])
    assert read_ground_truth(given(table), ("cat", "dog")) == {"x/a.jpg": 0, "x/b.jpg": 1}
    assert read_ground_truth(ArchiveSection(uri="photos"), ("cat", "dog")) is None


def test_ground_truth_in_a_table_of_images_is_refused(tmp_path):
    table = hugging_face(tmp_path / "t.parquet", [b"a", b"b"], [0, 1], ["cat", "dog"])
    with pytest.raises(DataError, match=r"holds images .* expected a table with the keys of images"):
        read_given_labels(given(table))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"cat": 3, "dog": 60}, "very unequal numbers of examples, from 3 (cat) to 60 (dog)"),
        ({"train": 3, "bus": 3}, "1 class has the name of a split: train"),
        (
            {"images": 3, "masks": 3},
            "2 classes have the name of a folder of files, not of what is in them: images, masks",
        ),
        ({"Images": 3, "dog": 3}, "1 class has the name of a folder of files, not of what is in them: Images"),
        ({"0": 3, "1": 3}, "The 2 classes have numbers for names (0, 1)"),
        ({"cat": 0, "dog": 3}, "1 class has no example, only a name: cat."),
        ({"cat": 0, "dog": 0}, "Find first examples with fewshot search"),
        ({"cat": 1, "dog": 3}, "1 class has only one example: cat."),
    ],
)
def test_odd_classes_are_warned_of(counts, expected):
    (warning,) = warnings_about_classes(counts)
    assert expected in warning


def test_ordinary_classes_are_not_warned_of():
    assert list(warnings_about_classes({"cat": 3, "dog": 59, "class 3": 20})) == []
    assert list(warnings_about_classes({"cat": 2, "dog": 39, "7": 2})) == []
    assert list(warnings_about_classes({})) == []
    assert list(warnings_about_classes({"0": 3, "1": 3}, has_text=False)) == []
