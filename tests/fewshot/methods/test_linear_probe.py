"""The acceptance properties of the linear probe."""

import math
from dataclasses import replace
from math import log10

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy, normalize, one_hot

from fewshot.errors import DataError
from fewshot.methods.linear_probe import LinearProbe, functional
from fewshot.methods.linear_probe.functional import Plane, fit_plane, objective, on_all_classes
from fewshot.methods.linear_probe.method import C_GRID, PATH_TOLERANCE, best_c, tolerance_among
from fewshot.methods.linear_probe.rows import ProbeRows, text_probabilities
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.training_cache import InMemoryCache, training_key
from fewshot.problem import Labelled, Problem
from fewshot.prototypes import default_text_weight
from tests.problems import World, make_problem, problems, renumbered, shuffled, space

quick = settings(max_examples=10, deadline=None)
TIGHT = {"tolerance": 1e-6, "max_iterations": 1000}


def labelled(num_classes=5, images=60, seed=0):
    features, labels = World(num_classes, seed=seed, image_noise=1.5).test_images(images)
    return features, torch.cat([torch.arange(num_classes), labels[num_classes:]])


def plain_objective(features, labels, plane, c):
    """The objective as it is printed, over C M."""
    loss = cross_entropy(features.double() @ plane.weight.T + plane.bias, labels)
    return loss + 0.5 * plane.weight.square().sum() / (c * len(features))


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0, 1e4])
def test_it_finds_what_scikit_learn_finds(c):
    features, labels = labelled()
    plane = fit_plane(features, labels, 5, c=c, **TIGHT)
    reference = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(features.double().numpy(), labels.numpy())
    theirs = Plane(torch.from_numpy(reference.coef_), torch.from_numpy(reference.intercept_))
    found, expected = (float(plain_objective(features, labels, one, c)) for one in (plane, theirs))
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
    start = fit_plane(features, labels, 5, c=0.1, **TIGHT)
    cold = fit_plane(features, labels, 5, c=10.0, **TIGHT)
    warm = fit_plane(features, labels, 5, c=10.0, start=start, **TIGHT)
    torch.testing.assert_close(warm.logits(features), cold.logits(features), rtol=1e-3, atol=1e-3)


def test_a_start_that_is_the_solution_is_left_alone():
    features, labels = labelled()
    solution = fit_plane(features, labels, 5, c=10.0, **TIGHT)
    again = fit_plane(features, labels, 5, c=10.0, start=solution, tolerance=1e-4, max_iterations=1000)
    torch.testing.assert_close(again.weight, solution.weight)


def test_a_small_c_keeps_the_weights_small():
    features, labels = labelled()
    assert fit_plane(features, labels, 5, c=1e-6, **TIGHT).weight.abs().max() < 1e-4


@quick
@given(seed=st.integers(0, 20))
def test_permuting_the_labels_permutes_the_rows(seed):
    """Solved in float64: in float32, rounding ends the line search at gradients of up to 3e-5, above the tolerance."""
    features, labels = labelled(seed=seed)
    features, permutation = features.double(), torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    rows = fit_plane(features, labels, 5, c=10.0, **TIGHT)
    permuted = fit_plane(features, permutation.argsort()[labels], 5, c=10.0, **TIGHT)
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
@given(seed=st.integers(0, 50), c=st.sampled_from([0.01, 10.0, 1e6]))
def test_a_class_without_shots_is_never_the_label(seed, c):
    problem, _ = make_problem([3, 0, 2, 0], seed=seed)
    anything = World(4, seed=seed + 1).directions(200, 16)
    logits = LinearProbe(strength=c).fit(problem, seed=0).logits(anything)
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
    problem, tried = make_problem([40, 40])[0], []

    def learner(split):
        def logits(c):
            tried.append(c)
            right = int(len(split.queries) * (1 - abs(log10(c / 30)) / 8))
            wrong = (torch.arange(len(split.queries)) >= right).long()
            return one_hot((split.queries.labels + wrong) % 2, 2).float()

        return logits

    splits = held_out_splits(problem, seed=0)
    assert 10 < best_c(splits, learner) < 90
    assert set(C_GRID) < set(tried)
    assert len(tried) == len(set(tried)) * len(splits)


