from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.model_selection import cross_validation as selection
from fewshot.model_selection.cross_validation import (
    best_point,
    held_out_splits,
    nested_splits,
    query_parts,
    select_as_published,
    select_point,
    selection_splits,
    text_only_splits,
)
from fewshot.optimization.content_order import content_digests
from tests.problems import World, make_problem, problems, shuffled

quick = settings(max_examples=20, deadline=None)


def contents(images):
    return set(content_digests(images))


@quick
@given(made=problems(), seed=st.integers(0, 3))
def test_images_of_larger_classes_are_held_out_once(made, seed):
    problem, _ = made
    held_out = [digest for split in held_out_splits(problem, seed=seed) for digest in content_digests(split.queries)]
    expected = problem.support[problem.counts[problem.support.labels] > 1]
    assert sorted(held_out) == sorted(content_digests(expected))


@quick
@given(made=problems(), seed=st.integers(0, 3))
def test_a_split_does_not_contain_its_queries(made, seed):
    problem, _ = made
    for split in (*held_out_splits(problem, seed=seed), *text_only_splits(problem, seed=seed)):
        assert not contents(split.queries) & contents(split.problem.support)
        assert split.problem.val is None


@quick
@given(made=problems(), seed=st.integers(0, 3))
def test_folds_are_oversampled_evenly_to_full_size(made, seed):
    problem, _ = made
    for split in held_out_splits(problem, seed=seed):
        assert torch.equal(split.problem.counts, problem.counts)
        for label in range(problem.num_classes):
            images = split.problem.support[split.problem.support.labels == label]
            times = Counter(content_digests(images)).values()
            assert not times or max(times) - min(times) <= 1


@quick
@given(made=problems(), seed=st.integers(0, 3))
def test_folds_ignore_the_order_of_the_shots(made, seed):
    problem, _ = made
    pairs = zip(held_out_splits(problem, seed=seed), held_out_splits(shuffled(problem), seed=seed), strict=True)
    for one, other in pairs:
        assert torch.equal(one.queries.views, other.queries.views)
        assert contents(one.problem.support) == contents(other.problem.support)


def test_another_seed_draws_other_folds():
    problem, _ = make_problem([8, 8])
    assert contents(held_out_splits(problem, seed=0)[0].queries) != contents(
        held_out_splits(problem, seed=1)[0].queries
    )


def test_one_shot_per_class_gives_text_only_splits():
    problem, _ = make_problem([1, 1, 1])
    assert held_out_splits(problem, seed=0) == []
    splits = text_only_splits(problem, seed=0)
    assert sum(len(split.queries) for split in splits) == 3
    assert all((split.problem.counts[split.queries.labels] == 0).all() for split in splits)


def test_validation_images_replace_the_folds():
    problem, _ = make_problem([2, 2])
    val = make_problem([3, 3], seed=9)[0].support
    (split,) = held_out_splits(replace(problem, val=val), seed=0)
    assert contents(split.queries) == contents(val)
    assert contents(split.problem.support) == contents(problem.support)


def test_queries_are_capped_but_all_shots_are_used(monkeypatch):
    monkeypatch.setattr(selection, "MAX_QUERIES", 5)
    problem, _ = make_problem([6, 6])
    splits = held_out_splits(problem, seed=0)
    assert sum(len(split.queries) for split in splits) == 5
    assert all(len(split.problem.support) == 12 for split in splits)


def test_queries_of_many_shots_are_fewer_so_that_their_cosines_fit(monkeypatch):
    monkeypatch.setattr(selection, "MAX_COSINES", 12 * 5 + 11)
    problem, _ = make_problem([6, 6])
    assert sum(len(split.queries) for split in held_out_splits(problem, seed=0)) == 5


