"""Warnings about the classes of labelled examples: one sentence for each thing to check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fewshot.data.split_names import split_of

MIN_EXAMPLES = 2
"""Examples that a class must have, so that one can be held out."""
UNEQUAL = 20
"""Ratio of the largest to the smallest class from which on the user is warned."""
FOLDERS_OF_FILES = frozenset(
    {"image", "images", "img", "imgs", "jpegimages", "data", "dataset", "annotation", "annotations", "label", "labels"}
    | {"mask", "masks", "bbox", "bboxes"}
)
"""Names, in lower case, of folders that hold files of one kind rather than of one class."""
FEW = 5
"""Names that a sentence lists."""


def warnings_about_classes(counts: Mapping[str, int], *, has_text: bool = True) -> Iterator[str]:
    """Yield a sentence for everything that a user should check before the training.

    Args:
        counts: number of examples of each class, in the order of the label space.
        has_text: whether the model embeds text; without, names are words to no method.
    """
    if not counts:
        return
    if not any(counts.values()):
        yield (
            "No class has an example, only a name, and labels by names alone are rough. Find first examples with"
            " fewshot search, label them with fewshot review, and run the job again with support.labels = true."
        )
    elif names := [name for name, count in counts.items() if not count]:
        yield f"{_classes(names)} no example, only a name: {first_few(names)}."
    if names := [name for name, count in counts.items() if 0 < count < MIN_EXAMPLES]:
        yield (
            f"{_classes(names)} only one example: {first_few(names)}. Add a second one: scores are calibrated on"
            " examples that are held out, and these classes have none to spare."
        )
    yield from _about_unequal({name: count for name, count in counts.items() if count})
    yield from _about_names(list(counts))
    if has_text and all(name.isdecimal() for name in counts):
        yield (
            f"The {len(counts):,} classes have numbers for names ({first_few(list(counts))}). Methods that use the"
            " names of classes label better with words: add a column name, or [[support.classes]] with label and name."
        )


def _about_unequal(counts: Mapping[str, int]) -> Iterator[str]:
    if not counts:
        return
    most, least = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    if counts[most] >= UNEQUAL * counts[least]:
        yield (
            f"The classes have very unequal numbers of examples, from {counts[least]:,} ({least}) to {counts[most]:,} "
            f"({most}). Check whether {least} is a class; support.shots limits the examples of a class."
        )


def _about_names(names: Sequence[str]) -> Iterator[str]:
    if found := [name for name in names if split_of(name) is not None]:
        yield f"{_classes(found)} the name of a split: {first_few(found)}. Check whether it holds examples of classes."
    if found := [name for name in names if name.casefold() in FOLDERS_OF_FILES]:
        yield (
            f"{_classes(found)} the name of a folder of files, not of what is in them: {first_few(found)}. Check "
            "whether uri points at the folder with the classes."
        )


def _classes(names: Sequence[str]) -> str:
    return f"{len(names):,} {'class has' if len(names) == 1 else 'classes have'}"


def first_few(names: Sequence[str]) -> str:
    """Return the first names and the number of the others, such as "ant, bee and 3 more"."""
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW:,} more" if len(names) > FEW else "")
