"""Jobs with a second model under [clip.beside]: the same bytes everywhere, and methods that cannot take two refused."""

from __future__ import annotations

import json
import shutil

import pytest
import tomlkit

from tests.clip_kinds import KINDS
from tests.ray_jobs.place import BROKEN, CLASSES, Place, fewshot
from tests.timm_folder import write_timm_folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A CLIP beside a DINOv3, with classes that two examples each show. Tests write to outputs of their own."""
    folder = tmp_path_factory.mktemp("place")
    _, tower = write_timm_folder(folder / "tower", "vit_small_patch16_dinov3")
    place = Place(folder, KINDS["ViT-B-32"].write(folder / "clip")).fill(images=9, shots=2)
    clip = {"model": str(place.clip), "batch_size": 4, "beside": {"model": f"timm:{tower}"}}
    place.write_job(clip=clip, classifier={"method": "tip_adapter"})
    return place


@pytest.fixture(scope="module")
def outcome(place):
    outcome = place.classify()
    assert outcome.code == 0, outcome.messages
    return outcome


def classifier_of(place, outcome):
    """The folder of the classifier of a run."""
    return place.output / json.loads((outcome.run / "plan.json").read_text())["classifier"]


def test_a_job_labels_with_both_models(place, outcome):
    assert {row["label"] for name, row in outcome.rows.items() if name not in BROKEN} <= set(CLASSES)
    record = json.loads((classifier_of(place, outcome) / "card.json").read_text())["backbone"]
    assert (record["image_dim"], record["has_text"]) == (32 + 64, True)
    stored = tomlkit.parse((outcome.run / "job.toml").read_text())
    assert stored["clip"]["beside"]["model"].startswith("timm:")


@pytest.mark.ray
def test_ray_writes_the_bytes_of_one_process(ray_session, place, outcome):
    on_ray = place.classify("cluster.mode=ray", "cluster.clip_workers=2", f"job.output={place.folder / 'ray'}")
    assert on_ray.code == 0, on_ray.messages
    assert on_ray.bytes == outcome.bytes


@pytest.mark.parametrize("method", ["zero_shot", "nearest_mean", "gda", "linear_probe", "clip_adapter"])
def test_methods_of_features_take_two_models(place, method):
    outcome = place.classify(f"classifier.method={method}", f"job.output={place.folder / method}", "support.views=0")
    assert outcome.code == 0, outcome.messages
    assert outcome.result["ok"] == 9


def test_label_sets_and_unknown_images_take_two_models(place):
    settings = ['classifier.guarantee="conformal"', "classifier.unknown=true", "classifier.unknown_rate=0.2"]
    outcome = place.classify(*settings, f"job.output={place.folder / 'promises'}", "support.views=0")
    assert outcome.code == 0, outcome.messages
    read = [row for name, row in outcome.rows.items() if name not in BROKEN]
    assert all(row["unknown_p_value"] > 0 and set(row["label_set"]) <= set(CLASSES) for row in read)
    assert fewshot("verify", place.folder / "promises").code == 0


@pytest.mark.parametrize("method", ["safe", "coop", "ship_coop", "textual_inversion"])
def test_methods_that_learn_inside_a_model_are_refused_in_the_plan(place, method):
    outcome = fewshot("plan", place.job, "--no-probe", "--set", f"classifier.method={method}")
    assert outcome.code == 2
    assert f"'{method}' learns inside a model" in outcome.messages
    assert "or remove [clip.beside]" in outcome.messages


def test_the_plan_states_what_both_models_are(place):
    outcome = fewshot("plan", place.job, "--set", f"job.output={place.folder / 'planned'}")
    assert outcome.code == 0, outcome.messages
    record = outcome.result["probe"]["backbone"]
    assert (record["image_dim"], record["has_text"], record["licence"]) == (96, True, "unknown and dinov3-license")
    assert "model: 96 numbers an image, class names, scale of logits" in " ".join(outcome.messages.split())


def test_another_second_model_is_another_run_with_other_features(place, outcome, tmp_path):
    _, tower = write_timm_folder(tmp_path / "tower", "test_vit")
    other = place.classify(f"clip.beside.model=timm:{tower}")
    assert (other.code, other.result["did"]) == (0, "everything"), other.messages
    assert other.run != outcome.run


def test_a_stored_classifier_brings_both_models(place, outcome, tmp_path):
    elsewhere = Place(tmp_path, place.clip).fill(images=3)
    sections = {
        "job": {"name": "stored", "output": str(elsewhere.output)},
        "archive": {"uri": str(elsewhere.archive)},
        "classifier": {"from": str(classifier_of(place, outcome))},
        "cluster": {"mode": "process"},
    }
    elsewhere.job.write_text(tomlkit.dumps(sections))
    assert elsewhere.classify().code == 0
    other = {"model": str(place.clip), "batch_size": 4}
    elsewhere.job.write_text(tomlkit.dumps(sections | {"clip": other}))
    refused = elsewhere.classify()
    assert refused.code == 2
    assert "was trained on another CLIP: beside" in refused.messages


def test_a_second_model_that_is_not_there_is_refused(place):
    outcome = fewshot("plan", place.job, "--no-probe", "--set", "clip.beside.model=timm:models/mine")
    assert outcome.code == 2
    assert "no folder 'models/mine' on this machine" in outcome.messages


def test_two_sections_of_a_name_get_the_place_of_the_second(place, tmp_path):
    text = place.job.read_text().replace("[clip]", "[[clip]]").replace("[clip.beside]", "[[clip]]")
    job = tmp_path / "job.toml"
    shutil.copy(place.job, job)
    job.write_text(text)
    outcome = fewshot("plan", job, "--no-probe")
    assert outcome.code == 2
    assert "a second model is [clip.beside]" in " ".join(outcome.messages.split())
