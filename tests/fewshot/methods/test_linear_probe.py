"""The acceptance properties of the linear probe."""

from math import log10

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy, one_hot

from fewshot.errors import DataError
from fewshot.methods.linear_probe import LinearProbe, functional
from fewshot.methods.linear_probe.functional import Plane, fit_plane, objective, on_all_classes
from fewshot.methods.linear_probe.method import STRENGTHS, best_strength
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.training_cache import InMemoryCache
from tests.problems import World, make_problem, problems, renumbered

quick = settings(max_examples=10, deadline=None)
TIGHT = {"tolerance": 1e-6, "max_iterations": 1000}


def labelled(num_classes=5, images=60, seed=0):
    features, labels = World(num_classes, seed=seed, image_noise=1.5).test_images(images)
    return features, torch.cat([torch.arange(num_classes), labels[num_classes:]])


def plain_objective(features, labels, plane, strength):
    """The objective as it is printed, over C M."""
    loss = cross_entropy(features.double() @ plane.weight.T + plane.bias, labels)
    return loss + 0.5 * plane.weight.square().sum() / (strength * len(features))


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0, 1e4])
def test_it_finds_what_scikit_learn_finds(strength):
    features, labels = labelled()
    plane = fit_plane(features, labels, 5, strength=strength, **TIGHT)
    reference = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(features.double().numpy(), labels.numpy())
    theirs = Plane(torch.from_numpy(reference.coef_), torch.from_numpy(reference.intercept_))
    found, expected = (float(plain_objective(features, labels, one, strength)) for one in (plane, theirs))
    assert found == pytest.approx(expected, abs=1e-4)
    assert (plane.logits(features).argmax(1) == theirs.logits(features).argmax(1)).double().mean() > 0.98


@quick
@given(seed=st.integers(0, 50), decay=st.sampled_from([0.0, 0.1]), memory=st.sampled_from([1, 200, 2**20]))
def test_value_and_gradient_are_those_of_the_plain_objective_in_any_blocks(seed, decay, memory):
    features, labels = labelled(seed=seed)
    at = torch.randn(5, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    mean = features.double().mean(dim=0)
    logits = (features.double() - mean) @ at[:, :-1].T + at[:, -1]
    expected = cross_entropy(logits, labels) + 0.5 * decay * at[:, :-1].square().sum()
    expected.backward()
    expected = expected.item()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "MEMORY_BYTES", memory)
        value, gradient = objective(features, labels, mean, at.detach(), decay=decay)
    assert value == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(gradient, at.grad, rtol=1e-4, atol=1e-6)


def test_where_it_begins_makes_no_difference():
    features, labels = labelled()
    start = fit_plane(features, labels, 5, strength=0.1, **TIGHT)
    cold = fit_plane(features, labels, 5, strength=10.0, **TIGHT)
    warm = fit_plane(features, labels, 5, strength=10.0, start=start, **TIGHT)
    torch.testing.assert_close(warm.logits(features), cold.logits(features), rtol=1e-3, atol=1e-3)


def test_a_start_that_is_the_solution_is_left_alone():
    features, labels = labelled()
    solution = fit_plane(features, labels, 5, strength=10.0, **TIGHT)
    again = fit_plane(features, labels, 5, strength=10.0, start=solution, tolerance=1e-4, max_iterations=1000)
    torch.testing.assert_close(again.weight, solution.weight)


def test_hardly_any_strength_leaves_hardly_any_weight():
    features, labels = labelled()
    assert fit_plane(features, labels, 5, strength=1e-6, **TIGHT).weight.abs().max() < 1e-4


@quick
@given(seed=st.integers(0, 20))
def test_permuting_the_labels_permutes_the_rows(seed):
    """Solved in float64: in float32, rounding ends the line search at gradients of up to 3e-5, above the tolerance."""
    features, labels = labelled(seed=seed)
    features, permutation = features.double(), torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    rows = fit_plane(features, labels, 5, strength=10.0, **TIGHT)
    permuted = fit_plane(features, permutation.argsort()[labels], 5, strength=10.0, **TIGHT)
    torch.testing.assert_close(permuted.weight, rows.weight[permutation], rtol=1e-6, atol=1e-6)


