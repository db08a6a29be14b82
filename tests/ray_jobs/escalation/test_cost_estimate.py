"""The cost of escalation is estimated before anything is spent, and is never less than what is spent."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from cluster import Part
from fewshot.backbones.diffusion import DiffusionBackbone
from fewshot.diffusion.adapter_training import AdapterSettings
from fewshot.diffusion.training_memory import TrainingMemory
from ray_jobs.escalation.cost_model import FORWARDS_PER_ENCODING, FORWARDS_PER_SAMPLE, ProbeUnit, training_cost
from ray_jobs.output.layout import to_json
from tests.cluster.records.archives import tar_bytes
from tests.ray_jobs.place import Place, fewshot, parts_of_run, put, written
from tests.tiny_diffusion import write_tiny_diffusion

pytestmark = pytest.mark.slow

EXAMPLES, ESCALATED, CLASSES, STEPS = 6, 6, 3, 8  # 0.3 of 20 images
ENCODE, SCORE = FORWARDS_PER_ENCODING * (EXAMPLES + ESCALATED), float(ESCALATED * CLASSES * STEPS)
BLOCK_SIZE = 8
TRAIN = 4.0 * 2 * 1 * BLOCK_SIZE  # A block that is not full costs as much.


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    return write_tiny_diffusion(tmp_path_factory.mktemp("diffusion"))


@pytest.fixture
def place(tmp_path, tiny_clip, diffusion):
    place = Place(tmp_path, tiny_clip).fill()
    place.write_job(
        escalate={
            "model": str(diffusion),
            "max_fraction": 0.3,
            "steps": STEPS,
            "batch_size": 8,
            "schedule": "exhaustive",
            "calibrate": False,
            "hyperparameters": {"steps": 2, "samples": 1},
        }
    )
    return place


def plan(place, *settings, probe=False):
    words = [word for setting in settings for word in ("--set", setting)]
    return fewshot("plan", place.job, *([] if probe else ["--no-probe"]), *words)


def stages(outcome):
    return {
        stage["stage"]: (stage["done"], stage["left"], stage["at_most"], stage["forwards"])
        for stage in outcome.result["stages"]
        if "forwards" in stage
    }


def test_before_anything_runs_every_number_is_a_bound_and_nothing_is_written(place):
    before = written(place.folder)
    outcome = plan(place)
    assert stages(outcome) == {
        "encode": (0, EXAMPLES + ESCALATED, True, ENCODE),
        "train adapters": (0, CLASSES, True, TRAIN),
        "score": (0, ESCALATED, True, SCORE),
    }
    escalation = outcome.result["escalation"]
    assert (escalation["forwards"], escalation["hours"]) == (ENCODE + TRAIN + SCORE, None)
    assert written(place.folder) == before
    assert "at most 12" in outcome.messages
    assert f"at most {ENCODE + TRAIN + SCORE:.0f} forwards" in outcome.messages


def test_prior_images_cost_their_sampling_and_a_second_loss_term(place):
    messages = stages(plan(place, "escalate.hyperparameters={steps = 2, samples = 1, prior_images = 12}"))
    sampling = 12 * 50 * 2.0  # Fifty steps with guidance each.
    assert messages["train adapters"] == (0, CLASSES, True, 2 * TRAIN + sampling)


def test_calibration_is_planned_as_it_runs(place):
    """Of two examples a class one is held out, and every class is trained twice."""
    messages = stages(plan(place, "escalate.calibrate=true"))
    assert messages["train adapters"] == (0, CLASSES, True, 2 * TRAIN)
    assert messages["calibrate"] == (0, CLASSES, True, float(CLASSES * CLASSES * STEPS))
    outcome = place.classify("escalate.calibrate=true")
    assert outcome.result["escalated"]["calibration"]["images"] == CLASSES
    after = stages(plan(place, "escalate.calibrate=true"))
    assert after["train adapters"] == (CLASSES, 0, False, 0.0)
    assert after["calibrate"] == (CLASSES, 0, False, 0.0)
    assert {stage[1] for stage in after.values()} == {0}


def test_the_plan_is_what_runs_and_afterwards_nothing_is_left(place):
    assert place.classify().result["escalated"]["forwards"] == SCORE
    outcome = plan(place)
    assert stages(outcome) == {
        "encode": (EXAMPLES + ESCALATED, 0, False, 0.0),
        "train adapters": (CLASSES, 0, False, 0.0),
        "score": (ESCALATED, 0, False, 0.0),
    }
    assert outcome.result["escalation"]["forwards"] == 0.0


def test_a_plan_half_way_counts_selected_images_and_trained_classes(place):
    run = place.classify().run
    for path in (run / "metrics.json", run / "gaps.parquet", *(run / "predictions").iterdir()):
        path.unlink()
    shutil.rmtree(run / "noise-errors" / "round-00")
    next((place.output / "adapters/tif").glob("*/card.json")).unlink()
    next((place.output / "latents").glob("*/support/*")).unlink()
    assert stages(plan(place)) == {
        "encode": (EXAMPLES + ESCALATED - 2, 2, False, FORWARDS_PER_ENCODING * 2),
        "train adapters": (CLASSES - 1, 1, False, TRAIN),
        "score": (0, ESCALATED, False, SCORE),
    }


def test_status_of_a_run_that_escalates(place):
    run = place.classify().run
    parts = [*(run / "predictions").iterdir()]
    for path in (run / "metrics.json", *parts):
        path.unlink()
    state = fewshot("status", place.output).result["runs"][0]
    assert (state["state"], state["parts"]) == ("escalating", f"0/{len(parts)}")
    parts_of_run(run, "cheap_predictions")[0].unlink()
    state = fewshot("status", place.output).result["runs"][0]
    assert (state["state"], state["parts"]) == ("labelling", f"{len(parts) - 1}/{len(parts)}")


def test_cheap_predictions_bound_the_number_of_escalated_images(place):
    run = place.classify("escalate.below=0.000001").run
    for name in ("metrics.json", "gaps.parquet", "escalated.parquet"):
        (run / name).unlink()
    messages = stages(plan(place, "escalate.below=0.000001"))
    assert messages["score"] == (0, 0, False, 0.0)
    assert messages["encode"][:2] == (EXAMPLES, 0)
    assert messages["train adapters"][1] == 0


UNSEALED = b'{"forwards_a_second": 5.0, "device": "cpu"}'
NO_RATE = to_json({"forwards_a_second": 0, "device": "cpu"})


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"{}", NO_RATE, UNSEALED, b"\xff"])
def test_a_plan_measures_a_damaged_probe_anew_and_leaves_it_alone(place, monkeypatch, damaged):
    probe = Part(to_json({"forwards_a_second": 10.0, "device": "cpu"}))
    monkeypatch.setattr(ProbeUnit, "run", lambda self, worker: probe)
    monkeypatch.setattr("ray_jobs.classification.plan.PROBE_S", 0.01)
    path = Path(plan(place).result["run"]) / "probe.json"
    put(path, damaged)
    assert plan(place, probe=True).result["escalation"]["forwards_a_second"] == 10.0
    assert path.read_bytes() == damaged


def test_hours_follow_from_a_probe_of_the_model_on_this_machine(place, monkeypatch):
    monkeypatch.setattr("ray_jobs.classification.plan.PROBE_S", 0.01)
    monkeypatch.setattr("ray_jobs.escalation.cost_model.PROBE_S", 0.01)
    before = written(place.folder)
    messages = plan(place, probe=True).result["escalation"]
    assert messages["forwards_a_second"] > 0
    assert messages["hours"] == pytest.approx(messages["forwards"] / messages["forwards_a_second"] / 3600)
    assert messages["gpu_hours"] == (messages["hours"] if messages["device"].startswith("cuda") else 0.0)
    assert written(place.folder) == before


GPU = 100 * 2**30


@pytest.mark.parametrize(
    ("device", "share", "checkpointing", "message"),
    [
        (None, None, None, "with gradient checkpointing"),
        (GPU, None, False, "a worker has 100.0 GiB on the GPU here, which is enough"),
        (GPU, 0.5, True, "a worker has 49.4 GiB on the GPU here, which is enough with gradient checkpointing"),
        (GPU // 4, None, None, "warning: training adapters takes 30.0 GiB with gradient checkpointing for 8 classes"),
    ],
)
def test_a_plan_says_whether_training_fits_into_a_gpu(place, monkeypatch, device, share, checkpointing, message):
    counted = TrainingMemory(weights=5 * 2**30, adapters=5 * 2**30, activations=60 * 2**30, checkpointed=20 * 2**30)
    monkeypatch.setattr("fewshot.diffusion.training_memory.count_training_memory", lambda backbone, shape: counted)
    monkeypatch.setattr("ray_jobs.steps.diffusion_worker.device_memory", lambda _: device)
    for where in ("classification.plan", "escalation.cost_model"):
        monkeypatch.setattr(f"ray_jobs.{where}.PROBE_S", 0.01)
    outcome = plan(place, *([] if share is None else [f"cluster.gpus_per_worker={share}"]), probe=True)
    memory = outcome.result["escalation"]["training_memory"]
    assert (memory["classes"], memory["plain_bytes"], memory["least_bytes"]) == (8, 70 * 2**30, 30 * 2**30)
    assert (memory["checkpointing"], memory["problem"] is None) == (checkpointing, device != GPU // 4)
    shown = " ".join(outcome.messages.split())
    assert "training a block of 8 classes takes 70.0 GiB of a GPU, or 30.0 GiB with" in shown
    assert message in shown


def test_a_plan_counts_no_memory_where_no_model_is_loaded_or_nothing_is_trained(place, monkeypatch):
    monkeypatch.setattr("ray_jobs.escalation.cost_model.PROBE_S", 0.01)
    assert plan(place).result["escalation"]["training_memory"] is None
    monkeypatch.setattr("ray_jobs.classification.plan.PROBE_S", 0.01)
    plain = ("escalate.method=diffusion_classifier", "escalate.hyperparameters={}")
    assert plan(place, *plain, probe=True).result["escalation"]["training_memory"] is None


def test_a_budget_bounds_images_forwards_and_hours(place, monkeypatch):
    probe = Part(to_json({"forwards_a_second": 10.0, "device": "cuda:0"}))
    monkeypatch.setattr(ProbeUnit, "run", lambda self, worker: probe)
    monkeypatch.setattr("ray_jobs.classification.plan.PROBE_S", 0.01)
    outcome = plan(place, f"escalate.budget_gpu_hours={110 / 10 / 3600}", probe=True)
    images = int(110 // (2 * STEPS + FORWARDS_PER_ENCODING))  # of the cheapest kind: two candidates
    assert stages(outcome) == {
        "encode": (0, EXAMPLES + images, True, FORWARDS_PER_ENCODING * (EXAMPLES + images)),
        "train adapters": (0, CLASSES, True, TRAIN),
        "score": (0, images, True, pytest.approx(110.0)),
    }
    messages = outcome.result["escalation"]
    encoding = FORWARDS_PER_ENCODING * EXAMPLES  # comes before any choice
    assert messages["forwards"] == pytest.approx(encoding + 110.0)
    assert messages["hours"] == messages["gpu_hours"] == pytest.approx(messages["forwards"] / 10 / 3600)
    assert "hours of a GPU, at 10.0 a second on cuda:0" in " ".join(outcome.messages.split())


def test_a_method_without_adapters_trains_nothing(place):
    messages = stages(plan(place, "escalate.method=diffusion_classifier", "escalate.hyperparameters={}"))
    assert messages["train adapters"] == (0, 0, False, 0)
    assert messages["score"][3] == SCORE


def test_the_cost_for_an_uncounted_archive_is_unknown(place):
    images = [(path.name, path.read_bytes()) for path in sorted(place.archive.glob("*.jpg"))]
    put(place.folder / "tars/all.tar", tar_bytes(images))
    outcome = plan(place, f"archive.uri={place.folder / 'tars'}")
    assert stages(outcome)["score"] == (0, None, False, None)
    assert outcome.result["escalation"]["forwards"] is None
    assert "not known before the archive was read" in outcome.messages
    known = outcome.result["archive"]["images"]
    assert known is None


@pytest.fixture
def rows(monkeypatch):
    """Rows of the UNet's forwards, in training and in scoring."""
    counted, predict = Counter(), DiffusionBackbone.predict

    def counting(self, noisy, steps, context):
        counted["training" if torch.is_grad_enabled() else "scoring"] += len(noisy)
        return predict(self, noisy, steps, context)

    monkeypatch.setattr(DiffusionBackbone, "predict", counting)
    return counted


