"""Records picked by their place in a shard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.records import open_source, pick, read_shard
from tests.cluster.records.archives import tar_bytes, write_folder

IMAGES = {f"{number}.jpg": b"x" * (number + 1) for number in range(6)}


@pytest.fixture(params=["folder", "tar"])
def shard(request, tmp_path):
    if request.param == "folder":
        write_folder(tmp_path, IMAGES)
    else:
        (tmp_path / "0.tar").write_bytes(tar_bytes(IMAGES.items()))
    (found,) = open_source(str(tmp_path)).shards()
    return found


def test_some_records_are_those_of_the_whole_shard(shard):
    records = list(read_shard(shard))

    @given(rows=st.lists(st.integers(0, 5), max_size=8))
    def check(rows):
        assert list(pick(shard, rows)) == [records[row] for row in sorted(set(rows))]

    check()
