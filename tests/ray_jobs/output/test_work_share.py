"""The share of a job that is done grows from nothing to everything, whatever stages it has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster import Store
from ray_jobs.output.layout import prediction_parts
from ray_jobs.output.work_share import classification_work, evaluation_work, measure_progress
from ray_jobs.results.run_plan import ArchiveSummary, RunPlan

RUN = "runs/a-0123"
SHARDS = 4
FEATURES = tuple(f"features/c/a/part-{index}" for index in range(SHARDS))
PLAN = RunPlan(
    kind="classification",
    job="a",
    classes=2,
    features=FEATURES,
    archive=ArchiveSummary(images=400, shards=SHARDS, skipped=0, skipped_examples=()),
    example_parts=tuple(f"features/c/examples-1/part-{index}" for index in range(2)),
    predictions=tuple(prediction_parts(f"{RUN}/predictions", FEATURES)),
    cheap_predictions=tuple(prediction_parts("predictions/a", FEATURES)),
    work=classification_work(examples=200, images=400, shards=SHARDS, escalation=800),
)


def progress(store: Store, plan: RunPlan):
    return measure_progress(store, RUN, plan, frozenset(store.list(RUN)))


def test_every_stage_of_a_classification_adds_its_share(tmp_path):
    store = Store(str(tmp_path))
    seen = [progress(store, PLAN)]
    for path in (
        *PLAN.example_parts,
        *PLAN.features,
        *PLAN.cheap_predictions,
        f"{RUN}/noise-errors/1",
        f"{RUN}/gaps.parquet",
        *PLAN.predictions,
    ):
        store.put(path, b"")
        seen.append(progress(store, PLAN))
    shares = [each.share for each in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares[2] == pytest.approx(200 / PLAN.work.total)  # The examples alone.
    assert shares[6] == pytest.approx(600 / PLAN.work.total)
    assert shares[10] == pytest.approx(608 / PLAN.work.total)
    assert shares[11] == pytest.approx((608 + 0.5 * 800) / PLAN.work.total)
    assert shares[13] == pytest.approx((608 + 0.925 * 800) / PLAN.work.total)
    states = ["embedding"] * 7 + ["labelling"] * 3 + ["escalating"] * 7
    assert [each.state for each in seen] == states
    assert [(each.done, each.parts) for each in seen][5:9] == [(3, 4), (4, 4), (1, 4), (2, 4)]


def test_a_run_without_escalation_is_done_when_it_is_labelled(tmp_path):
    store = Store(str(tmp_path))
    work = classification_work(examples=0, images=None, shards=SHARDS, escalation=0)
    plan = replace(PLAN, predictions=PLAN.cheap_predictions, cheap_predictions=(), work=work)
    seen = []
    for path in (*plan.features, *plan.predictions):
        store.put(path, b"")
        seen.append(progress(store, plan))
    assert [each.state for each in seen] == ["embedding"] * SHARDS + ["labelling"] * SHARDS
    assert progress(store, plan).share == 1.0


def test_an_evaluation_embeds_and_measures(tmp_path):
    store = Store(str(tmp_path))
    plan = RunPlan(
        kind="evaluation", job="a", classes=2, features=("f/1", "f/2"), cells=("e/1",), work=evaluation_work(images=60)
    )
    seen = [progress(store, plan)]
    for path in (*plan.features, *plan.cells):
        store.put(path, b"")
        seen.append(progress(store, plan))
    assert [each.share for each in seen] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [each.state for each in seen] == ["embedding", "embedding", "embedding", "measuring"]


def test_the_plan_of_an_older_version_has_no_share(tmp_path):
    assert progress(Store(str(tmp_path)), replace(PLAN, work=None, example_parts=())).share is None


def test_an_archive_without_images_is_no_work_and_an_unknown_one_is():
    none, unknown = (classification_work(examples=5, images=images, shards=2, escalation=0) for images in (0, None))
    assert (none.total, unknown.archive) == (5.0, 2000.0)
