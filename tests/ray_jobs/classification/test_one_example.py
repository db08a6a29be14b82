"""One example of each class: labels, their order by certainty, and no score that nothing was held out for."""

from __future__ import annotations

import json
from pathlib import Path

import fewshot
from tests.ray_jobs.classification.test_validation import write_validation


def labelled(outcome):
    return [row for row in outcome.rows.values() if row["status"] != "unreadable"]


def test_labels_of_one_example_a_class_have_margins_and_no_scores(place):
    outcome = place.classify("support.shots=1", f"archive.labels={place.truth}")
    assert outcome.code == 0
    rows = labelled(outcome)
    assert {(row["score"], row["top_scores"]) for row in rows} == {(None, None)}
    assert all(row["label"] == row["top_labels"][0] and row["margin"] >= 0 for row in rows)
    assert len({row["margin"] for row in rows}) > len(rows) / 2
    result = outcome.result
    assert (result["mean_score"], result["measured"]["ece"]) == (None, None)
    metrics = json.loads((outcome.run / "metrics.json").read_text())
    assert sum(metrics["reliability"]["rows"]) == sum(metrics["score_histogram"]["ok"]) == 0
    assert {share["archive_share"] for share in result["labelled_shares"]} == {None}
    assert "no label has a score; margins sort images by certainty" in " ".join(outcome.messages.split())
    assert "No label has a score" in Path(result["report"]).read_text(encoding="utf-8")


def test_a_classifier_of_one_example_a_class_predicts_as_its_run_did(place):
    outcome = place.classify("support.shots=1")
    rows = labelled(outcome)
    classifier = fewshot.load_classifier(outcome.run)
    for found, row in zip(classifier.predict(place.archive / row["image"] for row in rows), rows, strict=True):
        assert (found.label, found.score, found.top_scores) == (row["label"], None, ())
        assert (found.status, list(found.top_labels)) == (row["status"], row["top_labels"])
        assert found.margin is not None


def test_zero_shot_is_calibrated_on_one_example_a_class(place):
    outcome = place.classify("support.shots=1", "classifier.method=zero_shot")
    assert all(row["score"] == row["top_scores"][0] for row in labelled(outcome))
    assert outcome.result["held_out"]["source"] == "folds"


def test_validation_images_give_scores_with_one_example_a_class(place):
    validation = write_validation(place.folder / "validation")
    outcome = place.classify("support.shots=1", f"support.validation='{validation}'")
    assert all(row["score"] == row["top_scores"][0] for row in labelled(outcome))
    assert json.loads((outcome.run / "metrics.json").read_text())["held_out"]["source"] == "val"
