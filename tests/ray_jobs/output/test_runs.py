"""Runs are opened by their folder or as the newest of an output; one that is damaged hides no other."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cluster import Store
from fewshot.digests import seal_json
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import StorageSection
from ray_jobs.output.predictions import SCHEMA
from ray_jobs.output.runs import Run, UnreadableRun, acquire_run, find_runs, open_run
from ray_jobs.results import ClassificationMetrics, EvaluationResult
from tests.cluster.faulty import write_temporary_file
from tests.ray_jobs.evaluation.test_evaluate import evaluation, write_splits
from tests.ray_jobs.place import fewshot, picture, put, written

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, tiny_clip):
    """A finished evaluation. Shared: leave it as it is."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_splits(folder)
    place = evaluation(folder, tiny_clip, methods=["zero_shot"], shots=[1], seeds=[1])
    assert fewshot("evaluate", place.job).code == 0
    return place


def test_a_run_is_opened_by_its_folder_and_as_the_newest_of_its_output(finished):
    outcome = finished.classify()
    for url in (outcome.run, f"{outcome.run}/", outcome.run.as_uri(), finished.output):
        run = open_run(str(url))
        assert (run.name, run.kind, run.job, run.url) == (outcome.run.name, "classification", "test", str(outcome.run))
        assert run.is_complete
        assert isinstance(run.metrics, ClassificationMetrics)
        assert run.metrics.images == run.plan.archive.images == 20
        assert run.report == outcome.result["report"]


def test_the_predictions_of_a_run_are_those_of_its_parts_in_order(finished):
    outcome = finished.classify()
    run = open_run(str(finished.output))
    table = run.predictions()
    assert table.table.schema.equals(SCHEMA)
    assert table.to_pylist() == ds.dataset(run.prediction_urls()).to_table().to_pylist()
    assert pa.Table.from_batches(run.prediction_batches()).to_pylist() == table.to_pylist()
    assert table.to_pandas()["label"].notna().sum() == run.metrics.ok
    assert open_run(str(outcome.run)).image_url("photo_000.jpg") == str(finished.archive / "photo_000.jpg")


def test_other_programs_read_the_parts_that_the_plan_lists(place):
    place.classify()
    put(place.archive / "photo_005.jpg", picture("cyan", 500))
    outcome = place.classify()  # The part of the former photograph lies beside those of this run.
    plan = json.loads(Path(outcome.result["predictions"]).read_text())
    parts = [str(place.output / part) for part in plan["predictions"]]
    assert len(list((place.output / "predictions").rglob("*.parquet"))) == len(parts) + 1
    run = open_run(str(outcome.run))
    assert run.prediction_urls() == parts
    assert pandas.read_parquet(parts)["image"].tolist() == run.predictions()["image"].to_pylist()
    assert ds.dataset(parts).count_rows() == outcome.result["images"] == 20


def test_a_run_of_an_older_version_is_to_be_run_again(finished, tmp_path):
    run = finished.classify().run
    plan = {key: value for key, value in json.loads((run / "plan.json").read_text()).items() if key != "digest"}
    put(tmp_path / "runs/old-0123/plan.json", json.dumps(seal_json(plan | {"format_version": 2})).encode())
    with pytest.raises(JobError, match=r"from an older version of fewshot\. Run the job again") as refused:
        open_run(str(tmp_path / "runs/old-0123"))
    assert str(refused.value).endswith(f"If that makes a run of another name, remove {tmp_path / 'runs/old-0123'}.")


def test_a_moved_output_has_its_runs_where_it_is_now(place):
    name = place.classify().run.name
    moved = place.folder / "moved"
    place.output.rename(moved)
    assert open_run(str(moved)).url == str(moved / "runs" / name)
    again = fewshot("classify", place.job, "--set", f"job.output={moved}")
    assert again.result["predictions"] == str(moved / "runs" / name / "plan.json")


def test_the_newest_run_is_the_one_that_finished_last(place):
    first = place.classify()
    second = place.classify("classifier.method=zero_shot")
    assert first.run != second.run
    assert open_run(str(place.output)).name == second.run.name
    again = place.classify()
    assert again.result["did"] == "nothing"
    assert open_run(str(place.output)).name == first.run.name
    before = written(place.folder)
    place.classify()
    assert written(place.folder) == before


def test_a_run_that_is_not_complete_is_not_the_newest(place):
    complete = place.classify("classifier.method=zero_shot").run
    features = min(path for path in place.output.glob("features/*/*/*") if "examples-" not in str(path))
    features.write_bytes(b"damaged")
    broken = place.classify()
    assert (broken.code, broken.result["complete"]) == (1, False)
    assert open_run(str(place.output)).name == complete.name
    assert not open_run(str(broken.run)).is_complete


def test_of_several_jobs_one_is_named(place):
    place.classify()
    place.classify("job.name=other")
    with pytest.raises(JobError, match=r"has several jobs\. Name a job file or a run") as refused:
        open_run(str(place.output))
    assert "other (classification): " in str(refused.value)
    assert "test (classification): " in str(refused.value)
    assert open_run(str(place.output), job="other").job == "other"
    with pytest.raises(JobError, match=r"no run of the job 'third' is complete in .*Known: other, test"):
        open_run(str(place.output), job="third")
    with pytest.raises(JobError, match="no evaluation of the job 'other' is complete"):
        open_run(str(place.output), job="other", kind="evaluation")


