from dataclasses import replace

import numpy as np
import pytest

from fewshot.audit import NO_ANSWER, Answer, Answered, answers_needed, error_limit, find
from fewshot.audit.betting import PARTS, Bets, log_capital, lower_bound, upper_bound
from fewshot.audit.draw import THRESHOLDS
from fewshot.audit.findings import _share
from tests.fewshot.audit.replays import Archive, index


@pytest.fixture(scope="module")
def archive():
    return Archive.random(3000)


def test_everything_is_found_in_a_complete_audit():
    archive = Archive.random(120)
    found = find(archive.audit(120))
    assert found.accuracy.estimate.value == pytest.approx(archive.right.mean())
    assert found.accuracy.low == pytest.approx(archive.right.mean()) == pytest.approx(found.accuracy.high)
    given = archive.status == "ok"
    assert found.labelled_error.estimate.value == pytest.approx((~archive.right)[given].mean())
    for each in found.classes:
        predicted, own = archive.label == each.label, archive.truth == each.label
        assert each.predicted == predicted.sum()
        assert each.share.estimate.value == pytest.approx(own.mean())
        assert each.precision.estimate.value == pytest.approx(own[predicted].mean())
        assert each.recall.estimate.value == pytest.approx(predicted[own].mean())
        assert each.recall.low == pytest.approx(each.recall.high) == pytest.approx(predicted[own].mean())


def test_both_intervals_have_the_truth(archive):
    found = find(archive.audit(200))
    for share, truth in (
        (found.accuracy, archive.right.mean()),
        (found.labelled_error, (~archive.right)[archive.status == "ok"].mean()),
    ):
        assert share.estimate.low <= truth <= share.estimate.high
        assert share.low <= truth <= share.high


def test_skipped_images_count_both_ways(archive):
    audit = archive.audit(200)
    answers = [NO_ANSWER if i % 10 == 0 else answer for i, answer in enumerate(audit.answers)]
    found, full = find(replace(audit, answers=answers)), find(audit)
    assert found.uncertain == 20
    assert found.answered == 200
    assert found.accuracy.low < full.accuracy.low
    assert found.accuracy.high > full.accuracy.high
    assert found.accuracy.estimate.low < full.accuracy.estimate.low
    assert found.accuracy.estimate.high > full.accuracy.estimate.high


@pytest.mark.parametrize("truth", [True, False])
def test_the_interval_holds_whatever_skipped_images_show(archive, truth):
    """Exactly the images with right, or with wrong predictions are skipped."""
    audit = archive.audit(200)
    right = audit.right
    answers = [NO_ANSWER if hit == truth else answer for hit, answer in zip(right, audit.answers, strict=True)]
    found = find(replace(audit, answers=answers))
    assert found.accuracy.low <= archive.right.mean() <= found.accuracy.high


def test_unknown_is_right_where_the_image_is_of_no_class(archive):
    status = archive.status.copy()
    status[:300] = "unknown"
    changed = replace(archive, status=status)
    draw = changed.draw(3000)
    answers = [Answer(True, None) if row.status == "unknown" else Answer(True, row.label) for row in draw.rows]
    assert find(Answered(draw, answers, 300)).accuracy.estimate.value == pytest.approx(1.0)
    wrong = [Answer(True, row.label) for row in draw.rows]
    assert find(Answered(draw, wrong, 300)).accuracy.estimate.value == pytest.approx(0.9)


def test_a_few_answers_give_an_estimate(archive):
    audit = archive.audit(300)
    found = find(replace(audit, answers=audit.answers[:30]))
    assert found.accuracy.estimate.low <= archive.right.mean() <= found.accuracy.estimate.high


def test_no_estimate_of_a_single_answer(archive):
    audit = archive.audit(200)
    found = find(replace(audit, answers=audit.answers[:1]))
    assert found.accuracy.estimate is None
    assert found.accuracy.low < 0.01
    assert found.accuracy.high > 0.99


def test_no_error_of_labels_where_all_abstain(archive):
    assert find(replace(archive, status=np.full(3000, "abstained")).audit(60)).labelled_error is None


def test_nothing_is_known_of_labels_that_no_answer_is_to(archive):
    audit = archive.audit(200)
    first = next(i for i, row in enumerate(audit.draw.rows) if row.status == "abstained")
    rows = (audit.draw.rows[first], *audit.draw.rows[:first], *audit.draw.rows[first + 1 :])
    found = find(replace(audit, draw=replace(audit.draw, rows=rows), answers=[Answer(True, "c0")]))
    assert found.labelled_error.estimate is None
    assert (found.labelled_error.low, found.labelled_error.high) == (0.0, 1.0)


def test_one_class_is_audited():
    found = find(Archive.random(500, classes=1).audit(60))
    assert found.classes[0].label == "c0"
    assert found.classes[0].predicted == 500


def test_classes_that_the_classifier_lacks_have_no_recall(archive):
    audit = archive.audit(100)
    answers = [Answer(True, "new") if i < 30 else answer for i, answer in enumerate(audit.answers)]
    new = next(each for each in find(replace(audit, answers=answers)).classes if each.label == "new")
    assert new.predicted == 0
    assert new.precision.estimate is None
    assert new.share.low > 0.1
    assert new.recall.estimate.value == new.recall.high == 0.0


def test_runs_without_scores_are_audited(archive):
    found = find(archive.with_scores(np.full(3000, np.nan)).audit(100))
    assert found.accuracy.low <= archive.right.mean() <= found.accuracy.high


