"""Parts of features give back what was put in, dense tokens and images that could not be read included."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import Store
from fewshot.digests import PLACEHOLDER, DigestError
from ray_jobs.errors import DamagedError, JobError
from ray_jobs.output.feature_parts import (
    DIGEST,
    FeatureRows,
    decode,
    encode,
    get_table,
    read_parquet,
    view_table,
    without_nonfinite,
    write_parquet,
)


def rows(read, *, tokens=3, seed=0):
    chance = np.random.default_rng(seed)
    views = chance.normal(size=(len(read), 2, 4)).astype(np.float32)
    views[~np.array(read, dtype=bool)] = 0
    dense = chance.normal(size=(sum(read), tokens, 5)).astype(np.float16)
    names = [f"{i}.jpg" for i in range(len(read))]
    return FeatureRows(names, [""] * len(read), [None if ok else "broken" for ok in read], views, dense)


@given(read=st.lists(st.booleans(), max_size=6), seed=st.integers(0, 3))
def test_dense_tokens_of_readable_images_come_back(read, seed):
    given_rows = rows(read, seed=seed)
    found = decode(encode(given_rows), dense=True)
    assert (found.images, found.errors) == (given_rows.images, given_rows.errors)
    assert np.array_equal(found.views, given_rows.views)
    assert found.dense.dtype == np.float16
    assert np.array_equal(found.dense, given_rows.dense)


def test_a_part_of_broken_images_has_no_tokens():
    found = decode(encode(rows([False, False], tokens=0)), dense=True)
    assert len(found.dense) == 0
    assert found.errors == ["broken", "broken"]


def test_dense_tokens_are_read_only_on_request():
    assert decode(encode(rows([True, False]))).dense is None


def test_a_part_without_tokens_cannot_give_any():
    given_rows = rows([True])
    part = encode(FeatureRows(given_rows.images, given_rows.sources, given_rows.errors, given_rows.views))
    with pytest.raises(pa.ArrowException):
        decode(part, dense=True)


@pytest.mark.parametrize("where", ["views", "dense"])
def test_behind_an_unreadable_image_the_right_one_loses_its_features(where):
    given_rows = rows([True, False, True, True])
    (given_rows.views[2] if where == "views" else given_rows.dense[1])[0, 0] = np.nan
    found = without_nonfinite(given_rows, "not finite")
    assert found.errors == [None, "broken", "not finite", None]
    assert np.array_equal(found.views[[0, 3]], given_rows.views[[0, 3]])
    assert not found.views[[1, 2]].any()
    assert np.array_equal(found.dense, given_rows.dense[[0, 2]])


def test_equal_rows_give_equal_bytes():
    assert encode(rows([True, False, True])) == encode(rows([True, False, True]))


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_of_a_part_goes_unnoticed():
    part = encode(rows([True, False, True]))
    for bit in range(0, 8 * len(part), 7):
        with pytest.raises(DigestError):
            decode(flipped(part, bit), dense=True)


def test_pages_have_checksums_for_readers_of_any_kind():
    """The digest is ours alone: damage inside a page is found by whoever verifies checksums of pages."""
    part = write_parquet(pa.table({"a": pa.array([b"x" * 50], pa.binary(50))}), plain=["a"])
    places = [place for place in range(len(part)) if part.startswith(b"x" * 50, place)]  # In statistics as well.
    tables = {place: flipped(part, 8 * place + 200) for place in places}
    (damaged,) = (data for data in tables.values() if pq.read_table(io.BytesIO(data))["a"].to_pylist() != [b"x" * 50])
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pq.read_table(io.BytesIO(damaged), page_checksum_verification=True)


def test_metadata_come_back_without_the_digest():
    table = pa.table({"a": [1]}).replace_schema_metadata({"b": "blake2b:", "c": PLACEHOLDER})
    part = write_parquet(table)
    assert read_parquet(part).schema.equals(table.schema, check_metadata=True)
    assert read_parquet(write_parquet(read_parquet(part))).schema.metadata == table.schema.metadata
    assert DIGEST.encode() in pq.read_metadata(io.BytesIO(part)).metadata
    assert read_parquet(write_parquet(pa.table({"a": [1]}))).schema.metadata is None


def test_a_table_that_is_only_looked_at_stays_where_it_is(tmp_path):
    store = Store(str(tmp_path))
    store.put("a.parquet", write_parquet(pa.table({"a": [1]}))[:-3])
    with pytest.raises(JobError, match=r"a\.parquet is damaged .*fewshot verify"):
        view_table(store, "a.parquet")
    assert store.exists("a.parquet")
    with pytest.raises(DamagedError, match="was damaged and is gone"):
        get_table(store, "a.parquet")
    assert not store.exists("a.parquet")


READ_AND_COUNT = """
import sys
from pathlib import Path

from ray_jobs.output.feature_parts import read_parquet


def threads():
    names = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    return sum(name != "jemalloc_bg_thd" for name in names)


data = sys.stdin.buffer.read()
before = threads()
tables = [read_parquet(data) for _ in range(8)]
print(len(tables), tables[0].num_columns, threads() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the threads of a process are listed on Linux only")
def test_reading_tables_leaves_no_thread_behind():
    part = write_parquet(pa.table({"a": range(256), "b": np.random.default_rng(0).normal(size=256)}))
    command = [sys.executable, "-c", READ_AND_COUNT]
    ended = subprocess.run(command, input=part, capture_output=True, check=True, timeout=60)
    assert ended.stdout.split() == [b"8", b"2", b"0"]


def test_a_column_that_is_not_there_is_damage():
    with pytest.raises(ValueError, match="it has no column 'b'"):
        read_parquet(write_parquet(pa.table({"a": [1]})), columns=["a", "b"])
