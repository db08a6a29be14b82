"""Comparison of methods that choose their hyperparameters without the images that they are compared on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from fewshot.calibration.calibrate import held_out_logits
from fewshot.methods import build_method
from fewshot.model_selection.candidates import measure_candidates
from fewshot.model_selection.cross_validation import MIN_QUERIES, nested_splits, select_point
from fewshot.model_selection.nested import compare_nested
from fewshot.optimization.training_cache import InMemoryCache, no_cache
from tests.problems import World, make_problem, shuffled

TICKETS = 3000


@dataclass(frozen=True)
class LotteryClassifier:
    """Random logits: a fixed function of an image, and of so high a frequency that it generalises to no other."""

    weight: Tensor

    def logits(self, features: Tensor) -> Tensor:
        return noise(features @ self.weight.T)


def noise(values: Tensor) -> Tensor:
    return torch.sin(1e5 * values.double()).float()


@dataclass(frozen=True, kw_only=True)
class Lottery:
    """A method with thousands of values of a hyperparameter that learns nothing: each value is a random function."""

    name: ClassVar[str] = "lottery"
    classifier_type: ClassVar[type[LotteryClassifier]] = LotteryClassifier
    folds: ClassVar[int] = 4

    ticket: int | None = None

    def select(self, problem, *, seed, training_cache=no_cache):
        maps = torch.randn(TICKETS, *problem.class_embeddings.shape, generator=torch.Generator().manual_seed(1))

        def sweep(split, points):
            logits = noise(split.queries.features @ maps[list(points)].mT)
            return zip(points, logits, strict=True)

        tickets = range(TICKETS) if self.ticket is None else (self.ticket,)
        return replace(
            self, ticket=select_point(tickets, problem, sweep, default=lambda _: 0, seed=seed, folds=self.folds)
        )

    def fit(self, problem, *, seed, training_cache=no_cache):
        ticket = self.select(problem, seed=seed).ticket
        maps = torch.randn(TICKETS, *problem.class_embeddings.shape, generator=torch.Generator().manual_seed(1))
        return LotteryClassifier(maps[ticket])


METHODS = (build_method("nearest_mean"), Lottery())


def hard_problem():
    """Two classes that the nearest mean tells apart in most cases."""
    return World(2, dim=16, name_noise=float("inf"), image_noise=3.0, seed=0).problem([14, 14], views=1)


def flattered(problem):
    """Compare methods on the images that they chose their hyperparameters on."""
    logits = {}
    for method in METHODS:
        selected = method.select(problem, seed=0)
        _, logits[method.name], labels = held_out_logits(selected, problem, seed=0)
    return measure_candidates(logits, labels)


def test_the_luck_of_many_hyperparameters_is_not_chosen():
    problem = hard_problem()
    assert flattered(problem)[0].method == "lottery"
    nested = compare_nested(METHODS, problem, seed=0, training_cache=no_cache)
    assert nested[0].method == "nearest_mean"
    by_name = {result.method: result.accuracy for result in nested}
    assert by_name["lottery"] <= 0.5 < by_name["nearest_mean"]


def test_nested_accuracy_is_that_of_methods_without_hyperparameters_to_choose():
    problem = hard_problem()
    fixed = build_method("nearest_mean", text_weight=0.0)
    (nested,) = compare_nested([fixed], problem, seed=0, training_cache=no_cache)
    _, logits, labels = held_out_logits(fixed, problem, seed=0)
    assert nested.accuracy == float((logits.argmax(dim=1) == labels).double().mean())


def test_no_query_is_in_a_problem_that_its_method_sees(monkeypatch):
    problem, _ = make_problem([4, 4, 4])
    seen = []
    method = build_method("nearest_mean")
    original = type(method).select
    monkeypatch.setattr(
        type(method), "select", lambda self, part, **given: seen.append(part) or original(self, part, **given)
    )
    compare_nested([method], problem, seed=0, training_cache=no_cache)
    for part, split in zip(seen, nested_splits(problem, seed=0), strict=True):
        assert not (part.support.features @ split.queries.features.T > 1.0 - 1e-5).any()


def test_the_order_of_the_shots_changes_nothing():
    problem, _ = make_problem([5, 4, 4, 3])
    methods = [build_method(name) for name in ("gda", "nearest_mean", "tip_adapter", "zero_shot")]
    one, other = (
        compare_nested(methods, each, seed=3, training_cache=InMemoryCache()) for each in (problem, shuffled(problem))
    )
    assert [result.method for result in one] == [result.method for result in other]
    assert [result.accuracy for result in one] == [result.accuracy for result in other]
    assert one == compare_nested(methods, problem, seed=3, training_cache=InMemoryCache())


@pytest.mark.parametrize("counts", [[1, 1, 1], [0, 0], [2, 1, 1], [MIN_QUERIES - 1, 1], [2] * 20])
def test_too_few_held_out_images_compare_nothing(counts):
    assert compare_nested(METHODS, make_problem(counts)[0], seed=0, training_cache=no_cache) == ()


@pytest.mark.parametrize("counts", [[4, 4, 4], [9, 10, 11], [16, 5]])
def test_a_method_is_trained_once_without_each_fold_and_each_pair_of_folds(counts):
    problem, _ = make_problem(counts)
    method, trained = build_method("tip_adapter_f", min_steps=1, max_steps=1), Counter()
    cache = InMemoryCache()

    def counting(key, make):
        return cache(key, lambda: trained.update([key]) or make())

    compare_nested([method], problem, seed=0, training_cache=counting)
    assert len(trained) == 4 + 6
    method.select(problem, seed=0, training_cache=counting)
    assert len(trained) == 4 + 6
    assert set(trained.values()) == {1}


def test_validation_images_choose_and_compare_without_seeing_each_other():
    there = World(3, dim=16, image_noise=0.4, seed=2)
    problem = replace(there.problem([1, 1, 1], views=1), val=there.images(torch.arange(3).repeat(8)))
    (result,) = compare_nested([build_method("nearest_mean")], problem, seed=0, training_cache=no_cache)
    assert result.accuracy > 0.8


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """The nearest mean, which tells what it is given."""

    name: ClassVar[str] = "recorder"
    classifier_type: ClassVar[type] = type(build_method("nearest_mean")).classifier_type
    folds: ClassVar[int] = 4

    seen: list[tuple[str, object, int, object]]

    def select(self, problem, *, seed, training_cache=no_cache):
        self.seen.append(("select", problem, seed, training_cache))
        return self

    def fit(self, problem, *, seed, training_cache=no_cache):
        self.seen.append(("fit", problem, seed, training_cache))
        return build_method("nearest_mean", text_weight=0.0).fit(problem, seed=seed)


def test_folds_choices_and_fits_have_the_seed_and_the_cache():
    problem, _ = make_problem([4, 5, 6])
    recorder, cache, seed = Recorder(seen=[]), InMemoryCache(), 7
    compare_nested([recorder], problem, seed=seed, training_cache=cache)
    splits = nested_splits(problem, seed=seed)
    assert [step for step, *_ in recorder.seen] == ["select", "fit"] * len(splits)
    for (_, part, own_seed, own_cache), split in zip(recorder.seen, (s for s in splits for _ in range(2)), strict=True):
        assert torch.equal(part.support.views, split.problem.support.views)
        assert (own_seed, own_cache) == (seed, cache)


def test_logits_are_compared_with_the_labels_of_their_images():
    problem = World(3, dim=16, image_noise=0.01, seed=2).problem([4, 5, 6], views=1)
    (result,) = compare_nested([Recorder(seen=[])], problem, seed=0, training_cache=no_cache)
    assert result.accuracy == 1.0


def test_as_many_held_out_images_as_are_needed_are_compared():
    val = World(3, dim=16, seed=2).images(torch.arange(MIN_QUERIES + 3) % 3)
    problem = World(3, dim=16, seed=2).problem([1, 1, 1], views=1)

    def compared(images):
        given = replace(problem, val=val[torch.arange(images)])
        return bool(compare_nested([Recorder(seen=[])], given, seed=0, training_cache=no_cache))

    # What a fold of validation images leaves must be enough to choose on.
    assert (compared(MIN_QUERIES + 2), compared(MIN_QUERIES + 3)) == (False, True)
    assert compare_nested([Recorder(seen=[])], make_problem([3, 3, 3])[0], seed=0, training_cache=no_cache) == ()
