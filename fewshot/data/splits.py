"""Published splits of labelled sets, for results that can be compared with those of papers.

Two JSON layouts are read:

* `{"classes": […], "train": [[path, index], …], "val": …, "test": …}`, where `meta.descriptions` may hold one sentence
  for each class, and a list `all` is a set without splits: all of it is for training;
* CoOp's `split_zhou_*.json` (Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022):
  `{"train": [[path, index, class name], …], "val": …, "test": …}`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fewshot.classes import LabelSpace
from fewshot.data.example import plain_path, relative_path_problem
from fewshot.data.label_space import build_label_space
from fewshot.data.split_names import ALL, SplitChoice, names_chosen, suggested_split
from fewshot.errors import DataError, raise_if_any

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits of a labelled set. An image is in at most one split.

    Attributes:
        train: pairs of (path, index in the label space) to draw shots from.
        val: likewise, to choose hyperparameters on.
        test: likewise, to report results on, once.
        label_space: the classes, in the order of the file.
    """

    train: tuple[tuple[str, int], ...]
    val: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    label_space: LabelSpace


@dataclass(frozen=True, slots=True)
class _Entry:
    place: str
    split: str
    path: str
    label: int
    class_name: str | None


def parse_splits(data: bytes, *, name: str = "splits.json") -> Splits:
    """Parse a split file of either layout. Paths are relative to the folder of images, with forward slashes.

    An image that a split lists twice with the same label, as "a.jpg" or "./a.jpg", is kept once.

    Args:
        data: the whole file.
        name: the name of the file in errors.

    Raises:
        DataError: the file is not JSON or has neither layout; a path is absolute or contains ".."; a label is out of
            range; an image has two labels or is in two splits; a class has two names or none; or `build_label_space`
            refuses class names. Up to 20 problems are listed.
    """
    document = _document(data, name)
    problems: list[str] = []
    entries = _without_repeats(_entries(document, problems), problems)
    raise_if_any(name, problems)
    if not entries:
        raise DataError(f"{name} lists no images; expected at least one in train, val, test or all")
    space = _declared_classes(document, name) if "classes" in document else _classes_of(entries, name)
    raise_if_any(name, _out_of_range(entries, len(space)))
    parts = {split: tuple((e.path, e.label) for e in entries if e.split == split) for split in SPLITS}
    return Splits(**parts, label_space=space)


def chosen_pairs(
    splits: Splits, choice: SplitChoice, *, default: str | None, where: str
) -> tuple[tuple[str, int], ...]:
    """Return the images of the chosen split with their labels.

    Args:
        splits: of a file.
        choice: which split.
        default: the split if none is chosen; None requires a choice if there are several.
        where: name of the file in errors.

    Raises:
        DataError: the split has no images, or none was chosen.
    """
    sizes = {name: len(getattr(splits, name)) for name in SPLITS if getattr(splits, name)}
    split = choice.split or default or (ALL if len(sizes) == 1 else None)
    if split is None:
        found = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise DataError(
            f"{where} has several splits ({found} images); choose one with {choice.setting('test')}, or all of them "
            f"with {choice.setting(ALL)}"
        )
    if choice.split is None and split not in (*sizes, ALL):
        other = suggested_split(sizes)
        raise DataError(f"{where} has no images in {split}; those in {other} are used with {choice.setting(other)}")
    chosen = names_chosen(split, list(sizes), where=where)
    return tuple(pair for name in SPLITS if name in chosen for pair in getattr(splits, name))


def _document(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{name} must hold a JSON object, got {type(document).__name__}")
    unknown = sorted(set(document) - {*SPLITS, "all", "classes", "meta"})
    raise_if_any(name, [f"unknown key {key!r}; expected classes, meta, all, train, val, test" for key in unknown])
    return document


def _entries(document: Mapping[str, Any], problems: list[str]) -> Iterator[_Entry]:
    """Yield every valid entry, and append a line to `problems` for each invalid one."""
    for key in ("all", *SPLITS):
        items = document.get(key, [])
        if not isinstance(items, list):
            problems.append(f"{key} must be a list, got {type(items).__name__}")
            continue
        for index, item in enumerate(items):
            place, split = f"{key}[{index}]", "train" if key == "all" else key
            match item:
                case [str(path), int(label), *rest] if not isinstance(label, bool) and _is_class_name(rest):
                    if reason := relative_path_problem(path):
                        problems.append(f"{place}: {path[:200]!r} {reason}")
                    else:
                        yield _Entry(place, split, plain_path(path), label, *(rest or (None,)))
                case _:
                    problems.append(f"{place}: expected [path, label] or [path, label, class name], got {item!r:.80}")


def _is_class_name(rest: list[Any]) -> bool:
    return not rest or (len(rest) == 1 and isinstance(rest[0], str))


def _without_repeats(entries: Iterable[_Entry], problems: list[str]) -> list[_Entry]:
    """Return each image once, and append a line to `problems` for each in two splits or with two labels."""
    first: dict[str, _Entry] = {}
    for entry in entries:
        known = first.setdefault(entry.path, entry)
        if known.split != entry.split:
            problems.append(f"{entry.place}: {entry.path!r} is in two splits, also {known.place}")
        elif known.label != entry.label:
            problems.append(
                f"{entry.place}: {entry.path!r} has label {entry.label}, but {known.label} in {known.place}"
            )
    return list(first.values())


def _declared_classes(document: Mapping[str, Any], name: str) -> LabelSpace:
    classes, meta = document["classes"], document.get("meta", {})
    descriptions = meta.get("descriptions", []) if isinstance(meta, dict) else None
    for key, value in (("classes", classes), ("meta.descriptions", descriptions)):
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise DataError(f"{name}: {key} must be a list of texts")
    if descriptions and len(descriptions) != len(classes):
        raise DataError(f"{name}: {len(classes)} classes, but {len(descriptions)} descriptions")
    return _label_space(classes, descriptions or [""] * len(classes))


def _classes_of(entries: Iterable[_Entry], name: str) -> LabelSpace:
    """Collect the classes of CoOp's layout, in which each entry has the name of its class."""
    names: dict[int, str] = {}
    problems = []
    for entry in entries:
        if entry.class_name is None:
            problems.append(f"{entry.place}: no class name, and the file has no list 'classes'; add either")
        elif names.setdefault(entry.label, entry.class_name) != entry.class_name:
            problems.append(
                f"{entry.place}: class {entry.label} is {entry.class_name!r}, but {names[entry.label]!r} before"
            )
    gaps = [label for label in range(len(names)) if label not in names]
    problems += [f"{len(names)} classes must be numbered from 0 on, but there is no class {label}" for label in gaps]
    raise_if_any(name, problems)
    return _label_space([names[label] for label in sorted(names)], [""] * len(names))


def _label_space(classes: list[str], descriptions: list[str]) -> LabelSpace:
    labels = [unicodedata.normalize("NFC", text).strip() for text in classes]
    return build_label_space(labels, given_names=[""] * len(labels), descriptions=descriptions)


def _out_of_range(entries: Iterable[_Entry], num_classes: int) -> list[str]:
    return [
        f"{entry.place}: label {entry.label} is not in [0, {num_classes})"
        for entry in entries
        if not 0 <= entry.label < num_classes
    ]
