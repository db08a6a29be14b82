"""Accuracy against cost, from one run; and numbers about images that have no score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from cluster import Store
from ray_jobs.escalation.cost_curve import MAX_POINTS, measure_escalation
from ray_jobs.escalation.decided_images import GAPS_SCHEMA
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.layout import GAPS
from tests.ray_jobs.place import Place, parts_of_run
from tests.tiny_diffusion import write_tiny_diffusion

pytestmark = pytest.mark.slow

QUICK = {"steps": 1, "samples": 1}


@pytest.fixture(scope="module")
def escalated(tmp_path_factory, tiny_clip):
    """A place whose labels are given, with a job that escalates every image."""
    folder = tmp_path_factory.mktemp("cascades")
    place = Place(folder, tiny_clip).fill()
    section = {
        "model": str(write_tiny_diffusion(folder / "diffusion")),
        "max_fraction": 1.0,
        "steps": 20,
        "calibrate": False,
    }
    place.write_job(
        archive={"labels": str(place.truth)}, escalate=section | {"batch_size": 8, "hyperparameters": QUICK}
    )
    assert place.classify().code == 0
    return place


def metrics(outcome):
    return json.loads((outcome.run / "metrics.json").read_text())


def truth(place):
    return dict(line.split(",") for line in place.truth.read_text().splitlines()[1:])


def cheap_labels(outcome):
    rows = ds.dataset(parts_of_run(outcome.run, "cheap_predictions")).to_table().to_pylist()
    return {row["image"]: row["label"] for row in rows if row["label"] is not None}


def share_right(labels, known):
    return np.mean([labels[image] == label for image, label in known.items()])


def written(folder, rows):
    """Return a store with gaps, of (image, cheap label, label, forwards)."""
    import pyarrow as pa

    names = ("image", "cheap_label", "label", "forwards")
    store = Store(str(folder))
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], GAPS_SCHEMA)
    store.put(f"run/{GAPS}", write_parquet(table))
    return store


def test_the_curve_begins_with_cheap_predictions_and_ends_with_predictions(escalated):
    outcome = escalated.classify()
    known = truth(escalated)
    final = {image: row["label"] for image, row in outcome.rows.items()}
    measured = metrics(outcome)["escalated"]["measured"]
    first, last = measured["curve"][0], measured["curve"][-1]
    assert first == {
        "images": 0,
        "fraction": 0.0,
        "forwards_an_image": 0.0,
        "accuracy": share_right(cheap_labels(outcome), known),
    }
    assert (last["images"], last["accuracy"]) == (18, share_right(final, known))
    assert last["forwards_an_image"] == outcome.result["escalated"]["forwards"] / 20
    assert (measured["accuracy_before"], measured["accuracy"]) == (first["accuracy"], last["accuracy"])
    assert measured["accuracy"] == outcome.result["measured"]["accuracy"]
    assert first["accuracy"] != last["accuracy"]
    assert "curve" not in outcome.result["escalated"]["measured"]


@pytest.mark.parametrize("images", [3, 11])
def test_a_smaller_cascade_has_the_accuracy_of_its_point_on_the_curve(escalated, images):
    (point,) = (p for p in metrics(escalated.classify())["escalated"]["measured"]["curve"] if p["images"] == images)
    smaller = escalated.classify(f"escalate.max_fraction={point['fraction']}")
    assert smaller.result["escalated"]["images"] == images
    assert smaller.result["escalated"]["forwards"] / 20 == pytest.approx(point["forwards_an_image"])
    assert smaller.result["measured"]["accuracy"] == pytest.approx(point["accuracy"])


def test_images_without_a_score_count_for_accuracy_only(escalated):
    everything, some = escalated.classify(), escalated.classify("escalate.max_fraction=0.55")
    assert everything.result["measured"]["labelled_images"] == some.result["measured"]["labelled_images"] == 18
    assert (everything.result["mean_score"], everything.result["measured"]["ece"]) == (None, None)
    scores = [row["score"] for row in some.rows.values() if row["score"] is not None]
    assert len(scores) == 18 - 11
    assert some.result["mean_score"] == pytest.approx(np.mean(scores))
    messages = metrics(some)
    assert sum(map(sum, messages["score_histogram"].values())) == len(scores) == sum(messages["reliability"]["rows"])


def test_gaps_keep_the_cost_of_each_image_in_order_of_certainty(escalated):
    outcome = escalated.classify()
    rows = pq.read_table(outcome.run / "gaps.parquet").to_pylist()
    assert sum(row["forwards"] for row in rows) == outcome.result["escalated"]["forwards"]
    assert [row["cheap_score"] for row in rows] == sorted(row["cheap_score"] for row in rows)
    assert {row["image"]: row["cheap_label"] for row in rows} == cheap_labels(outcome)
    parts = outcome.parts
    for row in rows:
        prediction = pq.read_table(parts[row["part"]]).to_pylist()[row["row"]]
        assert [prediction[name] for name in ("image", "label", "margin")] == [
            row[name] for name in ("image", "label", "margin")
        ]


def test_the_report_shows_escalated_images_and_the_curve(escalated):
    html = Path(escalated.classify().result["report"]).read_text(encoding="utf-8")
    assert html.count('class="card escalated"><div class="picture"><img') == 8
    assert html.count('class="curve"') == 1
    assert html.count('class="point"') == 19
    assert "from the cheap method alone to the diffusion model alone" in html


def test_the_table_shows_accuracy_before_and_after(escalated):
    outcome = escalated.classify()
    measured = outcome.result["escalated"]["measured"]
    messages = " ".join(outcome.messages.split())
    assert f"tif scored 18 images: {outcome.result['escalated']['labels_changed']} labels changed" in messages
    assert (
        f"accuracy {100 * measured['accuracy_before']:.1f} % before, {100 * measured['accuracy']:.1f} % after"
        in messages
    )


def test_cascades_match_a_calculation_by_hand(tmp_path):
    rows = [("a", "x", "y", 10), ("b", "x", "x", 4), ("c", "x", "y", 6), ("d", "y", "x", 2), ("e", "x", "y", 8)]
    given = {"a": "y", "b": "x", "d": "y", "e": "x", "f": "x"}  # right: b and f, then a; c is not known
    found = measure_escalation(written(tmp_path, rows), "run", given, correct=3, labelled=5, images=10)
    curve = [(p.images, p.fraction, p.forwards_an_image, p.accuracy) for p in found.curve]
    assert {name: value for name, value in found.to_json().items() if name != "curve"} == {
        "labelled_images": 4,
        "corrected": 1,
        "spoiled": 2,
        "accuracy_before": pytest.approx(0.8),
        "accuracy": pytest.approx(0.6),
    }
    expected = [(0, 0.0, 0.0, 0.8), (1, 0.1, 1.0, 1.0), (2, 0.2, 1.4, 1.0), (3, 0.3, 2.0, 1.0), (4, 0.4, 2.2, 0.8)]
    assert curve == [pytest.approx(point) for point in [*expected, (5, 0.5, 3.0, 0.6)]]


def test_a_long_curve_has_few_points_from_first_to_last(tmp_path):
    store = written(tmp_path, [(str(i), "x", "y", 1) for i in range(1000)])
    curve = measure_escalation(store, "run", {"0": "y"}, correct=1, labelled=1, images=1000).curve
    assert (len(curve), curve[0].images, curve[-1].images) == (MAX_POINTS, 0, 1000)
    assert [point.accuracy for point in curve] == [0.0] + [1.0] * (MAX_POINTS - 1)
