"""Races: the stated error rate, the limit of an exhaustive race, and the queries that are scored."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fewshot.diffusion.elimination import count_forwards, eliminate, plan_rounds, scale_schedule
from fewshot.diffusion.racing import (
    _win_probabilities,
    advance,
    difference_scale,
    make_race_plan,
    next_queries,
    start_race,
)
from fewshot.errors import DataError
from tests.fewshot.diffusion.error_tables import error_tables

few = settings(max_examples=15, deadline=None)


def run(table, plan, candidates=None, log=None):
    race = start_race(plan, torch.ones(table.shape[:2], dtype=torch.bool) if candidates is None else candidates)
    while len((now := next_queries(plan, race)).image):
        if log is not None:
            log.extend(zip(*(column.tolist() for column in now), strict=True))
        race = advance(plan, race, table[now.image, now.label, now.entry])
    assert not race.running.any()
    return race


def best_of(table, weights=None):
    return (table.double() * (1.0 if weights is None else weights)).sum(dim=2).argmin(dim=1)


def share_wrong(table, plan, weights=None):
    return float((run(table, plan).labels != best_of(table, weights)).double().mean())


def allowed(rate, images):
    """The rate and three standard errors."""
    return rate + 3 * (rate * (1 - rate) / images) ** 0.5


def all_equal(images, classes, steps, *, heavy=False):
    rng = np.random.default_rng(classes)
    shape = (images, classes, steps)
    return (1.0 + 0.01 * torch.from_numpy(rng.standard_t(3, shape) if heavy else rng.standard_normal(shape))).float()


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
@pytest.mark.parametrize(("classes", "steps"), [(2, 50), (4, 100), (8, 100), (32, 100), (8, 500)])
def test_the_stated_error_rate_holds(classes, steps, rate):
    images = 600 if steps * classes <= 1000 else 150
    table, _ = error_tables(images, classes, steps, seed=classes + steps)
    for scale in (None, difference_scale(table[:50])):
        assert share_wrong(table, make_race_plan(steps, error_rate=rate, scale=scale)) <= allowed(rate, images)


@pytest.mark.parametrize("rate", [0.02, 0.2])
@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 10, 32])
def test_the_rate_holds_on_a_short_grid_of_equal_classes(classes, heavy, rate):
    """The worst case: all differences are noise, and the whole grid's choice is luck."""
    table = all_equal(1000, classes, 60, heavy=heavy)
    assert share_wrong(table, make_race_plan(60, error_rate=rate)) <= allowed(rate, 1000)


def test_the_rate_is_exceeded_as_documented_on_a_long_grid_of_equal_classes():
    assert share_wrong(all_equal(600, 10, 500), make_race_plan(500, error_rate=0.05)) <= allowed(0.1, 600)


def test_a_race_that_drops_too_early_exceeds_the_rate():
    """The tables and the bound can fail: a tolerance that swallows everything drops too early."""
    table, _ = error_tables(300, 8, 100, strength=0.5)
    assert share_wrong(table, make_race_plan(100, tolerance=10.0)) > 3 * allowed(0.05, 300)


@few
@given(classes=st.integers(1, 6), steps=st.integers(1, 60), seed=st.integers(0, 99), whole=st.booleans())
def test_an_error_rate_of_0_is_exhaustive(classes, steps, seed, whole):
    table, _ = error_tables(5, classes, steps, seed=seed)
    weights = torch.ones(steps) if whole else torch.arange(steps, 0, -1.0).clamp(max=steps / 2)
    race = run(table, make_race_plan(steps, weights=weights, error_rate=0.0))
    assert torch.equal(race.labels, best_of(table, weights))
    if classes > 1:
        assert (race.forwards == classes * steps).all()