def test_what_is_chosen_is_no_worse_on_held_out_shots_than_any_of_the_grid():
    problem, _ = make_problem([6] * 5, image_noise=1.5)
    selected = LinearProbe().select(problem, seed=0)

    def accuracy(c):
        hits = images = 0
        for split in held_out_splits(problem, seed=0):
            logits = LinearProbe(strength=c).fit(split.problem, seed=0).logits(split.queries.features)
            hits, images = hits + int((logits.argmax(1) == split.queries.labels).sum()), images + len(split.queries)
        return hits / images

    assert accuracy(selected.strength) >= max(accuracy(c) for c in C_GRID) - 0.04


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


def test_single_precision_labels_as_double_precision_does():
    features, labels = labelled()
    single, double = (fit_plane(rows, labels, 5, c=10.0, **TIGHT) for rows in (features, features.double()))
    anything = World(5, seed=1).directions(5000, 16)
    same = single.logits(anything).argmax(dim=1) == double.logits(anything.double()).argmax(dim=1)
    assert float(same.double().mean()) >= 0.999


@pytest.mark.parametrize("values", [{}, {"text_rows": True, "text_weight": 1.0}, {"prior": "text"}])
def test_the_fitted_map_is_where_the_objective_is_flat(values):
    problem, _ = make_problem([4, 6, 5], image_noise=2.0)
    rows = rows_of(problem, **{name: value for name, value in values.items() if name != "text_rows"})
    fitted = LinearProbe(strength=10.0, **values).fit(problem, seed=0)
    at = torch.cat([fitted.weight, fitted.bias[:, None]], dim=1)[rows.classes].double()
    total = float(rows.weights.sum()) if rows.weights is not None else len(rows.features)
    weights = None if rows.weights is None else rows.weights / rows.weights.sum()
    mean = torch.zeros(rows.features.shape[1], dtype=torch.float64)
    _, gradient = objective(
        rows.features, rows.labels, mean, at, decay=0.1 / total, weights=weights, anchor=rows.anchor
    )
    assert gradient.abs().max() < 1e-4


def test_the_length_of_a_feature_makes_no_difference():
    problem, _ = make_problem([3, 3, 3], views=1)
    lengths = torch.linspace(0.1, 10.0, 9)[:, None, None]
    longer = problem.with_support(Labelled(problem.support.views * lengths, problem.support.labels))
    one, other = (LinearProbe(strength=10.0).fit(part, seed=0) for part in (problem, longer))
    torch.testing.assert_close(one.weight, other.weight, rtol=1e-2, atol=1e-3)


def test_with_one_shot_a_class_strength_and_text_weight_are_the_defaults():
    problem, _ = make_problem([1, 1, 1], name_noise=0.3)
    selected = LinearProbe(text_rows=True).select(problem, seed=0)
    assert (selected.strength, selected.text_weight) == (10.0, default_text_weight(problem))
    assert selected.text_weight > 0.0


def test_a_strength_out_of_range_is_refused():
    with pytest.raises(DataError, match=r"linear_probe.strength"):
        LinearProbe(strength=0.0)


def rows_of(problem, **values):
    return ProbeRows.from_problem(problem, **{"text_weight": 0.0, "prior": "zero"} | values)


def fitted(rows, *, c=10.0):
    return fit_plane(
        rows.features, rows.labels, len(rows.classes), c=c, weights=rows.weights, anchor=rows.anchor, **TIGHT
    )


@quick
@given(made=problems(min_shots=1), strength=st.sampled_from([0.1, 100.0]))
def test_without_weight_the_text_changes_no_bit(made, strength):
    problem, _ = made
    other = replace(problem, class_embeddings=problem.class_embeddings.roll(1, dims=0))
    one, two = (
        LinearProbe(strength=strength, text_rows=True, text_weight=0.0).fit(part, seed=0) for part in (problem, other)
    )
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)


@quick
@given(seed=st.integers(0, 50))
def test_a_text_is_worth_as_much_as_an_image_of_its_weight(seed):
    """Three shots a class: a text of weight 1/3 is one more row."""
    problem, _ = make_problem([3, 3, 3], seed=seed, views=1)
    text = Labelled(problem.class_embeddings[:, None], torch.arange(3))
    with_it = Labelled(
        *(torch.cat([getattr(one, name) for one in (problem.support, text)]) for name in ("views", "labels"))
    )
    rows, images = rows_of(problem, text_weight=1 / 3), rows_of(problem.with_support(with_it))
    assert rows.classes.sort().values.tolist() == images.classes.sort().values.tolist()
    torch.testing.assert_close(rows.weights, torch.ones(12))
    one, other = (fitted(each).weight[each.classes.argsort()] for each in (rows, images))
    torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


