"""A stored classifier labels archives wherever they lie, without examples, as the job that trained it would."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tomlkit

from fewshot.digests import seal_json
from ray_jobs.output.classifiers import find_classifier
from tests.ray_jobs.place import CLASSES, Place, fewshot, picture, put, written
from tests.tiny_diffusion import write_tiny_diffusion

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_clip):
    """A place whose job has run. Shared: leave it as it is."""
    place = Place(tmp_path_factory.mktemp("trained"), tiny_clip).fill()
    assert place.classify("classifier.max_error=0.9", "classifier.confidence=0.1").code == 0
    return place


@pytest.fixture(scope="module")
def classifier(trained):
    """The folder of its classifier."""
    (card,) = trained.output.glob("classifiers/*/*/card.json")
    return card.parent


@pytest.fixture
def elsewhere(tmp_path, tiny_clip):
    """Another archive with a place for another output; no examples."""
    place = Place(tmp_path / "elsewhere", tiny_clip)
    for seed in range(12):
        put(place.archive / f"other_{seed:03}.jpg", picture(CLASSES[seed % 3], 500 + seed))
    put(place.archive / "broken.jpg", b"")
    return place


def write_job(place, **sections):
    """A job file of these sections, beside [job], [archive] and [cluster]."""
    given = {
        "job": {"name": "stored", "output": str(place.output)},
        "archive": {"uri": str(place.archive), "shard_images": 4},
        "cluster": {"mode": "process"},
    }
    place.job.write_text(tomlkit.dumps(given | sections), encoding="utf-8")
    return place


def test_another_archive_gets_the_rows_of_a_job_with_the_examples(trained, classifier, elsewhere):
    with_examples = replace(elsewhere, folder=elsewhere.folder / "with")
    with_examples.folder.mkdir()
    trained_here = trained.classify(
        "classifier.max_error=0.9",
        "classifier.confidence=0.1",
        f"archive.uri={elsewhere.archive}",
        f"job.output={with_examples.output}",
    )
    limits = {"max_error": 0.9, "confidence": 0.1}
    outcome = write_job(elsewhere, classifier={"from": str(classifier)} | limits).classify()
    assert (outcome.code, trained_here.code) == (0, 0), outcome.messages
    assert outcome.rows == trained_here.rows
    assert {row["classifier"] for row in outcome.rows.values()} == {
        None,
        classifier.relative_to(trained.output / "classifiers").as_posix(),
    }
    for name in ("method", "threshold", "held_out", "hyperparameters"):
        assert outcome.result[name] == trained_here.result[name], name
    assert not (elsewhere.output / "classifiers").exists()
    assert not list(elsewhere.output.glob("features/*/support*"))
    plan = json.loads((outcome.run / "plan.json").read_text())
    assert (plan["classifier"], plan["examples"], plan["classes"]) == (str(classifier), 6, 3)


def test_a_stored_classifier_takes_the_maximum_error_of_the_job(classifier, elsewhere):
    given = {"from": str(classifier)}
    none = write_job(elsewhere, classifier=given).classify()
    strict = write_job(elsewhere, classifier=given | {"max_error": 0.01}).classify()
    assert (none.result["ok"], none.result["threshold"]) == (12, None)
    assert (strict.result["ok"], strict.result["abstained"], strict.result["threshold"]) == (0, 12, 2.0)
    assert {row["score"] for row in none.rows.values()} == {row["score"] for row in strict.rows.values()}
    told = " ".join(strict.messages.split())
    assert "max_error = 0.01 needs at least 230 held-out examples, and there are 6" in told


def test_the_place_of_the_classifier_plays_no_part_in_the_run(classifier, elsewhere):
    first = write_job(elsewhere, classifier={"from": str(classifier)}).classify()
    copy = elsewhere.folder / "models" / "v1"
    shutil.copytree(classifier, copy)
    again = write_job(elsewhere, classifier={"from": copy.as_uri()}).classify()
    assert (again.code, again.result["did"], again.run) == (0, "nothing", first.run)


def test_the_job_file_beside_the_results_resumes_the_run(classifier, elsewhere):
    outcome = write_job(elsewhere, classifier={"from": str(classifier)}).classify()
    stored = tomlkit.parse((outcome.run / "job.toml").read_text())
    defaults = {"max_error_from": "examples", "confidence": 0.9, "top": 5, "archive_sample": "keep"}
    assert stored["classifier"] == {"from": str(classifier)} | defaults
    assert stored["clip"]["model"] == str(elsewhere.clip)
    assert fewshot("classify", outcome.run / "job.toml").result["did"] == "nothing"


@pytest.mark.parametrize("method", ["zero_shot", "linear_probe", "safe", "cocoop"])
def test_any_kind_of_classifier_comes_back(trained, elsewhere, tmp_path, method):
    quick = {"cocoop": ["classifier.hyperparameters={steps=1}"]}.get(method, [])
    trained_here = trained.classify(
        f"classifier.method={method}", *quick, f"archive.uri={elsewhere.archive}", f"job.output={tmp_path / 'trained'}"
    )
    assert trained_here.code == 0, trained_here.messages
    (card,) = (tmp_path / "trained").glob("classifiers/*/*/card.json")
    outcome = write_job(elsewhere, classifier={"from": str(card.parent)}).classify()
    assert (outcome.code, trained_here.code) == (0, 0), outcome.messages
    assert outcome.rows == trained_here.rows


def test_a_plan_has_nothing_to_train_and_no_examples_to_embed(classifier, elsewhere):
    write_job(elsewhere, classifier={"from": str(classifier)})
    outcome = fewshot("plan", elsewhere.job, "--no-probe")
    assert outcome.code == 0
    assert [stage["stage"] for stage in outcome.result["stages"]] == ["embed archive", "label"]
    assert (outcome.result["classes"], outcome.result["examples"]) == (3, 6)
    assert fewshot("classify", elsewhere.job).result["run"] == outcome.result["run"]


def test_the_backbone_may_lie_in_another_folder_if_it_is_the_same(classifier, elsewhere, tmp_path):
    shutil.copytree(elsewhere.clip, tmp_path / "clip")
    clip = {"model": str(tmp_path / "clip"), "batch_size": 4}
    outcome = write_job(elsewhere, classifier={"from": str(classifier)}, clip=clip).classify()
    assert outcome.code == 0, outcome.messages
    assert outcome.rows.keys() == write_job(elsewhere, classifier={"from": str(classifier)}).classify().rows.keys()


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"batch_size": 7}, ["batch_size 4, here 7"]),
        ({"precision": "bf16"}, ["precision 'fp32', here 'bf16'"]),
        ({"model": "embedded"}, ["was trained on another CLIP", "here 'embedded'", "or leave [clip] out"]),
    ],
)
def test_another_backbone_is_refused_with_both_named(classifier, elsewhere, change, messages):
    clip = {"model": str(elsewhere.clip), "batch_size": 4} | change
    outcome = write_job(elsewhere, classifier={"from": str(classifier)}, clip=clip).classify()
    assert (outcome.code, outcome.result) == (2, None)
    for message in ["error: [classifier] from: the classifier", *messages]:
        assert message in outcome.messages
    assert not elsewhere.output.exists()


def test_a_backbone_that_is_gone_is_named(classifier, elsewhere, tmp_path):
    copy = tmp_path / "classifier"
    shutil.copytree(classifier, copy)
    card = json.loads((copy / "card.json").read_text())
    card["trained_from"]["clip"]["model"] = "/no/such/clip"
    (copy / "card.json").write_text(json.dumps(seal_json(card)))
    outcome = write_job(elsewhere, classifier={"from": str(copy)}).classify()
    assert (outcome.code, outcome.result) == (2, None)
    assert "needs the CLIP '/no/such/clip' it was trained on" in outcome.messages


def break_nothing_there(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def break_tensors(folder):
    file = folder / "classifier.safetensors"
    file.write_bytes(file.read_bytes()[:40])


def break_card(folder):
    (folder / "card.json").write_text("{")


def break_the_fit_of_both(folder):
    card = json.loads((folder / "card.json").read_text()) | {"method": "zero_shot", "hyperparameters": {}}
    (folder / "card.json").write_text(json.dumps(seal_json(card)))


def break_the_facts(folder):
    card = json.loads((folder / "card.json").read_text())
    del card["trained_from"]
    (folder / "card.json").write_text(json.dumps(seal_json(card)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_nothing_there, "no classifier in"),
        (break_tensors, "is damaged: SafetensorError"),
        (break_card, "is damaged: JSONDecodeError"),
        (break_the_fit_of_both, "is damaged: a zero_shot classifier consists of"),
        (break_the_facts, "is damaged: KeyError: 'trained_from'"),
    ],
)
@pytest.mark.parametrize("command", ["classify", "plan"])
def test_a_damaged_or_missing_classifier_is_refused_and_left_alone(
    classifier, elsewhere, tmp_path, damage, message, command
):
    copy = tmp_path / "classifier"
    shutil.copytree(classifier, copy)
    damage(copy)
    before = written(copy)
    write_job(elsewhere, classifier={"from": str(copy)})
    outcome = fewshot(command, elsewhere.job)
    if (command, damage) != ("plan", break_the_fit_of_both):  # A plan loads no classifier.
        assert (outcome.code, outcome.result) == (2, None)
        assert f"[classifier] from: {'the classifier ' if 'damaged' in message else ''}" in outcome.messages
        assert message in outcome.messages
    assert written(copy) == before
    assert not elsewhere.output.exists()


def test_a_run_that_is_named_instead_says_where_its_classifier_is(trained, elsewhere):
    (run,) = (trained.output / "runs").iterdir()
    outcome = write_job(elsewhere, classifier={"from": str(run)}).classify()
    assert outcome.code == 2
    (folder,) = (path.parent for path in trained.output.glob("classifiers/*/*/card.json"))
    assert f"its classifier is {folder.relative_to(trained.output)} in the output" in outcome.messages


@pytest.mark.parametrize("key", ["method", "hyperparameters"])
def test_settings_of_a_training_are_refused_beside_a_stored_classifier(classifier, elsewhere, key):
    given = {"method": "nearest_mean", "hyperparameters": {}}[key]
    outcome = write_job(elsewhere, classifier={"from": str(classifier), key: given}).classify()
    assert (outcome.code, outcome.result) == (2, None)
    assert f"[classifier] from: names a stored classifier, which brings its own {key}: remove {key}" in outcome.messages


def test_an_evaluation_takes_no_stored_classifier(classifier, elsewhere):
    put(elsewhere.folder / "splits.json", json.dumps({"train": [], "val": [], "test": []}).encode())
    evaluate = {"splits": str(elsewhere.folder / "splits.json")}
    write_job(elsewhere, classifier={"from": str(classifier)}, evaluate=evaluate)
    outcome = fewshot("evaluate", elsewhere.job)
    assert outcome.code == 2
    assert "[classifier] from: an evaluation trains its classifiers from the splits; remove from" in outcome.messages


def test_escalation_needs_examples_of_the_same_classes(trained, classifier, elsewhere, tmp_path):
    (tmp_path / "diffusion").mkdir()
    model = {"model": str(write_tiny_diffusion(tmp_path / "diffusion")), "batch_size": 8}
    escalate = model | {"max_fraction": 0.5, "below": 1.0, "steps": 8, "hyperparameters": {"steps": 2, "samples": 1}}
    sections = {"classifier": {"from": str(classifier)}, "escalate": escalate}
    alone = write_job(elsewhere, **sections).classify()
    assert alone.code == 2
    assert (
        "[support]: missing section; it needs uri; [escalate] needs examples, also with [classifier] from"
        in alone.messages
    )
    put(elsewhere.examples / "amber/0.jpg", picture("amber", 1))
    put(elsewhere.examples / "violet/0.jpg", picture("blue", 1))
    other = write_job(elsewhere, **sections, support={"uri": str(elsewhere.examples)}).classify()
    assert other.code == 2
    assert "2 have no example (blue, cyan); 1 are not of the classifier (violet)" in other.messages
    outcome = write_job(elsewhere, **sections, support={"uri": str(trained.examples), "views": 1}).classify()
    assert outcome.code == 0, outcome.messages
    decided = [row for row in outcome.rows.values() if row["decided_by"] == "tif"]
    assert len(decided) == outcome.result["escalated"]["images"] > 0
    assert {row["classifier"] for row in decided} == {find_classifier_name(classifier)}


def find_classifier_name(folder: Path) -> str:
    from cluster import Store

    ref = find_classifier(Store(str(folder.parent)), folder.name)
    assert ref is not None
    return ref.name


def test_examples_beside_a_stored_classifier_are_refused(classifier, elsewhere):
    support = {"uri": str(elsewhere.examples), "views": 1}
    outcome = write_job(elsewhere, classifier={"from": str(classifier)}, support=support).classify()
    assert (outcome.code, outcome.result) == (2, None)
    assert outcome.messages == (
        "error: [support]: [classifier] from names a stored classifier, which is not trained on examples: remove "
        "[support], or remove from to train on them\n"
    )


def test_a_backbone_that_is_not_there_is_reported_once(classifier, elsewhere):
    outcome = write_job(elsewhere, classifier={"from": str(classifier)}, clip={"model": "ViT-B32"}).classify()
    (line,) = outcome.messages.splitlines()
    assert line.startswith("error: [clip] model: ")
