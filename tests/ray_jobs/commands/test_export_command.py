"""`fewshot export`, as it is typed: a job file, an output or a run; what is said and printed; mistakes."""

from __future__ import annotations

import csv
import json

import pytest

from ray_jobs.export.format_table import FORMATS
from tests.ray_jobs.place import BROKEN, fewshot
from tests.sources import ROOT


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.mark.parametrize("named", ["job", "output", "run"])
def test_a_run_is_named_by_its_job_file_its_output_or_its_folder(finished, out, named):
    (run,) = (finished.output / "runs").iterdir()
    places = {"job": finished.job, "output": finished.output, "run": run}
    outcome = fewshot("export", places[named], "--to", "csv", "--out", out)
    assert (outcome.code, outcome.result["run"], outcome.result["rows"]) == (0, str(run), 18 + len(BROKEN))
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["url"] for row in rows} == {str(finished.archive / row["image"]) for row in rows}


def test_filters_are_combined_and_counted(finished, out):
    words = ["--status", "ok,abstained", "--status", "unreadable", "--class", "amber", "--class", "blue"]
    outcome = fewshot("export", finished.job, "--to", "jsonl", "--out", out, *words, "--min-score", "0.01")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["label"] for row in rows} <= {"amber", "blue"}
    skipped = outcome.result["skipped"]
    assert skipped["class"] >= len(BROKEN)
    assert outcome.result["rows"] == len(rows) == 18 + len(BROKEN) - sum(skipped.values())
    assert f"{skipped['class']} by class" in outcome.messages


def test_images_are_copied_beside_their_labels(finished, out):
    outcome = fewshot("export", finished.job, "--to", "imagefolder", "--out", out)
    assert outcome.result["complete"]
    for row in csv.DictReader((out / "predictions.csv").open(newline="")):
        assert (out / row["file"]).read_bytes() == (finished.archive / row["image"]).read_bytes()
        assert row["file"].split("/")[0] == row["label"]
    assert "torchvision.datasets.ImageFolder(PATH)" in outcome.messages


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "cvs"], "unknown format 'cvs'. Did you mean 'csv'"),
        (["--to", "csv", "--class", "Ambre"], "unknown class 'Ambre'. Did you mean 'amber'"),
        (["--to", "csv", "--status", "ok,lost"], "unknown status 'lost'"),
        (["--to", "csv", "--min-score", "70"], "expected a number from 0 to 1, got 70.0"),
        (["--to", "coco", "--links"], "coco has no links"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(finished, out, words, message):
    outcome = fewshot("export", finished.job, *words, "--out", out)
    assert (outcome.code, outcome.result) == (2, None)
    assert message in outcome.messages
    assert not out.exists()


def test_no_rows_are_an_empty_export_with_a_warning(finished, out):
    outcome = fewshot("export", finished.job, "--to", "csv", "--out", out, "--status", "unknown")
    assert (outcome.code, outcome.result["rows"]) == (0, 0)
    assert "no row meets the filters" in outcome.messages


def test_a_place_without_runs_is_refused(tmp_path, out):
    outcome = fewshot("export", tmp_path, "--to", "csv", "--out", out)
    assert outcome.code == 2
    assert "no job has run" in outcome.messages


def test_the_documents_have_every_format():
    text = (ROOT / "docs" / "export.md").read_text()
    for each in FORMATS:
        assert f"--to {each.name} " in text
