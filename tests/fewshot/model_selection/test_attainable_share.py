"""The measures of `tools.attainable_share`, on accuracies whose truth is known."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tools.attainable_share import attainable_shares, is_within_error, read_cells


def test_a_method_is_right_up_to_one_standard_error_of_the_paired_differences():
    best = np.array([0.6, 0.7, 0.8])
    for behind, right in (([0.0, 0.0, 0.0], True), ([0.1, 0.1, 0.1], False), ([0.3, 0.0, 0.0], True)):
        assert is_within_error(np.stack([best, best - behind]), 1) is right
    # Mean 2, standard deviation 2 x sqrt(3): a standard error of 2, and of less.
    assert is_within_error(np.stack([best, best - [0.06, 0.0, 0.0]]), 1)
    assert not is_within_error(np.stack([best, best - [0.06, 0.001, 0.0]]), 1)


def test_two_equal_methods_are_right_as_often_as_students_t_says():
    """In half of all cases the chosen one is ahead; else it must not be behind by more than t = 1."""
    accuracies = np.random.default_rng(0).normal(size=(4000, 2, 3))
    right = np.mean([is_within_error(each, 0) for each in accuracies])
    assert right == pytest.approx((1 + 3**-0.5) / 2, abs=0.02)


def test_a_method_that_is_always_best_is_known_and_found():
    rng = np.random.default_rng(0)
    accuracies = np.array([[0.5], [0.7], [0.4]]) + rng.normal(size=(3, 8), scale=0.01)
    assert attainable_shares(accuracies, draws=3) == pytest.approx((1.0, 1.0, 1 / 3))


def test_what_is_known_of_other_draws_is_less_than_what_is_known_of_all():
    accuracies = np.random.default_rng(1).normal(size=(6, 9))
    known, estimated, unknown = attainable_shares(accuracies, draws=3)
    assert known > estimated
    assert known > unknown


def test_seeds_that_a_method_lacks_are_left_out(tmp_path):
    rows = [
        {"method": method, "shots": shots, "seed": seed, "accuracy": shots + seed / 10 + (method == "b") / 100}
        for method in ("a", "b", "c")
        for shots in (1, 2)
        for seed in (1, 2, 3)
        if (method, shots, seed) != ("b", 2, 2)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "cells.parquet")
    cells = read_cells(tmp_path / "cells.parquet", ["a", "b"])
    assert cells.keys() == {1, 2}
    assert cells[1] == pytest.approx(np.array([[1.1, 1.2, 1.3], [1.11, 1.21, 1.31]]))
    assert cells[2] == pytest.approx(np.array([[2.1, 2.3], [2.11, 2.31]]))