def test_smaller_rates_score_more_up_to_everything():
    table, _ = error_tables(100, 6, 60, seed=5)
    races = [run(table, make_race_plan(60, error_rate=rate)) for rate in (0.3, 0.03, 1e-4, 1e-12, 1e-40)]
    forwards = [int(race.forwards.sum()) for race in races]
    assert forwards == sorted(forwards)
    assert torch.equal(races[3].labels, best_of(table))
    assert torch.equal(races[4].labels, best_of(table))


@pytest.mark.parametrize(("classes", "steps", "exhaustive", "published"), [(8, 100, 3.5, 2.0), (8, 500, 10.0, 5.0)])
def test_a_race_costs_far_less_than_the_published_schedule_and_agrees(classes, steps, exhaustive, published):
    table, _ = error_tables(400, classes, steps, seed=11)
    race = run(table, make_race_plan(steps))
    plan = plan_rounds(scale_schedule("isic", num_classes=classes, steps=steps), classes)
    cost = float(race.forwards.double().mean())
    assert (race.labels == best_of(table)).double().mean() >= 0.99
    assert classes * steps >= exhaustive * cost
    assert count_forwards(plan) >= published * cost


def test_a_race_is_right_more_often_than_stages_of_the_same_cost():
    table, _ = error_tables(400, 8, 100, seed=12)
    plan = plan_rounds(scale_schedule("fgvc", num_classes=8, steps=100), 8)
    staged = eliminate(
        lambda classes, entries: table.gather(1, classes[..., None].expand(-1, -1, 100))[:, :, entries],
        plan,
        images=400,
    )
    race = run(table, make_race_plan(100))
    assert float(race.forwards.double().mean()) < count_forwards(plan)
    assert (race.labels == best_of(table)).sum() > (staged == best_of(table)).sum() + 10


def test_a_measured_scale_saves_forwards():
    table, _ = error_tables(400, 8, 100, seed=13)
    scale = difference_scale(table[:40])
    with_scale, without = run(table, make_race_plan(100, scale=scale)), run(table, make_race_plan(100))
    assert with_scale.forwards.sum() < 0.95 * without.forwards.sum()


def test_a_tolerance_saves_forwards_and_holds():
    table, _ = error_tables(600, 8, 100, seed=14)
    race, strict = run(table, make_race_plan(100, tolerance=1e-3)), run(table, make_race_plan(100))
    sums = table.double().sum(dim=2)
    lost = sums.gather(1, race.labels[:, None]).squeeze(1) / sums.min(dim=1).values - 1.0
    assert (lost > 1e-3).double().mean() <= allowed(0.05, 600)
    assert race.forwards.sum() < 0.95 * strict.forwards.sum()


@few
@given(seed=st.integers(0, 99), classes=st.integers(2, 7))
def test_permuting_classes_permutes_labels_and_queries(seed, classes):
    table, _ = error_tables(8, classes, 60, seed=seed)
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    race, permuted = run(table, make_race_plan(60)), run(table[:, order], make_race_plan(60))
    assert torch.equal(order[permuted.labels], race.labels)
    assert torch.equal(permuted.scored, race.scored[:, order])


@few
@given(seed=st.integers(0, 99))
def test_images_race_independently_of_each_other(seed):
    table, _ = error_tables(7, 5, 60, seed=seed)
    together = run(table, make_race_plan(60))
    for i in range(7):
        alone = run(table[i : i + 1], make_race_plan(60))
        assert torch.equal(alone.labels[0], together.labels[i])
        assert torch.equal(alone.scored[0], together.scored[i])
        assert torch.equal(alone.errors[0], together.errors[i])


@few
@given(seed=st.integers(0, 99), zeros=st.integers(0, 30))
def test_queries_are_unique_and_only_of_candidates_at_weighted_steps(seed, zeros):
    table, _ = error_tables(6, 5, 40, seed=seed)
    candidates = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)) < 0.6
    candidates[:, seed % 5] = True
    weights, log = (torch.arange(40) >= zeros).double(), []
    plan = make_race_plan(40, weights=weights)
    race = run(table, plan, candidates, log)
    assert len(log) == len(set(log)) == int(race.forwards.sum())
    for image, label, entry in log:
        assert candidates[image, label]
        assert weights[entry] > 0
        assert race.errors[image, label, entry] == table[image, label, entry]
    assert candidates.gather(1, race.labels[:, None]).all()
    assert (race.scored[candidates.sum(dim=1) == 1] == 0).all()