@pytest.mark.parametrize("calibrate", ["true", "false"])
@pytest.mark.parametrize("budget", [500, 3000, 6000])
def test_forwards_exceed_neither_the_plan_nor_the_budget(place, monkeypatch, rows, budget, calibrate):
    probe = Part(to_json({"forwards_a_second": 10.0, "device": "cpu"}))
    monkeypatch.setattr(ProbeUnit, "run", lambda self, worker: probe)
    settings = [
        f"escalate.budget_gpu_hours={budget / 10 / 3600}",
        f"escalate.calibrate={calibrate}",
        "escalate.hyperparameters={steps = 50, samples = 1}",
    ]
    messages = stages(plan(place, *settings, probe=True))
    assert place.classify(*settings).code == 0
    assert FORWARDS_PER_SAMPLE * rows["training"] <= messages["train adapters"][3]
    assert FORWARDS_PER_SAMPLE * rows["training"] + rows["scoring"] <= budget
    assert (rows["training"] > 0) == (budget > FORWARDS_PER_SAMPLE * 50 * BLOCK_SIZE * (1 + (calibrate == "true")))


@pytest.mark.parametrize(
    ("classes", "settings", "blocks"), [(0, 1, 0), (1, 1, 1), (8, 1, 1), (9, 1, 2), (2, 3, 2), (9, 2, 2)]
)
def test_classes_with_other_settings_share_no_block(classes, settings, blocks):
    known = {AdapterSettings(steps=step + 1) for step in range(settings)}
    assert (
        training_cost(classes, known, block_size=BLOCK_SIZE) == blocks * BLOCK_SIZE * FORWARDS_PER_SAMPLE * settings * 2
    )  # With a prior.
