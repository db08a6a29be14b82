"""Audits of runs: draws, answers of the ledger, what is left out, and what is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.errors import DataError
from ray_jobs.audit import Audit, audit
from ray_jobs.errors import JobError
from ray_jobs.inputs.ground_truth import STORED_BEFORE
from ray_jobs.job_file.sections import ClassifierSection
from ray_jobs.labels import LabelLedger, new_label
from ray_jobs.output.layout import JOB, PLAN
from ray_jobs.output.runs import open_run, sealed_job_file
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.moves import Registered
from ray_jobs.registry.registry_state import RegistryState
from tests.ray_jobs.registry.registered import version
from tests.ray_jobs.written_run import CLASSES, METRICS_BY_HAND, RUN, WrittenRun

IMAGES = [f"{i:03}.png" for i in range(90)]


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    """A run over 90 images, of which the last is unreadable."""
    return WrittenRun(tmp_path).write(dict.fromkeys(IMAGES, b"-"), broken={IMAGES[-1]: "cut off"})


def audited(run: WrittenRun, images: int | None = None, **options) -> Audit:
    return audit(run.store.url(RUN), images, storage=DEFAULT_STORAGE, **options)


def answer(done: Audit, images, label=None, kind="label"):
    """Answer images of a draw: with the prediction if no label is given."""
    ledger = LabelLedger(done.archive.ledger.store)
    by_image = {each.image: each for each in done.sample.images}
    events = [
        new_label(
            by="test",
            archive=done.result.archive,
            image=image,
            answer=kind,
            label=(label or by_image[image].label) if kind == "label" else None,
            reason="audit",
            draw=done.result.draw,
            probability=by_image[image].probability,
        )
        for image in images
    ]
    return ledger.append(events)


def drawn(done: Audit) -> list[str]:
    return [each.image for each in done.sample.images]


def test_without_answers_nothing_is_estimated(run):
    done = audited(run, 40)
    assert (done.result.images, done.result.population, done.result.unreadable) == (40, 89, 1)
    assert done.result.estimates is None
    assert done.result.labelled_share == pytest.approx(63 / 89)


def test_the_whole_archive_is_known_when_all_of_it_is_answered(run):
    done = audited(run, 300)
    wrong = drawn(done)[::4]
    answer(done, [image for image in drawn(done) if image not in wrong])
    answer(done, wrong, label="other")
    found = audited(run).result.estimates
    accuracy = 1.0 - len(wrong) / 89
    assert found.accuracy.value == pytest.approx(accuracy)
    assert found.accuracy.low == pytest.approx(accuracy) == pytest.approx(found.accuracy.high)
    assert {each.label for each in found.classes} == {*CLASSES, "other"}
    assert next(each for each in found.classes if each.label == "other").images == len(wrong)


def test_a_larger_draw_continues_the_first_and_keeps_its_answers(run):
    small = audited(run, 30)
    answer(small, drawn(small))
    large = audited(run, 60)
    assert drawn(large)[:30] == drawn(small)
    assert (large.result.draw, large.result.answered) == (small.result.draw, 30)
    assert drawn(audited(run, 30)) == drawn(large)


def test_answers_behind_an_image_without_one_wait(run):
    done = audited(run, 40)
    answer(done, drawn(done)[:10] + drawn(done)[11:15])
    result = audited(run).result
    assert (result.answered, result.waiting) == (10, 4)


def test_undone_answers_do_not_count_and_repeated_ones_count_once(run):
    done = audited(run, 40)
    events = answer(done, drawn(done)[:12])
    answer(done, drawn(done)[:12])
    assert audited(run).result.answered == 12
    again = answer(done, drawn(done)[11:12])
    others = [event for event in LabelLedger(done.archive.ledger.store).events() if event.image == drawn(done)[11]]
    done.archive.ledger.undo([event.id for event in others], by="test")
    assert audited(run).result.answered == 11
    assert len(events) == 12
    assert len(again) == 1


def test_answers_of_another_draw_are_named_and_do_not_count(run):
    other = audited(run, 40, seed=1)
    answer(other, drawn(other)[:20])
    result = audited(run, 40).result
    assert result.estimates is None
    assert result.notes == (
        (
            "The ledger has 20 answers to another draw, which are not used: this draw chose its images with chances of"
            " its own, so only answers to its images count. What the others say: fewshot audit"
            f" {run.store.root}/{RUN} --seed 1"
        ),
    )


def test_what_a_registered_version_learned_from_is_known(run):
    job = replace(run.job, classifier=ClassifierSection(from_="elsewhere/gda/1"))
    run.store.put(f"{RUN}/{JOB}", sealed_job_file(job))
    assert audited(run, 40).result.notes == (STORED_BEFORE,)
    plan = open_run(f"{run.store.root}/{RUN}").plan
    run.store.put(f"{RUN}/{PLAN}", replace(plan, classifier=f"/before/the/move/{version(1).folder}").to_bytes())
    registered = Registered(version=version(1))
    Journal(run.store, job.job.name).append(registered, by="cron", why="first", after=RegistryState())
    assert audited(run, 40, seed=1).result.notes == ()


def test_skipped_images_widen_the_interval(run):
    done = audited(run, 60)
    answer(done, drawn(done)[:50])
    before = audited(run).result.estimates.accuracy
    answer(done, drawn(done)[50:], kind="skipped")
    result = audited(run).result
    assert result.uncertain == 10
    assert result.estimates.accuracy.low < before.low


def test_unknown_is_wrong_where_a_class_was_predicted(run):
    done = audited(run, 300)
    answer(done, drawn(done), kind="unknown")
    assert audited(run).result.estimates.accuracy.value == 0.0


def test_a_run_without_scores_is_audited(tmp_path):
    run = WrittenRun(tmp_path, has_scores=False).write(dict.fromkeys(IMAGES, b"-"))
    done = audited(run, 40)
    answer(done, drawn(done))
    found = audited(run).result.estimates
    assert found.accuracy.value == pytest.approx(1.0)
    assert all(limit.threshold is None for limit in found.limits)


def test_audits_at_the_same_time_have_one_draw(run):
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda images: audited(run, images), (30, 50, 30, 50)))
    planned = {json.loads((Path(run.store.root) / "audits/by-hand-0/draw.json").read_text())["planned"]}
    assert len(planned) == 1
    longest = max((drawn(each) for each in done), key=len)
    assert all(longest[: len(drawn(each))] == drawn(each) for each in done)


def test_the_result_is_stored_with_the_draw(run):
    done = audited(run, 40)
    stored = json.loads((Path(run.store.root) / "audits/by-hand-0/result.json").read_text())
    assert stored["images"] == 40
    assert (Path(run.store.root) / done.result.sample).exists()


def test_a_damaged_sample_is_refused_by_name(run):
    path = Path(run.store.root) / audited(run, 40).result.sample
    path.write_text(path.read_text().replace("0.", "1.", 1))
    with pytest.raises(JobError, match=r"sample-40.json is damaged"):
        audited(run, 40)


def test_a_run_that_is_not_complete_is_refused(tmp_path):
    run = WrittenRun(tmp_path, metrics={"complete": False}).write(dict.fromkeys(IMAGES, b"-"))
    with pytest.raises(JobError, match="is not complete"):
        audited(run, 40)


def test_too_small_a_draw_is_refused(run):
    with pytest.raises(JobError, match="takes 20 images at least, got --n 5"):
        audited(run, 5)


def test_a_run_without_readable_images_is_refused(tmp_path):
    run = WrittenRun(tmp_path).write({"a.png": b"-"}, broken={"a.png": "cut off"})
    with pytest.raises(DataError, match="nothing to draw from"):
        audited(run, 40)


def test_the_confidence_of_thresholds_is_that_of_the_run(run):
    assert METRICS_BY_HAND["held_out"]["confidence"] == audited(run, 40).result.limit_confidence == 0.9


def test_the_report_says_what_the_audit_found(run):
    report = Path(run.store.url(f"{RUN}/report/index.html"))
    done = audited(run)
    assert not report.exists()
    answer(done, drawn(done), "amber")
    result = audited(run).result
    page = report.read_text().replace("\u00a0", " ")
    assert "What an audit says" in page
    assert "All that is known" not in page
    accuracy = result.estimates.accuracy
    assert f"{100 * accuracy.low:.1f} % to {100 * accuracy.high:.1f} %" in page
    assert f"{result.answered} images of {result.population}" in page