@quick
@given(made=problems(min_shots=1), seed=st.integers(0, 5))
def test_renumbering_classes_changes_no_bit_but_the_order(made, seed):
    problem, _ = made
    permutation = torch.randperm(problem.num_classes, generator=torch.Generator().manual_seed(seed))
    one = LinearProbe(strength=10.0).fit(problem, seed=0)
    other = LinearProbe(strength=10.0).fit(renumbered(problem, permutation), seed=0)
    assert torch.equal(other.weight, one.weight[permutation])
    assert torch.equal(other.bias, one.bias[permutation])


@quick
@given(seed=st.integers(0, 50), strength=st.sampled_from([0.01, 10.0, 1e6]))
def test_a_class_without_shots_is_never_the_label(seed, strength):
    problem, _ = make_problem([3, 0, 2, 0], seed=seed)
    anything = World(4, seed=seed + 1).directions(200, 16)
    logits = LinearProbe(strength=strength).fit(problem, seed=0).logits(anything)
    assert logits.isfinite().all()
    assert (logits[:, [1, 3]].amax(dim=1) < logits[:, [0, 2]].amin(dim=1)).all()


def test_without_any_shots_it_is_zero_shot():
    problem, features = make_problem([0, 0, 0])
    expected = ZeroShot().fit(problem, seed=0).logits(features)
    torch.testing.assert_close(LinearProbe().fit(problem, seed=0).logits(features), expected)


def test_learned_classes_keep_their_rows():
    plane = Plane(torch.ones(2, 4, dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64))
    whole = on_all_classes(plane, torch.tensor([3, 0]), 5)
    assert torch.equal(whole.weight[[3, 0]], plane.weight)
    assert whole.bias.tolist() == [2.0, -2.0, -2.0, 1.0, -2.0]


def test_the_search_halves_towards_the_better_end():
    """Held-out accuracy falls with every step away from C = 30."""
    problem, asked = make_problem([40, 40])[0], []

    def learner(split):
        def logits(strength):
            asked.append(strength)
            right = int(len(split.queries) * (1 - abs(log10(strength / 30)) / 8))
            wrong = (torch.arange(len(split.queries)) >= right).long()
            return one_hot((split.queries.labels + wrong) % 2, 2).float()

        return logits

    splits = held_out_splits(problem, seed=0)
    assert 10 < best_strength(splits, learner) < 90
    assert set(STRENGTHS) < set(asked)
    assert len(asked) == len(set(asked)) * len(splits)


def test_what_is_chosen_is_no_worse_on_held_out_shots_than_any_of_the_grid():
    problem, _ = make_problem([6] * 5, image_noise=1.5)
    selected = LinearProbe().select(problem, seed=0)

    def accuracy(strength):
        hits = images = 0
        for split in held_out_splits(problem, seed=0):
            logits = LinearProbe(strength=strength).fit(split.problem, seed=0).logits(split.queries.features)
            hits, images = hits + int((logits.argmax(1) == split.queries.labels).sum()), images + len(split.queries)
        return hits / images

    assert accuracy(selected.strength) >= max(accuracy(strength) for strength in STRENGTHS) - 0.04


def test_a_pretrained_fold_is_not_trained_again():
    problem, _ = make_problem([4, 4, 4])
    training_cache, method, trained = InMemoryCache(), LinearProbe(), []

    def counting(key, make):
        return training_cache(key, lambda: trained.append(key) or make())

    for split in held_out_splits(problem, seed=0):
        method.pretrain_fold(split, seed=0, training_cache=counting)
    assert len(trained) == 4
    method.select(problem, seed=0, training_cache=counting)
    assert len(trained) == 4


def test_a_strength_out_of_range_is_refused():
    with pytest.raises(DataError, match=r"linear_probe.strength"):
        LinearProbe(strength=0.0)
