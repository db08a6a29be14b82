"""A reviewer who always knows the answer and presses as few keys as the page allows, by the rules of its script."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from random import Random

from ray_jobs.review.web_app import HINTS

COMMANDS = frozenset("nxsu")
"""Letters that are keys by themselves: a search for such a class begins with a slash."""


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An image on a screen.

    Attributes:
        truth: what it shows.
        top: predictions, the proposed one first.
    """

    truth: str
    top: tuple[str, ...]


def matching(names: Sequence[str], typed: str) -> list[str]:
    """The classes that the page lists, see `matching` in `review.js`."""
    text = typed.strip().lower()
    found: tuple[list[str], list[str], list[str]] = ([], [], [])
    for name in names:
        at = name.lower().find(text)
        if at >= 0:
            words = re.split(r"[\W_]+", name.lower())
            found[0 if at == 0 else 1 if any(word.startswith(text) for word in words) else 2].append(name)
    return [*found[0], *found[1], *found[2]][:8]


def is_choice(names: Sequence[str], typed: str, digit: str) -> bool:
    """Whether a digit chooses one of the classes that are listed, see `isChoice` in `review.js`."""
    return not any((typed + digit).lower() in name.lower() for name in names)


def typed_keys(label: str, labels: Sequence[str]) -> list[str]:
    """The fewest keys that search a class: letters until it is listed, and Enter or its digit."""
    ways = [way for length in range(1, len(label) + 1) if (way := _search(label, label[:length], labels))]
    return min(ways, key=len)


def _search(label: str, typed: str, labels: Sequence[str]) -> list[str] | None:
    listed = matching(labels, typed)
    begins = ["/"] if typed[0] in COMMANDS or not typed[0].isalpha() else []
    if label not in listed:
        return None
    digit = str(listed.index(label) + 1)
    if digit != "1" and not is_choice(labels, typed, digit):
        return None
    return [*begins, *typed, "Enter" if digit == "1" else digit]


def keys_of_screen(images: Sequence[SeenImage], labels: Sequence[str]) -> list[str]:
    """The keys that give every image of a screen its label, from its end: there arrows spare Shift."""
    keys: list[str] = []
    selected = 0
    for place, image in reversed(list(enumerate(images))):
        if image.truth == image.top[0]:
            continue
        if place == (selected - 1) % len(images):
            keys.append("ArrowLeft")
        else:
            keys.append(f"Shift+{HINTS[place]}" if HINTS[place].isupper() else HINTS[place])
        selected = place
        if image.truth in image.top[:9]:
            keys.append(str(image.top.index(image.truth) + 1))
        else:
            keys += typed_keys(image.truth, labels)
    return [*keys, "Enter"]


def pressed(keys: Sequence[str]) -> int:
    """Number of keys that are pressed, Shift among them."""
    return sum(1 + key.startswith("Shift+") for key in keys)


def demo_classes() -> list[str]:
    """Names of the demo's 285 classes, in the order in which the page lists them."""
    with (files("fewshot.demo") / "classes.csv").open(encoding="utf-8") as file:
        return sorted({row["label"] for row in csv.DictReader(file)})


def random_screens(
    labels: Sequence[str], *, images: int, size: int, purity: float, in_top: float, seed: int
) -> list[list[SeenImage]]:
    """Screens of one class each, of which a share `purity` shows it.

    Args:
        labels: all classes.
        images: of all screens.
        size: of a screen.
        purity: share of images that show what was predicted.
        in_top: share of the others that show one of the next four predictions.
        seed: of the draw.
    """
    random = Random(seed)
    screens = []
    for start in range(0, images, size):
        proposed = random.choice(labels)
        screens.append([_image(proposed, labels, purity, in_top, random) for _ in range(min(size, images - start))])
    return screens


def _image(proposed: str, labels: Sequence[str], purity: float, in_top: float, random: Random) -> SeenImage:
    others = random.sample([label for label in labels if label != proposed], 5)
    top = (proposed, *others[:4])
    if random.random() < purity:
        return SeenImage(proposed, top)
    return SeenImage(random.choice(others[:4]) if random.random() < in_top else others[4], top)
