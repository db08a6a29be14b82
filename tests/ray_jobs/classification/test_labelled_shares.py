"""How many examples a maximum error rate takes, counted before the training as calibration counts them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.calibration.abstention import HeldOutScores
from fewshot.calibration.calibrate import calibration_splits
from fewshot.methods import METHODS, build_method
from fewshot.model_selection import cross_validation
from ray_jobs.classification.labelled_shares import (
    FOLDS,
    MAX_ERRORS,
    MAX_HELD_OUT,
    MAX_PAIRS,
    folds_of,
    held_out_examples,
    labelled_shares,
    rounded_up,
    shortage,
)
from ray_jobs.job_file.sections import ClassifierSection
from tests.problems import World


@given(
    counts=st.lists(st.integers(0, 9), min_size=2, max_size=5),
    method=st.sampled_from(["nearest_mean", "safe", "coop"]),
)
def test_held_out_examples_are_those_that_calibration_holds_out(counts, method):
    problem = World(len(counts)).problem(counts)
    _, splits = calibration_splits(build_method(method), problem, seed=1)
    found = held_out_examples(counts, folds=folds_of(ClassifierSection(method=method)))
    assert found == sum(len(split.queries) for split in splits)


def test_constants_are_those_of_calibration():
    expected = (cross_validation.FOLDS, cross_validation.MAX_QUERIES, cross_validation.MAX_COSINES)
    assert (FOLDS, MAX_HELD_OUT, MAX_PAIRS) == expected
    assert METHODS[ClassifierSection().method].load().folds == FOLDS
    assert held_out_examples([MAX_HELD_OUT, MAX_HELD_OUT]) == MAX_HELD_OUT


def test_shares_grow_with_what_the_held_out_scores_allow():
    scores = torch.linspace(0.0, 1.0, 100)
    shares = labelled_shares(HeldOutScores(scores, scores > 0.4), 0.9)
    assert [share.max_error for share in shares] == list(MAX_ERRORS)
    assert [share.needed for share in shares] == [45, 22, 11, 7]
    coverages = [share.held_out_share for share in shares]
    assert coverages == sorted(coverages)
    assert 0.55 < coverages[0] < coverages[-1] < 0.9
    for share in shares:
        assert float((scores >= share.threshold).double().mean()) == pytest.approx(share.held_out_share)


def test_before_the_training_only_the_needed_examples_are_known():
    for share in labelled_shares(None, 0.9):
        assert share == replace(share, threshold=None, held_out_share=None, archive_share=None)


def test_where_nothing_would_be_labelled_there_is_no_threshold():
    for share in labelled_shares(HeldOutScores(torch.ones(60), torch.zeros(60, dtype=torch.bool)), 0.9):
        assert (share.threshold, share.held_out_share) == (None, 0.0)


def test_a_shortage_names_the_way_out():
    assert shortage(0.1, 22, 6, 0.318) == (
        "max_error = 0.1 needs at least 22 held-out examples, and there are 6: every prediction would be abstained."
        " Add examples, or raise max_error to 0.32."
    )
    assert shortage(0.1, 22, 0, None).endswith("Add examples.")
    assert [rounded_up(error) for error in (0.3, 0.301, 0.9999, None)] == [0.3, 0.31, None, None]
