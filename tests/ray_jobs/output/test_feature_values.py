"""Features where they lie in the bytes of a part are those that Arrow decodes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.digests import DigestError, seal
from ray_jobs.output import feature_values as module
from ray_jobs.output.feature_parts import DIGEST, PLACEHOLDER, FeatureRows, concat_parquet, decode, encode, read_parquet
from ray_jobs.output.feature_values import decoded_values, feature_values, read_keys


def part(read, *, views=1, dim=3, has_dense=False):
    """Rows of which some were read."""
    n = len(read)
    values = np.random.default_rng(n).normal(size=(n, views, dim)).astype(np.float32)
    values[~np.array(read, bool)] = 0.0
    dense = np.ones((sum(read), 2, 2), np.float16) if has_dense else None
    errors = [None if is_read else "it is broken" for is_read in read]
    return FeatureRows([f"{row}.jpg" for row in range(n)], ["a.tar"] * n, errors, values, dense)


@pytest.fixture
def no_arrow(monkeypatch):
    """Fail where Arrow would decode the features."""
    monkeypatch.setattr(module, "decoded_values", lambda data: pytest.fail("Arrow decoded the features"))


@given(
    read=st.lists(st.booleans(), max_size=20),
    views=st.integers(1, 3),
    dim=st.integers(1, 5),
    has_dense=st.booleans(),
)
def test_values_are_those_that_arrow_decodes(read, views, dim, has_dense):
    rows = part(read, views=views, dim=dim, has_dense=has_dense)
    data = encode(rows)
    expected = rows.views[np.array(read, bool)]
    assert feature_values(data).tolist() == decoded_values(data).tolist() == expected.tolist()
    assert read_keys(data).read.tolist() == np.flatnonzero(read).tolist()
    assert (read_keys(data).images, read_keys(data).sources) == (rows.images, rows.sources)


def test_one_page_is_not_copied(no_arrow):
    data = encode(part([True] * 40))
    assert not feature_values(data).flags.owndata
    assert not feature_values(data).flags.writeable


@pytest.mark.parametrize("rows", [700, 3000])
def test_several_pages_are_joined(no_arrow, rows):
    read = [row % 7 != 3 for row in range(rows)]
    written = part(read, dim=512)
    data = encode(written)
    assert len(data) > 2**20
    assert (feature_values(data) == written.views[np.array(read)]).all()


def test_several_row_groups_are_joined(no_arrow):
    first, second = part([True, False, True]), part([False, True])
    tables = [read_parquet(encode(rows)) for rows in (first, second)]
    schema = tables[0].schema.with_metadata({b"views": b"1", b"dim": b"3"})
    data = concat_parquet(schema, [table.cast(schema) for table in tables])
    expected = np.concatenate([first.views[[0, 2]], second.views[[1]]])
    assert (feature_values(data) == expected).all()


@pytest.mark.parametrize(
    "options", [{"compression": "ZSTD"}, {"use_dictionary": ["features.list.element"], "compression": "NONE"}]
)
def test_values_stored_in_another_way_are_decoded(options):
    rows = part([True, False, True, True])
    data = encode(rows)
    buffer = pa.BufferOutputStream()
    table = read_parquet(data).replace_schema_metadata({"views": "1", "dim": "3"})
    with pq.ParquetWriter(buffer, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({DIGEST: PLACEHOLDER})
    assert (feature_values(seal(buffer.getvalue().to_pybytes())) == rows.views[[0, 2, 3]]).all()


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(place, bit):
    data = bytearray(encode(part([True, False, True])))
    data[int(place * len(data))] ^= 1 << bit
    with pytest.raises(DigestError):
        feature_values(bytes(data))


def test_statistics_and_long_fields_of_a_page_header_are_skipped():
    header = bytes([0x15, 0, 0x15, 8, 0x15, 0xD0, 0x0F, 0x2C, 0x18, 2, 1, 2, 0x11, 0x12, 0x13, 9, 0x17, *range(8), 0])
    tail = bytes([0x05, 0x50, 3, 0])
    assert module._read_header(header + tail + b"next", 0) == ({1: 0, 2: 4, 3: 1000, 40: -2}, len(header + tail))


def test_features_that_are_no_numbers_are_left_to_the_reader():
    rows = part([True, True])
    rows.views[1, 0, 0] = np.nan
    data = encode(rows)
    assert np.isnan(feature_values(data)).any()
    assert decode(data).errors[1] is not None
