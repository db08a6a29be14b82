"""A plan runs nothing and tells what the job then does; a status is read from storage alone, at any point of a run."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from cluster.on_ray.capacity import Node
from ray_jobs.results.stage_load import StageLoad
from ray_jobs.steps.embed import EmbedStep
from tests.ray_jobs.place import CLASSES, fewshot, picture, put, write_table, written

pytestmark = pytest.mark.slow

IMAGES = 20
FORMATS = (".json", ".parquet", ".html")


def plan(place, *words):
    return fewshot("plan", place.job, "--no-probe", *words)


def stages(outcome):
    return {stage["stage"]: (stage["done"], stage["left"]) for stage in outcome.result["stages"]}


def state(place):
    return [(run["state"], run["parts"]) for run in fewshot("status", place.job).result["runs"]]


def test_a_plan_writes_nothing_and_counts_what_there_is(place):
    before = written(place.folder)
    outcome = plan(place)
    shards = outcome.result["archive"]["shards"]
    assert (outcome.code, outcome.result["finished"]) == (0, False)
    assert stages(outcome) == {
        "embed examples": (0, 6 * 2),
        "embed archive": (0, IMAGES),
        "train": (0, 1),
        "label": (0, IMAGES),
    }
    assert (outcome.result["classes"], outcome.result["examples"]) == (3, 6)
    assert written(place.folder) == before
    place.classify()
    assert len(written(place.output / "features")) == shards + 1


def test_a_plan_without_a_probe_loads_no_torch(place):
    program = (
        "import sys\n"
        "from ray_jobs.commands.app import app\n"
        "try:\n"
        "    app(['plan', sys.argv[1], '--no-probe'])\n"
        "finally:\n"
        "    print([name for name in ('torch', 'ray', 'open_clip') if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, place.job], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert '"stage": "embed archive"' in done.stdout


def test_masks_and_unused_parts_are_warned_of_before_the_job_and_in_it(place):
    put(place.archive / "photo_001_mask.png", picture("blue", 1))
    rows = [(f"examples/{label}/{shot}.jpg", label, shot) for label in CLASSES for shot in (0, 1)]
    write_table(place.folder / "examples.csv", rows, header=("image", "label", "fold"))
    place.write_job(support={"uri": str(place.folder / "examples.csv")})
    mask, parts = plan(place).result["warnings"]
    assert mask.startswith("1 archive image is called like a mask of another one, such as photo_001_mask.png")
    assert parts.startswith("examples.csv: the column 'fold' has 2 values (0, 1)")
    messages = place.classify().messages
    assert f"warning: {mask}" in messages
    assert f"warning: {parts}" in messages
    named = plan(place, "--set", "archive.component=jpg;png")
    assert named.result["warnings"] == [parts]


def test_rows_that_repeat_an_image_are_warned_of(place):
    rows = [("photo_000.jpg",), ("./photo_000.jpg",), ("photo_001.jpg",), ("photo_001.jpg",)]
    write_table(place.archive / "list.csv", rows, header=("path",))
    place.write_job(archive={"uri": str(place.archive / "list.csv")})
    outcome = plan(place)
    assert outcome.result["archive"]["images"] == 2
    (warning,) = outcome.result["warnings"]
    assert warning == (
        "2 rows of the list name an image that another row names, such as photo_000.jpg. Each is labelled once."
    )


def test_a_plan_after_the_job_has_nothing_left(finished):
    outcome = plan(finished)
    assert outcome.result["finished"] is True
    assert [left for _, left in stages(outcome).values()] == [0, 0, 0, 0]
    assert outcome.result["run"] == str(finished.classify().run)


def test_only_what_is_measured_differs_when_a_run_is_made_anew(place, monkeypatch):
    results = []
    for decoding in (1.0, 3.0):
        seconds = {"active": 4.0, "decoding": decoding, "device": 2.0}
        load = StageLoad.from_seconds(seconds, units_s=4.0, threads=1)
        monkeypatch.setattr(EmbedStep, "load", lambda *_, load=load: load)
        shutil.rmtree(place.output, ignore_errors=True)
        done = place.classify()
        assert load.sentence() in done.messages
        results.append({path: path.read_bytes() for path in done.run.rglob("*") if path.suffix in FORMATS})
    first, second = results
    assert {path.name for path in first if first[path] != second[path]} == {"load.json", "work.json", "work.html"}
    assert first.keys() == second.keys() >= {done.run / "metrics.json", done.run / "report/index.html"}
    for shown in (plan(place), fewshot("status", place.output)):
        assert "embedding was limited by decoding, busy 75% of the time" in " ".join(shown.messages.split())


def test_a_damaged_load_is_named_and_costs_nothing_else(place):
    load = place.classify().run / "load.json"
    load.write_bytes(load.read_bytes().replace(b"device", b"devise"))
    assert fewshot("status", place.output).result["runs"][0]["embedding"] is None
    assert plan(place).result["embedding"] is None
    assert [each["path"] for each in fewshot("verify", place.output).result["runs"][0]["damaged"]] == [str(load)]
    assert place.classify().code == 0
    assert fewshot("verify", place.output).code == 0


def test_a_plan_and_a_job_ask_the_cluster_once_for_its_nodes(place, monkeypatch):
    (place.classify().run / "metrics.json").unlink()
    asked = []
    nodes = (Node(cpus=4.0, gpus=0.0), Node(cpus=2.0, gpus=0.0))
    monkeypatch.setattr(
        "ray_jobs.classification.classify.cluster_nodes", lambda address: asked.append(address) or nodes
    )
    place.write_job(cluster={"mode": "auto", "address": "auto"})
    assert plan(place).result["workers"] == 6
    assert asked == ["auto"]
    assert place.classify().result["did"] == "the rest"
    assert asked == ["auto", "auto"]


def test_plan_and_status_count_a_partial_run(place):
    done = place.classify()
    run, labelled = done.run, done.parts
    archive = sorted(path for path in place.output.glob("features/*/*/*") if "/examples-" not in str(path))
    (run / "metrics.json").unlink()
    labelled[0].unlink()
    assert stages(plan(place))["embed archive"] == (IMAGES, 0)
    done, left = stages(plan(place))["label"]
    assert 0 < left < IMAGES
    assert done + left == IMAGES
    assert state(place) == [("labelling", f"{len(labelled) - 1}/{len(labelled)}")]
    for part in labelled[1:]:
        part.unlink()
    archive[0].unlink()
    done, left = stages(plan(place))["embed archive"]
    assert 0 < left < IMAGES
    assert done + left == IMAGES
    assert state(place) == [("embedding", f"{len(archive) - 1}/{len(archive)}")]
    assert place.classify().code == 0
    assert state(place) == [("complete", f"{len(archive)}/{len(archive)}")]


def test_status_counts_parts_of_the_current_archive(place):
    shards = len(place.classify().parts)
    put(place.archive / "photo_005.jpg", b"another file")
    done = place.classify()
    run = done.run
    for path in [run / "metrics.json", *done.parts]:
        path.unlink()
    messages = {run["run"]: (run["state"], run["parts"]) for run in fewshot("status", place.output).result["runs"]}
    assert messages[run.name] == ("embedding", f"{shards}/{shards}")


def test_a_probe_runs_only_when_work_is_left(place, monkeypatch):
    monkeypatch.setattr("ray_jobs.classification.plan.PROBE_S", 0.1)
    probe = fewshot("plan", place.job).result["probe"]
    assert probe["images_per_second"] > 0
    assert probe["hours"] == pytest.approx((IMAGES + 12) / probe["images_per_second"] / 3600)
    place.classify()
    assert fewshot("plan", place.job).result["probe"] is None


def test_the_status_of_a_missing_output_is_refused(tmp_path):
    outcome = fewshot("status", tmp_path / "nothing")
    assert (outcome.code, outcome.result) == (2, None)
    assert outcome.messages == f"error: no job has run in {tmp_path / 'nothing'}: there is no run below it\n"


def test_a_stray_file_among_the_runs_is_no_run(tmp_path):
    put(tmp_path / "runs/.DS_Store", b"")
    put(tmp_path / "runs/notes.txt", b"")
    outcome = fewshot("status", tmp_path)
    assert (outcome.code, outcome.result) == (2, None)
    (tmp_path / "job.toml").write_text(f'[job]\nname = "a"\noutput = "{tmp_path}"\n')
    assert fewshot("status", tmp_path / "job.toml").result["runs"] == []
