"""A note of damage removes what is damaged still, and nothing that is no object of the run."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cluster import Store
from fewshot.digests import digest
from ray_jobs.output.damage_list import DAMAGE_LIST, DamageList, first_and_count, note_damage, remove_damaged
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.layout import to_json
from ray_jobs.output.stored_objects import find_problem, is_object

RUN = "runs/a-0123"
PART = "predictions/0123456789abcdef/part-0123456789abcdef.parquet"
FEATURES = "features/0123456789abcdef/fedcba9876543210/part-0123456789abcdef.parquet"
CARD = "classifiers/ape/0123456789abcdef/card.json"
WHOLE = write_parquet(pa.table({"a": [1]}))


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def test_what_is_damaged_still_is_removed_and_the_note_with_it(store):
    store.put(PART, WHOLE[:-1])
    store.put(FEATURES, WHOLE)
    note_damage(store, RUN, [PART, FEATURES, f"{RUN}/failures.parquet"])
    assert remove_damaged(store, RUN) == [PART, f"{RUN}/failures.parquet"]  # One of them was missing.
    assert sorted(store.list()) == [FEATURES]
    assert remove_damaged(store, RUN) == []


@pytest.mark.parametrize(
    "path",
    [
        f"{RUN}/notes.txt",
        "predictions/0123456789abcdef/a (copy).parquet",
        "runs/b-0/plan.json",
        "../secret",
        "/etc/passwd",
    ],
)
def test_what_is_no_object_of_the_run_is_left_alone(store, tmp_path, path):
    if not path.startswith(("/", "..")):
        store.put(path, b"mine")
    store.put(f"{RUN}/{DAMAGE_LIST}", DamageList(objects=(path,)).to_bytes())
    assert remove_damaged(store, RUN) == []
    assert not is_object(path, RUN)
    assert list(store.list()) == ([] if path.startswith(("/", "..")) else [path])


def test_without_damage_an_earlier_note_is_removed(store):
    note_damage(store, RUN, [PART])
    assert store.exists(f"{RUN}/{DAMAGE_LIST}")
    note_damage(store, RUN, [])
    note_damage(store, RUN, [])
    assert list(store.list()) == []


def test_a_damaged_note_names_nothing_and_is_removed(store, caplog):
    store.put(PART, WHOLE[:-1])
    store.put(f"{RUN}/{DAMAGE_LIST}", b"{")
    assert remove_damaged(store, RUN) == []
    assert list(store.list()) == [PART]
    assert "verify the run again" in caplog.text


@pytest.mark.parametrize("kind", ["tensors", "token", "card"])
def test_a_card_stands_for_the_files_that_it_lists(store, kind):
    folder = CARD.rpartition("/")[0]
    files = {"classifier.safetensors": b"tensors", "tokens/0000.safetensors": b"token"}
    for name, content in files.items():
        store.put(f"{folder}/{name}", content)
    store.put(CARD, to_json({"files": {name: digest(content) for name, content in files.items()}}))
    assert find_problem(store, CARD) is None
    if kind == "card":
        store.put(CARD, store.get(CARD).replace(b"0000", b"0001"))
        assert find_problem(store, CARD) == "its content does not match its digest"
    elif kind == "tensors":
        store.put(f"{folder}/classifier.safetensors", b"tensor5")
        assert find_problem(store, CARD) == "classifier.safetensors: its content does not match its digest"
    else:
        store.delete(f"{folder}/tokens/0000.safetensors")
        assert find_problem(store, CARD) == "tokens/0000.safetensors is missing"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "tokens/../../x", "other.bin"])
def test_a_card_opens_no_other_file(store, name):
    store.put(CARD, to_json({"files": {name: digest(b"")}}))
    assert "which is no file of a classifier or an adapter" in find_problem(store, CARD)


def test_a_message_names_the_first_object_and_counts_the_others(store):
    assert [first_and_count(store, ["a", "b", "c"][:count]) for count in (1, 2, 3)] == [
        f"{store.url('a')}{others}" for others in ("", " and 1 more", " and 2 more")
    ]
