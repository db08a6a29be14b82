"""The acceptance properties of RLA."""

import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

from fewshot.errors import DataError
from fewshot.methods.nearest_mean import NearestMean
from fewshot.methods.rla import Rla, functional, training
from fewshot.methods.rla.functional import Targets, mapped, objective
from fewshot.methods.rla.training import RlaSettings, class_means_without, train_shift
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.training_cache import InMemoryCache
from fewshot.problem import Labelled, LabelSpace, Problem
from fewshot.prototypes import default_image_weight
from tests.problems import World, make_problem, problems, renumbered, repeated, shuffled, space

quick = settings(max_examples=10, deadline=None)


def shift_of(problem, **values):
    return train_shift(problem, settings=RlaSettings(**values))


def logits(problem, features, **hyperparameters):
    return Rla(**hyperparameters).fit(problem, seed=0).logits(features)


def accuracy(logits, labels):
    return float((logits.argmax(dim=1) == labels).double().mean())


@quick
@given(made=problems())
def test_before_the_first_step_it_is_zero_shot_bit_for_bit(made):
    problem, features = made
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    assert torch.equal(logits(problem, features, steps=0, image_weight=0.0), zero_shot)


@quick
@given(made=problems(min_shots=1))
def test_with_a_large_penalty_it_is_zero_shot_or_the_nearest_mean(made):
    problem, features = made
    zero_shot, nearest = (
        method.fit(problem, seed=0).logits(features) for method in (ZeroShot(), NearestMean(text_weight=0.25))
    )
    for weight, expected in ((0.0, zero_shot), (4.0, nearest)):
        found = logits(problem, features, penalty=1e9, map_share=1.0, image_weight=weight)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


def test_without_a_penalty_it_fits_whatever_labels_there_are():
    problem, _ = make_problem([8] * 4, dim=32, name_noise=float("inf"), image_noise=3.0, views=1)
    features = mapped(problem.support.features, shift_of(problem, penalty=0.0, image_loss=0.0, steps=200))
    assert float(cross_entropy(100.0 * features @ problem.class_embeddings.T, problem.support.labels)) < 1e-3


def targets_at_random(rows=20, classes=5, dim=6, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    text, means, own, features = (
        normalize(torch.randn(n, dim, dtype=torch.float64, generator=generator), dim=1)
        for n in (classes, classes, rows, rows)
    )
    weights = torch.rand(rows, dtype=torch.float64, generator=generator)
    labels = torch.randint(classes, (rows,), generator=generator)
    shift = 0.3 * torch.randn(dim, dim, dtype=torch.float64, generator=generator)
    return features, labels, [Targets(text, None, weights), Targets(means, own, weights)], shift


def plain_objective(features, labels, targets, shift, *, decay):
    unit, total = normalize(features + features @ shift, dim=1), decay * shift.square().sum()
    for target in targets:
        found = 10.0 * unit @ target.rows.T
        if target.own is not None:
            found = found.scatter(1, labels[:, None], 10.0 * (unit * target.own).sum(dim=1, keepdim=True))
        total = total + (cross_entropy(found, labels, reduction="none") * target.weights).sum()
    return total


@quick
@given(seed=st.integers(0, 50), memory=st.sampled_from([1, 200, 2**20]))
def test_value_and_gradient_are_those_of_the_plain_objective_in_any_blocks(seed, memory):
    features, labels, targets, shift = targets_at_random(seed=seed)
    shift.requires_grad_()
    expected = plain_objective(features, labels, targets, shift, decay=0.2)
    expected.backward()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "MEMORY_BYTES", memory)
        value, gradient = objective(features, labels, targets, shift.detach(), logit_scale=10.0, decay=0.2)
    assert value == pytest.approx(float(expected.detach()))
    torch.testing.assert_close(gradient, shift.grad)


def test_the_own_mean_of_an_image_is_that_of_the_others():
    keys, labels = World(3).directions(6, 4), torch.tensor([0, 0, 0, 1, 1, 2])
    images = Labelled(3.0 * keys[:, None], labels)[torch.tensor([0, 1, 2, 0, 3, 4, 5])]
    means, others, has_others = class_means_without(images, 3)
    torch.testing.assert_close(means[0], normalize(2 * keys[0] + keys[1] + keys[2], dim=0))
    torch.testing.assert_close(others[0], normalize(keys[1] + keys[2], dim=0))
    torch.testing.assert_close(others[1], normalize(2 * keys[0] + keys[2], dim=0))
    torch.testing.assert_close(others[4], keys[4])
    assert has_others.tolist() == [True] * 6 + [False]
    assert not others[6].any()


def test_a_repetition_of_an_image_is_not_another_one_of_its_class():
    keys, labels = World(3).directions(4, 4), torch.tensor([0, 1, 1, 1])
    images = Labelled(keys[:, None], labels)[torch.tensor([0, 0, 1, 2, 3])]
    _, others, has_others = class_means_without(images, 2)
    assert has_others.tolist() == [False, False, True, True, True]
    assert not others[:2].any()


