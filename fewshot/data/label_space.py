"""The label space of examples: the order of the classes, and their names in prompts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from fewshot.classes import LabelSpace
from fewshot.data.example import Example
from fewshot.errors import raise_if_any

# Line separators and bidirectional controls are invisible and can falsify a report. The joiners of Persian and Indic
# words are format characters as well, but part of a name, and are kept.
HIDDEN = re.compile("[\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

_NO_LABELS = frozenset({"-1", "nan", "NaN", "<NA>"})
"""What pandas, torchvision and Hugging Face `datasets` write in place of a missing label."""
MAX_LABEL = 200
"""Maximum number of characters of a label, which is stored in every row of the predictions."""


def label_space(examples: Iterable[Example]) -> LabelSpace:
    """Return the classes of examples, in natural order of their labels ("class 2" before "class 10").

    The order depends on the set of labels only. The first name and the first description of a class are used; without a
    name, prompts use the label with underscores and hyphens as spaces.

    Args:
        examples: at least one for every class; `image` may be empty.

    Returns:
        The label space; its `names` are the labels.

    Raises:
        DataError: there are fewer than two classes, or labels that `build_label_space` refuses.
    """
    names: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    labels = set()
    for example in examples:
        labels.add(example.label)
        if example.name:
            names.setdefault(example.label, example.name)
        if example.description:
            descriptions.setdefault(example.label, example.description)
    ordered = sorted(labels, key=natural_order)
    return build_label_space(
        ordered,
        given_names=[names.get(label, "") for label in ordered],
        descriptions=[descriptions.get(label, "") for label in ordered],
    )


def build_label_space(labels: Sequence[str], *, given_names: Sequence[str], descriptions: Sequence[str]) -> LabelSpace:
    """Check labels and derive the names in prompts; the order is kept.

    Args:
        labels: K labels, NFC and stripped. They may contain a slash ("F/A-18"), so they cannot be used as file names.
        given_names: K names for prompts; "" derives a name from the label.
        descriptions: K sentences; "" for no description. White space of any kind becomes one space.

    Raises:
        DataError: there are fewer than two classes; a label is empty, longer than `MAX_LABEL`, not printable on one
            line, looks like a path ("..", "a/../b", "/a"), or has no letters or digits and no given name; or two labels
            differ only in case, width, separators or invisible characters. All such labels are listed.
    """
    problems = [f"class {label[:MAX_LABEL]!r}: {reason}" for label in labels if (reason := problem_with_label(label))]
    prompt_names = [_one_line(name) or _as_words(label) for label, name in zip(labels, given_names, strict=True)]
    problems += [
        f"class {label!r}: no letters or digits to use in prompts; add a name"
        for label, prompt_name in zip(labels, prompt_names, strict=True)
        if label and not prompt_name
    ]
    raise_if_any("the class names", [*problems, *_lookalikes(labels)])
    return LabelSpace(
        names=tuple(labels),
        prompt_names=tuple(prompt_names),
        descriptions=tuple(_one_line(description) for description in descriptions),
    )


def _visible(label: str) -> str:
    """Return the label without invisible characters: soft hyphens, zero-width spaces, joiners."""
    return "".join(char for char in label if unicodedata.category(char) != "Cf")


def natural_order(label: str) -> tuple[list[tuple[str, int, str]], str]:
    """Return a sort key: digits compare as numbers, other characters without case; the label itself breaks ties."""
    pieces = re.findall(r"([^0-9]*)0*([0-9]*)", label)
    return [(text.casefold(), len(digits), digits) for text, digits in pieces], label


def problem_with_label(label: str) -> str | None:
    """Return why no class may have this label; None if one may. Whether it resembles another label is not checked."""
    if not label:
        return "the name is empty"
    if label in _NO_LABELS:
        return "images without a label are written so by other programs; remove them, or rename the class"
    if len(label) > MAX_LABEL:
        return f"{len(label)} characters, at most {MAX_LABEL} are allowed; move sentences to the description"
    if HIDDEN.search(label) or any(unicodedata.category(character) in ("Cc", "Cs") for character in label):
        return "line breaks, control characters and invisible direction marks are not allowed"
    if any(part.strip() in ("", ".", "..") for part in re.split(r"[/\\]", label)):
        return "the name looks like a path; remove leading, trailing and doubled slashes and the parts '.' and '..'"
    return None


def _lookalikes(labels: Sequence[str]) -> list[str]:
    """Return a problem for each label that looks like an earlier one, such as "Red_apple" and "red apple"."""
    first: dict[str, int] = {}
    problems = []
    for index, label in enumerate(labels):
        words = _as_words(unicodedata.normalize("NFKC", _visible(label))).casefold() or label
        other = first.setdefault(_number(words) or words, index)
        if other != index:
            problems.append(
                f"{labels[other]!r} and {label!r} differ only in case, width, separators, invisible characters or the "
                "way a number is written; write them the same, or rename one"
            )
    return problems


def _number(text: str) -> str:
    """Return a whole number as it is written with digits alone: "1" for "01" and "1.0"; "" for any other text."""
    found = re.fullmatch(r"0*([0-9]+)(\.0+)?", text)
    return found[1] if found else ""


def _as_words(label: str) -> str:
    return _one_line(re.sub(r"[_\-‐‑]", " ", label))


def _one_line(text: str) -> str:
    """Return text for a prompt: NFC, hidden and control characters as spaces, runs of white space as one space."""
    visible = HIDDEN.sub(" ", unicodedata.normalize("NFC", text))
    plain = "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in visible)
    return " ".join(plain.split())
