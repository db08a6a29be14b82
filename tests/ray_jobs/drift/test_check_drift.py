"""References and nights of a job: what counts as new, what is stored, what a kill or a second process leaves."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from cluster import Store
from cluster.errors import StorageError
from fewshot.drift import LEAST, Spent, next_level
from ray_jobs.drift import DriftRules, check_drift, keep_reference
from ray_jobs.drift.check_drift import classifier_of, predictions_of
from ray_jobs.drift.drift_page import sentences_of
from ray_jobs.drift.drift_store import DriftStore, written
from ray_jobs.drift.newcomers import DrawnImage, DrawnSample, KnownContents, Newcomers, content_hashes
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import EscalateSection
from ray_jobs.results.drift_result import DriftFinding
from ray_jobs.suggestion.embedded_run import EmbeddedRun
from tests.ray_jobs.drift.passes import DIM, Passes, rows

OLD = rows(90, 1)
GENEROUS = DriftRules(alarms_a_year=300.0)


@pytest.fixture
def passes(tmp_path) -> Passes:
    return Passes(tmp_path)


def stored(passes: Passes) -> DriftStore:
    return DriftStore(Store(str(passes.folder / "output")), "by-hand")


def test_a_version_has_one_reference_however_often_it_is_kept(passes: Passes) -> None:
    first = passes.write(OLD)
    reference = keep_reference(first, version=1, clock=passes.clock)
    assert (reference.number, reference.version, reference.images, reference.contents) == (1, 1, 90, 90)
    assert reference.time == "2026-11-01T03:00:00.000000Z"
    later = passes.write({**OLD, **rows(60, 2)})
    assert keep_reference(later, version=1, clock=passes.clock) == reference
    other = keep_reference(later, version=2, clock=passes.clock)
    assert (other.number, other.images) == (2, 90)
    assert stored(passes).references() == [reference, other]


def test_the_first_check_keeps_a_reference_and_the_next_ones_wait_for_images(passes: Passes) -> None:
    first = check_drift(passes.write(OLD), version=None, clock=passes.clock)
    assert (first.did, first.night, first.is_alarm) == ("reference", None, False)
    second = check_drift(passes.write({**OLD, **rows(20, 2)}), version=None, clock=passes.clock)
    assert (second.did, second.came, second.night) == ("waiting", 20, None)
    assert stored(passes).nights() == []


def test_images_that_came_since_are_compared_and_their_alarm_is_stored(passes: Passes) -> None:
    keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    passes.days(1)
    strange = rows(70, 2, away=6.0)
    labels = dict.fromkeys(strange, "blue")
    check = check_drift(passes.write({**OLD, **strange}, labels), version=1, rules=GENEROUS, clock=passes.clock)
    assert check.did == "compared"
    assert check.is_alarm
    night = check.night
    assert night is not None
    assert (night.number, night.reference, night.came, night.since) == (1, 1, 70, 70)
    assert {finding.statistic for finding in night.alarms} == {"features", "novel", "classes"}
    assert night.run == "runs/pass-2"
    assert stored(passes).nights() == [night]
    assert len(night.unlike) <= 12
    assert {each.label for each in night.unlike} == {"blue"}
    assert {each.image for each in night.unlike} <= set(strange)


def test_a_pass_is_compared_once_whatever_its_run(passes: Passes) -> None:
    keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    images = {**OLD, **rows(60, 2)}
    passes.days(1)
    first = check_drift(passes.write(images), version=1, clock=passes.clock)
    passes.days(1)
    again = check_drift(passes.write(images), version=1, clock=passes.clock)
    assert (first.did, again.did, again.night) == ("compared", "unchanged", first.night)
    fewer = check_drift(passes.write(dict(list(images.items())[:120])), version=1, clock=passes.clock)
    assert (fewer.did, fewer.came, fewer.night) == ("waiting", 0, None)  # What vanishes is no new image.
    assert len(stored(passes).nights()) == 1


def test_an_alarm_ends_when_the_strange_images_are_removed(passes: Passes) -> None:
    keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    usual, strange = rows(60, 2), rows(60, 3, away=6.0)
    passes.days(1)
    dirty = passes.write({**OLD, **usual, **strange})
    assert check_drift(dirty, version=1, rules=GENEROUS, clock=passes.clock).is_alarm
    assert check_drift(dirty, version=1, rules=GENEROUS, clock=passes.clock).is_alarm
    passes.days(1)
    partly = passes.write({**OLD, **dict(list(strange.items())[:20])})
    waiting = check_drift(partly, version=1, rules=GENEROUS, clock=passes.clock)
    assert (waiting.did, waiting.came, waiting.is_alarm) == ("waiting", 0, False)
    clean = check_drift(passes.write({**OLD, **usual}), version=1, rules=GENEROUS, clock=passes.clock)
    assert clean.night is not None
    assert (clean.did, clean.is_alarm, clean.night.came, clean.night.since) == ("compared", False, 0, 60)


def test_moved_files_and_copies_are_not_new(passes: Passes) -> None:
    keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    new = rows(30, 2)
    moved = {f"moved_{name}": row for name, row in OLD.items()}
    copies = {f"copy_{name}": row for name, row in new.items()}
    check = check_drift(passes.write({**moved, **new, **copies}), version=1, clock=passes.clock)
    assert (check.did, check.came) == ("waiting", 30)


def test_levels_follow_from_the_nights_that_are_stored(passes: Passes) -> None:
    images = dict(OLD)
    keep_reference(passes.write(images), version=1, clock=passes.clock)
    spent: list[Spent] = []
    for night in range(1, 4):
        passes.days(1)
        images |= rows(60, 10 + night)
        check = check_drift(passes.write(images), version=1, clock=passes.clock)
        assert check.night is not None
        expected = next_level(spent, night / 365, alarms_a_year=1.0)
        assert check.night.level == pytest.approx(expected)
        assert sum(finding.level for finding in check.night.findings) == pytest.approx(check.night.level)
        assert (check.night.came, check.night.since) == (60, 60 * night)
        spent.append(Spent(night / 365, check.night.level))
    keep_reference(passes.write(images), version=2, accept=True, clock=passes.clock)
    check = check_drift(passes.write({**images, **rows(60, 20)}), version=2, clock=passes.clock)
    assert check.night is not None
    assert check.night.number == 4  # Another reference does not fill the bucket again.
    assert check.night.level == pytest.approx(next_level(spent, 3 / 365, alarms_a_year=1.0), rel=1e-6)


@pytest.mark.parametrize("ahead", ["the reference", "a night"])
def test_a_clock_that_was_years_ahead_once_leaves_later_levels_as_they_are(passes: Passes, ahead: str) -> None:
    images, years = dict(OLD), 73.0
    passes.days(365 * years * (ahead == "the reference"))
    keep_reference(passes.write(images), version=1, clock=passes.clock)
    passes.days(-365 * years * (ahead == "the reference"))
    spent: list[Spent] = []
    for night in range(1, 5):
        is_wrong = ahead == "a night" and night == 2
        passes.days(1 + 365 * years * is_wrong)
        images |= rows(60, 10 + night)
        check = check_drift(passes.write(images), version=1, clock=passes.clock)
        passes.days(-365 * years * is_wrong)
        assert check.night is not None
        if not is_wrong:
            assert check.night.time == written(passes.now)
            assert check.night.level == pytest.approx(next_level(spent, night / 365, alarms_a_year=1.0))
        spent.append(Spent((night - is_wrong) / 365, check.night.level))


def test_the_newest_nights_are_looked_at_alone_as_well(passes: Passes) -> None:
    images = dict(OLD)
    keep_reference(passes.write(images), version=1, clock=passes.clock)
    for seed in (2, 3):
        passes.days(1)
        images |= rows(210, seed)
        check = check_drift(passes.write(images), version=1, clock=passes.clock)
    assert check.night is not None
    assert [finding.images for finding in check.night.findings[::4]] == [210, 420]
    seen = stored(passes).read(check.night.seen, KnownContents)
    assert np.bincount(seen.nights).tolist() == [0, 210, 210]


def test_an_accepted_archive_is_the_new_reference(passes: Passes) -> None:
    keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    changed = passes.write({**OLD, **rows(70, 2, away=6.0)})
    assert check_drift(changed, version=1, rules=GENEROUS, clock=passes.clock).is_alarm
    reference = keep_reference(changed, version=1, accept=True, why="summer", clock=passes.clock)
    assert (reference.number, reference.images, reference.why) == (2, 160, "summer")
    assert check_drift(changed, version=1, clock=passes.clock).did == "waiting"


def test_a_reference_of_too_few_images_ends_with_the_first_archive_of_enough(passes: Passes) -> None:
    small = check_drift(passes.write(rows(30, 1)), version=1, clock=passes.clock)
    assert (small.did, small.reference.images) == ("reference", 30)
    still = check_drift(passes.write(rows(40, 1)), version=1, clock=passes.clock)
    assert (still.did, still.reference) == ("waiting", small.reference)
    (sentence,) = sentences_of(still)
    assert "30 images of 2026-11-01, is too small to compare with: the first archive of 50 images" in sentence
    images = {**rows(30, 1), **rows(70, 2, away=6.0)}
    enough = check_drift(passes.write(images), version=1, clock=passes.clock)
    assert (enough.did, enough.reference.images) == ("reference", 100)
    strange = check_drift(passes.write({**images, **rows(70, 3, away=-9.0)}), version=1, rules=GENEROUS)
    assert strange.is_alarm


def test_what_was_accepted_stays_accepted_after_a_rollback(passes: Passes) -> None:
    keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    images = {**OLD, **rows(70, 2, away=6.0)}
    keep_reference(passes.write(images, classifier=2), version=2, clock=passes.clock)
    changed = passes.write(images, classifier=2)
    assert check_drift(changed, version=2, rules=GENEROUS, clock=passes.clock).is_alarm
    accepted = keep_reference(changed, version=2, accept=True, clock=passes.clock)
    back = passes.write(images, classifier=1)
    again = check_drift(back, version=1, rules=GENEROUS, clock=passes.clock)
    assert (again.did, again.is_alarm, again.reference.known) == ("waiting", False, accepted.known)
    assert keep_reference(back, version=1, clock=passes.clock) == again.reference


def test_the_first_check_of_a_version_compares_with_the_contents_before(passes: Passes) -> None:
    keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    run = passes.write({**OLD, **rows(70, 2, away=6.0)}, classifier=2)
    check = check_drift(run, version=2, rules=GENEROUS, clock=passes.clock)
    assert (check.did, check.is_alarm, check.reference.version) == ("compared", True, 2)


def test_a_promotion_carries_the_contents_on_and_renews_the_predictions(passes: Passes) -> None:
    first = keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    later = passes.write({**OLD, **rows(80, 2)}, dict.fromkeys(OLD, "blue"), classifier=2)
    second = keep_reference(later, version=2, clock=passes.clock)
    assert (second.known, second.run, second.contents) == (first.known, first.run, first.contents)
    assert (first.predictions, second.predictions) == ("predictions/1-all", "predictions/2-all")
    sample = stored(passes).read(second.sample, DrawnSample)
    assert {image.image for image in sample.images} == set(OLD)
    assert {image.label for image in sample.images} == {"blue"}
    check = check_drift(later, version=2, clock=passes.clock)
    assert check.night is not None
    assert (check.night.reference, check.came) == (2, 80)


def test_drift_is_seen_although_a_version_is_promoted_every_night(passes: Passes) -> None:
    images = dict(OLD)
    keep_reference(passes.write(images), version=1, clock=passes.clock)
    alarms = []
    for night in range(2, 5):
        passes.days(1)
        images |= rows(60, night, away=6.0)
        run = passes.write(images, classifier=night)
        keep_reference(run, version=night, clock=passes.clock)
        check = check_drift(run, version=night, rules=GENEROUS, clock=passes.clock)
        assert check.night is not None
        assert (check.came, check.night.since, check.night.reference) == (60, 60 * (night - 1), night)
        alarms.append({finding.statistic for finding in check.night.alarms})
    assert alarms == [{"features", "novel"}] * 3


def test_the_newest_nights_stay_apart_after_a_promotion(passes: Passes) -> None:
    images = dict(OLD)
    for version in (1, 2):
        keep_reference(passes.write(images, classifier=version), version=version, clock=passes.clock)
        passes.days(1)
        images |= rows(210, 10 + version)
        check = check_drift(passes.write(images, classifier=version), version=version, clock=passes.clock)
    assert check.night is not None
    assert (check.night.came, [finding.images for finding in check.night.findings[::4]]) == (210, [210, 420])
    again = check_drift(passes.write(images, classifier=1), version=1, clock=passes.clock)
    assert (again.did, again.night) == ("unchanged", check.night)  # A rollback compares nothing twice.


def test_a_promotion_keeps_images_that_are_gone_without_their_predictions(passes: Passes) -> None:
    first = keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    left = dict(list(OLD.items())[: LEAST - 1])
    images = {**{f"moved_{name}": row for name, row in left.items()}, **rows(70, 2)}
    run = passes.write(images, dict.fromkeys(images, "blue"), classifier=2)
    second = keep_reference(run, version=2, clock=passes.clock)
    assert (second.images, second.known, second.predictions) == (90, first.known, "predictions/2-all")
    before, sample = (stored(passes).read(each.sample, DrawnSample) for each in (first, second))
    assert np.array_equal(sample.features, before.features)
    labels = {image.image: (image.label, image.status) for image in sample.images}
    assert labels == {
        **{f"moved_{name}": ("blue", "ok") for name in left},
        **dict.fromkeys(set(OLD) - set(left), (None, None)),
    }
    check = check_drift(run, version=2, rules=GENEROUS, clock=passes.clock)
    assert check.night is not None
    assert [finding.statistic for finding in check.night.findings] == ["features", "novel"]


def test_the_reference_of_an_archive_that_slides_keeps_its_images(passes: Passes) -> None:
    archive = list(rows(200, 1).items())
    for version in range(1, 6):
        reference = keep_reference(passes.write(dict(archive), classifier=version), version=version)
        assert reference.images == 200
        archive = archive[30:] + list(rows(30, version + 1).items())


@pytest.mark.parametrize("changed", ["backbone", "too few images"])
def test_a_reference_that_cannot_be_carried_on_is_drawn_anew(passes: Passes, changed: str) -> None:
    first = keep_reference(passes.write(OLD if changed == "backbone" else rows(30, 1)), version=1, clock=passes.clock)
    drift = stored(passes)
    if changed == "backbone":
        drift.store.put(f"{drift.folder}/references/000001.json", replace(first, backbone="1").to_bytes())
    later = passes.write({**OLD, **rows(60, 2)}, classifier=2)
    second = keep_reference(later, version=2, clock=passes.clock)
    assert (second.images, second.contents, second.run) == (150, 150, "runs/pass-2")


def test_predictions_of_different_classifiers_are_not_compared(passes: Passes) -> None:
    keep_reference(passes.write(OLD), version=None, clock=passes.clock)
    new = rows(70, 2)
    labels = dict.fromkeys({**OLD, **new}, "blue")
    other = check_drift(passes.write({**OLD, **new}, labels, classifier=2), version=None, clock=passes.clock)
    assert other.night is not None
    assert [finding.statistic for finding in other.night.findings] == ["features", "novel"]
    more = rows(70, 3)
    same = check_drift(passes.write({**OLD, **new, **more}), version=None, clock=passes.clock)
    assert same.night is not None
    assert {finding.statistic for finding in same.night.findings} == {"features", "novel", "classes", "withheld"}


def test_predictions_with_other_thresholds_are_not_compared(passes: Passes) -> None:
    keep_reference(passes.write(OLD, limit="all"), version=1, clock=passes.clock)
    run = passes.write({**OLD, **rows(70, 2)}, limit="max_error 0.05")
    check = check_drift(run, version=1, clock=passes.clock)
    assert check.night is not None
    assert [finding.statistic for finding in check.night.findings] == ["features", "novel"]


def compared_after_learning(passes: Passes, learned: int) -> dict[str, DriftFinding]:
    """Compare 300 images, of which labels of 60 are withheld but of none that was learned from, with 300 alike."""
    old, new = rows(300, 1), rows(300, 2)
    names, others = list(old), list(new)
    write = partial(passes.write, learned=names[60 - learned : 60], withheld={*names[: 60 - learned], *others[:60]})
    keep_reference(write(old), version=1, clock=passes.clock)
    check = check_drift(write({**old, **new}), version=1, clock=passes.clock)
    assert check.night is not None
    return {finding.statistic: finding for finding in check.night.findings}


def test_images_that_were_learned_from_are_left_out_of_the_statistics_of_predictions(passes: Passes) -> None:
    findings = compared_after_learning(passes, 15)
    assert findings["withheld"].reference == pytest.approx(45 / 285)
    assert findings["withheld"].value == pytest.approx(60 / 300)


def test_predictions_are_not_compared_where_much_of_a_sample_was_learned_from(passes: Passes) -> None:
    assert set(compared_after_learning(passes, 16)) == {"features", "novel"}


def test_escalated_predictions_are_compared_by_those_before_and_their_settings(passes: Passes) -> None:
    run = passes.write(OLD)

    def escalated(night: int, fraction: float) -> str:
        parts = tuple(f"runs/{night}/predictions/{each}" for each in run.run.plan.predictions)
        plan = replace(run.run.plan, predictions=parts, cheap_predictions=run.run.plan.predictions)
        job = replace(run.job, escalate=EscalateSection(max_fraction=fraction))
        return predictions_of(replace(run, run=replace(run.run, plan=plan), job=job))

    assert escalated(1, 0.1) == escalated(2, 0.1)
    assert len({escalated(1, 0.1), escalated(1, 0.2), predictions_of(run)}) == 3


def test_the_classifier_of_a_run_is_known_after_the_output_was_moved(passes: Passes) -> None:
    run = passes.write(OLD)
    elsewhere = replace(run.run.plan, classifier=f"s3://before/{classifier_of(run)}")
    moved = replace(run, run=replace(run.run, plan=elsewhere))
    assert classifier_of(moved) == classifier_of(run) == f"classifiers/gda/{1:016x}"


def test_parts_of_the_reference_are_not_read_again(passes: Passes) -> None:
    run = passes.write(OLD)
    keep_reference(run, version=1, clock=passes.clock)
    for part in run.features:
        run.store.put(part, b"damaged")
    assert check_drift(run, version=1, clock=passes.clock).did == "waiting"


def test_another_backbone_or_an_incomplete_run_is_refused(passes: Passes) -> None:
    run = passes.write(OLD)
    reference = keep_reference(run, version=1, clock=passes.clock)
    drift = stored(passes)
    path = f"{drift.folder}/references/000001.json"
    drift.store.put(path, reference.to_bytes().replace(b'"backbone": "0"', b'"backbone": "1"'))
    with pytest.raises(JobError, match="damaged"):
        check_drift(run, version=1, clock=passes.clock)
    drift.store.put(path, replace(reference, backbone="1").to_bytes())
    with pytest.raises(JobError, match=r"another backbone.*--accept"):
        check_drift(run, version=1, clock=passes.clock)
    run.store.delete(f"{run.run.folder}/metrics.json")
    with pytest.raises(JobError, match="not complete"):
        keep_reference(EmbeddedRun.open(run.run.url), version=1, clock=passes.clock)


def test_a_lost_sample_is_named_with_what_to_do(passes: Passes) -> None:
    reference = keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    new = passes.write({**OLD, **rows(60, 2)})
    new.store.put(reference.sample, b"damaged")
    with pytest.raises(JobError, match=r"damaged.*--accept"):
        check_drift(new, version=1, clock=passes.clock)
    new.store.delete(reference.sample)
    with pytest.raises(JobError, match=r"gone.*--accept"):
        check_drift(new, version=1, clock=passes.clock)


class _KilledError(Exception):
    """Stands for the end of the process."""


def _stored_objects(folder) -> dict[str, bytes]:
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in sorted((folder / "output" / "registry").rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after it"])
def test_killed_at_any_write_the_same_is_stored_when_it_is_run_again(passes: Passes, monkeypatch, after) -> None:
    old, new = passes.write(OLD), passes.write({**OLD, **rows(60, 2)})

    def work() -> None:
        keep_reference(old, version=1, clock=passes.clock)
        check_drift(new, version=1, clock=passes.clock)

    work()
    expected = _stored_objects(passes.folder)
    originals = {name: getattr(Store, name) for name in ("put", "put_if_absent")}
    killed_at = 0
    while True:
        shutil.rmtree(passes.folder / "output" / "registry")
        writes = itertools.count()
        for name, original in originals.items():
            monkeypatch.setattr(Store, name, _killing(original, writes, killed_at, after=after))
        with contextlib.suppress(_KilledError):
            work()
            break
        for name, original in originals.items():
            monkeypatch.setattr(Store, name, original)
        work()
        assert _stored_objects(passes.folder) == expected
        killed_at += 1
    assert killed_at == 5  # A sample, contents and an entry; contents and an entry.


def _killing(original, writes, killed_at: int, *, after: bool):
    def write(self, path: str, data: bytes) -> object:
        is_last = next(writes) == killed_at
        if is_last and not after:
            raise _KilledError
        result = original(self, path, data)
        if is_last:
            raise _KilledError
        return result

    return write


def test_of_two_at_once_one_writes_and_the_other_reads(passes: Passes, monkeypatch) -> None:
    keep_reference(passes.write(OLD), version=1, clock=passes.clock)
    run = passes.write({**OLD, **rows(60, 2)})
    put_if_absent = Store.put_if_absent
    others = []

    def late(self, path, data):
        monkeypatch.setattr(Store, "put_if_absent", put_if_absent)
        passes.days(0.01)
        others.append(check_drift(run, version=1, clock=passes.clock))
        return put_if_absent(self, path, data)

    monkeypatch.setattr(Store, "put_if_absent", late)
    own = check_drift(run, version=1, clock=passes.clock)
    assert (others[0].did, own.did) == ("compared", "unchanged")
    assert own.night == others[0].night
    assert len(stored(passes).nights()) == 1


def test_of_two_references_at_once_one_counts(passes: Passes, monkeypatch) -> None:
    run = passes.write(OLD)
    put_if_absent = Store.put_if_absent
    others = []

    def late(self, path, data):
        monkeypatch.setattr(Store, "put_if_absent", put_if_absent)
        passes.days(0.01)
        others.append(keep_reference(run, version=1, clock=passes.clock))
        return put_if_absent(self, path, data)

    monkeypatch.setattr(Store, "put_if_absent", late)
    assert keep_reference(run, version=1, clock=passes.clock) == others[0]
    assert len(stored(passes).references()) == 1


def test_a_large_archive_is_told_by_its_lowest_hashes() -> None:
    features = np.random.default_rng(0).normal(size=(5000, DIM)).astype(np.float32)
    hashes = content_hashes(features)
    known = KnownContents.lowest(dict.fromkeys(hashes[:4000].tolist(), 0), most=400)
    assert (len(known), known.bound) == (400, int(known.hashes[-1]))
    newcomers = Newcomers(known, 1)
    images = [DrawnImage(str(number), "", "", number, None, None) for number in range(5000)]
    newcomers.offer(images, features, hashes)
    new = {image.row for image in newcomers.sample().images}
    assert new == {row for row in range(4000, 5000) if hashes[row] <= known.bound}
    assert 60 < len(new) < 140  # A tenth of the thousand.


def test_the_sample_has_the_newest_and_of_a_night_those_with_the_lowest_hashes() -> None:
    features = np.random.default_rng(1).normal(size=(300, DIM)).astype(np.float32)
    hashes = content_hashes(features)
    images = [DrawnImage(str(number), "", "", number, None, None) for number in range(300)]
    before = KnownContents.lowest(
        {**dict.fromkeys(hashes[:50].tolist(), 0), **dict.fromkeys(hashes[50:290].tolist(), 4)}
    )
    newcomers = Newcomers(before, 5, size=30)
    for start in range(0, 300, 20):
        block = slice(start, start + 20)
        newcomers.offer(images[block], features[block], hashes[block])
    drawn = newcomers.sample()
    assert {image.row for image in drawn.images[:10]} == set(range(290, 300))
    lowest = sorted(range(50, 290), key=lambda row: hashes[row])[:20]
    assert [image.row for image in drawn.images[10:]] == lowest
    assert drawn.nights.tolist() == [5] * 10 + [4] * 20
    assert drawn.features == pytest.approx(features[[image.row for image in drawn.images]])
    assert (newcomers.came, len(newcomers.seen())) == (10, 250)


def test_contents_that_are_held_do_not_grow_with_the_archive() -> None:
    features = np.random.default_rng(2).normal(size=(3000, DIM)).astype(np.float32)
    hashes = content_hashes(features)
    images = [DrawnImage(str(number), "", "", number, None, None) for number in range(3000)]
    bounded, unbounded = (Newcomers(KnownContents.lowest({}), 1, size=40, most=most) for most in (100, 3000))
    held = 0
    for start in range(0, 3000, 50):
        block = slice(start, start + 50)
        for each in (bounded, unbounded):
            each.offer(images[block], features[block], hashes[block])
        held = max(held, len(bounded._seen))
    assert held <= 400
    assert [image.row for image in bounded.sample().images] == [image.row for image in unbounded.sample().images]
    lowest = np.sort(hashes)[:100]
    assert (bounded.seen().hashes.tolist(), bounded.seen().bound) == (lowest.tolist(), int(lowest[-1]))
    assert (bounded.came, unbounded.came) == (100, 3000)


def test_samples_and_contents_are_read_as_they_were_written() -> None:
    images = (
        DrawnImage("a.png", "", "s", 3, None, None),
        DrawnImage("b.png", "x.tar", "s", 4, "amber", "abstained", True),
    )
    hashes = np.array([7, 2**64 - 3], np.uint64)
    sample = DrawnSample(images, np.eye(2, 5, dtype=np.float32), hashes, np.zeros(2, np.int32))
    again = DrawnSample.from_bytes(sample.to_bytes())
    assert again.images == images
    assert again.hashes.tolist() == [7, 2**64 - 3]
    assert np.array_equal(again.features, sample.features)
    known = KnownContents.lowest({2**64 - 2: 1, 3: 2}, 2**64 - 1)
    found = KnownContents.from_bytes(known.to_bytes())
    assert (found.hashes.tolist(), found.nights.tolist(), found.bound) == ([3, 2**64 - 2], [2, 1], 2**64 - 1)
    assert found.nights_of(np.array([3, 4, 2**64 - 2], np.uint64), 9).tolist() == [2, 9, 1]


def test_storage_that_fails_is_told(passes: Passes, monkeypatch) -> None:
    run = passes.write(OLD)

    def fail(self, path, data):
        raise StorageError("storage is down")

    monkeypatch.setattr(Store, "put_if_absent", fail)
    with pytest.raises(StorageError, match="down"):
        keep_reference(run, version=1, clock=passes.clock)
