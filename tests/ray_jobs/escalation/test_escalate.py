"""Escalation: a diffusion model decides the least certain images, within the budget, resumable at any point."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from diffusers import UNet2DConditionModel
from PIL import Image

from cluster import Store
from cluster.records import read_shard
from fewshot.diffusion.training_memory import TrainingMemory
from ray_jobs.escalation import Escalation, scoring_plan
from ray_jobs.escalation.selection import find_candidates, get_selection, selection_to_parquet
from ray_jobs.job_file.sections import EscalateSection
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.steps.embed import EmbedStep
from tests.ray_jobs.place import Place, kill_again_and_again, parts_of_run, put, written
from tests.strange_files import encode
from tests.tiny_diffusion import write_tiny_diffusion

QUICK = {"steps": 2, "samples": 1}


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    return write_tiny_diffusion(tmp_path_factory.mktemp("diffusion"))


@pytest.fixture
def place(tmp_path, tiny_clip, diffusion):
    def made(**escalate):
        place = Place(tmp_path, tiny_clip).fill()
        section = {"model": str(diffusion), "max_fraction": 0.3, "steps": 8, "batch_size": 8} | escalate
        if section.get("method", "tif") == "tif":
            section.setdefault("hyperparameters", QUICK)
        place.write_job(escalate=section)
        return place

    return made


def decided_by(outcome):
    return {image: row["decided_by"] for image, row in outcome.rows.items()}


@pytest.mark.parametrize("method", ["tif", "diffusion_classifier"])
@pytest.mark.parametrize("schedule", ["racing", "published", "exhaustive"])
def test_the_least_certain_images_are_decided_by_the_diffusion_model(place, method, schedule):
    outcome = place(method=method, schedule=schedule).classify()
    assert outcome.code == 0, outcome.messages
    first = {
        row["image"]: row["score"]
        for part in parts_of_run(outcome.run, "cheap_predictions")
        for row in pq.read_table(part).to_pylist()
        if row["status"] != "unreadable"
    }
    escalated = {image for image, who in decided_by(outcome).items() if who == method}
    assert escalated == set(sorted(first, key=lambda image: (first[image], image))[:6])  # 0.3 of 20 images
    messages = outcome.result["escalated"]
    assert messages["images"] == 6
    assert 0 < messages["forwards"] <= messages["forwards_if_exhaustive"] == 6 * 3 * 8
    assert (schedule != "exhaustive") or messages["forwards"] == messages["forwards_if_exhaustive"]
    assert outcome.result["images"] == 20
    assert all(outcome.rows[image]["label"] == outcome.rows[image]["top_labels"][0] for image in escalated)


def test_error_gaps_are_kept_by_time_step(place):
    outcome = place(schedule="exhaustive").classify()
    rows = pq.read_table(outcome.run / "gaps.parquet").to_pylist()
    assert len(rows) == 6
    for row in rows:
        assert row["label"] == outcome.rows[row["image"]]["label"] != row["runner_up"]
        assert sum(row["counts"]) == 8
        assert len(row["gaps"]) == 10


def test_adapters_are_kept_one_class_a_folder_and_trained_once(place):
    here = place()
    assert here.classify().code == 0
    cards = sorted((here.output / "adapters/tif").glob("*/card.json"))
    assert {json.loads(card.read_text())["class"] for card in cards} == {"amber", "blue", "cyan"}
    before = {card: card.stat().st_mtime_ns for card in cards}
    assert here.classify("escalate.max_fraction=0.5").code == 0
    assert {card: card.stat().st_mtime_ns for card in cards} == before


def test_prior_images_are_sampled_once_and_change_the_adapters(place):
    def trained(here):
        cards = {
            json.loads(card.read_text())["class"]: card.parent
            for card in (here.output / "adapters/tif").glob("*/card.json")
        }
        return {
            label: [p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))] for label, folder in cards.items()
        }

    here = place()
    assert here.classify().code == 0
    without = trained(here)
    shutil.rmtree(here.output)
    with_prior = "escalate.hyperparameters={steps = 2, samples = 1, prior_images = 12}"
    outcome = here.classify(with_prior)
    assert outcome.code == 0, outcome.messages
    parts = written(next(here.output.glob("latents/*/prior")))
    assert len(parts) == 2  # Ten images a unit.
    assert without.keys() == trained(here).keys()
    assert all(without[label] != files for label, files in trained(here).items())
    assert here.classify(with_prior, "escalate.max_fraction=0.5").code == 0
    assert written(next(here.output.glob("latents/*/prior"))) == parts


def test_a_budget_in_hours_is_never_overrun(place, monkeypatch):
    monkeypatch.setattr("ray_jobs.escalation.cost_model.PROBE_S", 0.01)
    outcome = place(budget_gpu_hours=1e-9).classify()
    assert outcome.code == 0, outcome.messages
    assert outcome.result["escalated"]["images"] == 0
    assert set(decided_by(outcome).values()) == {"tip_adapter", None}


def test_a_wrong_model_or_hyperparameter_stops_before_anything_runs(place):
    here = place()
    outcome = here.classify("escalate.model=/no/such/folder", "escalate.hyperparameters={step=3}")
    assert outcome.code == 2
    assert "no folder '/no/such/folder'" in outcome.messages
    assert "Did you mean 'steps'" in outcome.messages
    assert not (here.output / "features").exists()


def test_nothing_is_escalated_before_all_cheap_predictions_exist(place, monkeypatch):
    here, run = place(), EmbedStep.run

    def broken(self, state, unit):
        if any(record.key == "photo_009.jpg" for record in read_shard(unit.shard)):
            raise RuntimeError("a bug")
        return run(self, state, unit)

    with monkeypatch.context() as patch:
        patch.setattr(EmbedStep, "run", broken)
        cut = here.classify()
    assert cut.code == 1
    assert re.search(r"nothing is escalated: 1 of \d+ shards have no cheap predictions yet", cut.messages)
    assert not (cut.run / "predictions").exists()
    again = here.classify()
    assert again.code == 0, again.messages
    assert again.bytes == here.classify(f"job.output={here.folder / 'clean'}").bytes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_clip, diffusion):
    """A place, and what one run in one process writes there."""
    place = Place(tmp_path_factory.mktemp("escalated"), tiny_clip).fill(images=40)
    section = {"model": str(diffusion), "max_fraction": 0.5, "steps": 40, "batch_size": 8, "hyperparameters": QUICK}
    place.write_job(escalate=section)
    outcome = place.classify(f"job.output={place.folder / 'plain'}")
    assert outcome.code == 0, outcome.messages
    return place, outcome.bytes


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(undisturbed):
    place, expected = undisturbed
    output = place.folder / "killed"
    here = f"job.output={output}"
    assert kill_again_and_again("classify", place.job, here, chance=random.Random(1), parts=(8, 28), runs=30) >= 4
    assert place.classify(here).bytes == expected


@pytest.mark.ray
def test_ray_writes_the_bytes_of_one_process(ray_session, undisturbed):
    place, expected = undisturbed
    outcome = place.classify("cluster.mode=ray", "cluster.clip_workers=2", f"job.output={place.folder / 'ray'}")
    assert outcome.code == 0, outcome.messages
    assert outcome.bytes == expected


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("latents/*/support/*", "predictions/*"),
        ("runs/*/noise-errors/*/*", "predictions/*"),
        ("predictions/*/*", "predictions/*"),
        ("predictions/*/*", "escalated.parquet"),
        ("runs/*/escalated.parquet", "predictions/*"),
        ("runs/*/probe.json", "escalated.parquet"),
    ],
)
def test_a_damaged_part_is_reported_and_a_rerun_repairs_it(place, monkeypatch, kind, lost):
    monkeypatch.setattr("ray_jobs.escalation.cost_model.PROBE_S", 0.01)
    here = place(max_fraction=0.2, budget_gpu_hours=100.0)
    done = here.classify()
    assert done.code == 0, done.messages
    expected, damaged = done.bytes, min(here.output.glob(kind))
    for part in [*done.run.glob(lost), done.run / "metrics.json"]:
        part.unlink()
    damaged.write_bytes(damaged.read_bytes()[:20])
    broken = here.classify()
    assert broken.code != 0
    assert "was damaged and is gone; run again" in broken.messages
    assert not damaged.exists()
    again = here.classify()
    assert again.code == 0, again.messages
    assert again.bytes == expected


def test_predictions_of_a_lost_selection_are_made_anew(place):
    here = place(max_fraction=0.2)
    done = here.classify()
    expected = done.bytes
    for name in ("metrics.json", "gaps.parquet", "escalated.parquet"):
        (done.run / name).unlink()
    part, cheap = done.parts[0], parts_of_run(done.run, "cheap_predictions")[0]
    part.write_bytes(cheap.read_bytes())  # As if no image was escalated.
    assert here.classify().bytes == expected


@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_damaged_adapters_are_trained_anew_every_time(place, damage):
    here = place(max_fraction=0.2, calibrate=False)
    done = here.classify()
    assert done.code == 0, done.messages
    expected, adapter = done.bytes, next((here.output / "adapters/tif").glob("*/card.json")).parent
    for _ in range(2):  # The second time a block of this class alone has been trained before.
        shutil.rmtree(done.run)
        if damage == "gone":
            shutil.rmtree(adapter)
        else:
            (adapter / "unet/adapter_model.safetensors").write_bytes(b"no adapter")
            assert here.classify().code == 1
        again = here.classify()
        assert again.code == 0, again.messages
        assert again.bytes == expected


@pytest.mark.parametrize(
    ("below", "threshold", "limit"),
    [(None, None, math.inf), (None, 0.0, None), (None, 0.7, None), (0.4, 0.7, 0.4), (0.4, None, 0.4)],
)
def test_the_score_limit_is_that_of_the_section_or_the_threshold(below, threshold, limit):
    section = EscalateSection(below=below)
    assert Escalation(section, None, "run", None, None, None, threshold).score_limit == limit


def test_without_a_limit_an_image_with_score_1_is_a_candidate(tmp_path):
    row = {"image": "a", "score": 1.0, "margin": 1.0, "label": "x", "top_labels": ["x", "y"], "status": "ok"}
    put(tmp_path / "part.parquet", write_parquet(pa.Table.from_pylist([row])))
    (found,) = find_candidates(Store(str(tmp_path)), ["part.parquet"], below=math.inf, candidates=2)
    assert found.image == "a"


@pytest.mark.parametrize(("below", "found"), [(math.inf, ["c", "b", "a"]), (0.4, ["c", "b", "a"]), (None, ["c", "a"])])
def test_images_without_scores_are_sorted_by_margin(tmp_path, below, found):
    margins = {"a": (0.5, "abstained"), "b": (0.25, "ok"), "c": (0.125, "abstained"), "d": (None, "unreadable")}
    rows = [
        {"image": image, "score": None, "margin": margin, "top_labels": ["x", "y"], "status": status}
        for image, (margin, status) in margins.items()
    ]
    put(tmp_path / "part.parquet", write_parquet(pa.Table.from_pylist(rows)))
    store = Store(str(tmp_path))
    candidates = sorted(find_candidates(store, ["part.parquet"], below=below, candidates=2))
    assert [candidate.image for candidate in candidates] == found
    store.put("selection.parquet", selection_to_parquet(candidates))
    assert get_selection(store, "selection.parquet") == candidates
    assert {candidate.score for candidate in get_selection(store, "selection.parquet")} == {None}


def test_another_number_of_classes_in_a_block_is_another_training(place):
    here = place(calibrate=False, max_fraction=0.1)
    for size, trainings in [(8, 1), (2, 2), (8, 2)]:
        assert here.classify(f"escalate.classes_per_block={size}").code == 0
        cards = [json.loads(card.read_text()) for card in (here.output / "adapters/tif").glob("*/card.json")]
        assert Counter(card["class"] for card in cards).most_common(1)[0][1] == trainings


def test_a_device_too_small_for_a_class_is_refused_and_a_small_one_uses_checkpoints(place, monkeypatch):
    here, used = place(calibrate=False, max_fraction=0.1), []
    enable = UNet2DConditionModel.enable_gradient_checkpointing
    plain = here.classify()
    monkeypatch.setattr(
        UNet2DConditionModel, "enable_gradient_checkpointing", lambda net: (used.append(1), enable(net))
    )
    monkeypatch.setattr("ray_jobs.steps.diffusion_worker.device_memory", lambda device: 1000)
    refused = here.classify(f"job.output={here.folder / 'refused'}")
    assert refused.code == 1
    assert "Not even one class fits" in refused.messages
    used.clear()  # Counting memory switches it on as well.
    fewer = TrainingMemory(weights=1000, adapters=1000, activations=9000, checkpointed=1000)
    monkeypatch.setattr("fewshot.diffusion.training_memory.count_training_memory", lambda backbone, shape: fewer)
    monkeypatch.setattr("ray_jobs.steps.diffusion_worker.device_memory", lambda device: 4000)
    small = here.classify(f"job.output={here.folder / 'small'}")
    assert small.code == 0, small.messages
    assert used
    assert small.bytes == plain.bytes


def test_units_about_classes_give_the_bytes_of_units_about_images(place, monkeypatch):
    here = place(schedule="exhaustive")
    about_images = here.classify()
    monkeypatch.setattr(scoring_plan, "CLASSES_IN_MEMORY", 1)
    about_classes = here.classify(f"job.output={here.folder / 'by-class'}")
    assert about_classes.code == 0, about_classes.messages
    assert about_classes.bytes == about_images.bytes
    assert (about_classes.run / "gaps.parquet").read_bytes() == (about_images.run / "gaps.parquet").read_bytes()
    parts, others = (sorted((each.run / "noise-errors/round-00").iterdir()) for each in (about_images, about_classes))
    assert [part.name for part in parts] != [part.name for part in others]


@pytest.mark.slow
def test_the_published_recipe_decides_by_weighted_errors_of_jittered_adapters(place):
    recipe = 'recipe = "published", steps = 2, rank = 2, prior_images = 3, norm = "l1"'
    here = place(schedule="published", steps=20)
    outcome = here.classify(f"escalate.hyperparameters={{{recipe}}}")
    assert outcome.code == 0, outcome.messages
    assert outcome.result["escalated"]["images"] == 6
    rows = pq.read_table(outcome.run / "gaps.parquet").to_pylist()
    assert all(row["label"] == outcome.rows[row["image"]]["label"] for row in rows)
    cards = [json.loads(card.read_text()) for card in (here.output / "adapters/tif").glob("*/card.json")]
    assert {card["class"] for card in cards} == {"amber", "blue", "cyan"}
    assert {(card["settings"]["jitter"], card["settings"]["target"]) for card in cards} == {(True, "prediction")}
    assert {card["prompt"].startswith("a photo of a hta ") for card in cards} == {True}
    plain = here.classify(f"escalate.hyperparameters={{{recipe}, jitter = false}}")
    assert plain.code == 0, plain.messages
    again = {
        json.loads(card.read_text())["settings"].get("jitter") for card in here.output.glob("adapters/tif/*/card.json")
    }
    assert again == {True, None}


def test_unknown_images_are_not_escalated(place):
    made = place(method="diffusion_classifier", schedule="exhaustive", max_fraction=1.0)
    put(made.archive / "white.png", encode(Image.new("RGB", (48, 40), "white"), "PNG"))
    outcome = made.classify("classifier.unknown=true", "classifier.unknown_rate=0.3")
    assert outcome.code == 0, outcome.messages
    unknown = {image for image, row in outcome.rows.items() if row["status"] == "unknown"}
    escalated = {image for image, who in decided_by(outcome).items() if who == "diffusion_classifier"}
    assert "white.png" in unknown
    assert unknown.isdisjoint(escalated)
    assert {outcome.rows[image]["status"] for image in escalated} == {"ok"}
    assert len(unknown) + len(escalated) == outcome.result["images"] - outcome.result["unreadable"]
    assert outcome.result["escalated"]["images"] == len(escalated)
    assert {(row["unknown_p_value"] <= 0.3) for row in outcome.rows.values() if row["status"] == "ok"} == {False}
