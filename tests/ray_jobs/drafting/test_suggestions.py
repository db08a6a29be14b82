"""Suggested settings: what they promise of calibration is what calibration does."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.backbones.clip_spec import EMBEDDED
from fewshot.calibration.abstention import ABSTAIN_ALWAYS, COVERAGES, guaranteed_threshold
from fewshot.calibration.calibrate import calibration_splits
from fewshot.methods import METHODS
from fewshot.model_selection.cross_validation import MAX_QUERIES
from ray_jobs.drafting.suggestions import (
    DOWNLOADED,
    MAX_FORWARDS,
    MAX_HELD_OUT,
    MAX_SHOTS,
    THRESHOLDS_TRIED,
    VIEWS,
    held_out_examples,
    least_error,
    needed_examples,
    suggest_clip,
    suggest_shots,
    suggest_views,
)
from ray_jobs.job_file.sections import ClassifierSection, SupportSection
from tests.problems import World

rates = st.floats(0.01, 0.9)
confidences = st.floats(0.5, 0.99)


def shows(images: int, *, max_error: float, confidence: float) -> bool:
    """Whether so many images, all labelled right, satisfy calibration."""
    scores, correct = torch.linspace(0, 1, images), torch.ones(images, dtype=torch.bool)
    found = guaranteed_threshold(scores, correct, max_error=max_error, confidence=confidence)
    return found.threshold < ABSTAIN_ALWAYS


@given(max_error=rates, confidence=confidences)
def test_needed_examples_are_the_fewest_that_calibration_accepts(max_error, confidence):
    needed = needed_examples(max_error, confidence)
    assert shows(needed, max_error=max_error * 1.000001, confidence=confidence)
    assert not shows(needed - 1, max_error=max_error * 0.999999, confidence=confidence)
    assert needed_examples(0.1, 0.9) == 44


@given(held_out=st.integers(1, 2000), confidence=confidences)
def test_the_least_error_is_the_least_that_calibration_accepts(held_out, confidence):
    least = least_error(held_out, confidence)
    assert shows(held_out, max_error=least * 1.0001, confidence=confidence)
    assert not shows(held_out, max_error=least * 0.9999, confidence=confidence)


def test_without_held_out_examples_no_error_can_be_shown():
    assert least_error(0, 0.9) is None


@given(counts=st.lists(st.integers(0, 5), min_size=2, max_size=5))
def test_held_out_examples_are_those_that_calibration_holds_out(counts):
    problem = World(len(counts)).problem(counts)
    _, splits = calibration_splits(METHODS[ClassifierSection().method].load()(), problem, seed=1)
    assert held_out_examples(counts) == sum(len(split.queries) for split in splits)


def test_constants_are_those_of_calibration():
    assert (THRESHOLDS_TRIED, MAX_HELD_OUT) == (len(COVERAGES), MAX_QUERIES)
    assert held_out_examples([MAX_QUERIES, MAX_QUERIES]) == MAX_QUERIES


def test_views_are_the_default_unless_there_are_many_examples():
    assert SupportSection(uri="examples").views == VIEWS[0] == suggest_views(100)
    assert [suggest_views(examples) for examples in (1_363, 1_364, 5_000, 5_001, 10**6)] == [10, 2, 2, 0, 0]


@given(examples=st.integers(0, MAX_FORWARDS))
def test_views_stay_within_the_budget(examples):
    assert examples * (1 + suggest_views(examples)) <= MAX_FORWARDS


@given(counts=st.lists(st.integers(0, 100), max_size=5))
def test_all_examples_are_used_unless_a_class_has_very_many(counts):
    assert suggest_shots(counts) == (MAX_SHOTS if max(counts, default=0) > MAX_SHOTS else None)


def test_the_embedded_clip_is_suggested_only_where_it_is_installed(monkeypatch):
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("fewshot.backbones.clip_spec.version", absent)
    assert suggest_clip() == DOWNLOADED
    DOWNLOADED.check()
    monkeypatch.setattr("fewshot.backbones.clip_spec.version", lambda package: "1")
    assert suggest_clip().model == EMBEDDED


@pytest.mark.embedded
def test_the_suggested_clip_loads_nothing_but_checks_out():
    suggest_clip().check()
