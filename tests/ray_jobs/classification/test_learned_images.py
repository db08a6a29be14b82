"""Images of the archive that a run learned from measure nothing, wherever accuracy is shown."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.ray_jobs.place import CLASSES, Outcome, Place, fewshot, write_table

TRUTH = {f"photo_{i:03}.jpg": CLASSES[i % len(CLASSES)] for i in range(18)}
LEARNED = dict(list(TRUTH.items())[:5])


@pytest.fixture
def labelled(place: Place) -> Place:
    """A place whose ledger has some labels of the archive, one of them wrong."""
    assert place.classify().code == 0
    given = LEARNED | {"photo_004.jpg": "amber"}
    table = write_table(place.folder / "given.csv", given.items())
    assert fewshot("labels", "import", place.output, table).result["written"] == len(given)
    return place


def report_of(outcome: Outcome) -> str:
    return re.sub(r"\s+", " ", (outcome.run / "report" / "index.html").read_text())


def share_right(outcome: Outcome, truth: dict[str, str]) -> float:
    return sum(outcome.rows[image]["top_labels"][0] == label for image, label in truth.items()) / len(truth)


def test_labels_of_the_ledger_are_not_measured_with(labelled: Place) -> None:
    labelled.write_job(archive={"labels": str(labelled.truth)}, support={"labels": True})
    outcome = labelled.classify()
    others = {image: label for image, label in TRUTH.items() if image not in LEARNED}
    measured = outcome.result["measured"]
    assert outcome.result["given_labels"] == {"given": 18, "found": 18, "of_other_classes": 0, "learned_from": 5}
    assert (measured["labelled_images"], measured["accuracy"]) == (13, pytest.approx(share_right(outcome, others)))
    assert "against the given labels (13 images)" in outcome.messages
    assert "5 images with given labels were learned from and do not count." in outcome.messages
    metrics = json.loads((outcome.run / "metrics.json").read_text())
    assert (sum(metrics["reliability"]["rows"]), metrics["given_labels"]["learned_from"]) == (13, 5)
    html = report_of(outcome)
    assert "Measured on 13 images whose labels were given and not trained on." in html
    assert "5 images with given labels were learned from and do not count." in html
    assert "Of 13 images with a given label" in html


def test_a_report_that_is_written_later_leaves_out_the_same_images(labelled: Place) -> None:
    labelled.write_job(archive={"labels": str(labelled.truth)}, support={"labels": True})
    outcome = labelled.classify()
    report, before = outcome.run / "report" / "index.html", report_of(outcome)
    table = write_table(labelled.folder / "more.csv", [*list(TRUTH.items())[5:9]])
    fewshot("labels", "import", labelled.output, table)
    report.unlink()
    assert fewshot("report", labelled.output).code == 0
    assert "Of 13 images with a given label" in before
    assert "Of 13 images with a given label" in report_of(outcome)


def test_no_accuracy_is_stated_where_all_given_labels_were_learned_from(labelled: Place) -> None:
    truth = write_table(labelled.folder / "few.csv", LEARNED.items())
    labelled.write_job(archive={"labels": str(truth)}, support={"labels": True})
    outcome = labelled.classify()
    assert (outcome.code, outcome.result["measured"]) == (0, None)
    assert "against the given labels" not in outcome.messages
    assert "5 images with given labels were learned from and do not count." in outcome.messages
    html = report_of(outcome)
    assert "How good it is likely to be" in html
    assert "Where it is wrong" not in html
    assert "5 images with given labels were learned from and do not count." in html


def test_labels_of_another_archive_are_measured_with(labelled: Place) -> None:
    labelled.write_job(
        archive={"labels": str(labelled.truth), "uri": str(shutil.copytree(labelled.archive, labelled.folder / "new"))},
        support={"labels": True},
    )
    outcome = labelled.classify()
    assert outcome.result["given_labels"] == {"given": 18, "found": 18, "of_other_classes": 0}
    assert outcome.result["measured"]["labelled_images"] == 18


def test_examples_in_the_folder_of_the_archive_are_not_measured_with(place: Place) -> None:
    examples = write_table(place.folder / "examples.csv", ((f"archive/{k}", v) for k, v in LEARNED.items()))
    place.write_job(archive={"labels": str(place.truth)}, support={"uri": str(examples)})
    assert place.classify().result["measured"]["labelled_images"] == 13
    shutil.copytree(place.archive, place.folder / "elsewhere")
    other = write_table(place.folder / "others.csv", ((f"elsewhere/{k}", v) for k, v in LEARNED.items()))
    place.write_job(archive={"labels": str(place.truth)}, support={"uri": str(other)})
    assert place.classify().result["measured"]["labelled_images"] == 18


def results_of(outcome: Outcome) -> dict[str, bytes]:
    names = ("metrics.json", "failures.parquet", "report/index.html")
    return {name: (outcome.run / name).read_bytes() for name in names}


def test_a_run_that_is_resumed_has_the_same_results(labelled: Place) -> None:
    labelled.write_job(archive={"labels": str(labelled.truth)}, support={"labels": True})
    outcome = labelled.classify()
    expected = results_of(outcome)
    (outcome.run / "metrics.json").unlink()
    outcome.parts[1].unlink()
    again = labelled.classify()
    assert (again.run, results_of(again)) == (outcome.run, expected)


@pytest.mark.ray
def test_ray_counts_what_one_process_counts(ray_session: object, labelled: Place) -> None:
    ledger = f"support.labels={labelled.output}/labels"
    labelled.write_job(archive={"labels": str(labelled.truth)})
    plain = labelled.classify(ledger)
    assert plain.result["given_labels"]["learned_from"] == 5
    spread = labelled.classify(ledger, "cluster.mode=ray", f"job.output={labelled.folder / 'spread'}")
    assert (spread.run / "metrics.json").read_bytes() == (plain.run / "metrics.json").read_bytes()
