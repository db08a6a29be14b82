"""The labels that a classifier learned from, by the contents of the images, and how two such sets differ."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cluster import Store, fingerprint
from fewshot.digests import DigestError, check_json, seal_json
from ray_jobs.errors import JobError

LABELS = "labels"
"""The folder beside a journal with the labels of its versions."""


@dataclass(frozen=True)
class LearnedLabels:
    """Classes of images.

    Attributes:
        classes: K names, in label order; some may have no image.
        of_content: class names of each image, by the digest of its content; in ascending order of names. An image has
            several only if different examples have the same content.
    """

    classes: tuple[str, ...]
    of_content: Mapping[str, tuple[str, ...]] = field(hash=False)

    @cached_property
    def digest(self) -> str:
        """Fingerprint of classes and labels; it depends on neither the order nor the names of files."""
        return fingerprint([list(self.classes), sorted([key, *names] for key, names in self.of_content.items())])

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each class, in label order."""
        found = Counter(name for names in self.of_content.values() for name in names)
        return {name: found[name] for name in self.classes}

    def put(self, store: Store, folder: str) -> str:
        """Store them beside a journal, unless they are there.

        Args:
            store: the output.
            folder: of the registry.

        Returns:
            their digest.
        """
        content = {"classes": list(self.classes), "of_content": {key: list(self.of_content[key]) for key in self._keys}}
        digest = self.digest
        path = f"{folder}/{LABELS}/{digest}.json"
        if not store.exists(path):
            store.put(path, (json.dumps(seal_json(content), ensure_ascii=False) + "\n").encode())
        return digest

    @property
    def _keys(self) -> list[str]:
        return sorted(self.of_content)


def read_learned_labels(store: Store, folder: str, digest: str) -> LearnedLabels:
    """Read stored labels.

    Args:
        store: the output.
        folder: of the registry.
        digest: as `LearnedLabels.put` returned it.

    Raises:
        JobError: they are missing or damaged.
    """
    path = f"{folder}/{LABELS}/{digest}.json"
    try:
        content = check_json(json.loads(store.get(path)))
        labels = LearnedLabels(
            tuple(content["classes"]), {key: tuple(names) for key, names in content["of_content"].items()}
        )
        if labels.digest != digest:
            raise ValueError("its content has another digest than its name says")
    except FileNotFoundError as error:
        raise JobError([f"{store.url(path)} is missing: restore it from a copy"]) from error
    except (DigestError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise JobError([f"{store.url(path)} is damaged ({error}): restore it from a copy"]) from error
    return labels


@dataclass(frozen=True, slots=True)
class LabelDiff:
    """How labels changed. A renamed class is the same images under another name, and counts as nothing else.

    Attributes:
        added: digests of new images.
        removed: digests of images that are gone.
        relabelled: digests of images that have other classes.
        new_classes: names that are new.
        removed_classes: names that are gone.
        renamed: pairs of the earlier and the new name.
        changed_classes: current names of the classes whose images changed, new ones included, in label order.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    relabelled: tuple[str, ...]
    new_classes: tuple[str, ...]
    removed_classes: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    changed_classes: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed."""
        return not (self.added or self.removed or self.relabelled or self.new_classes or self.removed_classes) and (
            not self.renamed
        )


def diff_labels(before: LearnedLabels, after: LearnedLabels) -> LabelDiff:
    """Compare the labels of two classifiers by the contents of their images."""
    renamed = renames_between(before, after)
    names = dict(renamed)
    earlier = {key: tuple(sorted(names.get(name, name) for name in given)) for key, given in before.of_content.items()}
    now = {key: tuple(sorted(given)) for key, given in after.of_content.items()}
    added = sorted(now.keys() - earlier.keys())
    removed = sorted(earlier.keys() - now.keys())
    relabelled = sorted(key for key in now.keys() & earlier.keys() if now[key] != earlier[key])
    touched = {name for key in added for name in now[key]} | {name for key in removed for name in earlier[key]}
    touched |= {name for key in relabelled for name in {*now[key]} ^ {*earlier[key]}}
    known = {names.get(name, name) for name in before.classes}
    new_classes = [name for name in after.classes if name not in known]
    return LabelDiff(
        added=tuple(added),
        removed=tuple(removed),
        relabelled=tuple(relabelled),
        new_classes=tuple(new_classes),
        removed_classes=tuple(name for name in before.classes if names.get(name, name) not in after.classes),
        renamed=renamed,
        changed_classes=tuple(name for name in after.classes if name in touched or name in new_classes),
    )


def renames_between(before: LearnedLabels, after: LearnedLabels) -> tuple[tuple[str, str], ...]:
    """Return pairs of the earlier and the new name of each class that was renamed.

    It is a class that is gone, and whose images, most of which are still there, all have one and the same class, a new
    one.
    """
    gone = [name for name in before.classes if name not in after.classes]
    new = {name for name in after.classes if name not in before.classes}
    if not gone or not new:
        return ()
    successors: defaultdict[str, set[str]] = defaultdict(set)
    images, left = Counter[str](), Counter[str]()
    for key, given in before.of_content.items():
        for name in given:
            successors[name].update(after.of_content.get(key, ()))
            images[name] += 1
            left[name] += key in after.of_content
    most = [name for name in gone if 2 * left[name] > images[name]]
    pairs = [(name, next(iter(successors[name]))) for name in most if len(successors[name]) == 1]
    heirs = Counter(heir for _, heir in pairs)
    return tuple((name, heir) for name, heir in pairs if heir in new and heirs[heir] == 1)
