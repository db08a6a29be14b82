"""Sentences of classes from a file, `{class: [sentence, ...]}`: the form of CuPL, which APE and SuS-X ship as well."""

from __future__ import annotations

import json
import re
from collections import Counter
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
        DataError: it is anything else, a class has two entries, or a sentence is empty or no Unicode text.
    """
    expected = f'{name}: expected JSON such as {{"cat": ["a cat has whiskers", ...], ...}}'
    try:
        found = json.loads(data, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{expected}: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{expected}, got {type(found).__name__}")
    return {label: _sentences(value, f"{expected}; class {label[:80]!r} has") for label, value in found.items()}


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


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the entries of a JSON object, of which Python would keep the last one under each name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"{repeated[:80]!r} has two entries; remove one")
    return found


def _sentences(value: object, but_has: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise DataError(f"{but_has} {json.dumps(value):.80} in place of a list")
    return tuple(_sentence(each, but_has) for each in value)


def _sentence(value: object, but_has: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{but_has} {json.dumps(value):.80} in place of a sentence")
    if not (sentence := " ".join(value.split())):
        raise DataError(f"{but_has} an empty sentence; remove it")
    if any("\ud800" <= char <= "\udfff" for char in sentence):
        raise DataError(f"{but_has} a sentence that is no Unicode text: {sentence!r:.80}")
    return sentence