def test_class_intervals_hold_at_every_look():
    archive = Archive.random(400)
    missed = []
    for key in range(10):
        audit = archive.audit(80, key=str(key))
        for count in (80,):
            for each in find(replace(audit, answers=audit.answers[:count])).classes:
                predicted, own = archive.label == each.label, archive.truth == each.label
                truths = (
                    (each.share, own.mean()),
                    (each.precision, own[predicted].mean()),
                    (each.recall, predicted[own].mean()),
                )
                missed += [not share.low <= truth <= share.high for share, truth in truths]
    assert np.mean(missed) <= 0.05


def test_the_limit_is_the_lowest_threshold_that_passes(archive):
    audit = archive.audit(300)
    limits = {error: error_limit(audit, error, confidence=0.9) for error in (0.1, 0.2, 0.3)}
    for error, limit in limits.items():
        if limit.threshold is not None:
            kept = archive.score >= limit.threshold
            assert limit.share == pytest.approx(kept.mean())
            assert (~archive.right[kept]).mean() <= error
    assert limits[0.3].threshold is not None
    assert limits[0.3].share == 1.0


def test_limits_hold_at_every_look():
    archive = Archive.random(1000, bias=-0.15)
    broken = 0
    for key in range(60):
        audit = archive.audit(120, key=str(key))
        looks = [replace(audit, answers=audit.answers[:count]) for count in range(20, 121, 20)]
        limits = [error_limit(each, 0.2, confidence=0.9) for each in looks]
        kept = [archive.score >= limit.threshold for limit in limits if limit.threshold is not None]
        broken += any((~archive.right[own]).mean() > 0.2 for own in kept)
    assert broken <= 12


def test_no_limit_passes_with_too_few_answers(archive):
    limit = error_limit(archive.audit(60), 0.05, confidence=0.9)
    assert limit.threshold is None
    assert limit.needed == answers_needed(0.05, confidence=0.9) == 76


def test_so_many_right_answers_are_enough():
    archive = Archive.random(20_000)
    perfect = replace(archive, truth=archive.label)
    audit = perfect.audit(2 * answers_needed(0.1, confidence=0.9))
    assert error_limit(audit, 0.1, confidence=0.9).threshold is not None


def test_rows_are_those_of_the_archive(archive):
    draw = archive.draw(50)
    assert all(row.label == archive.label[index(row.image)] for row in draw.rows)


def made_up(score, right):
    """An archive of one class, all labels given, whose scores and right predictions are given."""
    label = np.full(len(score), "c0")
    return Archive(np.full(len(score), "ok"), label, np.where(right, label, "c1"), score)


def test_a_complete_audit_passes_every_threshold_until_one_has_too_many_errors():
    rng = np.random.default_rng(0)
    score = rng.random(400)
    archive = made_up(score, rng.random(400) < score**0.3)
    limit = error_limit(archive.audit(400), 0.15, confidence=0.9)
    passing = []
    for threshold in reversed(THRESHOLDS):
        kept = score >= threshold
        if kept.sum() < max(1.5 * limit.needed / 400, 0.15) * 400:
            continue
        if (~archive.right[kept]).mean() > 0.15:
            break
        passing.append(threshold)
    assert passing
    assert limit.threshold == passing[-1]
    assert (limit.answered, limit.wrong) == ((score >= passing[-1]).sum(), (~archive.right)[score >= passing[-1]].sum())


def test_no_threshold_below_one_that_fails_is_taken():
    score = np.random.default_rng(0).random(2000)
    archive = made_up(score, score < 0.8)  # The most certain ones are wrong; of all, a fifth.
    assert error_limit(archive.audit(600), 0.4, confidence=0.9).threshold is None


def test_the_strictest_threshold_is_tested_first():
    rng = np.random.default_rng(0)
    score = rng.random(2000)
    archive = made_up(score, (score > 0.5) | (rng.random(2000) < 0.3))
    limit = error_limit(archive.audit(600), 0.1, confidence=0.9)
    assert 0.4 < limit.threshold < 0.6


def test_a_threshold_passes_with_the_answer_at_which_its_bet_does():
    audit = made_up(np.full(5000, 0.9), np.full(5000, True)).audit(120)

    def passes(count):
        return error_limit(replace(audit, answers=audit.answers[:count]), 0.1, confidence=0.9).threshold is not None

    def capital(count):
        return log_capital(Bets.without_guesses(np.ones(count), planned=120, population=5000), 0.9, alpha=0.1)[-1]

    first = next(count for count in range(1, 121) if passes(count))
    assert capital(first - 1) < np.log(10) <= capital(first)


def test_both_bounds_share_the_probability_of_failure():
    bets = Bets.without_guesses(np.tile([1.0, 1.0, 0.0], 20), planned=60, population=500)
    share = _share([None, None], [bets, bets], alpha=0.1)
    assert (share.low, share.high) == (lower_bound(bets, alpha=0.05), upper_bound(bets, alpha=0.05))


def test_so_many_answers_and_no_fewer_show_an_error_rate():
    needed = answers_needed(0.1, confidence=0.9)
    for count, is_enough in ((needed, True), (needed - 1, False)):
        bets = Bets.without_guesses(np.ones(count), planned=1e-6, population=10**9)
        least = log_capital(bets, 0.9, alpha=0.1)[-1]  # Each of the three bets is the largest one.
        assert (least + np.log(PARTS[-1]) >= np.log(10)) == is_enough
