"""Calibration: predictions of a diffusion model get scores from held-out examples."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from cluster import Store, Unit
from ray_jobs.escalation.adapter_training import AdapterTraining
from ray_jobs.escalation.calibration import EscalationCalibration
from ray_jobs.escalation.merge_step import EscalatedPrediction, MergeStep, MergeUnit
from ray_jobs.escalation.selection import EscalationCandidate
from ray_jobs.job_file.sections import EscalateSection
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.predictions import SCHEMA
from ray_jobs.steps.latents import Latents
from tests.ray_jobs.place import CLASSES, Place, parts_of_run
from tests.tiny_diffusion import write_tiny_diffusion


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory, tiny_clip):
    """A job that escalates every image, with five examples a class, and its outcome."""
    folder = tmp_path_factory.mktemp("calibration")
    place = Place(folder, tiny_clip).fill(shots=5)
    section = {"model": str(write_tiny_diffusion(folder / "diffusion")), "max_fraction": 1.0, "steps": 8}
    place.write_job(
        archive={"labels": str(place.truth)},
        escalate=section | {"batch_size": 8, "hyperparameters": {"steps": 2, "samples": 1}},
    )
    outcome = place.classify()
    assert outcome.code == 0, outcome.messages
    return place, outcome


def cards(place):
    return [json.loads(card.read_text()) for card in (place.output / "adapters/tif").glob("*/card.json")]


def cheap_predictions(outcome):
    rows = ds.dataset(parts_of_run(outcome.run, "cheap_predictions")).to_table().to_pylist()
    return {row["image"]: row for row in rows}


@pytest.mark.slow
def test_probabilities_of_candidates_sum_to_that_of_the_cheap_method(calibrated):
    _, outcome = calibrated
    cheap = cheap_predictions(outcome)
    for image, row in outcome.rows.items():
        if row["status"] == "unreadable":
            continue
        scores = dict(zip(row["top_labels"], row["top_scores"], strict=True))
        possible = dict(zip(cheap[image]["top_labels"], cheap[image]["top_scores"], strict=True))
        assert sum(scores.values()) == pytest.approx(sum(possible[label] for label in scores), abs=1e-5)
        assert row["score"] == max(scores.values()) == scores[row["label"]]
        assert row["decided_by"] == "tif"
    messages = outcome.result["measured"]
    assert messages["labelled_images"] == 18
    assert 0.0 <= messages["ece"] <= 1.0


@pytest.mark.slow
def test_every_class_is_trained_twice_and_calibrated_on_held_out_examples(calibrated):
    place, outcome = calibrated
    assert sorted(card["class"] for card in cards(place)) == sorted([*CLASSES, *CLASSES])
    calibration = outcome.result["escalated"]["calibration"]
    assert calibration["images"] == len(CLASSES)
    assert round(3 * calibration["accuracy"], 6) in {0, 1, 2, 3}
    assert calibration["temperature"] > 0
    assert f"diffusion model on {len(CLASSES)} held-out examples: " in " ".join(outcome.messages.split())


@pytest.mark.slow
def test_calibration_changes_no_label(calibrated):
    place, outcome = calibrated
    without = place.classify("escalate.calibrate=false")
    assert {i: row["label"] for i, row in without.rows.items()} == {i: r["label"] for i, r in outcome.rows.items()}
    assert {row["score"] for row in without.rows.values()} == {None}
    assert without.result["escalated"]["calibration"] is None


@pytest.mark.slow
def test_a_method_without_adapters_is_calibrated_on_every_example(calibrated):
    place, _ = calibrated
    hyperparameters = "escalate.hyperparameters={}"
    outcome = place.classify("escalate.method=diffusion_classifier", hyperparameters, "escalate.max_fraction=0.2")
    assert outcome.code == 0, outcome.messages
    assert outcome.result["escalated"]["calibration"]["images"] == 5 * len(CLASSES)


@pytest.mark.slow
def test_with_one_example_a_class_there_is_no_score(calibrated):
    place, _ = calibrated
    outcome = place.classify("support.shots=1", "escalate.max_fraction=0.2")
    assert outcome.code == 0, outcome.messages
    assert outcome.result["escalated"]["calibration"] == {"images": 0, "accuracy": None, "temperature": None}
    scores = {row["score"] for row in outcome.rows.values() if row["decided_by"] == "tif"}
    assert scores == {None}


def test_escalated_labels_below_the_threshold_are_withheld(tmp_path):
    cheap = {"top_labels": ["a", "b", "c"], "top_scores": [0.5, 0.3, 0.1], "status": "abstained", "decided_by": "ape"}
    cheap |= {"classifier": "ape/0123456789abcdef"}
    rows = [{"image": str(i), "label": None, "score": 0.5, "margin": 0.2} | cheap for i in range(6)]
    (tmp_path / "part.parquet").write_bytes(write_parquet(pa.Table.from_pylist(rows, schema=SCHEMA)))
    escalated_predictions = (
        EscalatedPrediction(0, ("b", "a"), 0.1, (0.9, 0.1)),
        EscalatedPrediction(1, ("b", "a"), 0.1, (0.6, 0.4)),
        EscalatedPrediction(2, ("c", "a", "b"), 0.1, None),
        EscalatedPrediction(4, ("b", "a"), 0.1, (math.nan, math.nan)),
        EscalatedPrediction(5, ("b", "a"), math.nan, None),
    )
    step = MergeStep(Store(str(tmp_path)), "tif", threshold=0.7)
    (tmp_path / "merged.parquet").write_bytes(step.run(None, MergeUnit("part.parquet", escalated_predictions)).data)
    merged = pq.read_table(tmp_path / "merged.parquet").to_pylist()
    assert [row["label"] for row in merged] == ["b", None, "c", None, None, None]
    assert [row["top_labels"][0] for row in merged] == ["b", "b", "c", "a", "a", "a"]
    assert [row["decided_by"] for row in merged] == ["tif", "tif", "tif", "ape", "ape", "ape"]
    assert {row["classifier"] for row in merged} == {"ape/0123456789abcdef"}
    assert [row["score"] for row in merged] == [pytest.approx(0.72), pytest.approx(0.48), None, 0.5, 0.5, 0.5]
    assert [row["status"] for row in merged] == ["ok", "abstained", "ok", *["abstained"] * 3]


def test_a_diffusion_model_gives_no_score_where_the_classifier_gives_none(tmp_path):
    row = {"image": "0", "top_labels": ["a", "b"], "margin": 0.2, "status": "ok", "decided_by": "ape"}
    (tmp_path / "part.parquet").write_bytes(write_parquet(pa.Table.from_pylist([row], schema=SCHEMA)))
    unit = MergeUnit("part.parquet", (EscalatedPrediction(0, ("b", "a"), 0.1, (0.9, 0.1)),))
    (tmp_path / "merged.parquet").write_bytes(MergeStep(Store(str(tmp_path)), "tif").run(None, unit).data)
    (merged,) = pq.read_table(tmp_path / "merged.parquet").to_pylist()
    assert (merged["label"], merged["score"], merged["top_scores"], merged["decided_by"]) == ("b", None, None, "tif")


class Examples:
    """Enough of `ExampleLatents` for calibration: three classes; the last example of the second is unreadable."""

    def __init__(self):
        self.images = {"a": ("a0", "a1", "a2", "a3"), "b": ("b0", "b1"), "c": ("c0",)}
        self.units = {label: Unit(f"{label}.safetensors", None) for label in self.images}
        self.latents = {}
        for label, names in self.images.items():
            errors = tuple("broken" if name == "b1" else None for name in names)
            self.latents[label] = Latents(names, errors, np.zeros((len(names), 2, 4, 8, 8), np.float32), 1000)


def test_held_out_examples_are_not_trained_on_and_take_candidates_of_the_archive(tmp_path):
    adapter_training = AdapterTraining(EscalateSection(), Store(str(tmp_path)), Examples(), for_calibration=True)
    held_out = adapter_training.held_out
    assert {label: len(rows) for label, rows in held_out.items()} == {"a": 1, "b": 1, "c": 0}
    trained_on = {label: adapter_training.training_rows(label) for label in "abc"}
    assert trained_on["a"] == [row for row in range(4) if row not in held_out["a"]]
    assert trained_on["b"] == [0]  # The only readable one, held out or not.
    assert trained_on["c"] == [0]
    selected = [
        EscalationCandidate(0.1, "x", 0, 0, ("c", "b"), "c"),
        EscalationCandidate(0.2, "y", 0, 1, ("b", "a"), "b"),
        EscalationCandidate(0.3, "z", 0, 2, ("a", "c"), "a"),
    ]
    images = EscalationCalibration(None, adapter_training).held_out_images(selected)
    found = [(image.image, image.label, image.candidates) for image in images]
    assert found == [(f"a{held_out['a'][0]}", "a", ("b", "a"))]
    assert EscalationCalibration(None, adapter_training).held_out_images(selected[:1]) == []
