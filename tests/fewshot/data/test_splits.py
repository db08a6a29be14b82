"""Parsing of split files of both layouts, and refusal of invalid ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.data import SplitChoice, parse_splits
from fewshot.data.splits import chosen_pairs
from fewshot.errors import DataError


def parse(document: object):
    return parse_splits(json.dumps(document).encode())


def test_a_file_with_declared_classes_is_read():
    splits = parse(
        {
            "classes": ["pink_lady", "granny smith"],
            "meta": {"licence": "MIT", "descriptions": ["red", "green"]},
            "train": [["train/1.jpg", 1], ["train/0.jpg", 0]],
            "test": [["test/0.jpg", 0]],
        }
    )
    assert splits.label_space.names == ("pink_lady", "granny smith")
    assert splits.label_space.prompt_names == ("pink lady", "granny smith")
    assert splits.label_space.descriptions == ("red", "green")
    assert splits.train == (("train/1.jpg", 1), ("train/0.jpg", 0))
    assert (splits.val, splits.test) == ((), (("test/0.jpg", 0),))


def test_a_file_in_the_layout_of_coop_is_read():
    splits = parse(
        {
            "train": [["a/1.jpg", 1, "F/A-18"], ["a/0.jpg", 0, "737-200"]],
            "val": [["b.jpg", 1, "F/A-18"]],
            "test": [["c.jpg", 0, "737-200"]],
        }
    )
    assert splits.label_space.names == ("737-200", "F/A-18")
    assert splits.label_space.prompt_names == ("737 200", "F/A 18")
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [2, 1, 1]


def test_an_unsplit_set_is_all_for_training():
    splits = parse({"classes": ["a", "b"], "all": [["x.jpg", 0], ["y.jpg", 1]]})
    assert splits.train == (("x.jpg", 0), ("y.jpg", 1))
    assert splits.test == ()


def test_an_image_listed_twice_is_kept_once():
    assert parse({"classes": ["a", "b"], "train": [["./x.jpg", 0], ["x.jpg", 0]]}).train == (("x.jpg", 0),)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (["../x.jpg", 0], "must not contain '..'"),
        (["a/../../x.jpg", 0], "must not contain '..'"),
        (["/x.jpg", 0], "must be relative"),
        (["C:\\x.jpg", 0], "must be relative"),
        (["https://host/x.jpg", 0], "must be relative"),
        ([" ", 0], "is not a valid path"),
        (["x\0.jpg", 0], "is not a valid path"),
        (["x.jpg", 2], r"label 2 is not in \[0, 2\)"),
        (["x.jpg", -1], r"label -1 is not in \[0, 2\)"),
        (["x.jpg", True], "expected .path, label."),
        (["x.jpg", "0"], "expected .path, label."),
        (["x.jpg"], "expected .path, label."),
        ("x.jpg", "expected .path, label."),
        (["x.jpg", 0, "a", "b"], "expected .path, label."),
        (["ok.jpg", 0], r"test\[0\]: 'ok.jpg' is in two splits, also train\[0\]"),
    ],
)
def test_an_invalid_entry_is_refused_with_its_reason(item, reason):
    with pytest.raises(DataError, match=reason):
        parse({"classes": ["a", "b"], "train": [["ok.jpg", 0]], "test": [item]})


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "must hold a JSON object, got list"),
        ({"classes": ["a", "b"], "tarin": []}, "unknown key 'tarin'"),
        ({"classes": ["a", "b"]}, "lists no image"),
        ({"classes": ["a", "b"], "train": {}}, "train must be a list, got dict"),
        ({"classes": [0, 1], "train": [["x", 0]]}, "classes must be a list of texts"),
        ({"classes": ["a", "a"], "train": [["x", 0]]}, "differ only in case"),
        (
            {"classes": ["a", "b"], "meta": {"descriptions": ["x"]}, "train": [["x", 0]]},
            "2 classes, but 1 descriptions",
        ),
        ({"train": [["x", 0], ["y", 1]]}, "no class name"),
        ({"train": [["x", 0, "a"], ["y", 0, "b"]]}, "class 0 is 'b', but 'a' before"),
        ({"train": [["x", 0, "a"], ["y", 10**9, "b"]]}, "there is no class 1"),
        ({"train": [["x", 0, "a"], ["x", 1, "b"]]}, r"'x' has label 1, but 0 in train\[0\]"),
    ],
)
def test_an_invalid_file_is_refused_with_its_reason(document, reason):
    with pytest.raises(DataError, match=reason):
        parse(document)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_refused_without_a_crash(data):
    with pytest.raises(DataError):
        parse_splits(data)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"9" * 5000])
def test_json_beyond_the_parser_limits_is_refused(data):
    with pytest.raises(DataError, match="is not JSON"):
        parse_splits(data)


def choose(split, default=None, **splits):
    parsed = parse({"classes": ["a", "b"]} | splits)
    return chosen_pairs(parsed, SplitChoice(split, "labels_split"), default=default, where="s.json")


def test_a_split_is_chosen_by_any_of_its_names():
    splits = {"train": [["0.jpg", 0]], "val": [["1.jpg", 1]], "test": [["2.jpg", 0]]}
    assert choose(None, "train", **splits) == (("0.jpg", 0),)
    assert choose("validation", "train", **splits) == (("1.jpg", 1),)
    assert choose("all", **splits) == (("0.jpg", 0), ("1.jpg", 1), ("2.jpg", 0))
    assert choose(None, test=[["2.jpg", 0]]) == (("2.jpg", 0),)


def test_without_a_default_several_splits_need_a_choice():
    with pytest.raises(
        DataError, match=r"s.json has several splits \(train: 1, test: 2 images\); choose .*labels_split"
    ):
        choose(None, train=[["0.jpg", 0]], test=[["1.jpg", 1], ["2.jpg", 0]])


def test_a_split_without_images_is_refused():
    with pytest.raises(DataError, match='no images in train; those in test are used with labels_split = "test"'):
        choose(None, "train", test=[["1.jpg", 1]])
    with pytest.raises(DataError, match=r"s\.json has no split 'val'; it has 'test'"):
        choose("val", "train", test=[["1.jpg", 1]])