def test_a_row_of_weight_two_is_a_row_twice():
    features, labels = labelled()
    twice = torch.cat([torch.arange(60), torch.arange(10)])
    weights = torch.ones(60).index_fill_(0, torch.arange(10), 2.0)
    heavy = fit_plane(features, labels, 5, c=10.0, weights=weights, **TIGHT)
    listed = fit_plane(features[twice], labels[twice], 5, c=10.0, **TIGHT)
    torch.testing.assert_close(heavy.weight, listed.weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(heavy.bias, listed.bias, rtol=1e-3, atol=1e-3)


@quick
@given(seed=st.integers(0, 50))
def test_with_weights_and_an_anchor_the_gradient_is_that_of_the_plain_objective(seed):
    features, labels = labelled(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    at, anchor = (torch.randn(5, 16, dtype=torch.float64, generator=generator) for _ in range(2))
    weights = torch.rand(60, dtype=torch.float64, generator=generator)
    weights = weights / weights.sum()
    at.requires_grad_()
    losses = cross_entropy(features.double() @ at.T, labels, reduction="none")
    expected = (weights * losses).sum() + 0.05 * (at - anchor).square().sum()
    expected.backward()
    value, gradient = objective(
        features.double(),
        labels,
        torch.zeros(16, dtype=torch.float64),
        torch.nn.functional.pad(at.detach(), (0, 1)),
        decay=0.1,
        weights=weights,
        anchor=anchor,
    )
    assert value == pytest.approx(float(expected.detach()))
    torch.testing.assert_close(gradient[:, :-1], at.grad)
    assert not gradient[:, -1].any()


@pytest.mark.parametrize("values", [{"text_rows": True, "text_weight": 1.0}, {"prior": "text"}])
def test_a_class_without_shots_can_be_the_label_by_its_text(values):
    world = World(6, dim=32, name_noise=0.3)
    problem, (features, labels) = world.problem([4] * 5 + [0], views=1), world.test_images(600)
    found = LinearProbe(strength=10.0, **values).fit(problem, seed=0).logits(features).argmax(dim=1)
    assert ((found == labels) & (labels == 5)).sum() > 0.5 * (labels == 5).sum()
    assert (found == labels).double().mean() > 0.8


@quick
@given(
    made=problems(),
    seed=st.integers(0, 5),
    values=st.sampled_from([{"text_rows": True, "text_weight": 0.5}, {"prior": "text"}]),
)
def test_with_text_renumbering_and_shuffling_change_no_bit_but_the_order(made, seed, values):
    problem, _ = made
    permutation = torch.randperm(problem.num_classes, generator=torch.Generator().manual_seed(seed))
    method = LinearProbe(strength=10.0, **values)
    one = method.fit(problem, seed=0)
    assert torch.equal(method.fit(shuffled(problem), seed=0).weight, one.weight)
    assert torch.equal(method.fit(renumbered(problem, permutation), seed=0).weight, one.weight[permutation])


def test_text_rows_leave_the_prior_as_it_is():
    problem, _ = make_problem([2, 0, 3])
    both, prior = rows_of(problem, prior="text", text_weight=0.5), rows_of(problem, prior="text")
    assert torch.equal(both.anchor, prior.anchor)
    assert torch.equal(both.classes, prior.classes)
    assert len(both.features) == len(prior.features) + 3


@quick
@given(seed=st.integers(0, 50), scale=st.sampled_from([1.0, 100.0]))
def test_lambda_is_a_probability_and_one_where_zero_shot_is_certain(seed, scale):
    problem, features = make_problem([2, 3, 1], seed=seed)
    labels = torch.arange(len(features)) % 3
    found = text_probabilities(features, labels, problem.class_embeddings, logit_scale=scale)
    assert ((found >= 0.0) & (found <= 1.0)).all()
    certain = text_probabilities(torch.eye(3), torch.arange(3), torch.eye(3), logit_scale=scale)
    assert (certain >= 1.0 - 2.0 * math.exp(-scale) - 1e-6).all()


def test_lambda_is_the_mean_probability_of_the_right_class():
    problem, _ = make_problem([2, 3, 0], views=1)
    features, labels = problem.support.features, problem.support.labels
    found = text_probabilities(features, labels, problem.class_embeddings, logit_scale=5.0)
    right = (5.0 * features @ problem.class_embeddings.T).softmax(dim=1).gather(1, labels[:, None])[:, 0].double()
    expected = torch.stack([right[labels == 0].mean(), right[labels == 1].mean()])
    torch.testing.assert_close(found, torch.cat([expected, expected.mean()[None]]))


def test_with_a_small_c_the_prior_is_zero_shot_times_lambda():
    problem, features = make_problem([2, 2, 2], name_noise=0.0, image_noise=0.0)
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    found = LinearProbe(strength=1e-9, prior="text").fit(problem, seed=0)
    torch.testing.assert_close(found.logits(features), zero_shot, rtol=1e-3, atol=1e-2)
    assert not found.bias.any()


def test_with_a_large_c_the_prior_is_left_behind():
    problem, _ = make_problem([6] * 4, name_noise=float("inf"))
    rows = rows_of(problem, prior="text")
    assert (fitted(rows, c=1e4).weight - rows.anchor).norm() > 2.0 * (fitted(rows, c=0.01).weight - rows.anchor).norm()


def test_a_class_without_shots_keeps_the_direction_of_its_text():
    problem, _ = make_problem([4, 4, 4, 0], name_noise=0.3)
    weight = LinearProbe(strength=1.0, prior="text").fit(problem, seed=0).weight[3]
    assert float(torch.cosine_similarity(weight, problem.class_embeddings[3], dim=0)) >= 0.99


@pytest.mark.parametrize("seed", range(3))
def test_names_that_say_nothing_get_little_weight(seed):
    problem, _ = make_problem([16] * 5, seed=seed, name_noise=float("inf"), image_noise=2.0, dim=32, views=1)
    assert LinearProbe(text_rows=True).select(problem, seed=seed).text_weight <= 0.1


def test_names_that_say_a_lot_get_some_weight():
    problem, _ = make_problem([2] * 20, name_noise=0.0, image_noise=3.0, dim=32, views=1)
    assert LinearProbe(text_rows=True).select(problem, seed=0).text_weight >= 0.1


def test_a_training_without_text_keeps_its_key():
    """Trainings that are stored were made before there was a text weight."""
    problem, _ = make_problem([4, 4, 4])
    keys = []

    def keeping(key, make):
        keys.append(key)
        return make()

    LinearProbe(strength=10.0).fit(problem, seed=0, training_cache=keeping)
    for text in ({"text_rows": True, "text_weight": 0.5}, {"prior": "text"}):
        LinearProbe(strength=10.0, **text).fit(problem, seed=0, training_cache=keeping)
    assert keys[0] == training_key("linear_probe", problem, seed=0, strength=10.0)
    assert len(set(keys)) == 3


def test_a_weight_of_text_rows_that_are_not_used_is_refused():
    with pytest.raises(DataError, match=r"text_weight = 0\.5 has no effect without text rows; set text_rows = true"):
        LinearProbe(text_weight=0.5)
    assert LinearProbe().select(make_problem([2, 2])[0], seed=0).text_weight == 0.0


def test_it_learns_among_very_many_classes():
    """The entries of the gradient shrink as classes become more; those of few classes have the tolerance they had."""
    chance = torch.Generator().manual_seed(0)
    classes, labels = torch.randn(1100, 32, generator=chance), torch.arange(1100).repeat_interleave(2)
    noise = torch.randn(2, 2200, 32, generator=chance)
    seen, unseen = (normalize(30.0 + classes[labels] + 0.5 * part, dim=1) for part in noise)
    problem = Problem(space(1100), torch.zeros(1100, 32), Labelled(seen[:, None], labels), None, 100.0)
    stopped = fit_plane(seen, labels, 1100, c=1e3, tolerance=PATH_TOLERANCE, max_iterations=1000)
    assert not stopped.weight.any()
    classifier = LinearProbe(strength=1e3).fit(problem, seed=0)
    assert (classifier.logits(unseen).argmax(dim=1) == labels).double().mean() > 0.5
    assert tolerance_among(1000, PATH_TOLERANCE) == PATH_TOLERANCE
