"""Every command reads and writes the same ledger of a run: the one that its job names, or that of its output."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from tests.ray_jobs.place import CLASSES, Place, fewshot, write_table

TRUTH = {f"photo_{i:03}.jpg": CLASSES[i % len(CLASSES)] for i in range(18)}


@pytest.fixture
def sharing(place: Place) -> Place:
    """A place whose job names a ledger elsewhere, with two labels; that of its output has another one."""
    assert place.classify().code == 0
    label(place, 0, 2)
    place.output.joinpath("labels").rename(ledger_of(place))
    label(place, 5, 6)
    place.write_job(support={"labels": str(ledger_of(place))})
    assert place.classify().code == 0
    return place


def ledger_of(place: Place) -> Path:
    return place.folder / "shared"


def label(place: Place, start: int, end: int) -> str:
    """Label some images, and return the ledger that was written to."""
    table = write_table(place.folder / "given.csv", list(TRUTH.items())[start:end])
    result = fewshot("labels", "import", place.output, table).result
    assert result["written"] == end - start
    return str(result["ledger"])


def test_labels_are_imported_into_the_ledger_that_the_job_names(sharing: Place) -> None:
    assert label(sharing, 2, 3) == str(ledger_of(sharing))
    table = sharing.folder / "exported.csv"
    assert fewshot("labels", "export", sharing.output, table).result["labels"] == 3
    assert [row["image"] for row in csv.DictReader(table.open())] == list(TRUTH)[:3]


def test_suggestions_and_searches_know_the_labels_of_this_ledger(sharing: Place) -> None:
    label(sharing, 2, 3)
    found = fewshot("suggest", sharing.output).result
    assert found["labelled"] == 2 * len(CLASSES) + 3
    assert not {image["image"] for image in found["images"]} & set(list(TRUTH)[:3])


def test_an_audit_takes_its_answers_from_this_ledger(sharing: Place) -> None:
    table = sharing.folder / "audit.csv"
    drawn = fewshot("audit", sharing.output, "--n", 20, "--table", table).result
    assert (drawn["learned_from"], drawn["population"]) == (2, 16)
    rows = [row | {"label": TRUTH[row["image"]]} for row in csv.DictReader(table.open())]
    write_table(table, (row.values() for row in rows), tuple(rows[0]))
    assert fewshot("labels", "import", sharing.output, table).result["ledger"] == str(ledger_of(sharing))
    assert fewshot("audit", sharing.output).result["answered"] == 16


def test_predictions_are_exported_with_the_labels_of_this_ledger(sharing: Place) -> None:
    table = sharing.folder / "all.csv"
    assert fewshot("export", sharing.output, "--to", "csv", "--labels", "--out", table).code == 0
    labelled = [row["image"] for row in csv.DictReader(table.open()) if row["labelled_by"]]
    assert labelled == list(TRUTH)[:2]


def test_an_output_that_was_moved_keeps_its_ledger(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    assert place.classify().code == 0
    label(place, 0, 2)
    assert place.classify("support.labels=true").code == 0
    moved = place.folder / "moved"
    shutil.move(place.output, moved)
    shutil.rmtree(next((moved / "runs").glob("*/report")))
    assert fewshot("report", moved).code == 0
    assert "report without" not in caplog.text
    assert fewshot("suggest", moved).result["labelled"] == 2 * len(CLASSES) + 2
