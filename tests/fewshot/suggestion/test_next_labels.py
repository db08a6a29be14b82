"""Suggestions with their reasons, and the images of rare classes among them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.suggestion import LabelledRows, Sample, hunting_quota, leaders, median_radius, next_labels, suggest

K, DIM = 4, 12


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def archive(counts, seed=0, noise=0.25):
    """Images of classes around orthogonal directions, in random order, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return unit(np.eye(DIM)[labels] + noise * rng.normal(size=(len(labels), DIM))), labels


def no_labels():
    return LabelledRows(np.zeros((0, DIM), np.float32), np.zeros(0, np.int64), K)


def examples(shots, seed=9):
    features, labels = archive(shots, seed)
    return LabelledRows(features, labels, K)


def certain(features):
    return Sample(features, np.ones(len(features), np.float32))


def test_without_labels_every_class_is_among_few_suggestions():
    features, labels = archive([100, 100, 100, 100])
    picks = suggest(certain(features), no_labels(), 8)
    assert {labels[pick.row] for pick in picks} == set(range(K))
    assert {pick.reason for pick in picks} == {"unseen region"}


def test_a_class_that_has_no_label_is_found():
    features, labels = archive([100, 100, 100, 100])
    picks = suggest(certain(features), examples([5, 5, 5, 0]), 3)
    assert labels[picks[0].row] == 3


def test_images_of_a_rare_class_are_hunted():
    features, labels = archive([200, 200, 200, 10])
    picks = suggest(certain(features), examples([20, 20, 20, 1]), 20, guesses=labels)
    hunted = [pick for pick in picks if pick.reason == "rare class"]
    assert hunted
    assert {pick.label for pick in hunted} == {3}
    assert {labels[pick.row] for pick in hunted} == {3}


def test_hunted_images_are_spread_among_the_others():
    features, labels = archive([200, 200, 200, 10])
    picks = suggest(certain(features), examples([20, 20, 20, 1]), 20, guesses=labels)
    places = [place for place, pick in enumerate(picks) if pick.reason == "rare class"]
    assert np.diff(places).min() > 1
    assert 0 < places[0] < places[-1] < 19


def test_one_hunted_image_is_in_the_middle():
    assert next_labels._spread(["a", "b", "c", "d"], ["hunted"]) == ["a", "b", "hunted", "c", "d"]


def test_nothing_is_hunted_where_classes_are_even():
    features, labels = archive([100, 100, 100, 100])
    picks = suggest(certain(features), examples([4, 4, 4, 4]), 16, guesses=labels)
    assert "rare class" not in {pick.reason for pick in picks}


@given(
    seed=st.integers(0, 50),
    shots=st.lists(st.integers(0, 4), min_size=K, max_size=K),
    sizes=st.lists(st.integers(0, 12), min_size=K, max_size=K),
    count=st.integers(0, 60),
)
def test_suggestions_are_different_images_and_at_most_as_many(seed, shots, sizes, count):
    features, labels = archive(sizes, seed) if sum(sizes) else (np.zeros((0, DIM), np.float32), np.zeros(0, np.int64))
    known = examples(shots) if sum(shots) else no_labels()
    doubt = np.random.default_rng(seed).random(len(features)).astype(np.float32)
    rows = [pick.row for pick in suggest(Sample(features, doubt), known, count, guesses=labels)]
    assert len(set(rows)) == len(rows) <= min(count, len(features))
    cosines = np.concatenate([features[rows], known.features]) @ features[rows].T
    assert np.tril(cosines, -1).max(initial=-1.0) <= 0.97


def test_labelled_images_of_the_archive_are_not_suggested():
    features, labels = archive([20, 20, 20, 20])
    known = LabelledRows(features[:40], labels[:40], K)
    assert all(pick.row >= 40 for pick in suggest(certain(features), known, 80, guesses=labels))


@pytest.mark.parametrize(
    ("shares", "labels", "count", "expected"),
    [
        ([0.25] * 4, [4, 4, 4, 4], 40, [0, 0, 0, 0]),
        ([0.25] * 4, [16, 16, 16, 0], 16, [0, 0, 0, 0]),
        ([0.25] * 4, [10, 10, 10, 2], 8, [0, 0, 0, 4]),
        ([0.64, 0.16, 0.16, 0.04], [5, 5, 5, 5], 80, [0, 4, 4, 2]),
    ],
)
def test_a_quota_is_what_the_square_roots_lack(shares, labels, count, expected):
    assert hunting_quota(np.array(shares), np.array(labels), count).tolist() == expected


@given(
    shares=st.lists(st.floats(0.001, 1.0), min_size=1, max_size=30),
    labels=st.lists(st.integers(0, 50), min_size=30, max_size=30),
    count=st.integers(0, 500),
)
def test_at_most_half_of_the_suggestions_are_hunted(shares, labels, count):
    total = np.array(shares) / sum(shares)
    quota = hunting_quota(total, np.array(labels[: len(shares)]), count)
    assert quota.min() >= 0
    assert quota.sum() <= count / 2


