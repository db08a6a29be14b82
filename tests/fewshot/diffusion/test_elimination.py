"""Acceptance properties 3, 4, 5, 10 and 12 of TiF: the staged rule."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.diffusion.elimination import (
    PUBLISHED,
    count_forwards,
    eliminate,
    exhaustive_schedule,
    make_schedule,
    plan_rounds,
    published_schedule,
    scale_schedule,
    survivors,
)
from fewshot.errors import DataError, UnknownNameError

few = settings(max_examples=30, deadline=None)


def table_of(images, classes, steps, *, seed=0, ties=False):
    generator = torch.Generator().manual_seed(seed)
    if ties:
        return torch.randint(0, 3, (images, classes, steps), generator=generator).double()
    return torch.rand(images, classes, steps, generator=generator)


def errors_from(table, log=None):
    def errors_of(classes, entries):
        if log is not None:
            log.extend((c, entry) for c in classes[0].tolist() for entry in entries.tolist())
        return table.gather(1, classes[..., None].expand(-1, -1, table.shape[2]))[:, :, entries]

    return errors_of


def plain_label(table, schedule, weights):
    """One image [K, n], as the published loop does it, without its early return."""
    left, seen = list(range(len(table))), []
    for stage in schedule.stages:
        stride = schedule.grid // stage.steps
        seen += [e for e in range(stride // 2, schedule.grid, stride)[: stage.steps] if e not in seen]
        score = {c: sum(float(weights[e]) * float(table[c, e]) for e in sorted(seen)) for c in left}
        left = sorted(sorted(left, key=lambda c: (round(score[c], 9), c))[: stage.keep])
    return left[0]


@pytest.mark.parametrize(("name", "count"), [("fgvc", 5550), ("isic", 2110), ("duke", 14295), ("veri", 15895)])
def test_the_published_schedules_cost_the_published_forwards(name, count):
    K = PUBLISHED[name][0]
    assert count_forwards(plan_rounds(published_schedule(name), K)) == count
    log = []
    eliminate(errors_from(table_of(1, K, 500), log), plan_rounds(published_schedule(name), K), images=1)
    assert len(log) == len(set(log)) == count


def test_the_plan_of_isic_scores_late_steps_for_two_classes():
    plan = plan_rounds(published_schedule("isic"), 8)
    assert [(r.classes, len(r.entries), int(r.entries[0]), int(r.entries[-1])) for r in plan] == [
        (8, 128, 1, 382),
        (4, 171, 0, 255),
        (2, 201, 257, 499),
    ]


@few
@given(
    table=st.builds(table_of, st.just(3), st.integers(1, 12), st.just(40), seed=st.integers(0, 99), ties=st.booleans()),
    schedule=st.sampled_from(
        [make_schedule((5, 10, 40), (4, 2, 1)), make_schedule((7, 25, 40), (6, 3, 1)), exhaustive_schedule(40)]
    ),
    skipped=st.integers(0, 25),
)
def test_the_plan_decides_as_the_published_loop_does(table, schedule, skipped):
    weights = torch.linspace(1.0, 0.25, 40, dtype=torch.float64) * (torch.arange(40) >= skipped)
    plan = plan_rounds(schedule, table.shape[1], weights=weights)
    labels = eliminate(errors_from(table), plan, images=3, weights=weights)
    assert labels.tolist() == [plain_label(image, schedule, weights) for image in table]


@few
@given(seed=st.integers(0, 99), skipped=st.integers(1, 40))
def test_steps_without_weight_are_not_scored_and_change_no_label(seed, skipped):
    table, schedule = table_of(20, 10, 40, seed=seed), make_schedule((5, 13, 40), (6, 3, 1))
    weights = torch.ones(40, dtype=torch.float64).masked_fill(torch.arange(40) < skipped, 0.0)
    lean, full = plan_rounds(schedule, 10, weights=weights), plan_rounds(schedule, 10)
    assert count_forwards(lean) < count_forwards(full)
    assert torch.equal(
        eliminate(errors_from(table), lean, images=20, weights=weights),
        eliminate(errors_from(table), full, images=20, weights=weights),
    )


def test_a_stage_without_a_new_step_scores_nothing_and_eliminates():
    plan = plan_rounds(make_schedule((10, 10, 40), (6, 2, 1)), 8)
    assert [(r.classes, len(r.entries)) for r in plan] == [(8, 10), (6, 0), (2, 30)]
    table = table_of(5, 8, 40)
    straight = plan_rounds(make_schedule((10, 40), (2, 1)), 8)
    assert torch.equal(eliminate(errors_from(table), plan, images=5), eliminate(errors_from(table), straight, images=5))


@few
@given(classes=st.integers(1, 9), seed=st.integers(0, 99), ties=st.booleans())
def test_keeping_all_classes_to_the_end_is_exhaustive(classes, seed, ties):
    table = table_of(6, classes, 50, seed=seed, ties=ties)
    late = plan_rounds(make_schedule((10, 25, 50), (classes, classes, 1)), classes)
    labels = eliminate(errors_from(table), late, images=6)
    assert torch.equal(labels, eliminate(errors_from(table), plan_rounds(exhaustive_schedule(50), classes), images=6))
    assert torch.equal(labels, table.double().sum(dim=2).argmin(dim=1))
    assert count_forwards(late) == 50 * classes


@few
@given(seed=st.integers(0, 99))
def test_labels_follow_a_permutation_of_classes_and_ignore_other_images(seed):
    table, plan = table_of(7, 10, 50, seed=seed), plan_rounds(make_schedule((10, 20, 50), (5, 2, 1)), 10)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    labels = eliminate(errors_from(table), plan, images=7)
    assert torch.equal(order[eliminate(errors_from(table[:, order]), plan, images=7)], labels)
    alone = [int(eliminate(errors_from(table[i : i + 1]), plan, images=1)) for i in range(7)]
    assert alone == labels.tolist()


def test_the_lowest_of_equal_classes_wins():
    table = torch.ones(1, 6, 50)
    assert eliminate(errors_from(table), plan_rounds(make_schedule((10, 50), (3, 1)), 6), images=1).tolist() == [0]
    assert survivors(torch.tensor([[2.0, 1.0, 1.0, 1.0]]), torch.arange(4)[None], 2).tolist() == [[1, 2]]


def test_the_label_is_a_class_and_not_a_place_among_survivors():
    """The published code returns the winner's place among the survivors here: 0 or 1, never 7."""
    table = torch.ones(1, 8, 50)
    table[0, 7] = 0.5
    table[0, 3] = 0.9
    assert eliminate(errors_from(table), plan_rounds(make_schedule((10, 50), (2, 1)), 8), images=1).tolist() == [7]
    assert "label" not in str(inspect.signature(eliminate))


@given(K=st.integers(1, 200), steps=st.integers(1, 1000), name=st.sampled_from(sorted(PUBLISHED)))
def test_a_scaled_schedule_costs_at_most_everything(K, steps, name):
    schedule = scale_schedule(name, num_classes=K, steps=steps)
    assert schedule.grid == steps
    assert count_forwards(plan_rounds(schedule, K)) <= K * steps


def test_scaling_a_schedule_to_its_own_size_changes_nothing():
    for name, (K, schedule) in PUBLISHED.items():
        assert scale_schedule(name, num_classes=K, steps=500) == schedule


@pytest.mark.parametrize("lists", [((10, 5), (2, 1)), ((5, 10), (1, 2)), ((5, 10), (4, 2)), ((), ()), ((0, 5), (2, 1))])
def test_a_schedule_out_of_order_is_refused(lists):
    with pytest.raises(DataError, match="expected steps"):
        make_schedule(*lists)


def test_an_unknown_schedule_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="isic"):
        published_schedule("isik")
