"""Every benchmark runs at toy size; its measurements are not checked."""

import io
import json
import runpy
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest
import torch

from cluster import RayExecutor
from fewshot.backbones import ClipBackbone
from tests.bench import (
    archive,
    audit,
    churn,
    decode,
    device,
    diffusion,
    drift,
    export,
    job,
    labelled_sets,
    large,
    lora,
    million,
    overhead,
    pipeline,
    precision,
    promotion,
    random_labels,
    reading,
    report,
    review,
    scale,
    scoring,
    search,
    suggestion,
    usage,
)
from tests.bench.labelled_sets import PhotoSet
from tests.bench.photographs import jpeg, photograph, write_photographs
from tests.bench.result import Gate, Result, digits
from tests.bench.usage import Usage, measure
from tests.problems import World, space


@pytest.fixture
def run_here(monkeypatch):
    """Return a function that runs a module in this process, where torch is imported, which is faster than a new one."""

    def run(module, *arguments):
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        wall_s, cpu_s = time.monotonic(), time.process_time()
        with redirect_stdout(io.StringIO()) as stdout:
            runpy.run_module(module, run_name="__main__")
        return Usage(time.process_time() - cpu_s, time.monotonic() - wall_s, stdout.getvalue())

    return run


@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")
def test_the_decode_benchmark_runs():
    rows = decode.run(images=1, repeat=1, sizes=((90, 60),)).rows
    assert [row["contender"] for row in rows] == [*decode.CONTENDERS, decode.OUR_VIEWS, decode.PILLOW_VIEWS]
    assert all(row["90 x 60, CPU ms"] > 0 for row in rows)


@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")
@pytest.mark.parametrize("contender", decode.CONTENDERS)
def test_a_decode_contender_gives_the_same_square(contender):
    data = jpeg(photograph(0, 320, 240))
    square = decode.CONTENDERS[contender](data)
    assert square.shape == (3, decode.SIDE, decode.SIDE)
    assert (square.float() - decode.CONTENDERS[decode.PLAIN](data)).abs().mean() < 1.5


def test_the_scoring_benchmark_runs():
    rows = scoring.run(images=1, repeat=1, classes=(3,)).rows
    assert [row["method"] for row in rows] == list(scoring.METHODS)
    assert all(row["images/s"] > 0 for row in rows)


def test_the_search_benchmark_runs():
    result = search.run(images=600, repeat=1)
    assert [row["images"] for row in result.rows] == ["600"] * 4
    assert result.gates[0].holds
    assert all(row["images / CPU-second"] > 0 for row in result.rows)


def photo_set(train, test):
    """A set of three classes as random features, in place of photographs; so many images of a class in each split."""
    world = World(3, image_noise=0.3)
    images = {split: world.images(torch.arange(3).repeat(count)) for split, count in (("train", train), ("test", test))}
    features = {split: of_split.features.numpy() for split, of_split in images.items()}
    labels = {split: of_split.labels.numpy() for split, of_split in images.items()}
    return PhotoSet("tiny", space(3), world.text, 100.0, features, labels)


@pytest.fixture
def photo_sets(monkeypatch):
    for module in (suggestion, random_labels):
        monkeypatch.setattr(module, "find_sets", lambda names: [photo_set(20, 30)])


def test_the_suggestion_benchmark_runs(photo_sets, capsys):
    result = suggestion.run(images=100, repeat=2, rounds=2)
    rows = result.rows
    assert [(row["first labels"], row["labels"]) for row in rows] == [
        ("no label", "3"),
        ("no label", "6"),
        ("one a class", "6"),
        ("one a class", "9"),
    ]
    assert all(row[name] > 33 for row in rows for name in suggestion.STRATEGIES)
    assert [gate.claim.split(",")[0] for gate in result.gates] == [
        "points above random and two standard errors",
        "points above random",
        "points above margin",
        "points above TypiClust",
    ]
    steps = capsys.readouterr().err.splitlines()
    assert [step.split(" after")[0] for step in steps] == [f"{done} of 4" for done in range(1, 5)]


def test_the_parts_of_suggestions_are_compared(photo_sets):
    rows = suggestion.run_parts(images=100, repeat=1, rounds=2).rows
    assert [row["set"] for row in rows] == ["tiny"] * 4 + ["mean"]
    assert all(row[name] > 33 for row in rows for name in suggestion.PARTS)


