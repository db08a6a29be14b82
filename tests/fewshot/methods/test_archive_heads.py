"""Heads that learn from examples which the archive has moved."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.errors import DataError
from fewshot.gaussian_classes import ClassStatistics, within_class_covariance
from fewshot.methods import build_method
from fewshot.methods.archive_heads import ArchiveNearestMean
from fewshot.methods.archive_heads.method import moved_by_archive
from fewshot.methods.gda_u import GdaU
from tests.fewshot.methods.test_gda_u import SHAPES, accuracy, archive_of, with_archive
from tests.problems import World, problems

quick = settings(max_examples=5, deadline=None)
HEADS = ("linear_probe", "nearest_mean", "rla")
TEACHER = GdaU(text_share=0.0, temperature=3.0, weight=1.0, shares={})
HELP = {"archive_weight": 1.0, "archive_temperature": 3.0, "archive_text_share": 0.0}
GIVEN = {"linear_probe": {"strength": 1.0}, "nearest_mean": {"text_weight": 0.0}, "rla": {"steps": 5}}


def build(head, **hyperparameters):
    return build_method(f"archive_{head}", **GIVEN[head], **hyperparameters)


@pytest.mark.parametrize("head", HEADS)
def test_without_an_archive_it_is_the_plain_head_to_the_bit(head):
    world = World(4, dim=16)
    problem, features = world.problem([3] * 4), world.test_images(30)[0]
    plain = fit_calibrated(build_method(head, **GIVEN[head]), problem, seed=0)
    for archive in (None, features[:0]):
        found = fit_calibrated(build(head), replace(problem, archive=archive), seed=0)
        assert torch.equal(found.classifier.logits(features), plain.classifier.logits(features))
        assert found.scaling == plain.scaling
        assert found.method.archive_weight == 0.0


@pytest.mark.parametrize("head", HEADS)
def test_where_hidden_examples_refute_it_it_is_the_plain_head_to_the_bit(head):
    """Clusters of the archive lie between the classes."""
    world = World(8, dim=24, image_noise=0.8, name_noise=float("inf"))
    problem = world.problem([4] * 8, views=1)
    between = normalize(world.classes + world.classes.roll(1, dims=0), dim=1).repeat(40, 1)
    selected, results = build(head).compare(with_archive(problem, between), seed=0)
    assert selected.archive_weight == 0.0
    assert [result.method for result in results] == [head, f"archive_{head}"]
    features = world.test_images(30)[0]
    found = selected.fit(with_archive(problem, between), seed=0)
    assert torch.equal(found.logits(features), build_method(head, **GIVEN[head]).fit(problem, seed=0).logits(features))


@pytest.mark.parametrize("head", HEADS)
def test_a_weight_of_zero_is_kept_where_one_would_be_chosen(head):
    world = World(4, dim=16)
    problem = with_archive(world.problem([1] * 4), world.test_images(30)[0])
    for weight, chosen in ((None, 1.0), (1.0, 1.0), (0.0, 0.0)):
        selected, results = build(head, archive_weight=weight).compare(problem, seed=0)
        assert (selected.archive_weight, results) == (chosen, ())


def test_the_archive_is_judged_as_by_gda_u(monkeypatch):
    """With its temperature and share of the text, and for the shares of the classes that it expects."""
    monkeypatch.setattr(
        "fewshot.methods.archive_heads.method.choose_by_gain",
        lambda problem, without, helped, *, hidden_logits, shares: (helped[1], shares(problem)),
    )
    world = World(4, dim=16)
    problem = with_archive(world.problem([4] * 4), world.images(torch.tensor([0] * 40 + [1] * 10 + [2, 3])).features)
    selected, shares = build("nearest_mean").compare(problem, seed=0)
    teacher = GdaU(shares={}, weight=1.0).filled_in(problem, seed=0)
    assert (selected.archive_temperature, selected.archive_text_share) == (teacher.temperature, teacher.text_share)
    assert torch.equal(shares, teacher.expected_shares(problem))
    assert float(shares[0]) > 0.4


@pytest.mark.parametrize("head", HEADS)
def test_the_head_learns_from_moved_examples(head):
    world = World(4, dim=16)
    problem, features = world.problem([3] * 4), world.test_images(30)[0]
    problem = with_archive(problem, features)
    plain = build_method(head, **GIVEN[head]).select(problem, seed=0)
    given = {field.name: getattr(plain, field.name) for field in fields(plain)}
    found = build_method(f"archive_{head}", **HELP, **given)
    expected = plain.fit(moved_by_archive(problem, TEACHER), seed=0)
    assert torch.equal(found.fit(problem, seed=0).logits(features), expected.logits(features))


@quick
@given(made=problems(min_shots=1))
def test_examples_move_with_the_means_of_gda_u(made):
    problem, features = made
    problem = with_archive(problem, features)
    moved = moved_by_archive(problem, TEACHER).support
    K, labels = problem.num_classes, problem.support.labels
    means = torch.stack([moved.views[labels == label].double().flatten(0, 1).mean(dim=0) for label in range(K)])
    torch.testing.assert_close(means, TEACHER.means(problem), rtol=0.0, atol=1e-6)
    before, after = (images.views.double() for images in (problem.support, moved))
    shifts = after - normalize(before, dim=-1)
    for label in range(K):
        of_class = shifts[labels == label].flatten(0, 1)
        torch.testing.assert_close(of_class, of_class[:1].expand_as(of_class), rtol=0.0, atol=1e-6)


def test_moving_changes_no_spread_within_a_class():
    world = World(4, dim=16)
    problem = with_archive(world.problem([3] * 4, views=1), world.test_images(60)[0])

    def spread(rows):
        labels = problem.support.labels
        return sum(
            float((rows[labels == label] - rows[labels == label].mean(dim=0)).square().sum()) for label in range(4)
        )

    before = normalize(problem.support.views[:, 0].double(), dim=1)
    assert spread(moved_by_archive(problem, TEACHER).support.views[:, 0].double()) == pytest.approx(spread(before))
    statistics = ClassStatistics.from_views(problem.support.views, problem.support.labels, num_classes=4)
    assert float(within_class_covariance(statistics, images=True)[0].trace()) * 11 == pytest.approx(spread(before))


@quick
@given(made=problems(min_shots=1), seed=st.integers(0, 3))
def test_neither_the_order_nor_the_number_of_equal_samples_counts(made, seed):
    problem, features = made
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    samples = (features, features[order], features.repeat(2, 1))
    one, other, twice = (moved_by_archive(with_archive(problem, x), TEACHER).support.views for x in samples)
    assert torch.equal(one, other)
    torch.testing.assert_close(one, twice, rtol=0.0, atol=1e-6)


def gains(head, shape, shots, *, worlds):
    """Return the mean gain over the plain head in accuracy, on the images of the archive, and the parts with help."""
    found, used = [], []
    for seed in range(worlds):
        world = World(9, dim=24, image_noise=1.6, name_noise=float("inf"), seed=seed)
        problem = world.problem([shots] * 9, views=1)
        features, labels = archive_of(world, shape, count=270)
        problem = with_archive(problem, features)
        before = accuracy(build_method(head, **GIVEN[head]).fit(problem, seed=0), features, labels)
        selected = build(head, archive_text_share=0.0).select(problem, seed=0)
        found.append(accuracy(selected.fit(problem, seed=0), features, labels) - before)
        used.append(selected.archive_weight)
    return sum(found) / worlds, sum(used) / worlds


@pytest.mark.parametrize("head", ["linear_probe", "nearest_mean"])
def test_one_example_a_class_gains_from_the_archive(head):
    assert gains(head, "natural", 1, worlds=6)[0] > 0.02


@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_examples_prevent_losses(shape):
    gain, _ = gains("nearest_mean", shape, 4, worlds=8)
    assert gain > -0.005


def test_the_archive_is_used_where_it_gains():
    gain, used = gains("nearest_mean", "natural", 8, worlds=6)
    assert gain > 0.005
    assert used >= 0.5


@pytest.mark.parametrize(
    ("hyperparameters", "match"),
    [
        ({"archive_weight": 0.5}, "archive_weight must be 0 or 1"),
        ({"archive_weight": 2.0}, r"archive_weight must be a number in \[0, 1\]"),
        ({"archive_temperature": 0.0}, "temperature"),
        ({"archive_text_share": 2.0}, "text_share"),
        ({"text_weight": -1.0}, r"nearest_mean\.text_weight"),
    ],
)
def test_a_value_out_of_range_is_refused(hyperparameters, match):
    with pytest.raises(DataError, match=match):
        ArchiveNearestMean(**hyperparameters)


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("name", ["gda_u", "archive_nearest_mean", "archive_linear_probe"])
def test_without_text_they_learn_from_images_alone(name, shots):
    """A tower for images only has zeros for texts; the same comes out where a text has no share."""
    world = World(6, dim=16, image_noise=1.2)
    problem = with_archive(world.problem([shots] * 6), archive_of(world, "natural")[0])
    blind = replace(problem, class_embeddings=torch.zeros_like(problem.class_embeddings))
    shares = {"gda_u": {"text_share": 0.0}, "archive_nearest_mean": {"archive_text_share": 0.0, "text_weight": 0.0}}
    without = build_method(name, **shares.get(name, {"archive_text_share": 0.0}))
    queries = world.test_images(40)[0]
    expected = without.fit(problem, seed=0).logits(queries)
    assert torch.equal(without.fit(blind, seed=0).logits(queries), expected)
    chosen = build_method(name).fit(blind, seed=0).logits(queries)  # A share of nothing scales logits.
    assert (chosen.argmax(dim=1) == expected.argmax(dim=1)).double().mean() > 0.95
