"""Names of splits of a labelled set, as data sets write them, and the choice of one of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fewshot.data.example import Example
from fewshot.errors import DataError

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
    "query": ("query",),
    "gallery": ("gallery",),
}
"""For each split the names that it has, in lower case."""
ALL = "all"
"""The choice of every split."""
MAX_SHOWN = 10
"""Splits that a message lists."""

_COMPANY = "set|sets|data|dataset|image|images|img|imgs|folder|split|seg"
"""Words that data sets put before or behind the name of a split: "training_set", "seg_train", "test_images"."""
_DECORATED = re.compile(rf"(?:(?:{_COMPANY})[ _.-]+)?([a-z]+?)(?:[ _.-]?(?:{_COMPANY}))?[ _.-]?[0-9]*")
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


@dataclass(frozen=True, slots=True)
class SplitChoice:
    """Which split of a labelled set is used.

    Attributes:
        split: name of the split in any case, or `ALL`; None if none was chosen.
        key: how messages call the setting, such as "support.split".
    """

    split: str | None = None
    key: str = "split"

    def setting(self, split: str) -> str:
        """Return the line that chooses a split, for messages."""
        return f'{self.key} = "{split}"'


NO_SPLIT = SplitChoice()
"""No split was chosen."""


def split_of(name: str) -> str | None:
    """Return the split that a name means (a key of `SPLIT_NAMES`), in any case; None if it is no such name.

    Numbers behind it and usual words beside it do not count, as in "train2017", "seg_train" and "training_set".
    """
    decorated = _DECORATED.fullmatch(_folded(name))
    return None if decorated is None else _SPLIT_OF.get(decorated[1])


def suggested_split(names: Iterable[str]) -> str:
    """Return the split to name in a message: that of training if there is one."""
    ordered = sorted(names, key=lambda name: (split_of(name) != "train", name))
    return ordered[0]


def names_chosen(choice: str, present: Sequence[str], *, where: str) -> frozenset[str]:
    """Return the names of splits that a choice stands for.

    Args:
        choice: name of a split in any case, or `ALL`.
        present: names of the splits that there are.
        where: what has them, for errors.

    Returns:
        The names that are equal but for case; without one, the names of the same split, such as "val" for "validation".

    Raises:
        DataError: there is no such split, or several names mean it.
    """
    equal = frozenset(name for name in present if _folded(name) == _folded(choice))
    if equal:
        return equal
    if _folded(choice) == ALL:
        return frozenset(present)
    alike = frozenset(name for name in present if split_of(name) == split_of(choice) is not None)
    if len({_folded(name) for name in alike}) == 1:
        return alike
    if alike:
        raise DataError(f"{where}: split {choice!r} can be {_listed(sorted(alike))}; name one of them")
    raise DataError(f"{where} has no split {choice!r}; it has {_listed(sorted(set(present)))}")


def select_split(examples: Sequence[Example], choice: SplitChoice, *, where: str) -> list[Example]:
    """Return the examples of the chosen split, and those without an image that belong to no other split.

    Args:
        examples: of a table. `Example.split` is None if the table has no such column.
        choice: without a split, the examples may be of one split only.
        where: name of the table in errors.

    Raises:
        DataError: there are several splits and none was chosen, or the chosen one is not there.
    """
    counts = Counter(example.split for example in examples if example.split is not None and example.image)
    if choice.split is None:
        if len(counts) > 1:
            found = ", ".join(f"{name or 'blank'}: {count}" for name, count in sorted(counts.items())[:MAX_SHOWN])
            raise DataError(
                f"{where} has a column with several splits ({found} rows); choose one with "
                f"{choice.setting(suggested_split(counts))}, or all of them with {choice.setting(ALL)}"
            )
        return list(examples)
    if not counts:
        raise DataError(f"{where} has no column 'split', so {choice.setting(choice.split)} selects nothing; remove it")
    chosen = names_chosen(choice.split, list(counts), where=where)
    return [example for example in examples if example.split in chosen or not (example.image or example.split)]


def _folded(name: str) -> str:
    return name.strip().casefold()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:MAX_SHOWN])
    return shown + f" and {len(names) - MAX_SHOWN} more" * (len(names) > MAX_SHOWN)
