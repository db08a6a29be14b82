"""The archive is used where hidden examples that stand for it lose less in log-loss, and by more than chance."""

import math
from dataclasses import replace

import pytest
import torch

from fewshot.calibration.temperature import fit_temperature
from fewshot.errors import DataError
from fewshot.model_selection.archive_gain import (
    HIDING_SEED,
    can_decide,
    choose_by_gain,
    compare_with_archive,
    gains_in_archive,
)
from fewshot.model_selection.cross_validation import held_out_splits
from tests.problems import make_problem, shuffled

K = 4
EVEN = torch.full((K,), 1 / K, dtype=torch.float64)
LABELS = torch.arange(60) % K


def noisy(seed=0, *, signal=1.0):
    logits = torch.randn(len(LABELS), K, generator=torch.Generator().manual_seed(seed))
    return logits.scatter_add(1, LABELS[:, None], torch.full((len(LABELS), 1), signal))


def sharpened(logits, factor, rows=slice(None)):
    """Return logits whose largest margins grow where they are right and shrink where they are wrong; no hit changes."""
    right = logits.argmax(dim=1) == LABELS
    factors = torch.where(right, factor, 1.0 / factor)
    changed = logits.clone()
    changed[rows] = (logits * factors[:, None])[rows]
    return changed


def test_a_gain_without_any_hit_is_seen():
    before = noisy()
    after = sharpened(before, 1.5)
    assert torch.equal(before.argmax(dim=1), after.argmax(dim=1))
    assert gains_in_archive(before, after, LABELS, EVEN)
    assert not gains_in_archive(after, before, LABELS, EVEN)
    assert not gains_in_archive(before, before, LABELS, EVEN)


def test_another_temperature_alone_gains_nothing():
    for one, other in ((noisy(), 5.0 * noisy()), (5.0 * noisy(), noisy())):
        assert not gains_in_archive(one, other, LABELS, EVEN)


def test_examples_count_as_often_as_their_class_in_the_archive():
    before = noisy()
    after = sharpened(sharpened(before, 2.0, LABELS == 0), 0.4, LABELS != 0)
    mostly = [torch.full((K,), 1e-3, dtype=torch.float64).index_fill(0, torch.tensor([k]), 1.0) for k in (0, 1)]
    assert gains_in_archive(before, after, LABELS, mostly[0])
    assert not gains_in_archive(before, after, LABELS, mostly[1])
    assert not gains_in_archive(before, after, LABELS, EVEN)


@pytest.mark.parametrize("seed", range(6))
def test_the_gain_must_exceed_its_standard_error(seed):
    shares, weights = torch.tensor([0.4, 0.2, 0.2, 0.2]).double(), torch.tensor([1.6, 0.8, 0.8, 0.8]).double()[LABELS]
    before, noise = noisy(seed), noisy(100 + seed, signal=0.0)

    def helped(signal):
        return before + 0.5 * noise.scatter_add(1, LABELS[:, None], torch.full((len(LABELS), 1), signal))

    def losses(logits):
        temperature = fit_temperature(logits, LABELS, weights=weights)
        return -torch.log_softmax(logits.double() / temperature, dim=1)[torch.arange(60), LABELS]

    def is_larger(signal):
        gains = (losses(before) - losses(helped(signal))) * weights
        return bool(gains.mean() > gains.std(correction=1) / math.sqrt(60))

    low, high = 0.0, 4.0
    assert (is_larger(low), is_larger(high)) == (False, True)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if is_larger(middle) else (middle, high)
    assert not gains_in_archive(before, helped(low), LABELS, shares)
    assert gains_in_archive(before, helped(high), LABELS, shares)


def test_diverged_logits_and_a_single_example_prove_nothing():
    before = noisy()
    after = sharpened(before, 1.5)
    for number in (torch.inf, -torch.inf, torch.nan):
        assert not gains_in_archive(before, after.index_fill(0, torch.tensor([3]), number), LABELS, EVEN)
        one = after.clone()
        one[3, (LABELS[3] + 1) % K] = number
        assert not gains_in_archive(before, one, LABELS, EVEN)
    assert not gains_in_archive(before[:1], after[:1], LABELS[:1], EVEN)
    certain = torch.full_like(before, -torch.inf).scatter(1, LABELS[:, None], 1.0)
    assert not gains_in_archive(before, certain, LABELS, EVEN)


@pytest.mark.parametrize(
    ("counts", "decides"), [([2, 2, 2], False), ([2, 1, 1], False), ([3, 1, 1], True), ([4, 4, 4], True)]
)
def test_folds_decide_that_leave_two_examples_of_a_class(counts, decides):
    problem, _ = make_problem(counts)
    assert can_decide(problem, held_out_splits(problem, seed=0)) == decides


@pytest.mark.parametrize("shots", [1, 2])
def test_images_to_validate_on_decide_for_any_number_of_examples(shots):
    problem, _ = make_problem([shots] * 3)
    problem = replace(problem, val=make_problem([4] * 3)[0].support)
    assert can_decide(problem, held_out_splits(problem, seed=0))


