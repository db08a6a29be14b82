"""Sentences of classes from a file, `{class: [sentence, ...]}`: the form of CuPL, which APE and SuS-X ship as well."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fewshot.classes import LabelSpace
from fewshot.errors import DataError

MAX_LISTED = 5


def parse_class_prompts(data: bytes, *, name: str) -> dict[str, tuple[str, ...]]:
    """Parse sentences by class.

    Args:
        data: JSON, an object with a list of sentences for each class.
        name: of the file, for errors.

    Returns:
        The sentences of each class, each on one line.

    Raises:
        DataError: it is anything else, or a sentence is empty.
    """
    expected = f'{name}: expected JSON such as {{"cat": ["a cat has whiskers", ...], ...}}'
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{expected}: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{expected}, got {type(found).__name__}")
    return {label: tuple(_sentence(each, label, expected) for each in _list(found[label])) for label in found}


def with_prompts(space: LabelSpace, prompts: Mapping[str, Sequence[str]], *, name: str) -> LabelSpace:
    """Return the label space with sentences after each description.

    A class is found by its label or its name in prompts; case and separators do not count. Other classes are ignored.

    Args:
        space: K classes.
        prompts: sentences by class.
        name: of their file, for errors.

    Raises:
        DataError: a class has no entry (an empty list is one), or entries of two spellings.
    """
    known: dict[str, Sequence[str]] = {}
    for label, sentences in prompts.items():
        if known.setdefault(_spelled(label), sentences) is not sentences:
            raise DataError(f"{name}: class {label!r} has a second entry in another spelling; remove one")
    found = [known.get(_spelled(label), known.get(_spelled(spoken))) for label, spoken in _both_names(space)]
    if missing := [label for label, sentences in zip(space.names, found, strict=True) if sentences is None]:
        listed = ", ".join(map(repr, missing[:MAX_LISTED])) + (", ..." if len(missing) > MAX_LISTED else "")
        raise DataError(
            f"{name} has no sentences for {len(missing)} of {len(space)} classes: {listed}. Add them under the label "
            "or the name of each; an empty list adds none."
        )
    texts = zip(space.descriptions, found, strict=True)
    lines = tuple("\n".join([*filter(None, [description]), *(sentences or ())]) for description, sentences in texts)
    return replace(space, descriptions=lines)


def _both_names(space: LabelSpace) -> zip[tuple[str, str]]:
    return zip(space.names, space.prompt_names, strict=True)


def _spelled(label: str) -> str:
    """Return a label without case and separators; a label of nothing else stays as it is."""
    return " ".join(re.findall(r"[^\W_]+", label.casefold())) or label


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [None]


def _sentence(value: object, label: str, expected: str) -> str:
    sentence = " ".join(value.split()) if isinstance(value, str) else ""
    if not sentence:
        raise DataError(f"{expected}; class {label[:80]!r} has something else, or an empty sentence")
    return sentence