def test_curves_end_where_half_of_the_archive_is_labelled(photo_sets):
    rows = suggestion.run(images=100, repeat=1, rounds=9).rows
    assert [row["labels"] for row in rows if row["first labels"] == "no label"] == ["3", "6", "12", "24"]


@pytest.mark.parametrize(("train", "archive", "measured"), [(20, 60, 90), (10, 45, 45), (0, 45, 45)])
def test_sets_with_little_to_choose_from_are_halved(train, archive, measured):
    halves = suggestion._archive(photo_set(train, 30), 1000, seed=0)
    assert [len(labels) for _, labels in halves] == [archive, measured]


def test_the_benchmark_of_random_labels_runs(photo_sets):
    rows = random_labels.run(images=100, repeat=2).rows
    assert [row["archive"] for row in rows] == list(random_labels.ARCHIVES)
    assert all(row["half random"] > 50 for row in rows)


def test_the_benchmark_of_drift_runs(monkeypatch):
    sets = {name: replace(photo_set(0, 320), name=name) for name in ("one", "other")} | {"few": photo_set(0, 100)}
    away = np.roll(sets["one"].features["test"], 1, axis=1)
    monkeypatch.setattr(drift, "find_sets", lambda: list(sets.values()))
    monkeypatch.setattr(drift, "photo_paths", lambda name: [(row, 0) for row in range(960)])
    monkeypatch.setattr(drift, "_embed_changed", lambda rows, change: away[rows])
    result = drift.run(images=12, repeat=1, sets=["one"])
    assert {(row["set"], row["archive"]) for row in result.rows} == {("one", "grows"), ("one", "is replaced")}
    found = {(row["archive"], row["change"]): row["found"] for row in result.rows}
    assert found["grows", "none"] == found["is replaced", "none"] == "0 false alarms in 12 nights"
    assert found["is replaced", "blur"] == "night 1"
    assert all(gate.holds for gate in result.gates if "another set" not in gate.claim)


def test_random_labels_are_measured_only_where_there_is_enough_to_choose_from(monkeypatch):
    sets = {"few": photo_set(3, 30), "enough": photo_set(4, 30)}
    monkeypatch.setattr(random_labels, "find_sets", lambda names: list(sets.values()))
    assert len(random_labels.run(images=100, repeat=1).rows) == len(random_labels.ARCHIVES)


@pytest.fixture
def picture_folder(monkeypatch, tmp_path):
    """A folder with a set with splits and one without, and an empty cache of features."""
    for name, splits in {"split": ("train", "test"), "whole": ("all",)}.items():
        write_photographs(tmp_path / "sets" / name, count=4, width=40, height=30)
        listed = [[path.name, index % 2] for index, path in enumerate(sorted((tmp_path / "sets" / name).glob("*.jpg")))]
        content = {"classes": ["red", "blue"]} | dict.fromkeys(splits, listed)
        (tmp_path / "sets" / name / "splits.json").write_text(json.dumps(content))
    monkeypatch.setenv("FEWSHOT_BENCH_DATA", str(tmp_path / "sets"))
    monkeypatch.setattr(labelled_sets, "CACHE", tmp_path / "cache")
    return tmp_path


def test_photographs_are_embedded_once(picture_folder, capsys):
    found = labelled_sets.find_sets()
    assert [(photos.name, len(photos.labels["train"]), len(photos.labels["test"])) for photos in found] == [
        ("split", 4, 4),
        ("whole", 0, 4),
    ]
    assert "embedding whole" in capsys.readouterr().err
    assert (labelled_sets.find_sets()[1].features["test"] == found[1].features["test"]).all()
    assert capsys.readouterr().err == ""
    assert len(list((picture_folder / "cache").iterdir())) == 2


def test_a_folder_without_sets_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWSHOT_BENCH_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"splits\.json"):
        labelled_sets.find_sets()


@pytest.mark.slow
def test_the_large_benchmark_runs():
    result = large.run(images=100, repeat=1, classes=3)
    assert [row["images labelled"] for row in result.rows] == ["100"] * len(scoring.METHODS)
    assert result.gates[0].holds


@pytest.mark.slow
def test_the_lora_benchmark_runs():
    result = lora.run(images=2, repeat=1, classes=(3, 2, 2))
    assert [gate.holds for gate in result.gates[3:]] == [True]
    assert all(row["CPU ms"] > 0 for row in result.rows)


