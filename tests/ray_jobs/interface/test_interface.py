"""`import fewshot`: the jobs of the commands, with the same results, and what it costs."""

import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

import fewshot
from cluster import Store
from fewshot.digests import seal_json
from fewshot.methods.table import DIFFUSION_SCORERS, METHODS
from ray_jobs.interface import stored_classifier
from ray_jobs.job_file.reading import read_job
from ray_jobs.output.latest_runs import record_latest

HEAVY = {"torch", "ray", "pyarrow", "numpy", "pydantic", "PIL", "s3fs"}


def settings(place, **changes):
    return {
        "support.views": 1,
        "archive.shard_images": 4,
        "clip.model": str(place.clip),
        "clip.batch_size": 4,
        "classifier.method": "tip_adapter",
        "cluster.mode": "process",
    } | changes


def classify(place, output, **changes):
    return fewshot.classify(
        place.archive, place.examples, output=place.folder / output, settings=settings(place, **changes), progress=False
    )


def in_a_new_process(code):
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(found.stdout.split())


def test_importing_the_package_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import fewshot; print(*set(sys.modules) - before)"
    loaded = in_a_new_process(code)
    assert {name.partition(".")[0] for name in loaded} <= {"fewshot", "__future__"}


def test_functions_and_methods_are_found_without_heavy_imports():
    code = "import sys, fewshot; fewshot.classify, fewshot.methods(), fewshot.__version__; print(*sys.modules)"
    assert {name.partition(".")[0] for name in in_a_new_process(code)} & HEAVY == set()


def test_a_name_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(AttributeError, match=r"no attribute 'clasify'.*classify, evaluate"):
        fewshot.clasify  # noqa: B018
    assert set(fewshot.__all__) <= set(dir(fewshot))


def test_methods_lists_the_table():
    assert fewshot.methods() == (*METHODS.values(), *DIFFUSION_SCORERS.values())


def test_classify_gives_the_run_of_the_command(place):
    run = classify(place, "output")
    assert run.is_complete
    assert (run.kind, run.metrics.images, run.metrics.unreadable) == ("classification", 20, 2)
    table = run.predictions()
    command = place.classify("archive.shard_images=4", f"job.output={place.folder / 'by_command'}")
    assert [row["label"] for row in table.to_pylist()] == [row["label"] for row in command.rows.values()]
    assert [row["score"] for row in table.to_pylist()] == [row["score"] for row in command.rows.values()]
    kept, problems = read_job(place.folder / "output" / "job.toml")
    assert not problems
    assert kept.classifier.method == "tip_adapter"


def test_a_second_call_is_a_resume(place):
    first, second = classify(place, "output"), classify(place, "output")
    assert (first.url, first.metrics) == (second.url, second.metrics)
    assert fewshot.open_run(place.folder / "output").url == first.url
    assert fewshot.open_run(first.url).metrics == first.metrics


def test_predictions_go_into_other_libraries(place):
    predictions = classify(place, "output").predictions()
    assert len(predictions) == 20
    assert predictions["label"].null_count == 2
    assert predictions.to_pandas()["label"].isna().sum() == 2
    assert predictions.to_polars().equals(pl.DataFrame(predictions))
    assert pa.table(predictions).equals(predictions.table)


def test_a_loaded_classifier_predicts_as_the_run_did(place):
    run = classify(place, "output")
    classifier = fewshot.load_classifier(run.url)
    rows = [row for row in run.predictions().to_pylist() if row["status"] == "ok"]
    predictions = classifier.predict(place.archive / row["image"] for row in rows)
    assert [(p.label, p.status) for p in predictions] == [(row["label"], "ok") for row in rows]
    assert [np.float32(p.score) for p in predictions] == [np.float32(row["score"]) for row in rows]
    assert [np.float32(p.margin) for p in predictions] == [np.float32(row["margin"]) for row in rows]
    assert [list(p.top_labels) for p in predictions] == [row["top_labels"] for row in rows]
    assert classifier.classes == ("amber", "blue", "cyan")
    assert (classifier.method, classifier.threshold) == ("tip_adapter", None)


