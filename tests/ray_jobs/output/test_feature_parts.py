"""Parts of features give back what was put in, dense tokens and images that could not be read included."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.output.feature_parts import FeatureRows, decode, encode


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


def test_equal_rows_give_equal_bytes():
    assert encode(rows([True, False, True])) == encode(rows([True, False, True]))