def test_the_device_benchmark_runs(monkeypatch):
    monkeypatch.setattr(device, "LATENCY_S", 0.01)
    monkeypatch.setattr(device, "BATCH_S", 0.005)
    rows = device.run(images=1000, repeat=1).rows
    assert [row["contender"] for row in rows] == [device.TURNS, device.OURS, device.DECODED]
    assert rows[1]["rows computed / real"] < rows[0]["rows computed / real"]


@pytest.mark.slow
def test_the_diffusion_benchmark_runs():
    result = diffusion.run(images=300, repeat=1)
    assert {row["text forwards"] for row in result.rows if row["units"] == diffusion.NEW} == {0}
    assert all(gate.holds for gate in result.gates if "GiB" in gate.claim)


@pytest.mark.ray
def test_the_million_benchmark_runs(ray_session, monkeypatch):
    monkeypatch.setattr(million, "WARM_UP_SHARD", million.SHARD_IMAGES)
    monkeypatch.setattr(million, "RayExecutor", lambda **_: RayExecutor())
    (row,) = million.run(images=1024, repeat=1, workers=(1,)).rows
    assert row["images"] == 1024
    assert 0 < row["efficiency"] <= 1


def test_the_review_benchmark_runs():
    index, *pages = review.run(images=1000, repeat=1).rows
    assert index["page"] == "index"
    assert [row["page"] for row in pages] == ["class", "least"]


def test_writes_of_an_image_are_counted(tmp_path):
    assert million.per_image_writes(tmp_path / "w", shards=2) == "0.0039 files and 0.0078 fsyncs an image"


@pytest.mark.slow
def test_the_precision_benchmark_runs(monkeypatch):
    monkeypatch.setattr(precision, "STEPS", torch.arange(100, 1000, 400))
    rows = precision.run(images=8, repeat=1, training_steps=2).rows
    assert [row["of a mean, at most %"] > 0 for row in rows] == [False, True, True, True]


@pytest.mark.slow
@pytest.mark.embedded
def test_the_job_benchmark_runs(run_here, monkeypatch):
    monkeypatch.setattr(job, "run_python", run_here)
    monkeypatch.setattr(ClipBackbone, "embed_images", ClipBackbone.embed_images)  # So that its change is undone.
    assert len(job.run(images=5, repeat=1).rows) == 2


def cpu_seconds_for_two(contender, folder):
    """Return the CPU-seconds of a contender for two images, both of which it must embed."""
    write_photographs(folder / "images", 2)
    return pipeline.usage_of(pipeline.CONTENDERS[contender], folder / "images", folder / "output").cpu_s


@pytest.mark.parametrize("contender", [pipeline.OURS, pipeline.PLAIN])
def test_a_pipeline_contender_runs_in_process(contender, run_here, monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, "run_python", run_here)
    assert cpu_seconds_for_two(contender, tmp_path) > 0.0


@pytest.mark.slow
@pytest.mark.ray
def test_the_pipeline_contender_on_ray_runs(ray_session, run_here, monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, "run_python", run_here)
    assert cpu_seconds_for_two(pipeline.OURS_ON_RAY, tmp_path) > 0.0


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("contender", [pipeline.PLAIN_WORKERS, pipeline.RAY_DATA])
def test_a_pipeline_contender_runs_in_separate_processes(contender, tmp_path):
    if contender == pipeline.RAY_DATA:
        pytest.importorskip("pandas", reason="Ray Data needs pandas")
    assert cpu_seconds_for_two(contender, tmp_path) > 0.5


def test_fixed_and_marginal_cost_are_separated():
    costs = {name: (3.0 + marginal, 3.0 + 3 * marginal) for marginal, name in enumerate(pipeline.CONTENDERS, start=1)}
    rows = {row["contender"]: row for row in pipeline.result(costs, costs, (1000, 3000)).rows}
    assert [row["fixed CPU s"] for row in rows.values()] == pytest.approx([3.0] * len(rows))
    assert [row["CPU ms an image"] for row in rows.values()] == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0])


@pytest.mark.ray
def test_the_overhead_benchmark_runs(ray_session):
    assert [row["executor"] for row in overhead.run(images=4, repeat=1).rows] == [*overhead.BASELINES, overhead.DEVICE]


@pytest.mark.ray
def test_the_scale_benchmark_runs(ray_session, monkeypatch):
    monkeypatch.setattr(scale, "STALL_S", 0.2)
    rows = scale.run(images=2, repeat=1, workers=(2,), unit_s=0.05).rows
    assert [(row["workers"], row["units"]) for row in rows] == [
        ("2", scale.EVEN),
        ("1", scale.TAILED),
        ("1", scale.STALLED),
    ]