@pytest.mark.parametrize("where", ["run", "output", "folder"])
def test_a_classifier_is_found_by_its_folder_its_run_or_their_output(place, where):
    run = classify(place, "output")
    place_of = {"run": run.url, "output": run.output, "folder": f"{run.output}/{run.plan.classifier}"}
    assert fewshot.load_classifier(place_of[where]).classes == ("amber", "blue", "cyan")


def test_an_evaluation_in_the_same_output_hides_no_classifier(place):
    run = classify(place, "output")
    record_latest(Store(run.output), run.job, "evaluation", "runs/evaluated-0123")
    assert fewshot.load_classifier(run.output).classes == ("amber", "blue", "cyan")


def test_one_image_of_any_kind_gives_one_prediction(place):
    classifier = fewshot.load_classifier(classify(place, "output").url)
    path = place.archive / "photo_001.jpg"
    pixels = np.asarray(Image.open(path))
    by_path = classifier.predict(path)
    assert by_path == classifier.predict(str(path))
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    for image in (path.read_bytes(), Image.open(path), pixels, opaque):
        one = classifier.predict(image)
        assert (one.image, one.label, one.status) == (None, by_path.label, "ok")
        assert one.score == pytest.approx(by_path.score, abs=1e-3)  # a small JPEG may be decoded in another way
    assert classifier.predict(path, top=2).top_labels == by_path.top_labels[:2]
    assert classifier.predict([]) == []
    assert len(classifier.predict(np.stack([pixels, pixels]))) == 2
    paths = [str(path), str(place.archive / "photo_002.jpg")]
    expected = classifier.predict(paths)
    columns = (pd.Series(paths, index=[7, 7]), pl.Series(paths), pa.array(paths), pa.chunked_array([paths]))
    for column in (*columns, np.array(paths), np.array(paths, dtype=object)):
        assert classifier.predict(column) == expected
    assert classifier.predict(pa.scalar(paths[0])) == expected[0]
    assert classifier.predict(pa.array([path.read_bytes()]))[0].label == by_path.label
    for table in (pd.DataFrame({"image": paths}), pl.DataFrame({"image": paths}), pa.table({"image": paths})):
        with pytest.raises(TypeError, match="of a table, pass the column"):
            classifier.predict(table)


def test_an_unreadable_image_is_a_prediction_with_its_reason(place, monkeypatch):
    monkeypatch.setattr(stored_classifier, "IMAGES_AT_ONCE", 2)
    classifier = fewshot.load_classifier(classify(place, "output").url)
    good, missing = place.archive / "photo_000.jpg", place.archive / "missing.jpg"
    truncated = Image.open(io.BytesIO(good.read_bytes()[:-100]))
    others = ["a\0b", "foo://x", truncated, Image.new("RGB", (0, 5))]
    predictions = classifier.predict([b"no image", good, missing, place.archive, good, *others])
    assert [p.status for p in predictions] == [
        "unreadable",
        "ok",
        "unreadable",
        "unreadable",
        "ok",
        *["unreadable"] * 4,
    ]
    assert all(p.error for p in predictions[5:])
    assert predictions[0].error.startswith("not an image")
    assert (predictions[2].image, predictions[2].error) == (str(missing), "not found")
    assert predictions[1] == predictions[4]
    assert predictions[0].label is predictions[0].score is None


def test_a_label_below_the_threshold_is_withheld(place):
    run = classify(place, "output", **{"classifier.max_error": 0.01})
    assert run.metrics.abstained == 18
    one = fewshot.load_classifier(run.url).predict(place.archive / "photo_000.jpg")
    assert (one.label, one.status, len(one.top_labels)) == (None, "abstained", 3)


