"""Folders are read as classes where that is what they are; every other reading is refused with the ways out."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from fewshot.data import SplitChoice
from fewshot.errors import DataError
from ray_jobs.inputs.example_tables import LabelOptions
from ray_jobs.inputs.examples import read_labels
from ray_jobs.job_file.sections import ClassSection
from tests.cluster.records.archives import write_folder


def options(split=None, **others):
    return LabelOptions(split=SplitChoice(split, "support.split"), **others)


def found(folder, split=None, classes=(), **others):
    """Image -> label."""
    labels = read_labels(str(folder), classes, options=options(split, **others))
    return {image: labels.space.names[label] for image, label in zip(labels.images, labels.labels, strict=True)}


def refused(folder, split=None, **others):
    with pytest.raises(DataError) as caught:
        found(folder, split, **others)
    return str(caught.value)


def write(folder, *paths):
    return write_folder(folder, dict.fromkeys(paths, b"x"))


@pytest.mark.parametrize(
    "splits",
    [
        ("train", "val"),
        ("train", "val", "test"),
        ("Training", "TESTING"),
        ("train", "valid"),
        ("dev", "eval"),
        ("gallery", "query"),
        ("train",),
        ("train", "test", "extra"),
        ("training_set", "test_set"),
        ("train2017", "val2017"),
    ],
)
def test_splits_are_never_classes(tmp_path, splits):
    write(tmp_path, *(f"{split}/{label}/1.jpg" for split in splits for label in ("cat", "dog")))
    message = refused(tmp_path)
    assert "these are splits, not classes" in message
    assert f'support.split = "{splits[0]}"' in message
    assert f"point uri at {tmp_path}/{splits[0]}" in message


@pytest.mark.parametrize("name", ["training_set", "wing"])
def test_classes_two_folders_deeper_are_not_overlooked(tmp_path, name):
    other = {"training_set": "test_set", "wing": "leg"}[name]
    write(tmp_path, *(f"{top}/{top}/{label}/1.jpg" for top in (name, other) for label in ("cat", "dog")))
    assert ("these are splits" if name == "training_set" else "leg/leg/ has cat/ and dog/") in refused(tmp_path)
    assert f"point uri at {tmp_path}/{name}/{name}" in refused(tmp_path / name)


def test_flat_splits_are_no_classes(tmp_path):
    assert "has test/ and train/" in refused(write(tmp_path, "train/1.jpg", "test/2.jpg"))


def test_a_vehicle_can_be_called_train(tmp_path):
    write(tmp_path, "train/1.jpg", "bus/1.jpg", "car/1.jpg")
    assert set(found(tmp_path).values()) == {"train", "bus", "car"}


@pytest.mark.parametrize(("choice", "folder"), [("train", "train"), ("TRAIN", "train"), ("dev", "Val")])
def test_the_chosen_split_is_read(tmp_path, choice, folder):
    write(tmp_path, *(f"{split}/{label}/{split}.jpg" for split in ("train", "Val", "test") for label in ("cat", "dog")))
    assert found(tmp_path, choice) == {f"{folder}/{label}/{folder}.jpg": label for label in ("cat", "dog")}


def test_splits_below_the_classes_are_chosen_or_refused(tmp_path):
    write(tmp_path, *(f"{label}/{split}/good/1.jpg" for split in ("train", "test") for label in ("bottle", "cable")))
    assert "the folders of classes have test/ and train/" in refused(tmp_path)
    assert found(tmp_path, "train") == {f"{label}/train/good/1.jpg": label for label in ("bottle", "cable")}


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    write(tmp_path, "a/train/cat/1.jpg", "a/val/cat/1.jpg", "b/cat/1.jpg", "b/dog/1.jpg")
    assert "has no split 'test'; it has 'train', 'val'" in refused(tmp_path / "a", "test")
    assert "has no folder of a split" in refused(tmp_path / "b", "train")
    assert "it has cat/ and dog/" in refused(tmp_path / "b", "train")
    assert '"all" splits can be chosen in tables' in refused(tmp_path / "a", "all")


def test_an_empty_class_folder_is_named_unless_the_class_is_known_by_name(tmp_path):
    write(tmp_path, "cat/1.jpg", "dog/1.jpg", "kiwi/notes.txt", ".hidden/1.jpg")
    (tmp_path / "lynx").mkdir()
    message = refused(tmp_path)
    assert "has kiwi/ and lynx/ without an image" in message
    assert '[[support.classes]] with label = "kiwi"' in message
    known = [ClassSection(label="kiwi"), ClassSection(label="lynx", name="a lynx")]
    labels = read_labels(str(tmp_path), known)
    assert labels.counts == {"cat": 1, "dog": 1, "kiwi": 0, "lynx": 0}


def test_an_empty_class_folder_of_a_split_is_named(tmp_path):
    write(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg")
    (tmp_path / "train/kiwi").mkdir()
    assert f"{tmp_path}/train has kiwi/ without an image" in refused(tmp_path, "train")


def test_deeper_folders_that_may_be_classes_need_a_choice(tmp_path):
    write(tmp_path, "animals/cat/1.jpg", "animals/dog/1.jpg", "food/kiwi/1.jpg")
    message = refused(tmp_path)
    assert "animals/ has cat/ and dog/, so that the classes can be the first or the last folders" in message
    assert 'class_folder = "first" or "last"' in message
    assert Counter(found(tmp_path, class_folder="first").values()) == {"animals": 2, "food": 1}
    assert Counter(found(tmp_path, class_folder="last").values()) == {"cat": 1, "dog": 1, "kiwi": 1}


@pytest.mark.parametrize("between", ["", "x/"])
def test_one_folder_of_another_name_in_each_may_be_the_class(tmp_path, between):
    write(tmp_path, f"animals/{between}cat/1.jpg", f"animals/{between}cat/2.jpg", f"plants/{between}rose/1.jpg")
    message = refused(tmp_path)
    expected = f"animals/{between} has cat/ and plants/{between} has rose/, so that the classes can be the first or the"
    assert expected in message
    assert 'class_folder = "first" or "last"' in message
    assert set(found(tmp_path, class_folder="first").values()) == {"animals", "plants"}
    assert set(found(tmp_path, class_folder="last").values()) == {"cat", "rose"}


def test_a_folder_of_the_same_name_in_each_is_no_class(tmp_path):
    write(tmp_path / "alike", "cat/images/1.jpg", "dog/images/1.jpg")
    assert set(found(tmp_path / "alike").values()) == {"cat", "dog"}
    write(tmp_path / "partly", "cat/more/1.jpg", "cat/2.jpg", "dog/1.jpg")
    assert set(found(tmp_path / "partly").values()) == {"cat", "dog"}


def test_a_uri_one_folder_too_high_is_named(tmp_path):
    write(tmp_path, "dataset/cat/1.jpg", "dataset/dog/1.jpg")
    assert f"the only folder of {tmp_path} is dataset/, which has cat/ and dog/: point uri at {tmp_path}/dataset" in (
        refused(tmp_path)
    )


def test_one_folder_more_below_each_class_is_no_other_reading(tmp_path):
    write(tmp_path, "cat/images/1.jpg", "cat/2.jpg", "dog/images/1.jpg")
    assert set(found(tmp_path).values()) == {"cat", "dog"}


def metadata(folder, name="metadata.csv", header="file_name,label"):
    rows = [("images/1.jpg", "cat"), ("images/2.jpg", "dog")]
    write(folder, *(path for path, _ in rows))
    if name.endswith(".jsonl"):
        keys = header.split(",")
        text = "\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in rows)
    else:
        text = "\n".join([header, *(",".join(row) for row in rows)])
    (folder / name).write_text(text)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_labels_in_a_table_beside_the_images_are_read(tmp_path, name):
    metadata(tmp_path, name)
    assert found(tmp_path) == {"images/1.jpg": "cat", "images/2.jpg": "dog"}


def test_labels_beside_the_images_of_a_split_are_read(tmp_path):
    for split in ("train", "test"):
        metadata(tmp_path / split)
    labels = read_labels(str(tmp_path), options=options("train"))
    assert (labels.folder, labels.images) == (f"{tmp_path}/train", ("images/1.jpg", "images/2.jpg"))


def test_labels_beside_the_folders_of_splits_are_read(tmp_path):
    write(tmp_path, "train/1.jpg", "train/2.jpg", "test/3.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,label\ntrain/1.jpg,cat\ntrain/2.jpg,dog\ntest/3.jpg,cat\n")
    assert found(tmp_path, "train") == {"train/1.jpg": "cat", "train/2.jpg": "dog"}


def test_labels_in_another_column_are_read_if_it_is_named(tmp_path):
    metadata(tmp_path, header="file_name,species")
    assert "no column for the label" in refused(tmp_path)
    assert found(tmp_path, label_column="species") == {"images/1.jpg": "cat", "images/2.jpg": "dog"}


def test_a_table_and_folders_that_differ_need_a_choice(tmp_path):
    write(tmp_path, "cat/1.jpg", "dog/2.jpg")
    table = tmp_path / "metadata.csv"
    table.write_text("file_name,label\ncat/1.jpg,tabby\ndog/2.jpg,poodle\n")
    message = refused(tmp_path)
    assert f"Point uri at {table}" in message
    assert 'class_folder = "first"' in message
    assert set(found(tmp_path, class_folder="first").values()) == {"cat", "dog"}
    assert set(found(table).values()) == {"tabby", "poodle"}
    table.write_text("file_name,label\ncat/1.jpg,cat\ndog/2.jpg,dog\n")
    assert set(found(tmp_path).values()) == {"cat", "dog"}
    table.write_text("file_name,caption\ncat/1.jpg,a cat\ndog/2.jpg,a dog\n")
    assert set(found(tmp_path).values()) == {"cat", "dog"}


def test_images_in_no_folder_are_refused_without_a_table(tmp_path):
    assert "1 images that are in no class folder, e.g. 0.jpg" in refused(write(tmp_path, "0.jpg", "cat/1.jpg"))


def test_a_table_counts_where_some_images_lie_beside_the_folders(tmp_path):
    write(tmp_path, "a.jpg", "x/b.jpg", "y/c.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.jpg,cat\nx/b.jpg,dog\ny/c.jpg,cat\n")
    assert found(tmp_path) == {"a.jpg": "cat", "x/b.jpg": "dog", "y/c.jpg": "cat"}


def test_a_table_of_all_splits_gives_no_images_of_a_split_with_a_longer_name(tmp_path):
    write(tmp_path, "train/a.jpg", "train/b.jpg", "training/c.jpg", "val/d.jpg")
    rows = ("train/a.jpg,cat", "train/b.jpg,dog", "training/c.jpg,cat", "val/d.jpg,dog")
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    assert found(tmp_path, "train") == {"train/a.jpg": "cat", "train/b.jpg": "dog"}
