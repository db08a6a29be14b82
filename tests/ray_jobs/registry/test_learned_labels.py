"""Labels by content: their digest, and what changed between two sets."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cluster import Store
from ray_jobs.errors import JobError
from ray_jobs.registry.learned_labels import LearnedLabels, diff_labels, read_learned_labels

BEFORE = LearnedLabels(("amber", "blue", "cyan"), {"1": ("amber",), "2": ("amber",), "3": ("blue",), "4": ("cyan",)})


def test_equal_labels_have_no_difference() -> None:
    diff = diff_labels(BEFORE, BEFORE)
    assert diff.is_empty
    assert diff.changed_classes == ()


def test_added_removed_and_relabelled_images_are_found_by_content() -> None:
    after = LearnedLabels(("amber", "blue", "cyan"), {"1": ("blue",), "3": ("blue",), "4": ("cyan",), "5": ("cyan",)})
    diff = diff_labels(BEFORE, after)
    assert (diff.added, diff.removed, diff.relabelled) == (("5",), ("2",), ("1",))
    assert diff.changed_classes == ("amber", "blue", "cyan")
    assert (diff.renamed, diff.new_classes, diff.removed_classes) == ((), (), ())
    assert not diff.is_empty


def test_a_class_whose_images_all_have_one_new_name_is_renamed_and_nothing_else() -> None:
    content = {"1": ("gold",), "2": ("gold",), "3": ("blue",), "4": ("cyan",)}
    diff = diff_labels(BEFORE, LearnedLabels(("gold", "blue", "cyan"), content))
    assert diff.renamed == (("amber", "gold"),)
    assert (diff.added, diff.removed, diff.relabelled) == ((), (), ())
    assert (diff.new_classes, diff.removed_classes) == ((), ())
    assert diff.changed_classes == ()
    assert not diff.is_empty
    more = diff_labels(BEFORE, LearnedLabels(("gold", "blue", "cyan"), content | {"5": ("gold",)}))
    assert (more.renamed, more.added, more.changed_classes) == ((("amber", "gold"),), ("5",), ("gold",))


def test_classes_that_are_joined_or_divided_are_not_renamed() -> None:
    joined = LearnedLabels(("warm", "cyan"), {"1": ("warm",), "2": ("warm",), "3": ("warm",), "4": ("cyan",)})
    diff = diff_labels(BEFORE, joined)
    assert (diff.renamed, diff.relabelled) == ((), ("1", "2", "3"))
    assert (diff.new_classes, diff.removed_classes) == (("warm",), ("amber", "blue"))
    divided = LearnedLabels(("gold", "rust", "blue", "cyan"), {**BEFORE.of_content, "1": ("gold",), "2": ("rust",)})
    assert diff_labels(BEFORE, divided).renamed == ()
    into_known = LearnedLabels(("blue", "cyan"), {**BEFORE.of_content, "1": ("blue",), "2": ("blue",)})
    assert diff_labels(BEFORE, into_known).renamed == ()


def test_classes_that_come_and_go_without_images_are_found() -> None:
    diff = diff_labels(BEFORE, LearnedLabels(("amber", "blue", "cyan", "dune"), BEFORE.of_content))
    assert (diff.new_classes, diff.changed_classes, diff.is_empty) == (("dune",), ("dune",), False)
    diff = diff_labels(LearnedLabels(("amber", "dune"), {}), LearnedLabels(("amber",), {}))
    assert (diff.removed_classes, diff.is_empty) == (("dune",), False)


def test_a_second_label_of_an_image_changes_the_classes_that_differ() -> None:
    diff = diff_labels(BEFORE, LearnedLabels(BEFORE.classes, {**BEFORE.of_content, "1": ("amber", "blue")}))
    assert (diff.relabelled, diff.changed_classes) == (("1",), ("blue",))


def test_the_digest_depends_on_contents_and_classes_alone(tmp_path: Path) -> None:
    items = list(BEFORE.of_content.items())
    random.Random(0).shuffle(items)
    assert LearnedLabels(BEFORE.classes, dict(items)).digest == BEFORE.digest
    assert LearnedLabels(BEFORE.classes[::-1], dict(items)).digest != BEFORE.digest
    assert LearnedLabels(BEFORE.classes, {**BEFORE.of_content, "4": ("blue",)}).digest != BEFORE.digest
    assert BEFORE.counts == {"amber": 2, "blue": 1, "cyan": 1}


def test_stored_labels_are_read_back_and_damage_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    digest = BEFORE.put(store, "registry/job")
    assert BEFORE.put(store, "registry/job") == digest
    assert read_learned_labels(store, "registry/job", digest) == BEFORE
    path = tmp_path / f"registry/job/labels/{digest}.json"
    data = path.read_text()
    for damaged in (data.replace("amber", "umber"), "{}", "[", "null"):
        path.write_text(damaged)
        with pytest.raises(JobError, match=r"is damaged .*: restore it"):
            read_learned_labels(store, "registry/job", digest)
    path.unlink()
    with pytest.raises(JobError, match=r"is missing: restore"):
        read_learned_labels(store, "registry/job", digest)