def test_a_loaded_classifier_takes_another_maximum_error(place):
    run = classify(place, "output", **{"classifier.max_error": 0.01})
    folder = Path(run.output) / run.plan.classifier
    lax = fewshot.load_classifier(run.url, max_error=0.9, confidence=0.5)
    assert (fewshot.load_classifier(run.url).threshold, fewshot.load_classifier(folder).threshold) == (2.0, None)
    report = lax.calibrated.report
    assert (report.max_error, report.confidence) == (0.9, 0.5)
    assert lax.threshold == lax.calibrated.held_out.guarantee(0.9, confidence=0.5).threshold
    assert fewshot.load_classifier(folder, max_error=0.9, confidence=0.5).threshold == lax.threshold
    for wrong in ({"max_error": 1.5}, {"max_error": 0.1, "confidence": 1.0}):
        with pytest.raises(fewshot.JobError, match=r"must lie in \(0, 1\)"):
            fewshot.load_classifier(run.url, **wrong)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (7, TypeError, "expected a path, bytes, a Pillow image or a numpy array, got int"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"got uint8 \[4, 4, 2\]"),
        (np.zeros((4, 4, 3), np.float32), ValueError, "got float32"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "with an area"),
    ],
)
def test_a_value_that_is_no_image_is_refused(place, image, error, message):
    classifier = fewshot.load_classifier(classify(place, "output").url)
    with pytest.raises(error, match=message):
        classifier.predict([image])
    with pytest.raises(ValueError, match="top must be at least 1"):
        classifier.predict(b"", top=0)


def test_a_stored_classifier_takes_the_place_of_examples(place):
    run = classify(place, "output")
    url = f"{run.output}/{run.plan.classifier}"
    again = fewshot.classify(
        place.archive, classifier=url, output=place.folder / "other", name="other", progress=False,
        settings={"archive.shard_images": 4, "cluster.mode": "process"},
    )  # fmt: skip
    assert [row["label"] for row in again.predictions().to_pylist()] == [
        row["label"] for row in run.predictions().to_pylist()
    ]


def test_a_job_file_runs_as_it_is(place):
    run = fewshot.classify(place.job, settings={"archive.shard_images": 3}, progress=False)
    assert run.job == "test"
    with pytest.raises(fewshot.JobError, match="examples, output: not together with a job file"):
        fewshot.classify(place.job, place.examples, output="x")


def test_the_examples_of_a_job_file_are_looked_at_before_anything_runs(place):
    with pytest.raises(fewshot.JobError, match=r"\[support\] uri"):
        fewshot.classify(place.job, settings={"support.uri": str(place.folder / "missing")}, progress=False)
    assert not place.output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected either examples or a classifier, got neither"),
        ({"examples": "a", "classifier": "b"}, "got both"),
        ({"examples": "a", "settings": {"support.shots": object()}}, "expected a value of TOML, got object"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(place, arguments, message):
    with pytest.raises(fewshot.JobError, match=message):
        fewshot.classify(place.archive, **arguments)


def test_every_problem_is_listed_before_anything_runs(place):
    with pytest.raises(fewshot.JobError) as caught:
        classify(place, "output", **{"support.shots": 0, "clip.batch_size": 0})
    assert len(caught.value.problems) == 2
    assert not (place.folder / "output").exists()


def test_evaluate_gives_a_run_with_its_table(place, tmp_path):
    from tests.ray_jobs.evaluation.test_evaluate import write_splits

    write_splits(tmp_path)
    run = fewshot.evaluate(
        tmp_path / "splits.json", methods=("zero_shot", "nearest_mean"), shots=np.array([1, 2]), seeds=range(1, 2),
        output=tmp_path / "out", progress=False,
        settings={
            "clip.model": str(place.clip),
            "clip.batch_size": 4,
            "cluster.mode": "process",
            "evaluate.images": str(tmp_path / "images"),
        },
    )  # fmt: skip
    assert (run.kind, run.is_complete) == ("evaluation", True)
    assert {(row.method, row.shots) for row in run.metrics.table} >= {("nearest_mean", 1), ("nearest_mean", 2)}
    with pytest.raises(fewshot.JobError, match="is an evaluation"):
        run.predictions()


def test_the_stub_names_what_the_interface_offers():
    stub = Path(fewshot.__file__).with_suffix(".pyi").read_text()
    assert all(f"{name} as {name}" in stub or f"\n{name}: " in stub for name in fewshot.__all__)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"threshold": float("nan")},
        {"classes": []},
        {"classes": ["a", "a", "b"]},
        {"method": "no_such_method"},
        {"trained_from": {"method": "tip_adapter", "clip": {"model": 5}}},
    ],
)
def test_a_damaged_card_is_refused(place, change):
    run = classify(place, "output")
    card = Path(run.output) / run.plan.classifier / "card.json"
    damaged = json.loads(card.read_text()) | change
    with suppress(ValueError):  # There is no digest of NaN.
        damaged = seal_json(damaged)
    card.write_text(json.dumps(damaged))
    with pytest.raises(fewshot.JobError, match=r"classifier|CLIP"):
        fewshot.load_classifier(card.parent)


