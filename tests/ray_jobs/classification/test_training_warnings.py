"""What a plan says of trainings among very many classes."""

from dataclasses import replace

import pytest

from fewshot.methods.table import METHODS
from ray_jobs.classification.training_warnings import warnings_about_training
from tests.ray_jobs.place import Place, fewshot


def told(method, classes, **hyperparameters):
    return list(warnings_about_training(method, hyperparameters, classes=classes, examples=4 * classes))


@pytest.mark.parametrize("method", ["gda", "auto", "linear_probe", "archive_linear_probe", "tip_adapter_f"])
def test_up_to_2000_classes_need_no_word(method):
    assert told(method, 2000) == []


def test_auto_names_what_it_leaves_out():
    (left_out,) = told("auto", 2001)
    assert left_out.startswith("auto does not compare linear_probe: there are 2,001 classes, and")
    assert "among at most 2,000" in left_out
    assert told("auto", 2001, candidates=["gda", "rla"]) == []
    (both,) = told("auto", 2001, candidates=["linear_probe", "gda", "archive_linear_probe"])
    assert "linear_probe and archive_linear_probe" in both


@pytest.mark.parametrize(("method", "given"), [("linear_probe", {}), ("auto", {"candidates": ["linear_probe"]})])
def test_a_slow_training_is_told_with_its_hours(method, given):
    (slow,) = told(method, 10_000, **given)
    assert slow.startswith("linear_probe takes about ")
    assert "CPU-hours to choose its strength with 40,000 examples of 10,000 classes" in slow
    assert told("linear_probe", 10_000, strength=10.0) == []
    assert told("gda", 10_000) == []


@pytest.fixture
def place(tmp_path, tiny_clip):
    return Place(tmp_path, tiny_clip).fill(images=2, shots=2)


def test_the_warning_is_in_the_plan(place, monkeypatch):
    monkeypatch.setitem(METHODS, "linear_probe", replace(METHODS["linear_probe"], compared_up_to=2))
    place.write_job(classifier={"method": "auto"})
    plan = fewshot("plan", place.job, "--no-probe")
    assert any(warning.startswith("auto does not compare linear_probe") for warning in plan.result["warnings"])