def test_the_chosen_method_is_listed_first():
    before = noisy()
    after = sharpened(before, 1.5)
    for logits, used in ((after, True), (before, False)):
        found, results = compare_with_archive(("plain", before), ("helped", logits), LABELS, shares=EVEN)
        assert found == used
        assert [result.method for result in results] == (["helped", "plain"] if used else ["plain", "helped"])
    diverged = after * torch.nan
    assert [r.method for r in compare_with_archive(("a", before), ("b", diverged), LABELS, shares=EVEN)[1]] == ["a"]


def chosen(problem, *, gain):
    """Choose between "plain" and "helped", whose logits are right `gain` times as clearly; return the splits, too."""
    asked = []

    def hidden_logits(method, splits):
        asked.append((method, [split.support_rows.tolist() for split in splits]))
        labels = torch.cat([split.queries.labels for split in splits])
        logits = torch.randn(len(labels), problem.num_classes, generator=torch.Generator().manual_seed(0))
        sharper = logits.scatter_add(1, labels[:, None], torch.ones(len(labels), 1))
        return sharper if method == "plain" else sharper.scatter_add(1, labels[:, None], torch.full_like(sharper, gain))

    shares = torch.full((problem.num_classes,), 1 / problem.num_classes, dtype=torch.float64)
    methods = (("a", "plain"), ("b", "helped"))
    return choose_by_gain(problem, *methods, hidden_logits=hidden_logits, shares=lambda _: shares), asked


@pytest.mark.parametrize(("gain", "expected"), [(3.0, "helped"), (-3.0, "plain")])
def test_both_methods_are_compared_on_the_same_hidden_examples(gain, expected):
    problem, _ = make_problem([6, 6, 6])
    (method, results), asked = chosen(problem, gain=gain)
    assert method == expected
    assert [result.method for result in results] == (["b", "a"] if expected == "helped" else ["a", "b"])
    rows = [split.support_rows.tolist() for split in held_out_splits(problem, seed=0)]
    assert asked == [("plain", rows), ("helped", rows)]


@pytest.mark.parametrize(("shots", "expected"), [(1, "helped"), (2, "plain")])
def test_without_examples_that_can_decide_nothing_is_compared(shots, expected):
    problem, _ = make_problem([shots] * 3)
    for gain in (3.0, -3.0):
        assert chosen(problem, gain=gain) == ((expected, ()), [])


def choice(problem, *, shares=lambda problem: EVEN, gain=1.5):
    """Choose between methods, one of which gives logits that are sharper where they are right by `gain`."""

    def hidden_logits(method, splits):
        assert sum(len(split.queries) for split in splits) == len(LABELS)
        labels = torch.cat([split.queries.labels for split in splits])
        own = noisy()[torch.argsort(torch.argsort(labels, stable=True))][:, : problem.num_classes]
        logits = torch.zeros(len(labels), K).scatter_add(1, labels[:, None], torch.ones(len(labels), 1)) + 0.5 * own
        return {"plain": logits, "better": sharp(logits, labels, gain)}[method]

    return choose_by_gain(problem, ("without", "plain"), ("with", "better"), hidden_logits=hidden_logits, shares=shares)


def sharp(logits, labels, factor):
    right = logits.argmax(dim=1) == labels
    return logits * torch.where(right, factor, 1.0 / factor)[:, None]


def test_the_method_that_gains_on_hidden_examples_is_chosen():
    problem, _ = make_problem([15] * K)
    for gain, method, names in ((1.5, "better", ["with", "without"]), (1 / 1.5, "plain", ["without", "with"])):
        chosen, results = choice(problem, gain=gain)
        assert (chosen, [result.method for result in results]) == (method, names)


def test_gains_are_weighed_by_the_shares_of_the_problem():
    problem, _ = make_problem([15] * K)
    seen = []
    choice(problem, shares=lambda given: seen.append(given) or EVEN)
    assert seen == [problem]
    with pytest.raises(DataError, match="shares"):
        choice(problem, shares=lambda _: torch.zeros(K))


def refuse(*_):
    raise AssertionError("not to be called")


@pytest.mark.parametrize(("counts", "method"), [([1, 1], "helped"), ([0, 0], "helped"), ([2, 2], "plain")])
def test_without_hidden_examples_the_archive_is_used_and_where_they_decide_nothing_it_is_not(counts, method):
    chosen = choose_by_gain(
        make_problem(counts)[0], ("a", "plain"), ("b", "helped"), hidden_logits=refuse, shares=refuse
    )
    assert chosen == (method, ())


def test_the_same_examples_are_hidden_whatever_the_seed_of_their_order():
    problem, _ = make_problem([5] * K)
    seen = []

    def hidden_logits(method, splits):
        seen.append([split.queries.views for split in splits])
        labels = torch.cat([split.queries.labels for split in splits])
        return torch.nn.functional.one_hot(labels, K).float()

    for given in (problem, shuffled(problem)):
        choose_by_gain(given, ("a", 1), ("b", 2), hidden_logits=hidden_logits, shares=lambda _: EVEN)
    expected = [split.queries.views for split in held_out_splits(problem, seed=HIDING_SEED)]
    assert len(seen) == 4
    for views in seen:
        assert all(torch.equal(one, other) for one, other in zip(views, expected, strict=True))