def test_capped_queries_come_from_all_folds_alike(monkeypatch):
    monkeypatch.setattr(selection, "MAX_QUERIES", 40)
    problem, _ = make_problem([4] * 40)
    sizes = [len(split.queries) for split in held_out_splits(problem, seed=0)]
    assert (len(sizes), sum(sizes)) == (4, 40)
    assert max(sizes) < 20


def with_validation(counts):
    return replace(make_problem([2, 2])[0], val=make_problem(counts, seed=9)[0].support)


def test_validation_images_are_capped_and_count_once(monkeypatch):
    problem = with_validation([4, 4])
    copies = replace(problem, val=problem.val[torch.arange(8).repeat(2)])
    for splits in (held_out_splits, nested_splits):
        assert sum(len(split.queries) for split in splits(copies, seed=0)) == 8
    monkeypatch.setattr(selection, "MAX_QUERIES", 5)
    for splits in (held_out_splits, nested_splits):
        assert sum(len(split.queries) for split in splits(problem, seed=0)) == 5


def test_an_image_with_two_labels_is_a_query_of_both():
    problem = with_validation([4, 4])
    val = replace(problem.val, views=problem.val.views[:1].expand(8, -1, -1))
    (split,) = held_out_splits(replace(problem, val=val), seed=0)
    assert sorted(split.queries.labels.tolist()) == [0, 1]


def test_as_few_validation_images_as_folds_leave_no_fold_empty():
    splits = nested_splits(with_validation([1, 1]), seed=0)
    assert [len(split.queries) for split in splits] == [1, 1]


def test_another_seed_draws_other_folds_of_validation_images_and_of_single_shots():
    single, validated = make_problem([1] * 12)[0], with_validation([6, 6])
    for splits, problem in ((nested_splits, validated), (text_only_splits, single)):
        one, other = (contents(splits(problem, seed=seed)[0].queries) for seed in (0, 1))
        assert one != other


def test_a_problem_without_a_fold_has_one_fold_less_and_at_least_two():
    problem, _ = make_problem([8, 8])
    numbers = []
    while len(numbers) < 4:
        splits = held_out_splits(problem, seed=0)
        numbers.append(len(splits))
        problem = splits[0].problem
    assert numbers == [4, 3, 2, 2]


def fixed_sweep(logits):
    """Return a sweep with the logits of each point from a function of the labels."""
    return lambda split, points: ((point, logits[point](split.queries.labels)) for point in points)


def right(labels):
    return torch.nn.functional.one_hot(labels, 3).float()


def test_the_most_accurate_point_wins_despite_its_likelihood():
    problem, _ = make_problem([4, 4, 4])
    logits = {"a": lambda labels: -right(labels), "b": lambda labels: 1e-3 * right(labels)}
    assert best_point(["a", "b"], held_out_splits(problem, seed=0), fixed_sweep(logits)) == "b"


def test_ties_ignore_the_logit_scale_and_prefer_the_first():
    problem, _ = make_problem([4, 4, 4])
    logits = {"a": lambda labels: 4 * right(labels), "b": lambda labels: 2 * right(labels)}
    for points in (["a", "b"], ["b", "a"]):
        assert best_point(points, held_out_splits(problem, seed=0), fixed_sweep(logits)) == points[0]


def test_accuracies_within_half_a_standard_error_tie():
    """The best point is right on 80 of 100 images, so half a standard error is 2 images."""
    there = World(3)
    problem = replace(there.problem([4, 4, 4]), val=there.images(torch.arange(100) % 3))

    def point(mistakes, *, sure):
        """Return small margins on correct images, and errors of high or low confidence."""
        margins = torch.full((100, 1), 0.5)
        margins[:mistakes] = -1.0 if sure else -0.1
        return lambda labels: margins * right(labels)

    logits = {"lucky": point(20, sure=True), "likely": point(22, sure=False), "worse": point(23, sure=False)}
    assert best_point(["lucky", "worse"], held_out_splits(problem, seed=0), fixed_sweep(logits)) == "lucky"
    assert best_point(["lucky", "likely"], held_out_splits(problem, seed=0), fixed_sweep(logits)) == "likely"


