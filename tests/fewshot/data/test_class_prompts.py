"""Sentences of classes are found by any spelling of a class, checked, and averaged with the templates."""

from __future__ import annotations

import json

import pytest

from fewshot.classes import LabelSpace
from fewshot.data import parse_class_prompts, with_prompts
from fewshot.errors import DataError
from fewshot.prompt_templates import DATA_SET_TEMPLATES, fill_templates

SPACE = LabelSpace(("red_panda", "b"), ("red panda", "Bee"), ("", "It flies."))


def parsed(value):
    return parse_class_prompts(json.dumps(value).encode(), name="cupl.json")


def test_sentences_follow_the_templates_and_the_description():
    space = with_prompts(
        SPACE, parsed({"Red Panda": ["It  climbs.", "It\nis red."], "bee": ["It hums."], "c": []}), name="x"
    )
    assert fill_templates(space, ["a {}", "the {}"]) == [
        ["a red panda", "the red panda", "It climbs.", "It is red."],
        ["a Bee", "the Bee", "It flies.", "It hums."],
    ]


def test_an_empty_list_adds_nothing():
    assert with_prompts(SPACE, parsed({"red_panda": [], "b": []}), name="x") == SPACE


def test_classes_without_an_entry_are_listed():
    with pytest.raises(DataError, match=r"cupl.json has no sentences for 1 of 2 classes: 'b'"):
        with_prompts(SPACE, parsed({"red panda": ["It climbs."]}), name="cupl.json")


def test_two_entries_of_a_class_are_refused():
    with pytest.raises(DataError, match="'red-panda' has a second entry"):
        with_prompts(SPACE, parsed({"red_panda": ["a"], "red-panda": ["b"], "b": []}), name="cupl.json")


@pytest.mark.parametrize(
    "value", [[], "a", 1, {"a": "It flies."}, {"a": [1]}, {"a": [" "]}, {"a": None}, {"a": [["It flies."]]}]
)
def test_another_form_is_refused(value):
    with pytest.raises(DataError, match=r'cupl.json: expected JSON such as \{"cat"'):
        parsed(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"b": [3]}, "class 'b' has 3 in place of a sentence"),
        ({"a": None}, "class 'a' has null in place of a list"),
        ({"a": ["", "b"]}, "class 'a' has an empty sentence; remove it"),
        ({"a": ["\ud800"]}, r"class 'a' has a sentence that is no Unicode text: '\\ud800'"),
    ],
)
def test_the_reason_says_what_was_found(value, reason):
    with pytest.raises(DataError, match=reason):
        parsed(value)


def test_two_entries_under_one_label_are_refused():
    with pytest.raises(DataError, match=r"cupl.json: .*'red_panda' has two entries; remove one"):
        parse_class_prompts(b'{"red_panda": ["a"], "red_panda": ["b"]}', name="cupl.json")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(data):
    with pytest.raises(DataError, match=r"cupl.json: expected JSON"):
        parse_class_prompts(data, name="cupl.json")


def test_the_templates_of_every_data_set_have_one_place_for_the_name():
    for templates in DATA_SET_TEMPLATES.values():
        assert fill_templates(SPACE, templates)


PUBLISHED = {
    "imagenet": "a photo of a red panda.",
    "caltech101": "a photo of a red panda.",
    "oxford_pets": "a photo of a red panda, a type of pet.",
    "stanford_cars": "a photo of a red panda.",
    "flowers102": "a photo of a red panda, a type of flower.",
    "food101": "a photo of red panda, a type of food.",
    "fgvc_aircraft": "a photo of a red panda, a type of aircraft.",
    "sun397": "a photo of a red panda.",
    "dtd": "red panda texture.",
    "eurosat": "a centered satellite photo of red panda.",
    "ucf101": "a photo of a person doing red panda.",
}
"""Zero-shot prompts of the benchmark's data sets, one for each."""


def test_the_prompts_of_the_benchmark_are_the_published_ones():
    for data_set, prompt in PUBLISHED.items():
        assert fill_templates(SPACE, DATA_SET_TEMPLATES[data_set])[0] == [prompt]


def test_the_ensemble_of_imagenet_is_the_published_one():
    assert fill_templates(SPACE, DATA_SET_TEMPLATES["imagenet_ensemble"])[0] == [
        "itap of a red panda.",
        "a bad photo of the red panda.",
        "a origami red panda.",
        "a photo of the large red panda.",
        "a red panda in a video game.",
        "art of the red panda.",
        "a photo of the small red panda.",
    ]
