"""Races: the stated error rate, exhaustive as the limit, and what is asked."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fewshot.diffusion.elimination import eliminate, forwards, rounds, scaled
from fewshot.diffusion.racing import _chances, advance, difference_scale, pending, race_plan, start
from fewshot.errors import DataError
from tests.fewshot.diffusion.error_tables import error_tables

few = settings(max_examples=15, deadline=None)


def run(table, its_course, candidates=None, asked=None):
    race = start(its_course, torch.ones(table.shape[:2], dtype=torch.bool) if candidates is None else candidates)
    while len((now := pending(its_course, race)).image):
        if asked is not None:
            asked.extend(zip(*(column.tolist() for column in now), strict=True))
        race = advance(its_course, race, table[now.image, now.label, now.entry])
    assert not race.running.any()
    return race


def best_of(table, weights=None):
    return (table.double() * (1.0 if weights is None else weights)).sum(dim=2).argmin(dim=1)


def share_wrong(table, its_course, weights=None):
    return float((run(table, its_course).labels != best_of(table, weights)).double().mean())


def allowed(rate, images):
    """The rate and three standard errors."""
    return rate + 3 * (rate * (1 - rate) / images) ** 0.5


def all_equal(images, classes, steps, *, heavy=False):
    rng = np.random.default_rng(classes)
    shape = (images, classes, steps)
    return (1.0 + 0.01 * torch.from_numpy(rng.standard_t(3, shape) if heavy else rng.standard_normal(shape))).float()


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
@pytest.mark.parametrize(("classes", "steps"), [(2, 50), (4, 100), (8, 100), (32, 100), (8, 500)])
def test_no_more_images_are_wrong_than_stated(classes, steps, rate):
    images = 600 if steps * classes <= 1000 else 150
    table, _ = error_tables(images, classes, steps, seed=classes + steps)
    assert share_wrong(table, race_plan(steps, error_rate=rate)) <= allowed(rate, images)
    assert share_wrong(table, race_plan(steps, error_rate=rate, scale=difference_scale(table[:50]))) <= allowed(
        rate, images
    )


@pytest.mark.parametrize("rate", [0.02, 0.2])
@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 10, 32])
def test_the_rate_holds_on_a_short_grid_where_no_class_is_better(classes, heavy, rate):
    """The worst case: all differences are noise, and the whole grid's choice is luck."""
    assert share_wrong(all_equal(1000, classes, 60, heavy=heavy), race_plan(60, error_rate=rate)) <= allowed(rate, 1000)


def test_on_a_long_grid_where_no_class_is_better_it_is_exceeded_as_documented():
    assert share_wrong(all_equal(600, 10, 500), race_plan(500, error_rate=0.05)) <= allowed(0.1, 600)


def test_a_rate_that_is_not_kept_to_would_be_seen():
    """What these tables and this bound say of a race that drops too early: a tolerance that swallows everything."""
    assert share_wrong(error_tables(300, 8, 100, strength=0.5)[0], race_plan(100, tolerance=10.0)) > 3 * allowed(
        0.05, 300
    )


@few
@given(classes=st.integers(1, 6), steps=st.integers(1, 60), seed=st.integers(0, 99), whole=st.booleans())
def test_an_error_rate_of_0_is_exhaustive(classes, steps, seed, whole):
    table, _ = error_tables(5, classes, steps, seed=seed)
    weights = torch.ones(steps) if whole else torch.arange(steps, 0, -1.0).clamp(max=steps / 2)
    race = run(table, race_plan(steps, weights=weights, error_rate=0.0))
    assert torch.equal(race.labels, best_of(table, weights))
    if classes > 1:
        assert (race.forwards == classes * steps).all()