def test_likelihood_breaks_ties_in_accuracy():
    problem, _ = make_problem([4, 4, 4])

    def hesitant(labels):
        return right(labels) + 0.9 * right((labels + 1) % 3)

    logits = {"hesitant": hesitant, "sure": right}
    # An error of both keeps the best temperature above 0.
    logits = {
        name: (lambda labels, f=f: torch.cat([f(labels)[:-1], -right(labels[-1:])])) for name, f in logits.items()
    }
    assert best_point(["hesitant", "sure"], held_out_splits(problem, seed=0), fixed_sweep(logits)) == "sure"


def doubled(problem):
    rows = torch.arange(len(problem.support)).repeat(2)
    return problem.with_support(problem.support[rows])


@quick
@given(made=problems(), seed=st.integers(0, 3))
def test_no_image_is_held_out_from_its_copy(made, seed):
    problem = doubled(made[0])
    for split in (*held_out_splits(problem, seed=seed), *text_only_splits(problem, seed=seed)):
        assert not contents(split.queries) & contents(split.problem.support)
        assert len(split.queries) == len(contents(split.queries))


@quick
@given(made=problems(), seed=st.integers(0, 3))
def test_copies_change_no_fold(made, seed):
    pairs = zip(held_out_splits(made[0], seed=seed), held_out_splits(doubled(made[0]), seed=seed), strict=True)
    for one, other in pairs:
        assert torch.equal(one.queries.views, other.queries.views)
        assert contents(one.problem.support) == contents(other.problem.support)


@quick
@given(made=problems(), seed=st.integers(0, 3))
def test_a_fold_of_a_fold_lacks_the_queries_of_both(made, seed):
    for outer in nested_splits(made[0], seed=seed):
        for inner in held_out_splits(outer.problem, seed=seed):
            left = contents(inner.problem.support)
            assert not left & (contents(inner.queries) | contents(outer.queries))
            assert not contents(inner.queries) & contents(outer.queries)


def test_nested_splits_are_those_of_the_shots_without_validation_images():
    problem, _ = make_problem([4, 3, 2])
    pairs = zip(nested_splits(problem, seed=0), held_out_splits(problem, seed=0), strict=True)
    assert all(torch.equal(one.support_rows, other.support_rows) for one, other in pairs)


def test_validation_images_are_held_out_once_and_choose_otherwise():
    problem, _ = make_problem([2, 2])
    val = make_problem([5, 6], seed=9)[0].support
    splits = nested_splits(replace(problem, val=val), seed=0)
    assert sum(len(split.queries) for split in splits) == 11
    assert set.union(*(contents(split.queries) for split in splits)) == contents(val)
    for split in splits:
        assert contents(split.problem.val) == contents(val) - contents(split.queries)
        assert contents(split.problem.support) == contents(problem.support)


def refuse(*_):
    raise AssertionError("not to be called")


def chosen(problem, points=("first", "second"), **given):
    """Choose between a point that is wrong and one that is right."""
    sweep = fixed_sweep({"first": lambda labels: -right(labels), "second": right})
    return select_point(points, problem, sweep, seed=0, **({"default": refuse} | given))


def test_a_point_is_chosen_on_enough_images_and_is_the_default_otherwise():
    problem, _ = make_problem([3, 3, 3])
    assert chosen(problem) == "second"
    assert chosen(problem, min_queries=9) == "second"
    assert chosen(problem, min_queries=10, default=lambda given: (given is problem, "default")) == (True, "default")
    assert chosen(make_problem([2, 2, 2])[0], default=lambda _: "default") == "default"


def test_a_single_point_is_not_compared():
    assert select_point(["only"], make_problem([3, 3, 3])[0], refuse, default=refuse, seed=0) == "only"


