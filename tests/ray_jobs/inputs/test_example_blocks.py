"""Examples are found in blocks by their contents, whichever job embedded them, and only the others are embedded."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import Store
from fewshot.classes import LabelSpace
from ray_jobs.inputs import example_blocks
from ray_jobs.inputs.example_blocks import BLOCK_ROWS, Examples
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import Labels
from ray_jobs.output import feature_parts
from ray_jobs.output.feature_parts import FeatureRows, encode
from ray_jobs.output.layout import dense_folder

FEATURES = "features/0123456789abcdef/examples-1"
VIEWS = 2


def digest(number):
    return f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}"


def feature(content):
    """The features [V, D] of a content, made up."""
    return np.array([[int(content[:6], 16), view] for view in range(VIEWS)], np.float32)


SPACE = LabelSpace(("a", "b"), ("a", "b"), ("", ""))


def examples(numbers, *, prefix="", unreadable=()):
    """Examples of these contents."""
    images = [f"{prefix}{number}" for number in numbers]
    labels = Labels(SPACE, "/nowhere", tuple(images), tuple(number % 2 for number in numbers))
    digests = {image: digest(number) for image, number in zip(images, numbers, strict=True)}
    lost = {f"{prefix}{number}": "not found" for number in unreadable}
    contents = ExampleContents(labels, digests | dict.fromkeys(lost, ""), lost)
    return Examples.from_contents(contents, labels, [images], features=FEATURES, views=VIEWS - 1)


def embed(store, units):
    """Write the parts of units, as embedding does."""
    for unit in units:
        keys = [item.name for item in unit.payload.shard.payload.selected]
        views = np.stack([feature(key) for key in keys])
        store.put(unit.path, encode(FeatureRows(keys, [""] * len(keys), [None] * len(keys), views)))


def left(found):
    return {item.digest for unit in found.units for item in unit.payload.shard.payload.selected}


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


@given(st.lists(st.sets(st.integers(0, 40)), min_size=1, max_size=5))
def test_every_content_is_embedded_once(tmp_path_factory, sets):
    store, known = Store(str(tmp_path_factory.mktemp("store"))), set()
    for numbers in sets:
        wanted = examples(sorted(numbers), prefix=f"{len(known)}-")
        found = wanted.find(store)
        assert left(found) == set(wanted.contents) - known
        assert found.weight_left == VIEWS * len(left(found))
        embed(store, found.units)
        known |= left(found)
        rows = found.read(store)
        assert rows.images == list(wanted.images)
        assert rows.views.tolist() == [feature(wanted.digests[image]).tolist() for image in rows.images] or not numbers


def test_classes_share_blocks(store):
    found = examples(range(1000)).find(store)
    assert len(found.units) <= 2 * 1000 * VIEWS / BLOCK_ROWS
    assert all(unit.weight <= 2 * BLOCK_ROWS for unit in found.units)
    assert found.weight == found.weight_left == 1000 * VIEWS


def test_an_added_example_is_the_only_one_left(store):
    embed(store, examples(range(1000)).find(store).units)
    found = examples(range(1001)).find(store)
    assert left(found) == {digest(1000)}
    embed(store, found.units)
    again = examples(range(1001)).find(store)
    assert (again.units, set(again.paths)) == ((), set(found.paths))


def test_blocks_of_a_job_that_was_cut_off_are_kept(store):
    units = examples(range(600)).find(store).units
    assert len(units) > 3
    for done in ([0], [2], [0, 3], range(1, len(units))):
        for path in list(store.list()):
            store.delete(path)
        embed(store, [units[index] for index in done])
        found = examples(range(600)).find(store)
        assert [unit.path for unit in found.units] == [unit.path for i, unit in enumerate(units) if i not in done]
        assert set(found.paths) == {unit.path for unit in units}


def test_nothing_is_read_where_all_blocks_are_known_by_their_names(store, monkeypatch):
    for numbers in (range(300), range(300, 400)):
        embed(store, examples(numbers).find(store).units)
    monkeypatch.setattr(Store, "get", lambda *_: pytest.fail("a block was read"))
    assert examples(range(300)).find(store).units == ()


def test_only_blocks_of_unknown_names_are_read(store, monkeypatch):
    units = examples(range(1000)).find(store).units
    assert len(units) > 5
    embed(store, units)
    read, get = [], Store.get
    monkeypatch.setattr(Store, "get", lambda store, path: (read.append(path), get(store, path))[1])
    examples(range(1001)).find(store)
    assert len(read) in (1, 2)  # The block that has another content now, and perhaps one that it shares an end with.


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_damaged_blocks_and_other_files_hold_nothing(store, damage):
    embed(store, examples(range(50)).find(store).units)
    (path,) = store.list()
    data = store.get(path)
    store.put(path, damage if damage is not None else data[:100] + bytes([data[100] ^ 1]) + data[101:])
    store.put(f"{FEATURES}/{path.rpartition('/')[2]} (copy)", data)
    assert len(left(examples(range(60)).find(store))) == 60
    assert store.exists(path)


def test_examples_that_cannot_be_read_have_their_reasons(store):
    wanted = examples(range(4), unreadable=[1, 3])
    found = wanted.find(store)
    assert left(found) == {digest(0), digest(2)}
    embed(store, found.units)
    rows = found.read(store)
    assert (rows.images, rows.errors) == (["0", "2", "1", "3"], [None, None, "not found", "not found"])
    assert rows.views.shape == (4, VIEWS, 2)
    none = examples(range(2), unreadable=[0, 1]).find(store)
    assert (none.units, none.read(store).errors) == ((), ["not found", "not found"])


def test_one_content_under_two_names_is_embedded_once(store):
    labels = Labels(SPACE, "/nowhere", ("x", "y"), (0, 0))
    contents = ExampleContents(labels, {"x": digest(1), "y": digest(1)})
    found = Examples.from_contents(contents, labels, [["x", "y"]], features=FEATURES, views=1).find(store)
    assert found.weight == found.weight_left == VIEWS
    assert [each.reference for each in found.units[0].payload.shard.payload.selected] == ["x"]
    embed(store, found.units)
    rows = found.read(store)
    assert (rows.images, rows.views[0].tolist()) == (["x", "y"], rows.views[1].tolist())


def test_views_and_dense_tokens_are_asked_for_and_views_alone_change_the_identity(store):
    labels = examples(range(2)).labels
    contents = ExampleContents(labels, {"0": digest(0), "1": digest(1)})

    def made(views, *, dense=False):
        return Examples.from_contents(contents, labels, [labels.images], features=FEATURES, views=views, dense=dense)

    plain, more, dense = made(1), made(2), made(1, dense=True)
    assert plain.identity == dense.identity != more.identity
    assert (plain.folder, dense.folder) == (FEATURES, dense_folder(FEATURES))
    for each, expected in ((plain, (1, False)), (more, (2, False)), (dense, (1, True))):
        assert {(unit.payload.views, unit.payload.dense) for unit in each.find(store).units} == {expected}


def test_blocks_are_read_side_by_side(store, monkeypatch):
    monkeypatch.setattr(example_blocks, "BLOCK_ROWS", 2)
    monkeypatch.setattr(feature_parts, "READERS", 4)
    found = examples(range(8)).find(store)
    embed(store, found.units)
    assert len(found.units) == 8
    together, get = threading.Barrier(4), Store.get

    def wait(store, path):
        together.wait(timeout=60)
        return get(store, path)

    monkeypatch.setattr(Store, "get", wait)
    assert len(found.read(store)) == 8
    assert examples(range(4)).find(store).units == ()