def test_heavy_tailed_units_have_the_same_total():
    even, tailed = (scale.units(kind, 200, unit_s=0.5) for kind in (scale.EVEN, scale.TAILED))
    assert sum(unit.payload[1] for unit in tailed) == pytest.approx(sum(unit.payload[1] for unit in even))
    assert max(unit.payload[1] for unit in tailed) > 4 * 0.5


def test_the_promotion_benchmark_runs():
    assert len(promotion.run(images=2, repeat=1).gates) == 6


def test_the_audit_benchmark_runs(monkeypatch):
    monkeypatch.setattr(audit, "ARCHIVES", audit.ARCHIVES[:1])
    monkeypatch.setattr(audit, "SIZES", (60,))
    assert [row["estimate"] for row in audit.run(images=10, repeat=1).rows] == list(audit.METHODS)


@pytest.mark.slow
def test_the_archive_benchmark_runs():
    assert [row["images"] for row in archive.run(images=1000, repeat=1).rows] == [10, 100, 1000]


@pytest.mark.slow
def test_the_reading_benchmark_runs(monkeypatch):
    monkeypatch.setattr(reading, "LISTED", 2)
    table = reading.run(images=20, repeat=1)
    assert {row["archive"] for row in table.rows} == {reading.FOLDER, *reading.CONTAINERS, reading.LISTING}


def test_the_cpu_time_of_an_orphaned_grandchild_counts(tmp_path, monkeypatch):
    worked, seen = tmp_path / "worked", tmp_path / "seen"
    descendants = usage._descendants

    def watched():
        has_worked = worked.exists()
        yield from descendants()
        if has_worked:
            seen.touch()

    monkeypatch.setattr(usage, "_descendants", watched)
    waits = f"while not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.01)"
    works = f"""
import pathlib, time
while time.process_time() < 0.5: pass
pathlib.Path({str(worked)!r}).touch()
{waits}
"""
    leaves = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {works!r}])"
    command = f"import pathlib, subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {leaves!r}])\n{waits}"
    assert measure([sys.executable, "-c", command], {}).cpu_s >= 0.5


def test_a_failed_command_raises_with_its_stderr():
    with pytest.raises(Exception, match="status 1") as caught:
        measure([sys.executable, "-c", "import sys; sys.exit('no images')"], {})
    assert "no images" in caught.value.stderr


def test_a_gate_is_missed_beyond_its_bound():
    assert Gate.at_most("ratio", 1.15, 1.15).holds
    assert not Gate.at_most("ratio", 1.16, 1.15).holds
    assert not Gate.at_least("share", 0.89, 0.9).holds


def test_numbers_have_three_significant_digits():
    assert [digits(value) for value in ("ours", 12345.6, 12.345, 0.98765)] == ["ours", "12,346", "12.3", "0.988"]


def test_a_result_keeps_its_rows_in_json():
    result = Result("x", "title", [{"who": "a", "images/s": 2.0}])
    assert result.to_json()["rows"] == [{"who": "a", "images/s": 2.0}]


def test_synthetic_photographs_have_realistic_sizes(tmp_path):
    write_photographs(tmp_path / "images", 3)
    sizes = [path.stat().st_size for path in (tmp_path / "images").iterdir()]
    assert len(sizes) == 3
    assert all(35_000 < size < 75_000 for size in sizes)


def test_the_report_benchmark_runs():
    result = report.run(images=5000, repeat=1)
    assert result.rows[0]["images"] == 5000
    assert result.rows[0]["MiB"] > 0
    assert len(result.gates) == 4


def test_the_churn_benchmark_runs():
    result = churn.run(images=10_000, repeat=1)
    assert [row["shards"] for row in result.rows] == ["the same", "others", "the same", "others"]
    assert all(row["MiB"] > 0 and 0.01 < row["changed"] < 0.03 for row in result.rows)
    assert len(result.gates) == 6


def test_the_export_benchmark_runs():
    few = [each for each in export.CONTENDERS if each.name in ("csv", "huggingface", "labelstudio --links")]
    result = export.run(images=1000, repeat=1, contenders=few)
    assert len(result.rows) == 8
    assert all(row["peak MiB"] > 0 and row["MiB written"] > 0 for row in result.rows)
    assert len(result.gates) == 3
