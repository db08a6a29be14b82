"""A sample of flipped bits (`python -m tests.chaos.bit_flips` has more): none changes a result without a word."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.chaos.bit_flips import Flipper, flips, unrepaired
from tests.chaos.flip_world import plain, write_world

pytestmark = pytest.mark.slow
FLIPS = 300


@pytest.fixture(scope="module")
def flipper(tmp_path_factory):
    return Flipper(write_world(tmp_path_factory.mktemp("flips"), evaluates=False))


def test_no_flipped_bit_changes_a_result_without_a_word(flipper):
    found = list(flips(flipper, FLIPS, seed=1))
    assert [flip for flip in found if flip.is_silent] == []
    assert all(flip.is_verified for flip in found if flip.outcome != "same")
    assert {flip.kind for flip in found} == flipper.objects.keys()
    assert flipper.unknown() == []


def test_readers_return_equal_values_for_equal_bytes(flipper):
    for name, (kind, (path, *_)) in flipper.objects.items():
        relative = path.relative_to(flipper.world.place.output).as_posix()
        if kind.read is not None and name != "training cache":
            assert plain(kind.read(flipper.store, relative)) == plain(kind.read(flipper.store, relative)), name


def test_a_reader_that_compares_no_digest_is_found_out(flipper):
    kind, paths = flipper.objects["features"]
    careless = replace(kind, read=lambda store, path: store.get(path))
    other = Flipper(flipper.world)
    other.objects["features"] = (careless, paths)
    assert other.flip("features", random.Random(0)).outcome == "WRONG"


def test_one_bit_of_every_object_at_once_is_repaired_by_running_again(flipper):
    assert unrepaired(flipper, seed=2) == []