def test_points_are_compared_on_the_given_number_of_folds_with_the_given_choice():
    problem, _ = make_problem([8, 8, 8])
    numbers = []
    for folds in (2, 3):
        chosen(problem, folds=folds, choose=lambda points, splits, sweep: numbers.append(len(splits)) or points[0])
    assert numbers == [2, 3]


def test_images_that_nothing_is_chosen_on_are_learned_from_and_are_no_queries():
    problem, _ = make_problem([4, 4, 4])
    first, *others = held_out_splits(problem, seed=0)
    spared = replace(problem, not_chosen_on=frozenset(content_digests(first.queries)))
    splits = selection_splits(spared, seed=0)
    assert [contents(split.queries) for split in splits] == [contents(split.queries) for split in others]
    assert all(contents(first.queries) <= contents(split.problem.support) for split in splits)
    assert all(split.problem.not_chosen_on == frozenset() for split in splits)


def test_published_searches_take_the_first_of_the_most_accurate_on_any_validation_images():
    problem, _ = make_problem([4, 4, 4])
    val = World(3).images(torch.arange(2))
    # All but one right, all right with small margins, all right with large ones.
    logits = {
        "less": lambda labels: torch.cat([-right(labels[:1]), right(labels[1:])]),
        "first": lambda labels: 0.1 * right(labels) + 0.05 * right((labels + 1) % 3),
        "sure": right,
    }
    sweep, points = fixed_sweep(logits), ("less", "first", "sure")
    for each in (problem, replace(problem, val=val)):
        assert select_as_published(points, each, sweep, default=refuse, seed=0) == "first"
    few = make_problem([2, 2, 2])[0]
    assert select_as_published(points, few, sweep, default=lambda _: "default", seed=0) == "default"


def test_published_searches_use_the_given_folds():
    problem, seen = make_problem([4, 4, 4])[0], []

    def sweep(split, points):
        seen.append(contents(split.queries))
        return ((point, right(split.queries.labels)) for point in points)

    select_as_published((1, 2), problem, sweep, default=refuse, seed=0, folds=3)
    assert seen == [contents(split.queries) for split in held_out_splits(problem, seed=0)[:3]]


def test_queries_of_several_splits_are_parted_by_split_and_those_of_one_into_four():
    problem, _ = make_problem([4, 4, 4])
    splits = held_out_splits(problem, seed=0)
    assert [part.tolist() for part in query_parts(splits, seed=0)] == [
        [number] * len(split.queries) for number, split in enumerate(splits)
    ]
    validation = held_out_splits(with_validation([6, 6]), seed=0)
    (one,), (other,) = (query_parts(validation, seed=seed) for seed in (0, 1))
    assert torch.bincount(one).tolist() == [3, 3, 3, 3]
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("logits_used", "rows"), [(100, 5), (7, 2), (1, 1)])
def test_losses_of_ties_are_those_of_softened_targets_on_the_first_rows(monkeypatch, logits_used, rows):
    monkeypatch.setattr(selection, "MAX_TIE_LOGITS", logits_used)
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 1, 0])
    targets = (6 / 7 * torch.nn.functional.one_hot(labels, 3) + 1 / 7 / 3)[:rows].double()
    expected = [
        -5.0 * float((targets * torch.log_softmax(logits[:rows].double() / temperature, dim=1)).sum(dim=1).mean())
        for temperature in selection.TEMPERATURES
    ]
    assert selection._losses(logits, labels).tolist() == pytest.approx(expected, rel=1e-5)


def test_an_image_with_copies_is_repeated_no_more_often_than_others_in_a_fold():
    problem, _ = make_problem([3, 3])
    copied = problem.with_support(problem.support[torch.tensor([0, 0, 0, 1, 2, 3, 4, 5])])
    for split in held_out_splits(copied, seed=0):
        for label in (0, 1):
            images = split.problem.support[split.problem.support.labels == label]
            times = Counter(content_digests(images)).values()
            assert max(times) - min(times) <= 1