def test_ever_smaller_rates_ask_more_and_end_at_exhaustive():
    table, _ = error_tables(100, 6, 60, seed=5)
    races = [run(table, race_plan(60, error_rate=rate)) for rate in (0.3, 0.03, 1e-4, 1e-12, 1e-40)]
    asked = [int(race.forwards.sum()) for race in races]
    assert asked == sorted(asked)
    assert torch.equal(races[3].labels, best_of(table))
    assert torch.equal(races[4].labels, best_of(table))


@pytest.mark.parametrize(("classes", "steps", "exhaustive", "published"), [(8, 100, 3.5, 2.0), (8, 500, 10.0, 5.0)])
def test_a_race_asks_far_less_than_the_published_schedule_and_agrees(classes, steps, exhaustive, published):
    table, _ = error_tables(400, classes, steps, seed=11)
    race, plan = run(table, race_plan(steps)), rounds(scaled("isic", num_classes=classes, steps=steps), classes)
    asked = float(race.forwards.double().mean())
    assert (race.labels == best_of(table)).double().mean() >= 0.99
    assert classes * steps >= exhaustive * asked
    assert forwards(plan) >= published * asked


def test_a_race_is_right_more_often_than_a_staged_rule_that_asks_as_much():
    table, _ = error_tables(400, 8, 100, seed=12)
    plan = rounds(scaled("fgvc", num_classes=8, steps=100), 8)
    staged = eliminate(
        lambda classes, entries: table.gather(1, classes[..., None].expand(-1, -1, 100))[:, :, entries],
        plan,
        images=400,
    )
    race = run(table, race_plan(100))
    assert float(race.forwards.double().mean()) < forwards(plan)
    assert (race.labels == best_of(table)).sum() > (staged == best_of(table)).sum() + 10


def test_a_measured_scale_saves_forwards():
    table, _ = error_tables(400, 8, 100, seed=13)
    scale = difference_scale(table[:40])
    assert run(table, race_plan(100, scale=scale)).forwards.sum() < 0.95 * run(table, race_plan(100)).forwards.sum()


def test_a_tolerance_saves_forwards_and_is_kept_to():
    table, _ = error_tables(600, 8, 100, seed=14)
    race, strict = run(table, race_plan(100, tolerance=1e-3)), run(table, race_plan(100))
    sums = table.double().sum(dim=2)
    lost = sums.gather(1, race.labels[:, None]).squeeze(1) / sums.min(dim=1).values - 1.0
    assert (lost > 1e-3).double().mean() <= allowed(0.05, 600)
    assert race.forwards.sum() < 0.95 * strict.forwards.sum()


@few
@given(seed=st.integers(0, 99), classes=st.integers(2, 7))
def test_permuting_classes_permutes_labels_and_asks_the_same(seed, classes):
    table, _ = error_tables(8, classes, 60, seed=seed)
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    race, permuted = run(table, race_plan(60)), run(table[:, order], race_plan(60))
    assert torch.equal(order[permuted.labels], race.labels)
    assert torch.equal(permuted.asked, race.asked[:, order])


@few
@given(seed=st.integers(0, 99))
def test_an_image_does_not_depend_on_the_others(seed):
    table, _ = error_tables(7, 5, 60, seed=seed)
    together = run(table, race_plan(60))
    for i in range(7):
        alone = run(table[i : i + 1], race_plan(60))
        assert torch.equal(alone.labels[0], together.labels[i])
        assert torch.equal(alone.asked[0], together.asked[i])
        assert torch.equal(alone.errors[0], together.errors[i])


@few
@given(seed=st.integers(0, 99), zeros=st.integers(0, 30))
def test_every_question_is_asked_once_of_a_candidate_at_a_step_that_weighs(seed, zeros):
    table, _ = error_tables(6, 5, 40, seed=seed)
    candidates = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)) < 0.6
    candidates[:, seed % 5] = True
    weights, asked = (torch.arange(40) >= zeros).double(), []
    its_course = race_plan(40, weights=weights)
    race = run(table, its_course, candidates, asked)
    assert len(asked) == len(set(asked)) == int(race.forwards.sum())
    for image, label, entry in asked:
        assert candidates[image, label]
        assert weights[entry] > 0
        assert race.errors[image, label, entry] == table[image, label, entry]
    assert candidates.gather(1, race.labels[:, None]).all()
    assert (race.asked[candidates.sum(dim=1) == 1] == 0).all()


