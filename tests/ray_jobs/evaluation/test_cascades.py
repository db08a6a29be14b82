"""`evaluate` with [escalate]: the curve of a cascade over the test images, and both of its methods alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pyarrow.csv as pa_csv
import pytest

from ray_jobs.evaluation.cascades import FRACTIONS, MeasuredCascade, mean_cascades
from ray_jobs.results import CostPoint
from tests.ray_jobs.evaluation.test_evaluate import write_splits
from tests.ray_jobs.place import Place, fewshot, put, write_table, written
from tests.tiny_diffusion import write_tiny_diffusion

pytestmark = pytest.mark.slow

SHOTS, SEEDS = [1, 2], [1, 3]
ESCALATE = {"steps": 8, "batch_size": 8, "hyperparameters": {"steps": 1, "samples": 1}}


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_clip):
    """A finished evaluation of two draws for each of two numbers of shots. Shared: leave it as it is."""
    folder = tmp_path_factory.mktemp("cascades")
    write_splits(folder)
    place = Place(folder, tiny_clip)
    place.write_job(
        evaluate={
            "splits": str(folder / "splits.json"),
            "images": str(folder / "images"),
            "shots": SHOTS,
            "seeds": SEEDS,
            "methods": ["zero_shot", "tip_adapter"],
        },
        escalate=ESCALATE | {"model": str(write_tiny_diffusion(folder / "diffusion")), "candidates": 2},
    )
    outcome = fewshot("evaluate", place.job)
    assert outcome.code == 0, outcome.messages
    return place, outcome


def rows(outcome, shots, what):
    return [row for row in outcome.result["cascades"]["rows"] if (row["shots"], row["what"]) == (shots, what)]


@pytest.mark.parametrize("shots", SHOTS)
def test_a_curve_begins_with_the_cheap_method_alone(done, shots):
    _, outcome = done
    curve = rows(outcome, shots, "cascade")
    (alone,) = (r for r in outcome.result["table"] if (r["method"], r["shots"]) == ("tip_adapter", shots))
    assert [row["fraction"] for row in curve] == list(FRACTIONS)
    assert (curve[0]["forwards_an_image"], curve[0]["seeds"]) == (0.0, len(SEEDS))
    assert curve[0]["accuracy_mean"] == pytest.approx(alone["accuracy_mean"])
    assert curve[0]["accuracy_std"] == pytest.approx(alone["accuracy_std"])


def test_the_diffusion_model_alone_matches_a_job_that_escalates_every_image(done):
    place, outcome = done
    splits, images = json.loads((place.folder / "splits.json").read_text()), place.folder / "images"
    for path, _ in splits["test"]:
        put(place.archive / path, (images / path).read_bytes())
    labelled = {part: [(path, splits["classes"][label]) for path, label in splits[part]] for part in ("train", "test")}
    job = replace(place, folder=place.folder / "alone")
    job.folder.mkdir()
    job.write_job(
        job={"output": str(place.output)},
        archive={"uri": str(place.archive), "labels": str(write_table(job.truth, labelled["test"]))},
        support={"uri": str(write_table(images / "train.csv", labelled["train"])), "shots": 2, "views": 10},
        escalate=ESCALATE | {"model": str(place.folder / "diffusion"), "candidates": 3, "max_fraction": 1.0},
    )
    results = [job.classify(f"support.seed={seed}").result for seed in SEEDS]
    (alone,) = rows(outcome, 2, "diffusion alone")
    assert alone["accuracy_mean"] == pytest.approx(fmean(each["measured"]["accuracy"] for each in results))
    assert alone["forwards_an_image"] == fmean(each["escalated"]["forwards"] for each in results) / 15
    assert len({row["accuracy_mean"] for row in rows(outcome, 2, "cascade")} | {alone["accuracy_mean"]}) > 2


def test_a_rerun_measures_nothing_again(done):
    place, outcome = done
    before = written(place.output / "cascades")
    again = fewshot("evaluate", place.job)
    assert again.result["cascades"] == outcome.result["cascades"]
    assert written(place.output / "cascades") == before


def test_files_and_page_show_the_cascades(done):
    _, outcome = done
    expected = outcome.result["cascades"]["rows"]
    assert pa_csv.read_csv(outcome.run / "cascades.csv").to_pylist() == [pytest.approx(row) for row in expected]
    html = Path(outcome.result["report"]).read_text(encoding="utf-8")
    assert html.count('aria-label="Accuracy by cost"') == html.count('class="alone"') == len(SHOTS)
    assert "tif alone" in html
    words = " ".join(outcome.messages.split())
    assert "none: tip_adapter alone" in words
    assert "all, every class: tif alone" in words


def test_without_examples_of_every_class_no_cascade_is_measured(done):
    place, _ = done
    outcome = fewshot("evaluate", place.job, "--protocol", "base-to-new", "--set", "evaluate.shots=[1]")
    assert outcome.result["cascades"] is None
    assert "[escalate] is ignored in base-to-new" in outcome.messages


def test_means_over_draws_match_a_calculation_by_hand():
    def point(fraction, forwards, accuracy):
        return CostPoint(images=0, fraction=fraction, forwards_an_image=forwards, accuracy=accuracy)

    alone, start, end = point(1.0, 90.0, 0.5), point(0.0, 0.0, 0.6), point(1.0, 10.0, 0.8)
    whole = MeasuredCascade(shots=4, seed=1, curve=(start, end), alone=alone)
    short = MeasuredCascade(shots=4, seed=2, curve=(point(0.0, 0.0, 0.8), point(0.5, 20.0, 0.4)), alone=None)
    found = mean_cascades([whole, short])
    assert [row.fraction for row in found] == list(FRACTIONS[:11])  # One of them escalated half of the images.
    first, last = found[0], found[-1]
    assert (first.accuracy_mean, first.accuracy_std) == (pytest.approx(0.7), pytest.approx(0.02**0.5))
    assert (last.accuracy_mean, last.forwards_an_image) == (pytest.approx(0.55), pytest.approx(12.5))
    *_, every, only = mean_cascades([whole])
    assert (every.what, every.fraction, every.accuracy_mean) == ("cascade", 1.0, 0.8)
    assert only.what == "diffusion alone"
    assert (only.accuracy_mean, only.forwards_an_image, only.accuracy_std) == (0.5, 90.0, 0.0)
