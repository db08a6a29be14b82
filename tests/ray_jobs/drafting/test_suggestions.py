"""Suggested settings."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.backbones.clip_spec import EMBEDDED
from ray_jobs.drafting.suggestions import (
    DOWNLOADED,
    MAX_FORWARDS,
    MAX_SHOTS,
    VIEWS,
    suggest_clip,
    suggest_shots,
    suggest_views,
)
from ray_jobs.job_file.sections import SupportSection


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