def test_an_evaluation_has_a_table_and_no_predictions(evaluated):
    run = open_run(str(evaluated.output), kind="evaluation")
    assert run.kind == "evaluation"
    assert isinstance(run.metrics, EvaluationResult)
    assert [row.method for row in run.metrics.table] == ["zero_shot"]
    for read in (run.predictions, lambda: list(run.prediction_batches()), lambda: run.image_url("a")):
        with pytest.raises(JobError, match="is an evaluation, which has a table"):
            read()


def test_what_is_no_run_and_no_output_is_refused(tmp_path, finished):
    for url in (tmp_path, tmp_path / "nothing", tmp_path / "a/b"):
        with pytest.raises(JobError, match="no job has run in"):
            open_run(str(url))
    with pytest.raises(JobError, match=f"there is an output at {finished.output}"):
        open_run(str(finished.folder))


def test_a_run_that_is_gone_is_named(place):
    run = place.classify().run
    (run / "plan.json").unlink()
    with pytest.raises(JobError, match=r"is gone, although latest\.json names it. Run the job again"):
        open_run(str(place.output))


def test_a_damaged_part_is_named_and_left_alone(place):
    done = place.classify()
    run, part = done.run, done.parts[0]
    part.write_bytes(b"PAR1 damaged")
    with pytest.raises(JobError, match=f"{part.name} is damaged .*run the job again"):
        open_run(str(run)).predictions()
    assert part.read_bytes() == b"PAR1 damaged"


@pytest.mark.parametrize("file", ["plan.json", "metrics.json"])
@pytest.mark.parametrize(("content", "message"), [("{", "is damaged"), ('{"format_version": 9}', "has format 9")])
def test_a_run_that_cannot_be_read_hides_no_other(finished, tmp_path, file, content, message):
    name = finished.classify().run.name
    for path in ("plan.json", "metrics.json"):
        put(tmp_path / "runs" / name / path, (finished.output / "runs" / name / path).read_bytes())
        put(tmp_path / "runs/broken-0123" / path, (finished.output / "runs" / name / path).read_bytes())
    put(tmp_path / "runs/broken-0123" / file, content.encode())
    broken, whole = find_runs(Store(str(tmp_path)))
    assert isinstance(broken, UnreadableRun)
    assert message in broken.problem
    assert isinstance(whole, Run)
    status = fewshot("status", tmp_path)
    assert status.code == 0
    assert [(run["run"], run["state"]) for run in status.result["runs"]] == [
        ("broken-0123", "unreadable"),
        (name, "complete"),
    ]
    assert message in " ".join(status.messages.split())
    with pytest.raises(JobError, match=message):
        open_run(str(tmp_path / "runs/broken-0123"))


@pytest.mark.parametrize("file", ["plan.json", "metrics.json"])
def test_a_folder_in_the_place_of_a_document_hides_no_other_run(finished, tmp_path, file, caplog):
    run = finished.classify().run
    for name in ("whole", "broken"):
        for path in ("plan.json", "metrics.json"):
            put(tmp_path / "runs" / name / path, (run / path).read_bytes())
    (tmp_path / "runs/broken" / file).unlink()
    (tmp_path / "runs/broken" / file).mkdir()
    for command in ("status", "report", "verify"):
        outcome = fewshot(command, tmp_path)
        assert outcome.code <= 1, outcome.messages
        assert f"broken/{file}" in outcome.messages + caplog.text
        caplog.clear()
    states = {each["run"]: each["state"] for each in fewshot("status", tmp_path).result["runs"]}
    assert states == {"broken": "unreadable", "whole": "complete"}


def test_holding_a_run_removes_half_written_files(tmp_path):
    store = Store(str(tmp_path))
    own = [write_temporary_file(tmp_path / folder, 1e5) for folder in ("runs/a", "runs/a/lease")]
    others = write_temporary_file(tmp_path / "runs/b", 1e5)
    with acquire_run(store, "runs/a", StorageSection(), Reporter()):
        assert not any(path.exists() for path in own)
    assert others.exists()


def test_metrics_that_are_damaged_are_written_anew_and_newer_ones_are_kept(place):
    metrics = place.classify().run / "metrics.json"
    whole = metrics.read_bytes()
    metrics.write_text("{")
    again = place.classify()
    assert (again.code, again.result["did"]) == (0, "the rest")
    before, after = (ClassificationMetrics.from_json(data, where="") for data in (whole, metrics.read_bytes()))
    assert after == before
    newer = json.dumps(seal_json(json.loads(whole) | {"format_version": 3}))
    metrics.write_text(newer)
    refused = place.classify()
    assert (refused.code, refused.result) == (2, None)
    assert "has format 3; this version of fewshot reads format 2. Upgrade fewshot" in refused.messages
    assert metrics.read_text() == newer
