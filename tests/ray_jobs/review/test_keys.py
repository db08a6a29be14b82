"""How many keys a label costs, and that the page, the script and its twin here agree about what keys do."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean

import pytest

from ray_jobs.review.web_app import FOLDER, HINTS
from tests.ray_jobs.review.counted_keys import count_keys
from tests.ray_jobs.review.scripted_reviewer import (
    COMMANDS,
    demo_classes,
    is_choice,
    keys_of_screen,
    matching,
    pressed,
    random_screens,
    typed_keys,
)

SCRIPT = (FOLDER / "static" / "review.js").read_text()
LABELS = demo_classes()


def keys_a_label(purity: float, *, images: int = 500, size: int = 24) -> float:
    """Mean of 20 draws of 500 labels, Shift counted as a key.

    Of wrong predictions, 55 % have the truth among the top five, as in the demo.
    """
    counts = []
    for seed in range(20):
        screens = random_screens(LABELS, images=images, size=size, purity=purity, in_top=0.55, seed=seed)
        counts.append(sum(pressed(keys_of_screen(screen, LABELS)) for screen in screens) / images)
    return mean(counts)


def test_a_label_costs_a_fifth_of_a_key_where_nearly_all_predictions_are_right() -> None:
    assert keys_a_label(0.95) <= 0.2


def test_a_label_costs_three_fifths_of_a_key_where_a_fifth_is_wrong() -> None:
    assert keys_a_label(0.8) <= 0.6


def test_no_command_chooses_an_image() -> None:
    assert not set(HINTS) & COMMANDS
    assert len(set(HINTS)) == len(HINTS) == 48


def test_a_screen_of_right_predictions_costs_one_key() -> None:
    assert keys_a_label(1.0, images=480) == 20 / 480


@pytest.mark.parametrize("label", LABELS)
def test_every_class_can_be_typed(label: str) -> None:
    keys = typed_keys(label, LABELS)
    typed = "".join(keys[1:-1] if keys[0] == "/" else keys[:-1])
    chosen = 0 if keys[-1] == "Enter" else int(keys[-1]) - 1
    assert matching(LABELS, typed)[chosen] == label
    assert len(keys) <= 8


def test_matches_at_the_beginning_come_first() -> None:
    names = ["crab apple", "pineapple", "apple", "pear", "Apple tree"]
    assert matching(names, "app") == ["apple", "Apple tree", "crab apple", "pineapple"]


def test_a_digit_that_continues_a_name_is_typed() -> None:
    assert not is_choice(["class 12", "class 2"], "class 1", "2")
    assert is_choice(["class 12", "class 2"], "class", "2")


def test_the_keys_of_the_script_are_those_of_the_help() -> None:
    commands = re.search(r"const COMMANDS = \{(.*?)\n\};", SCRIPT, re.S)
    assert commands is not None
    keys = set(re.findall(r'^  "?([a-zA-Z .])"?:', commands[1], re.M))
    shown = (FOLDER / "templates" / "base.html").read_text()
    assert keys == {" ", "n", "x", "s", "."} | (keys & {"Enter"})
    for key in ("n", "x", "s", ".", "u", "?", "Enter", "Space", "Esc", "/"):
        assert f"<kbd>{key}</kbd>" in shown


def test_the_page_of_keys_lists_them_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "review.md").read_text()
    for key in ("Enter", "Space", "`n`", "`x`", "`s`", "`u`", "`?`", "`.`", "`/`", "Shift"):
        assert key in page


def test_a_review_of_small_classes_costs_a_fifth_of_a_key(tmp_path: Path) -> None:
    _, with_shift = count_keys(tmp_path, purity=0.95, planted=0.0, seed=0)
    assert with_shift <= 0.2
