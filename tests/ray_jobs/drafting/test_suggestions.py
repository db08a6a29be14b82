"""Suggested settings."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.backbones.clip_spec import EMBEDDED
from ray_jobs.drafting.suggestions import (
    DOWNLOADED,
    MAX_SHOTS,
    suggest_clip,
    suggest_shots,
)


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
