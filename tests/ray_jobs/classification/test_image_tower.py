"""An image-only backbone goes through a whole job with methods that need no text; others are refused in the plan."""

from __future__ import annotations

import pytest

from tests.ray_jobs.place import BROKEN, CLASSES, Place, fewshot
from tests.timm_folder import write_timm_folder


@pytest.fixture
def place(tmp_path):
    _, folder = write_timm_folder(tmp_path / "tower", "vit_small_patch16_dinov3")
    place = Place(tmp_path, folder).fill(images=6, shots=2)
    place.write_job(clip={"model": f"timm:{folder}"}, classifier={"method": "nearest_mean"})
    return place


WITHOUT_TEXT = ["archive_linear_probe", "archive_nearest_mean", "gda", "gda_u", "linear_probe", "nearest_mean"]


@pytest.mark.parametrize("method", WITHOUT_TEXT)
def test_methods_without_text_label_the_archive(place, method):
    outcome = place.classify(f'classifier.method="{method}"')
    assert outcome.code == 0, outcome.messages
    assert {row["label"] for name, row in outcome.rows.items() if name not in BROKEN} <= set(CLASSES)
    assert outcome.result["ok"] == 6


@pytest.mark.parametrize("method", ["zero_shot", "tip_adapter", "coop", "safe", "auto", "archive_rla"])
def test_methods_that_use_names_are_refused_in_the_plan(place, method):
    outcome = fewshot("plan", place.job, "--set", f'classifier.method="{method}"')
    assert outcome.code == 2
    assert f"embeds images only. Use a method without text ({', '.join(WITHOUT_TEXT)})" in outcome.messages


def test_numbers_for_names_are_no_matter_without_text(place):
    for label, number in zip(CLASSES, "012", strict=True):
        (place.examples / label).rename(place.examples / number)
    assert fewshot("plan", place.job, "--no-probe").result["warnings"] == []


def test_label_sets_need_no_text(place):
    outcome = place.classify('classifier.guarantee="conformal"', "classifier.label_set_error=0.3")
    assert outcome.code == 0, outcome.messages
    assert all(set(row["label_set"]) <= set(CLASSES) for name, row in outcome.rows.items() if name not in BROKEN)


def test_candidates_without_text_are_compared(place):
    settings = ['classifier.method="auto"', 'classifier.hyperparameters.candidates=["nearest_mean", "linear_probe"]']
    assert place.classify(*settings).code == 0


def test_a_class_known_by_its_name_alone_is_refused(place):
    outcome = place.classify('support.classes=[{label="dusk"}]')
    assert outcome.code == 2
    assert "a class without examples is known by its name alone, which takes a CLIP" in outcome.messages