def test_leaders_are_the_classes_of_most_images():
    features, labels = archive([50, 50, 50, 50])
    found = leaders(features, examples([5, 5, 5, 5]))
    assert found is not None
    assert (found.labels == labels).mean() > 0.9
    assert (found.leads >= 0).all()


@pytest.mark.parametrize("shots", [[0, 0, 0, 3], [0, 0, 0, 0]])
def test_fewer_than_two_classes_have_no_leader(shots):
    features, _ = archive([3, 3, 3, 3])
    assert leaders(features, examples(shots) if sum(shots) else no_labels()) is None


def test_images_of_no_class_are_covered_and_teach_nothing():
    features, labels = archive([30, 30, 30, 30])
    unknown = LabelledRows(features[:1], np.array([-1]), K)
    assert unknown.counts.tolist() == [0] * K
    assert 0 not in [pick.row for pick in suggest(certain(features), unknown, 120, guesses=labels)]


def bayes_scores(features, labelled, classes):
    """Bayes' rule for classes with one covariance, as the formula says; up to a factor."""
    x, y = labelled.features.astype(np.float64), labelled.labels
    means = np.array([x[y == label].mean(axis=0) for label in classes])
    rows = np.concatenate([x[y == label] - mean for label, mean in zip(classes, means, strict=True)])
    covariance = rows.T @ rows / (len(rows) - 1)
    covariance += np.eye(DIM) * np.trace(covariance) / (len(rows) - 1)
    distances = features[:, None] - means[None]
    return -0.5 * np.einsum("nkd,nkd->nk", distances @ np.linalg.inv(covariance), distances)


@given(seed=st.integers(0, 50), missing=st.integers(0, K - 1))
def test_leaders_are_those_of_the_plain_rule(seed, missing):
    features, _ = archive([10, 10, 10, 10], seed, noise=0.5)
    known = examples([0 if label == missing else 4 for label in range(K)])
    classes = [label for label in range(K) if label != missing]
    found = leaders(features, known)
    scores = np.sort(bayes_scores(features, known, classes), axis=1)
    order = bayes_scores(features, known, classes).argmax(axis=1)
    leads = scores[:, -1] - scores[:, -2]
    assert found is not None
    is_clear = leads > 1e-3 * leads.max()
    assert (found.labels == np.array(classes)[order])[is_clear].all()
    factor = found.leads.sum() / leads.sum()
    assert found.leads == pytest.approx(factor * leads, abs=2e-4 * float(found.leads.max()))


def test_images_of_no_class_do_not_move_the_leaders():
    features, _ = archive([10, 10, 10, 10])
    known = examples([4, 4, 4, 4])
    stranger = np.concatenate([known.features, features[:3]]), np.concatenate([known.labels, [-1, -1, -1]])
    found, expected = leaders(features, LabelledRows(*stranger, K)), leaders(features, known)
    assert found is not None
    assert expected is not None
    assert (found.leads == expected.leads).all()


def test_the_clearest_images_of_a_rare_class_are_hunted():
    features, labels = archive([200, 200, 200, 30], noise=0.2)
    known = examples([20, 20, 20, 1])
    picks = suggest(certain(features), known, 20, guesses=labels)
    found = leaders(features, known)
    assert found is not None
    rows = np.flatnonzero(found.labels == 3)
    hunted = [pick.row for pick in picks if pick.reason == "rare class"]
    assert hunted == rows[np.argsort(-found.leads[rows], kind="stable")][: len(hunted)].tolist()


def test_images_without_a_guess_have_no_share():
    features, labels = archive([100, 100, 100, 10])
    guesses = np.where(labels == 3, 3, -1)
    guesses[np.flatnonzero(labels == 0)[:10]] = 0
    guesses[np.flatnonzero(labels == 1)[:10]] = 1
    guesses[np.flatnonzero(labels == 2)[:10]] = 2
    picks = suggest(certain(features), examples([8, 8, 8, 8]), 20, guesses=guesses)
    assert "rare class" not in {pick.reason for pick in picks}


def test_the_radius_is_that_of_all_labels_there_will_be(monkeypatch):
    features, _ = archive([20, 20, 20, 20])
    asked = []
    monkeypatch.setattr(
        next_labels, "median_radius", lambda rows, count: asked.append(count) or median_radius(rows, count)
    )
    suggest(certain(features), examples([2, 2, 2, 1]), 5)
    assert asked == [12]
    suggest(certain(features), examples([2, 2, 2, 1]), 5, radius=0.3)
    assert asked == [12]


def test_the_reason_is_doubt_where_doubt_makes_the_gain():
    features = unit(np.eye(DIM)[[0, 0, 1, 1]] + 0.1 * np.eye(DIM)[[2, 3, 4, 5]])
    doubt = np.array([0.1, 0.1, 0.9, 0.9], np.float32)
    picks = suggest(Sample(features, doubt), no_labels(), 2, radius=0.3)
    assert [(pick.row // 2, pick.reason) for pick in picks] == [(1, "doubtful"), (0, "unseen region")]