def test_tensors_that_are_no_numbers_are_refused(place):
    run = classify(place, "output")
    tensors = Path(run.output) / run.plan.classifier / "classifier.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8] + b"\xff" * 8)
    with pytest.raises(fewshot.JobError, match="damaged"):
        fewshot.load_classifier(tensors.parent)


def test_an_output_with_several_jobs_is_explained(place):
    for name in ("one", "two"):
        fewshot.classify(place.job, settings={"job.name": name}, progress=False)
    with pytest.raises(fewshot.JobError, match="has several jobs"):
        fewshot.load_classifier(place.output)


def test_values_have_a_short_representation(place):
    run = classify(place, "output")
    assert repr(run) == f"Run({run.url!r}, classification, complete)"
    assert repr(fewshot.load_classifier(run.url)) == "StoredClassifier(tip_adapter, 3 classes)"


def test_one_method_in_place_of_a_list_is_refused():
    with pytest.raises(fewshot.JobError, match="methods: expected a list, got 'safe'"):
        fewshot.evaluate("splits.json", methods="safe")
    with pytest.raises(fewshot.JobError, match="shots: expected a list, got 4"):
        fewshot.evaluate("splits.json", shots=np.int64(4))
    with pytest.raises(fewshot.JobError, match="expected paths, names and lists of numbers or names"):
        fewshot.evaluate("splits.json", seeds=[object()])


def test_a_path_that_cannot_be_is_an_error_of_the_job():
    for call in (fewshot.open_run, fewshot.load_classifier, fewshot.evaluate):
        with pytest.raises(fewshot.JobError, match=r"(?i)nul"):
            call("a\0b")
    with pytest.raises(fewshot.JobError, match="no home folder ~nosuchuser"):
        fewshot.open_run("~nosuchuser/output")
    with pytest.raises(fewshot.JobError, match=r"(?i)nul"):
        fewshot.classify("a\0b", classifier="c")


def test_no_run_and_no_classifier_are_told_apart(tmp_path):
    with pytest.raises(fewshot.JobError, match="no job has run"):
        fewshot.open_run(tmp_path)
    with pytest.raises(fewshot.JobError, match="no classifier in"):
        fewshot.load_classifier(tmp_path)


@pytest.mark.parametrize("value", [None, 3, b"runs", ["runs"]])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (fewshot.open_run, "url"),
        (fewshot.load_classifier, "url"),
        (fewshot.evaluate, "splits"),
        (lambda value: fewshot.classify(value, "examples"), "archive"),
    ],
)
def test_what_is_no_place_is_refused_by_name(call, name, value):
    message = f"^{name}: expected a path or URL as str or os.PathLike, got {type(value).__name__}$"
    with pytest.raises(TypeError, match=message):
        call(value)