def test_classes_left_to_the_end_were_asked_everything_and_the_best_of_them_wins():
    table, _ = error_tables(200, 4, 50, seed=3, strength=0.3)
    race = run(table, race_plan(50))
    left = (race.asked == 50) & (race.asked == 50).any(dim=1, keepdim=True)
    to_the_end = left.sum(dim=1) > 1
    assert to_the_end.sum() > 20
    sums = table.double().sum(dim=2).masked_fill(~left, torch.inf)
    assert torch.equal(race.labels[to_the_end], sums.argmin(dim=1)[to_the_end])


def test_equal_classes_race_to_the_end_and_the_lowest_wins():
    table = torch.rand(1, 1, 40, generator=torch.Generator().manual_seed(0)).repeat(3, 4, 1)
    race = run(table, race_plan(40))
    assert race.labels.tolist() == [0, 0, 0]
    assert (race.forwards == 160).all()


def test_images_are_decided_in_few_looks():
    assert race_plan(100).looks == (8, 12, 18, 27, 41, 62, 93, 100)
    assert race_plan(500, growth=2.0).looks == (8, 16, 32, 64, 128, 256, 500)
    assert race_plan(5).looks == (5,)


def plain_chance(known, scale, left, tolerance, best_sum):
    """P(a class ends below the best), one class without others to borrow from, term by term."""
    m = len(known)
    units = known / scale
    variance = sum((units[j + 1] - units[j]) ** 2 for j in range(m - 1)) / (2 * (m - 1))
    predicted = known.sum() + units.mean() * left.sum() + tolerance * best_sum
    sd = (variance * ((left**2).sum() + left.sum() ** 2 / m)) ** 0.5
    return stats.t.sf(predicted / sd, 2 * (m - 1) ** 2 / (3 * m - 4))


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_the_chance_of_a_class_is_the_formula(tolerance):
    """Two classes: nothing is borrowed."""
    table, _ = error_tables(5, 2, 50, seed=8)
    its_course = race_plan(50, scale=torch.linspace(2.0, 0.5, 50), tolerance=tolerance)
    found = _chances(its_course, table, torch.ones(5, 2, dtype=torch.bool), m=12)
    seen, rest = its_course.order[:12].sort().values, its_course.order[12:]
    scale, left = its_course.scale[seen].numpy(), its_course.scale[rest].numpy()
    for image in range(5):
        known = table[image][:, seen].double().numpy()
        sums = known.sum(1) + (known / scale).mean(1) * left.sum()
        best = int(sums.argmin())
        expected = plain_chance(known[1 - best] - known[best], scale, left, tolerance, sums[best])
        assert float(found[image, best]) == 1.0
        assert float(found[image, 1 - best]) == pytest.approx(float(expected), rel=1e-6)


def test_a_scale_is_the_spread_of_classes_by_time():
    table, _ = error_tables(300, 8, 200, seed=2)
    scale = difference_scale(table)
    assert scale.shape == (200,)
    assert scale[:100].mean() > 5 * scale[190:].mean()
    assert difference_scale(3.0 * table).numpy() == pytest.approx(3.0 * scale.numpy(), rel=1e-6)
    assert len(difference_scale(table[:, :, :7])) == 7


@pytest.mark.parametrize("wrong", [{"first": 3}, {"growth": 1.0}, {"error_rate": 1.0}, {"tolerance": -0.1}])
def test_a_course_that_cannot_be_run_is_refused(wrong):
    with pytest.raises(DataError, match="expected at least 4"):
        race_plan(50, **wrong)