def test_an_image_of_two_classes_is_left_out_of_each_once():
    keys = World(3).directions(3, 4)
    images = Labelled(keys[[0, 1, 0, 2]][:, None], torch.tensor([0, 0, 1, 1]))
    _, others, has_others = class_means_without(images, 2)
    torch.testing.assert_close(others, keys[[1, 0, 2, 0]])
    assert has_others.all()


@quick
@given(made=problems(min_shots=1), seed=st.integers(0, 5))
def test_renumbering_classes_and_shuffling_shots_change_no_bit_of_the_map(made, seed):
    problem, _ = made
    permutation = torch.randperm(problem.num_classes, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(shift_of(renumbered(problem, permutation)), shift_of(problem))
    assert torch.equal(shift_of(shuffled(problem)), shift_of(problem))


@quick
@given(made=problems(min_shots=1))
def test_without_a_share_of_the_map_it_is_the_nearest_class_mean(made):
    problem, features = made
    nearest = NearestMean(text_weight=0.25).fit(problem, seed=0).logits(features)
    torch.testing.assert_close(
        logits(problem, features, map_share=0.0, image_weight=4.0), nearest, rtol=1e-5, atol=1e-4
    )


def test_a_further_class_without_examples_leaves_the_map_unchanged():
    problem, _ = make_problem([3, 2, 0, 4])
    fewer = Problem(
        LabelSpace(
            *(part[:2] + part[3:] for part in (problem.label_space.names, problem.label_space.prompt_names, ("",) * 4))
        ),
        problem.class_embeddings[[0, 1, 3]],
        Labelled(problem.support.views, problem.support.labels.clamp(max=2)),
        None,
        problem.logit_scale,
    )
    assert torch.equal(shift_of(fewer), shift_of(problem))


@pytest.mark.parametrize("dim", [16, 24])
def test_a_rotation_into_as_many_or_more_channels_changes_no_logit(dim):
    """So the penalty needs no correction for the number of channels."""
    problem, features = make_problem([4, 3, 5])
    rotation = torch.linalg.qr(torch.randn(dim, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    rotation = rotation.T.float()
    turned = Problem(
        problem.label_space,
        problem.class_embeddings @ rotation,
        Labelled(problem.support.views @ rotation, problem.support.labels),
        None,
        problem.logit_scale,
    )
    values = {"map_share": 1.0, "image_weight": 1.0, "steps": 100}
    torch.testing.assert_close(
        logits(turned, features @ rotation, **values), logits(problem, features, **values), rtol=1e-2, atol=0.1
    )


def test_twice_the_shots_halve_the_penalty():
    problem, _ = make_problem([4, 4, 4], views=1, image_noise=3.0)
    one, two = (shift_of(part, steps=100) for part in (problem, repeated(problem, 2)))
    halved = shift_of(problem, steps=100, penalty=0.5)
    assert (two - halved).norm() < 0.2 * (two - one).norm()


@pytest.mark.parametrize(("counts", "decay"), [([4, 4, 4], 0.5), ([2, 4, 0], 2 / 3), ([1, 1], 2.0)])
def test_the_penalty_is_divided_by_the_mean_shots_of_a_class(counts, decay, monkeypatch):
    seen, plain = set(), training.objective
    monkeypatch.setattr(
        training, "objective", lambda *given, **options: (seen.add(options["decay"]), plain(*given, **options))[1]
    )
    shift_of(make_problem(counts)[0], penalty=2.0, steps=1)
    assert seen == {decay}


def test_the_map_stays_near_the_identity():
    problem, _ = make_problem([16] * 6, dim=32)
    found = torch.linalg.svdvals(torch.eye(32) + shift_of(problem))
    assert 0.2 < float(found.min()) <= float(found.max()) < 5.0


def test_enough_steps_end_where_the_objective_is_flat():
    problem, _ = make_problem([4, 4, 4], views=1)
    features, labels, targets = training._training_rows(problem, training.Shots.from_problem(problem), RlaSettings())
    found = shift_of(problem, steps=200).double()
    at_start, at_end = (
        objective(features, labels, targets, shift, logit_scale=100.0, decay=0.25)[1].abs().max()
        for shift in (torch.zeros_like(found), found)
    )
    assert at_end < 1e-2 * at_start


def test_the_second_loss_counts_where_a_class_has_other_images():
    for counts, same in (([1, 1, 1], True), ([2, 2, 2], False)):
        problem, _ = make_problem(counts, name_noise=3.0, image_noise=3.0)
        assert torch.equal(shift_of(problem, image_loss=1.0), shift_of(problem, image_loss=0.0)) == same


def test_images_are_compared_with_the_means_of_mapped_images():
    problem, features = make_problem([3, 2, 4])
    classifier = Rla(map_share=1.0, image_weight=1e6).fit(problem, seed=0)
    keys, labels = mapped(problem.support.cache_keys, classifier.shift), problem.support.labels
    means = torch.stack([normalize(keys[labels == label].sum(dim=0), dim=0) for label in range(3)])
    expected = problem.logit_scale * mapped(features, classifier.shift) @ means.T
    torch.testing.assert_close(classifier.logits(features), expected, rtol=1e-4, atol=1e-2)


def test_features_of_zeros_leave_the_identity():
    problem, _ = make_problem([3] * 4, dim=8)
    zeros = replace(problem.support, views=torch.zeros_like(problem.support.views))
    assert not shift_of(problem.with_support(zeros)).any()


def test_more_steps_lower_the_loss_on_the_shots():
    problem, _ = make_problem([6] * 5, name_noise=2.0)

    def loss(steps):
        features = mapped(problem.support.features, shift_of(problem, steps=steps))
        return float(cross_entropy(100.0 * features @ problem.class_embeddings.T, problem.support.labels))

    assert loss(20) < 0.5 * loss(0)


def test_where_names_say_nothing_it_is_no_worse_than_the_nearest_mean():
    """Here no map helps: images differ from their class alike in all directions."""
    world = World(8, dim=64, name_noise=float("inf"), image_noise=3.0)
    problem, (features, labels) = world.problem([8] * 8, views=1), world.test_images(800)
    nearest = accuracy(NearestMean().fit(problem, seed=0).logits(features), labels)
    assert accuracy(logits(problem, features), labels) >= nearest - 0.02
    assert Rla().select(problem, seed=0).image_weight > 0.0


@pytest.mark.parametrize("seed", range(3))
def test_classes_without_examples_profit_from_those_of_others(seed):
    """A part of the images that is no part of the texts, the same for all classes, is learned to be ignored."""
    generator = torch.Generator().manual_seed(seed)
    text = normalize(torch.randn(40, 32, generator=generator), dim=1)
    mixed = torch.eye(32) + 0.4 * torch.randn(32, 32, generator=generator)

    def images(labels):
        return normalize((text[labels] + 0.15 * torch.randn(len(labels), 32, generator=generator)) @ mixed, dim=1)

    labels = torch.arange(30).repeat_interleave(8)
    problem = Problem(space(40), text, Labelled(images(labels)[:, None], labels), None, 100.0)
    asked = torch.arange(30, 40).repeat_interleave(40)
    features = images(asked)
    known = ZeroShot().fit(problem, seed=0).logits(features)[:, 30:]
    assert accuracy(logits(problem, features)[:, 30:], asked - 30) > accuracy(known, asked - 30) + 0.05


def test_a_pretrained_fold_is_not_trained_again():
    problem, _ = make_problem([4, 4, 4])
    training_cache, method, trained = InMemoryCache(), Rla(), []

    def counting(key, make):
        return training_cache(key, lambda: trained.append(key) or make())

    for split in held_out_splits(problem, seed=0):
        method.pretrain_fold(split, seed=0, training_cache=counting)
    assert len(trained) == 4
    method.select(problem, seed=1, training_cache=counting)
    assert len(trained) > 4  # Other folds.
    trained.clear()
    method.select(problem, seed=0, training_cache=counting)
    assert not trained


def test_of_many_shots_as_many_of_each_class_are_trained_on(monkeypatch):
    problem, _ = make_problem([9, 3, 6], views=1)
    monkeypatch.setattr(training, "MAX_LOGITS", 3 * 9)
    shots = training.Shots.from_problem(problem)
    rows, views = training._even_rows(shots, limit=9)
    assert torch.bincount(shots.labels[rows]).tolist() == [3, 3, 3]
    assert not views.any()
    assert shift_of(problem).isfinite().all()


def test_every_view_is_a_row_the_images_themselves_first():
    shots = training.Shots.from_problem(make_problem([2, 3], views=3)[0])
    rows, views = training._even_rows(shots, limit=100)
    assert views.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert len(set(zip(rows.tolist(), views.tolist(), strict=True))) == 15


def test_with_one_shot_a_class_the_whole_map_stands_beside_the_default_weight_of_images():
    problem, _ = make_problem([1, 1, 1])
    selected = Rla().select(problem, seed=0)
    assert (selected.map_share, selected.image_weight) == (1.0, default_image_weight(problem))


@pytest.mark.slow
def test_a_thousand_classes_of_sixteen_shots_take_less_than_twenty_seconds():
    world = World(1000, dim=512, name_noise=4.0, image_noise=4.0)
    problem = world.problem([16] * 1000, views=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.process_time()
    shift_of(problem)
    torch.set_num_threads(threads)
    assert time.process_time() - started < 20.0


@pytest.mark.parametrize(
    ("name", "value"), [("map_share", 2.0), ("image_weight", -1.0), ("penalty", -1.0), ("steps", -1)]
)
def test_a_value_out_of_range_is_refused(name, value):
    with pytest.raises(DataError, match=rf"rla\.{name}"):
        Rla(**{name: value})
