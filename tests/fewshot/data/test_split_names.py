"""Splits are recognised by the names that data sets give them, and chosen by any of these."""

import pytest

from fewshot.data import Example, SplitChoice
from fewshot.data.split_names import MAX_SHOWN, SPLIT_NAMES, names_chosen, select_split, split_of, suggested_split
from fewshot.errors import DataError

CHOICE = SplitChoice("train", "support.split")


def examples(*splits):
    return [Example(f"{index}.jpg", "cat", split=split) for index, split in enumerate(splits)]


def chosen(split, *splits):
    rows = select_split(examples(*splits), SplitChoice(split, "support.split"), where="t.csv")
    return [example.image for example in rows]


@pytest.mark.parametrize(("split", "names"), SPLIT_NAMES.items())
def test_a_split_has_several_names_in_any_case(split, names):
    assert {split_of(write(name)) for name in names for write in (str, str.upper, str.title, "{} ".format)} == {split}


def test_other_names_are_no_splits():
    names = ("", "trains", "cat", "all", "test tube", "train_station", "dataset", "set", "2017", "tester", "settrain")
    assert {split_of(name) for name in names} == {None}


@pytest.mark.parametrize(
    "name", ["training_set", "seg_train", "train2017", "Train Images", "img.train", "trainset", "train_1"]
)
def test_numbers_and_usual_words_beside_a_split_do_not_count(name):
    assert split_of(name) == "train"


@pytest.mark.parametrize(
    ("choice", "present", "expected"),
    [
        ("train", ["train", "test"], {"train"}),
        ("TRAIN", ["Train", "test"], {"Train"}),
        ("validation", ["train", "val"], {"val"}),
        ("dev", ["dev", "val"], {"dev"}),
        ("all", ["train", "val"], {"train", "val"}),
        ("ALL", ["train", "val"], {"train", "val"}),
        (" Fold 3 ", ["fold 3 ", "fold 4"], {"fold 3 "}),
        ("fold 3", ["fold 3", "fold 4"], {"fold 3"}),
        ("train", ["train", "Train"], {"train", "Train"}),
    ],
)
def test_a_choice_means_the_same_name_or_the_same_split(choice, present, expected):
    assert names_chosen(choice, present, where="t.csv") == expected


@pytest.mark.parametrize(
    ("choice", "present", "reason"),
    [
        ("test", ["train", "val"], "t.csv has no split 'test'; it has 'train', 'val'"),
        ("validation", ["dev", "val"], "split 'validation' can be 'dev', 'val'; name one of them"),
        ("fold 5", ["fold 3"], "has no split 'fold 5'"),
        ("fold 5", ["fold 3", "fold 3"], "it has 'fold 3'$"),
        ("fold 5", ["x" * 90], f"it has '{'x' * 80}'$"),
        ("fold", [f"{number:02}" for number in range(MAX_SHOWN + 3)], "'08', '09' and 3 more$"),
    ],
)
def test_a_choice_of_nothing_or_of_two_splits_is_refused(choice, present, reason):
    with pytest.raises(DataError, match=reason):
        names_chosen(choice, present, where="t.csv")


def test_examples_of_the_chosen_split_are_used():
    assert chosen("training", "train", "test", "Train", "") == ["0.jpg", "2.jpg"]
    assert chosen("all", "train", "test", "") == ["0.jpg", "1.jpg", "2.jpg"]


def test_without_a_choice_there_must_be_one_split():
    assert chosen(None, "test", "test") == ["0.jpg", "1.jpg"]
    assert chosen(None, None, None) == ["0.jpg", "1.jpg"]
    with pytest.raises(DataError) as caught:
        chosen(None, "test", "train", "train", "")
    message = str(caught.value)
    assert "t.csv has a column with several splits (blank: 1, test: 1, train: 2 rows)" in message
    assert 'support.split = "train"' in message
    assert 'support.split = "all"' in message


def test_a_choice_without_splits_is_refused():
    with pytest.raises(DataError, match=r"t\.csv has no column 'split'"):
        chosen("train", None, None)


def test_classes_without_an_image_belong_to_every_split_unless_they_have_one():
    rows = [Example("a.jpg", "cat", split="train"), Example("", "okapi", split=""), Example("", "lynx", split="test")]
    assert [row.label for row in select_split(rows, CHOICE, where="t.csv")] == ["cat", "okapi"]


def test_training_is_suggested_where_there_is_such_a_split():
    assert suggested_split(["test", "Training", "val"]) == "Training"
    assert suggested_split(["val", "test"]) == "test"


def test_a_message_lists_the_first_splits_with_their_rows():
    with pytest.raises(DataError) as caught:
        chosen(None, *(f"fold {number:02}" for number in range(MAX_SHOWN + 3)))
    assert "(fold 00: 1, fold 01: 1, " in str(caught.value)
    assert "fold 09: 1 rows)" in str(caught.value)
