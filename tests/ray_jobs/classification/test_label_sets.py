"""Label sets in a job: what rows, metrics, page and plan say, what is kept for them, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import tomlkit
import torch

import fewshot as library
from fewshot.conformal import label_sets
from fewshot.conformal.example_file import load_examples
from fewshot.digests import seal_json
from ray_jobs.errors import JobError
from ray_jobs.output.feature_parts import decode
from ray_jobs.output.predictions import prediction_schema
from tests.ray_jobs.place import BROKEN, CLASSES, Place, fewshot, put, written

pytestmark = pytest.mark.slow

CONFORMAL = "classifier.guarantee=conformal"
THIRD = "classifier.label_set_error=0.3"
SETTINGS = (CONFORMAL, THIRD)
DOCUMENTS = ("job.toml", "plan.json", "metrics.json", "report/index.html")


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_clip):
    """A place whose job has made label sets, with its outcome. Shared: leave it as it is."""
    place = Place(tmp_path_factory.mktemp("made"), tiny_clip).fill(images=24, shots=4)
    place.write_job(archive={"labels": str(place.truth)})
    outcome = place.classify(*SETTINGS)
    assert outcome.code == 0, outcome.messages
    return place, outcome


class Copy:
    """The output of the job of another place, copied."""

    def __init__(self, place, output):
        self.place, self.output = place, output

    def classify(self, *settings):
        return self.place.classify(f"job.output={self.output}", *settings)


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made[0].output, tmp_path / "copied")
    return Copy(made[0], tmp_path / "copied")


def examples_of(place):
    """The file of the examples of the one classifier of a place."""
    (path,) = place.output.glob("classifiers/*/*/examples.safetensors")
    return path


def test_each_image_that_was_read_has_the_set_of_its_features(made):
    place, outcome = made
    assert ds.dataset(outcome.parts).schema.equals(prediction_schema(label_sets=True))
    examples = load_examples(examples_of(place).read_bytes(), CLASSES)
    assert len(examples) == 4 * len(CLASSES)
    seen = set()
    for path in place.output.glob("features/*/*/part-*.parquet"):
        rows = decode(path.read_bytes())
        if not any(image in outcome.rows for image in rows.images):
            continue
        for image, error, views in zip(rows.images, rows.errors, rows.views, strict=True):
            row = outcome.rows[image]
            seen.add(image)
            if error is not None:
                assert (row["label_set"], row["status"]) == (None, "unreadable")
                continue
            unit = torch.nn.functional.normalize(torch.from_numpy(views[:1]).double(), dim=1)
            (expected,) = label_sets(examples.ranks(unit), examples=len(examples), max_error=0.3)
            assert row["label_set"] == [name for name, inside in zip(CLASSES, expected, strict=True) if inside]
    assert seen == outcome.rows.keys()


def test_an_image_is_labelled_if_its_label_is_the_only_one_of_its_set(made):
    _, outcome = made
    rows = [row for row in outcome.rows.values() if row["status"] != "unreadable"]
    for row in rows:
        is_alone = row["label_set"] == row["top_labels"][:1]
        assert (row["status"], row["label"]) == (("ok", row["top_labels"][0]) if is_alone else ("abstained", None))
    assert {row["status"] for row in rows} == {"ok", "abstained"}


def test_the_metrics_count_the_sets(made):
    place, outcome = made
    metrics = json.loads((outcome.run / "metrics.json").read_text())
    sets = {image: row["label_set"] for image, row in outcome.rows.items() if row["label_set"] is not None}
    truth = dict(line.split(",") for line in place.truth.read_text().split()[1:])
    sizes = [len(found) for found in sets.values()]
    assert metrics["label_sets"] == {
        "label_set_error": 0.3,
        "examples": 12,
        "images": 24,
        "mean_size": sum(sizes) / 24,
        "single": sizes.count(1),
        "labelled": metrics["ok"],
        "empty": sizes.count(0),
        "full": sizes.count(3),
        "known": 24,
        "containing": sum(truth[image] in found for image, found in sets.items()) / 24,
    }
    assert json.loads((outcome.run / "plan.json").read_text())["label_set_error"] == 0.3


def test_the_page_and_the_terminal_say_what_is_promised_and_what_is_not(made):
    _, outcome = made
    page = Path(outcome.result["report"]).read_text(encoding="utf-8")
    for text in (" ".join(told.split()) for told in (page, outcome.messages)):
        assert "A label set contains the true label with a probability of at least 70 %" in text
        assert "Nothing is promised of the labels given" in text
        assert "the job sets no max_error" not in text
        assert "Every readable image has a label" not in text
        assert not re.search(r"max_error would label|(?:at|in) max_error|held-out examples needed", text)


def test_the_same_job_has_nothing_to_do_and_another_error_only_labels(made, copied):
    features, kept = written(copied.output / "features"), examples_of(copied).stat().st_mtime_ns
    assert copied.classify(*SETTINGS).result["did"] == "nothing"
    other = copied.classify(CONFORMAL, "classifier.label_set_error=0.5")
    assert other.run.name != made[1].run.name
    assert (written(copied.output / "features"), examples_of(copied).stat().st_mtime_ns) == (features, kept)
    for image, row in other.rows.items():
        assert set(row["label_set"] or ()) <= set(made[1].rows[image]["label_set"] or ())


def test_a_job_without_the_key_knows_nothing_of_label_sets(copied, tmp_path):
    plain = copied.classify()
    assert ds.dataset(plain.parts).schema.equals(prediction_schema())
    assert not [name for name in DOCUMENTS if "label_set" in (plain.run / name).read_text()]
    assert {row["status"] for row in plain.rows.values()} == {"ok", "unreadable"}
    fresh = copied.classify(f"job.output={tmp_path / 'fresh'}")
    assert not list((tmp_path / "fresh").glob("classifiers/*/*/examples.safetensors"))
    assert fresh.bytes == plain.bytes


def test_a_new_output_and_a_resumed_run_have_the_same_bytes(made, copied, tmp_path):
    place, outcome = made
    assert place.classify(*SETTINGS, f"job.output={tmp_path / 'again'}").bytes == outcome.bytes
    (part, *_) = copied.classify(*SETTINGS).parts
    part.unlink()
    shutil.rmtree(examples_of(copied).parent)
    assert copied.classify(*SETTINGS).bytes == outcome.bytes
    assert examples_of(copied).read_bytes() == examples_of(place).read_bytes()


def test_verify_reads_the_examples_and_a_rerun_makes_damaged_ones_anew(copied):
    path = examples_of(copied)
    whole = path.read_bytes()
    assert fewshot("verify", copied.output).code == 0
    put(path, whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged = fewshot("verify", copied.output)
    assert (damaged.code, str(path) in json.dumps(damaged.result)) == (1, True)
    assert copied.classify(*SETTINGS).code == 0
    assert path.read_bytes() == whole
    path.unlink()
    missing = fewshot("verify", copied.output)
    assert (missing.code, str(path) in json.dumps(missing.result)) == (1, True)


def test_damaged_examples_are_named_and_made_anew(copied):
    path = examples_of(copied)
    whole = path.read_bytes()
    put(path, whole[:-1])
    first = copied.classify(CONFORMAL, "classifier.label_set_error=0.4")
    assert first.code != 0
    assert "examples.safetensors was damaged; run again" in " ".join(first.messages.split())
    assert copied.classify(CONFORMAL, "classifier.label_set_error=0.4").code == 0
    assert path.read_bytes() == whole


@pytest.fixture
def elsewhere(made, tmp_path):
    """A job of another output that takes the stored classifier for the same archive."""
    place = Place(tmp_path / "elsewhere", made[0].clip)
    place.folder.mkdir()
    place.job.write_text(
        tomlkit.dumps(
            {
                "job": {"name": "stored", "output": str(place.output)},
                "archive": {"uri": str(made[0].archive), "shard_images": 4},
                "classifier": {"from": str(examples_of(made[0]).parent)},
                "cluster": {"mode": "process"},
            }
        )
    )
    return place


def test_a_stored_classifier_gives_the_sets_of_its_job(made, elsewhere):
    outcome = elsewhere.classify(CONFORMAL, THIRD)
    assert outcome.code == 0, outcome.messages
    assert outcome.rows == made[1].rows
    assert elsewhere.classify(CONFORMAL, THIRD).result["did"] == "nothing"
    assert fewshot("verify", elsewhere.output).code == 0


def test_other_examples_beside_a_stored_classifier_rename_the_predictions(made, elsewhere, tmp_path):
    copy, fewer = tmp_path / "copy", tmp_path / "fewer"
    shutil.copytree(examples_of(made[0]).parent, copy)
    first = elsewhere.classify(CONFORMAL, THIRD, f"classifier.from={copy}")
    assert made[0].classify(*SETTINGS, "support.shots=3", f"job.output={fewer}").code == 0
    shutil.copy(examples_of(Copy(made[0], fewer)), copy / "examples.safetensors")
    second = elsewhere.classify(CONFORMAL, THIRD, f"classifier.from={copy}")
    assert second.result["label_sets"]["examples"] == 9
    assert second.run != first.run


def test_too_many_pairs_of_a_stored_classifier_are_refused(elsewhere, monkeypatch):
    monkeypatch.setattr("ray_jobs.classification.label_set_plan.MAX_PAIRS", 35)
    outcome = elsewhere.classify(CONFORMAL, THIRD)
    assert outcome.code == 2
    assert "12 examples of 3 classes make 36 pairs" in " ".join(outcome.messages.split())


def test_the_cost_of_a_stored_classifier_is_that_of_the_examples_beside_it(made, elsewhere, tmp_path):
    """Cards of older versions do not tell how many examples there were."""
    old = tmp_path / "old"
    shutil.copytree(examples_of(made[0]).parent, old)
    card = json.loads((old / "card.json").read_text())
    del card["examples"]
    (old / "card.json").write_text(json.dumps(seal_json(card)))
    words = [f"classifier.from={old}", CONFORMAL, THIRD]
    plan = fewshot("plan", elsewhere.job, "--no-probe", *(word for each in words for word in ("--set", each)))
    assert plan.result["label_sets"]["examples"] == 12


def test_a_stored_classifier_without_examples_is_refused(made, elsewhere, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(examples_of(made[0]).parent, bare)
    (bare / "examples.safetensors").unlink()
    outcome = elsewhere.classify(CONFORMAL, f"classifier.from={bare}")
    assert outcome.code == 2
    assert "label sets take the examples of the classifier" in " ".join(outcome.messages.split())
    assert elsewhere.classify(f"classifier.from={bare}").code == 0


def test_a_classifier_in_python_gives_the_rows_of_its_run(made):
    place, outcome = made
    images = sorted(place.archive.glob("photo_*.jpg"))
    for loaded in (
        library.load_classifier(outcome.run),
        library.load_classifier(examples_of(place).parent, label_set_error=0.3),
    ):
        for image, found in zip(images, loaded.predict(images), strict=True):
            row = outcome.rows[image.name]
            assert (list(found.label_set), found.label, found.status) == (row["label_set"], row["label"], row["status"])
    assert library.load_classifier(examples_of(place).parent).predict(images[0]).label_set is None
    assert library.load_classifier(outcome.run, max_error=0.9).predict(images[0]).label_set is None
    with pytest.raises(JobError, match="under neither promise"):
        library.load_classifier(outcome.run, max_error=0.1, label_set_error=0.1)
    with pytest.raises(JobError, match="must lie between 0 and 1"):
        library.load_classifier(outcome.run, label_set_error=1.5)


def test_a_run_in_python_has_the_column(made):
    run = library.open_run(made[1].run)
    assert run.predictions().column_names[-1] == "label_set"
    assert run.metrics.label_sets.images == 24


def test_plan_tells_the_cost_and_that_examples_are_too_few(made):
    place, _ = made
    plan = fewshot("plan", place.job, "--set", CONFORMAL, "--set", THIRD, "--no-probe")
    found = plan.result["label_sets"]
    assert (found["label_set_error"], found["examples"], found["needed"]) == (0.3, 12, 3)
    assert 0 < found["cpu_hours"] < 0.1
    assert "label_set_error = 0.3 takes at least 3 examples, and there are 12" in " ".join(plan.messages.split())
    few = fewshot("plan", place.job, "--set", CONFORMAL, "--set", "classifier.label_set_error=0.05", "--no-probe")
    assert "every label set would have all classes" in few.result["warnings"][-1]
    assert "raise label_set_error to 0.08" in few.result["warnings"][-1]
    assert "label_sets" not in fewshot("plan", place.job, "--no-probe").result


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ([CONFORMAL, "classifier.max_error=0.1"], "labels that are given only where both allow it are under neither"),
        ([THIRD], 'label_set_error: belongs to label sets: add guarantee = "conformal"'),
        ([CONFORMAL, "escalate.method=diffusion_classifier"], "no label set covers what a diffusion model decides"),
        (["classifier.guarantee=exact"], "guarantee: expected"),
    ],
)
def test_two_promises_and_half_a_promise_are_refused(made, settings, problem):
    words = [word for setting in settings for word in ("--set", setting)]
    for command in ("plan", "classify"):
        outcome = fewshot(command, made[0].job, *words)
        assert outcome.code == 2
        assert problem in " ".join(outcome.messages.split())


def test_too_many_pairs_of_examples_and_classes_are_refused(made, monkeypatch):
    monkeypatch.setattr("ray_jobs.classification.label_set_plan.MAX_PAIRS", 35)
    outcome = fewshot("plan", made[0].job, "--set", CONFORMAL)
    assert outcome.code == 2
    told = " ".join(outcome.messages.split())
    assert "12 examples of 3 classes make 36 pairs" in told
    assert "set support.shots = 3" in told


def test_copies_of_an_example_count_once(made, tmp_path):
    examples = tmp_path / "examples"
    shutil.copytree(made[0].examples, examples)
    shutil.copy(examples / CLASSES[0] / "0.jpg", examples / CLASSES[0] / "copy.jpg")
    outcome = made[0].classify(*SETTINGS, f"support.uri={examples}", f"job.output={tmp_path / 'output'}")
    assert outcome.result["label_sets"] == made[1].result["label_sets"] | {"labelled": outcome.result["ok"]}
    kept = examples_of(Copy(made[0], tmp_path / "output"))
    assert kept.read_bytes() == examples_of(made[0]).read_bytes()
    words = (word for each in (*SETTINGS, f"support.uri={examples}") for word in ("--set", each))
    assert fewshot("plan", made[0].job, "--no-probe", *words).result["label_sets"]["examples"] == 12


def test_pictures_that_differ_as_files_alone_count_once(made, tmp_path):
    """The augmented views of such a copy are others."""
    examples = tmp_path / "examples"
    shutil.copytree(made[0].examples, examples)
    put(examples / CLASSES[0] / "copy.jpg", (examples / CLASSES[0] / "0.jpg").read_bytes() + b"\0")
    outcome = made[0].classify(*SETTINGS, f"support.uri={examples}", f"job.output={tmp_path / 'output'}")
    assert outcome.result["label_sets"]["examples"] == 12


def test_examples_that_cannot_be_read_are_left_out(made, tmp_path):
    examples = tmp_path / "examples"
    shutil.copytree(made[0].examples, examples)
    put(examples / CLASSES[0] / "broken.jpg", b"this is no image")
    settings = (*SETTINGS, f"support.uri={examples}", "support.skip_unreadable=true")
    outcome = made[0].classify(*settings, f"job.output={tmp_path / 'output'}")
    assert outcome.code == 0, outcome.messages
    kept = examples_of(Copy(made[0], tmp_path / "output"))
    assert kept.read_bytes() == examples_of(made[0]).read_bytes()


def test_an_archive_of_broken_files_has_no_sets(made, tmp_path):
    for name, data in BROKEN.items():
        put(tmp_path / "broken" / name, data)
    outcome = made[0].classify(CONFORMAL, f"archive.uri={tmp_path / 'broken'}", f"job.output={tmp_path / 'output'}")
    assert {row["label_set"] for row in outcome.rows.values()} == {None}
    found = outcome.result["label_sets"]
    assert (found["images"], found["mean_size"], found["containing"]) == (0, None, None)


@pytest.mark.ray
def test_workers_write_the_same_bytes(made, tmp_path, monkeypatch):
    monkeypatch.setattr("ray_jobs.classification.label_set_plan.LONG_S", 0.0)
    spread = ("cluster.mode=ray", "cluster.clip_workers=2", f"job.output={tmp_path / 'ray'}")
    outcome = made[0].classify(*SETTINGS, *spread)
    assert outcome.code == 0, outcome.messages
    assert outcome.bytes == made[1].bytes
