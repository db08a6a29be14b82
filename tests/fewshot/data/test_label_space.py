"""The label space: the order of the classes, their names in prompts, and refused labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.data import Example, label_space
from fewshot.data.label_space import natural_order
from fewshot.errors import DataError

labels = st.lists(st.text("abc012_", min_size=1, max_size=5).filter(lambda text: text.strip("_")), min_size=2)


def space_of(*names: str):
    return label_space(Example("", name) for name in names)


@given(
    labels.map(lambda names: list({name.replace("_", "").lstrip("0"): name for name in names}.values())), st.randoms()
)
def test_the_order_depends_only_on_the_set_of_labels(names, random):
    if len(names) < 2:
        return
    shuffled = random.sample(names + names, 2 * len(names))
    assert space_of(*shuffled) == space_of(*names)
    assert set(space_of(*names).names) == set(names)


def test_numbers_in_labels_sort_by_value():
    assert space_of("class 10", "class 2", "Class 1", "class", "10", "9").names == (
        "9",
        "10",
        "class",
        "Class 1",
        "class 2",
        "class 10",
    )


def test_labels_of_thousands_of_digits_can_be_sorted():
    assert sorted(["8" * 5000, "9" * 4999], key=natural_order) == ["9" * 4999, "8" * 5000]


def test_separators_become_spaces_in_prompt_names():
    assert space_of("red_apple", "T-rex", "F/A-18").prompt_names == ("F/A 18", "red apple", "T rex")


def test_a_given_name_is_used_as_one_line():
    space = label_space(
        [Example("", "1", "ice-cream\n van"), Example("", "2"), Example("", "2", "tea\u202ecup", "a\tb")]
    )
    assert space.prompt_names == ("ice-cream van", "tea cup")
    assert space.descriptions == ("", "a b")


def test_a_description_may_stand_in_any_row():
    space = label_space([Example("a", "x"), Example("b", "x", None, "first"), Example("c", "y")])
    assert space.descriptions == ("first", "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("  ", "the name is empty"),
        ("two\nlines", "line breaks"),
        ("bell\a", "control characters"),
        ("left\u202eright", "invisible"),
        ("half\ud800", "control characters"),
        ("..", "looks like a path"),
        ("a/../b", "looks like a path"),
        ("/etc", "looks like a path"),
        ("c\\", "looks like a path"),
        ("___", "no letters or digits"),
    ],
)
def test_names_unfit_for_reports_or_paths_are_refused(name, reason):
    with pytest.raises(DataError, match=reason):
        space_of("cat", "dog", name)


@pytest.mark.parametrize("twin", ["Red_Apple", "red apple", "red-apple", "ｒed apple", "red  apple"])
def test_names_that_look_alike_are_refused(twin):
    with pytest.raises(DataError, match="differ only in case"):
        space_of("red_apple", "pear", twin)


def test_all_refused_names_are_listed():
    with pytest.raises(DataError) as caught:
        space_of("a", "A", "..", "x\ny")
    assert len(str(caught.value).splitlines()) == 4


def test_a_single_class_is_refused():
    with pytest.raises(DataError, match="at least 2 classes"):
        space_of("cat", "cat")


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("01", "1"), ("0", "0.0"), ("007", "7.00")])
def test_one_number_in_two_forms_is_refused(one, other):
    with pytest.raises(DataError, match="or the way a number is written"):
        label_space([Example("", one, "a"), Example("", other, "b")])
    assert len(label_space([Example("", one, "a"), Example("", f"{other}.5", "b")])) == 2


@pytest.mark.parametrize("label", ["-1", "nan", "<NA>"])
def test_what_stands_for_a_missing_label_is_no_class(label):
    with pytest.raises(DataError, match="images without a label are written so by other programs"):
        label_space([Example("", "cat"), Example("", label)])
