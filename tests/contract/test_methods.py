"""The contract: everything that a feature-space method promises, checked for each (`conftest.py` says which)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.errors import DataError
from fewshot.inference.classifier_files import PARTS, load_classifier, save_classifier
from fewshot.inference.predict import predict
from fewshot.method import Classifier
from fewshot.methods import METHODS, build_method
from fewshot.problem import Problem
from tests.problems import World, make_problem, problems, renumbered, shuffled
from tests.tiny_diffusion import with_diffusion

few = settings(max_examples=5, deadline=None)
SHORT = {"candidates": ("nearest_mean", "zero_shot"), "steps": 5, "max_steps": 5, "generator_steps": 5}
"""A training of a few steps keeps the promises of a long one."""
SHORTER = {"mcti": {"alpha": 0.0, "images": 1}, "textual_inversion": {"steps": 1, "images": 1}}
"""For methods that learn with a diffusion model: as few of its forwards as possible."""


def short(name):
    known = {field.name for field in dataclasses.fields(METHODS[name].load())}
    values = {field: value for field, value in SHORT.items() if field in known}
    return build_method(name, **values | SHORTER.get(name, {}))


def prepared(name, problem):
    """Return the problem with everything that the method needs, and nothing else."""
    needs = METHODS[name].needs
    problem = replace(
        problem,
        text_tower=problem.text_tower if "text_tower" in needs else None,
        pooling=problem.pooling if "dense" in needs else None,
        support=problem.support if "dense" in needs else replace(problem.support, dense=None),
        archive=archive_like(problem) if METHODS[name].learns_from_archive else None,
    )
    return with_diffusion(problem) if "diffusion" in needs else problem


def archive_like(problem):
    """Return unlabelled images of no class in particular, the same for equal numbers of channels."""
    generator = torch.Generator().manual_seed(5)
    return normalize(torch.randn(60, problem.class_embeddings.shape[1], generator=generator), dim=1)


def fit(name, problem):
    return short(name).fit(prepared(name, problem), seed=3)


def same_tensors(left, right):
    return all(same(getattr(left, field.name), getattr(right, field.name)) for field in dataclasses.fields(left))


def same(left, right):
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    return torch.equal(left, right) if isinstance(left, Tensor) else left == right


def test_the_table_uses_the_methods_own_name(name):
    assert METHODS[name].load().name == name


def test_a_classifier_is_a_frozen_dataclass_of_tensors_and_scalars(name):
    classifier = fit(name, make_problem([2, 2, 2])[0])
    assert isinstance(classifier, METHODS[name].load().classifier_type)
    assert isinstance(classifier, Classifier)
    field = dataclasses.fields(classifier)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(classifier, field, None)
    for field in dataclasses.fields(classifier):
        value = getattr(classifier, field.name)
        if isinstance(value, Mapping):
            assert all(isinstance(part, Tensor) for part in value.values())
        elif field.name not in PARTS:
            assert isinstance(value, Tensor | float | int | str | bool | None)


@few
@given(made=problems())
def test_logits_are_finite_float32_for_ragged_shots(name, made):
    problem, features = made
    logits = fit(name, problem).logits(features)
    assert logits.shape == (len(features), problem.num_classes)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("counts", [[1, 1], [0, 1, 0], [0, 0, 0], [9, 1, 1, 2], [4, 4]])
def test_any_number_of_shots_can_be_learned_from(name, counts):
    problem, features = make_problem(counts)
    calibrated = fit_calibrated(short(name), prepared(name, problem), seed=1, max_error=0.2)
    assert predict(calibrated, features).score.isfinite().all()


def test_thousands_of_classes_can_be_learned(name):
    count = 300 if "diffusion" in METHODS[name].needs else 3000  # A few classes are a forward of the UNet.
    problem, features = make_problem([1] * count, views=1)
    assert fit(name, problem).logits(features).shape == (len(features), count)


@few
@given(made=problems())
def test_the_same_seed_gives_the_same_classifier(name, made):
    problem, _ = made
    assert same_tensors(fit(name, problem), fit(name, problem))


@few
@given(made=problems())
def test_the_order_of_the_shots_changes_no_bit(name, made):
    problem, features = made
    one, other = fit(name, problem), fit(name, shuffled(problem))
    assert torch.equal(one.logits(features), other.logits(features))


@few
@given(made=problems(min_shots=1), seed=st.integers(0, 5))
def test_renumbering_the_classes_renumbers_the_logits(name, made, seed):
    problem, features = made
    permutation = torch.randperm(problem.num_classes, generator=torch.Generator().manual_seed(seed))
    expected = fit(name, problem).logits(features)[:, permutation]
    logits = fit(name, renumbered(problem, permutation)).logits(features)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-3)


@few
@given(made=problems())
def test_logits_do_not_depend_on_other_images(name, made):
    problem, features = made
    classifier = fit(name, problem)
    alone = torch.cat([classifier.logits(row[None]) for row in features])
    torch.testing.assert_close(classifier.logits(features), alone, rtol=1e-4, atol=1e-3)


def test_predictions_do_not_depend_on_other_images_by_a_bit(name):
    there = World(40, dim=64)
    calibrated = fit_calibrated(short(name), prepared(name, there.problem([2] * 40)), seed=1)
    features, _ = there.test_images(150)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))[:70]
    some, all_ = predict(calibrated, features[order], tile_rows=64), predict(calibrated, features, tile_rows=64)
    assert torch.equal(some.top_scores, all_.top_scores[order])
    assert torch.equal(some.top_labels, all_.top_labels[order])


@few
@given(made=problems(min_shots=1))
def test_a_stored_classifier_comes_back_bit_for_bit(name, made):
    problem, features = made
    calibrated = fit_calibrated(short(name), prepared(name, problem), seed=1, max_error=0.1)
    files = save_classifier(calibrated, {"archive": "abc"})
    loaded = load_classifier(files, text_tower=problem.text_tower, pooling=problem.pooling)
    assert save_classifier(loaded, {"archive": "abc"}) == files
    assert torch.equal(loaded.classifier.logits(features), calibrated.classifier.logits(features))
    assert dataclasses.replace(loaded, classifier=calibrated.classifier) == calibrated


@few
@given(made=problems())
def test_fitting_and_scoring_change_none_of_their_inputs(name, made):
    problem, features = made
    before = [
        part.clone() for part in (problem.class_embeddings, problem.support.views, problem.support.labels, features)
    ]
    classifier = fit(name, problem)
    first = classifier.logits(features)
    assert torch.equal(first, classifier.logits(features))
    after = (problem.class_embeddings, problem.support.views, problem.support.labels, features)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@few
@given(made=problems())
def test_selection_fills_in_everything_and_is_final(name, made):
    problem, features = made
    problem = prepared(name, problem)
    selected = short(name).select(problem, seed=3)
    assert None not in [getattr(selected, field.name) for field in dataclasses.fields(selected)]
    assert selected.select(problem, seed=99) == selected
    assert torch.equal(selected.fit(problem, seed=3).logits(features), fit(name, problem).logits(features))


def test_a_missing_need_is_a_data_error(name):
    """So the table lists no more than a method needs; it lists no less, as `prepared` provides nothing else."""
    problem, _ = make_problem([2, 2, 0])
    for need in METHODS[name].needs:
        lacking = {"dense": {"pooling": None}, "text_tower": {"text_tower": None}, "diffusion": {"diffusion": None}}
        with pytest.raises(DataError, match="the problem has no"):
            short(name).fit(replace(prepared(name, problem), **lacking[need]), seed=0)


def test_there_is_no_test_split_to_learn_from(name):
    assert [field.name for field in dataclasses.fields(Problem)] == [
        "label_space",
        "class_embeddings",
        "support",
        "val",
        "logit_scale",
        "text_tower",
        "pooling",
        "diffusion",
        "archive",
        "depth",
        "not_chosen_on",
    ]