def test_the_best_of_the_completely_scored_classes_wins():
    table, _ = error_tables(200, 4, 50, seed=3, strength=0.3)
    race = run(table, make_race_plan(50))
    left = (race.scored == 50) & (race.scored == 50).any(dim=1, keepdim=True)
    to_the_end = left.sum(dim=1) > 1
    assert to_the_end.sum() > 20
    sums = table.double().sum(dim=2).masked_fill(~left, torch.inf)
    assert torch.equal(race.labels[to_the_end], sums.argmin(dim=1)[to_the_end])


def test_equal_classes_race_to_the_end_and_the_lowest_wins():
    table = torch.rand(1, 1, 40, generator=torch.Generator().manual_seed(0)).repeat(3, 4, 1)
    race = run(table, make_race_plan(40))
    assert race.labels.tolist() == [0, 0, 0]
    assert (race.forwards == 160).all()


def test_looks_grow_by_the_given_factor():
    assert make_race_plan(100).looks == (8, 12, 18, 27, 41, 62, 93, 100)
    assert make_race_plan(500, growth=2.0).looks == (8, 16, 32, 64, 128, 256, 500)
    assert make_race_plan(5).looks == (5,)


def plain_probability(known, scale, left, tolerance, best_sum):
    """P(a class ends below the best), one class without others to borrow from, term by term."""
    m = len(known)
    units = known / scale
    variance = sum((units[j + 1] - units[j]) ** 2 for j in range(m - 1)) / (2 * (m - 1))
    predicted = known.sum() + units.mean() * left.sum() + tolerance * best_sum
    sd = (variance * ((left**2).sum() + left.sum() ** 2 / m)) ** 0.5
    return stats.t.sf(predicted / sd, 2 * (m - 1) ** 2 / (3 * m - 4))


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_the_probability_of_winning_follows_the_formula(tolerance):
    """Two classes: nothing is borrowed."""
    table, _ = error_tables(5, 2, 50, seed=8)
    plan = make_race_plan(50, scale=torch.linspace(2.0, 0.5, 50), tolerance=tolerance)
    found = _win_probabilities(plan, table, torch.ones(5, 2, dtype=torch.bool), m=12)
    seen, rest = plan.order[:12].sort().values, plan.order[12:]
    scale, left = plan.scale[seen].numpy(), plan.scale[rest].numpy()
    for image in range(5):
        known = table[image][:, seen].double().numpy()
        sums = known.sum(1) + (known / scale).mean(1) * left.sum()
        best = int(sums.argmin())
        expected = plain_probability(known[1 - best] - known[best], scale, left, tolerance, sums[best])
        assert float(found[image, best]) == 1.0
        assert float(found[image, 1 - best]) == pytest.approx(float(expected), rel=1e-6)


def test_the_measured_scale_is_the_spread_of_classes_by_time():
    table, _ = error_tables(300, 8, 200, seed=2)
    scale = difference_scale(table)
    assert scale.shape == (200,)
    assert scale[:100].mean() > 5 * scale[190:].mean()
    assert difference_scale(3.0 * table).numpy() == pytest.approx(3.0 * scale.numpy(), rel=1e-6)
    assert len(difference_scale(table[:, :, :7])) == 7


@pytest.mark.parametrize("wrong", [{"first": 3}, {"growth": 1.0}, {"error_rate": 1.0}, {"tolerance": -0.1}])
def test_a_plan_with_values_out_of_range_is_refused(wrong):
    with pytest.raises(DataError, match="expected at least 4"):
        make_race_plan(50, **wrong)
