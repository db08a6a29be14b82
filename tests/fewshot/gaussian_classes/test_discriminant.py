"""The properties of the linear rule for Gaussian classes with one covariance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fewshot.gaussian_classes import ClassStatistics, discriminant, shrunk, within_class_covariance

quick = settings(max_examples=10, deadline=None)
ALL = torch.ones(5, dtype=torch.bool)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def scores(plane, rows):
    """The scores of rows, less their mean over the classes, which no probability depends on."""
    found = rows @ plane.weight.T + plane.bias
    return found - found.mean(dim=1, keepdim=True)


def positive_definite(dim, *, seed=0):
    factor = random(dim, dim, seed=seed)
    return factor @ factor.T + 0.1 * torch.eye(dim, dtype=torch.float64)


def euclidean(points, means):
    return -0.5 * (points[:, None] - means).square().sum(dim=2)


@quick
@given(seed=st.integers(0, 50))
def test_scores_are_squared_distances_in_the_metric_of_the_covariance(seed):
    means, covariance, rows = random(5, 8, seed=seed), positive_definite(8, seed=seed), random(20, 8, seed=seed + 1)
    apart = rows[:, None] - means
    distances = (apart * torch.linalg.solve(covariance, apart.mT).mT).sum(dim=2)
    found = scores(discriminant(means, ALL, covariance), rows)
    expected = -0.5 * (distances - distances.mean(dim=1, keepdim=True))
    torch.testing.assert_close(found / found.std(), expected / expected.std())


@quick
@given(seed=st.integers(0, 50), factor=st.sampled_from([1e-6, 1.0, 1e6]))
def test_the_unit_of_the_covariance_makes_no_difference(seed, factor):
    means, covariance, rows = random(5, 8, seed=seed), positive_definite(8, seed=seed), random(20, 8, seed=seed + 1)
    expected = scores(discriminant(means, ALL, covariance), rows)
    torch.testing.assert_close(scores(discriminant(means, ALL, factor * covariance), rows), expected)


@quick
@given(seed=st.integers(0, 50))
def test_the_identity_gives_euclidean_distances(seed):
    means, rows = random(5, 8, seed=seed), random(20, 8, seed=seed + 1)
    found = scores(discriminant(means, ALL, 7.0 * torch.eye(8, dtype=torch.float64)), rows)
    expected = euclidean(rows, means)
    torch.testing.assert_close(found, expected - expected.mean(dim=1, keepdim=True))


def test_class_means_are_as_far_from_their_centre_as_without_the_covariance():
    means, covariance = random(5, 8), positive_definite(8)
    plane, deviations = discriminant(means, ALL, covariance), means - means.mean(dim=0)
    assert float((deviations * plane.weight).sum()) == pytest.approx(float(deviations.square().sum()))
    heights = means.mean(dim=0) @ plane.weight.T + plane.bias
    torch.testing.assert_close(heights, -0.5 * (deviations * plane.weight).sum(dim=1))


def test_classes_without_images_define_neither_the_centre_nor_the_unit():
    means, covariance = random(5, 8), positive_definite(8)
    plane = discriminant(means, torch.arange(5) < 3, covariance)
    known = discriminant(means[:3], ALL[:3], covariance)
    torch.testing.assert_close(plane.weight[:3], known.weight)
    torch.testing.assert_close(plane.bias[:3], known.bias)


def test_beside_a_single_class_with_images_the_unit_is_that_of_the_covariance():
    means, covariance = random(3, 8), positive_definite(8)
    plane = discriminant(means, torch.arange(3) < 1, covariance)
    assert not plane.weight[0].any()
    torch.testing.assert_close(plane.weight[1:], torch.linalg.solve(covariance, (means[1:] - means[0]).T).T)


def statistics_of(rows, labels, num_classes):
    """Statistics of rows that need not have unit length."""
    sums = torch.zeros(num_classes, rows.shape[1], dtype=torch.float64).index_add_(0, labels, rows)
    counts = torch.bincount(labels, minlength=num_classes)
    return ClassStatistics(counts, counts, sums, rows.T @ rows)


def fitted(rows, labels, num_classes, *, shrinkage):
    statistics = statistics_of(rows, labels, num_classes)
    covariance, count = within_class_covariance(statistics, images=True)
    return discriminant(statistics.means, statistics.images > 0, shrunk(covariance, count, shrinkage=shrinkage))


@quick
@given(seed=st.integers(0, 50), shrinkage=st.sampled_from([0.0, 1.0]))
def test_unshrunk_it_survives_any_linear_map_and_shrunk_a_rotation(seed, shrinkage):
    rows, labels, queries = random(60, 6, seed=seed), torch.arange(60) % 5, random(20, 6, seed=seed + 1)
    mapped_by = random(6, 6, seed=seed + 2) + 3.0 * torch.eye(6, dtype=torch.float64)
    mapped_by = torch.linalg.qr(mapped_by).Q if shrinkage else mapped_by
    one = scores(fitted(rows, labels, 5, shrinkage=shrinkage), queries)
    other = scores(fitted(rows @ mapped_by.T, labels, 5, shrinkage=shrinkage), queries @ mapped_by.T)
    torch.testing.assert_close(one / one.std(), other / other.std(), rtol=1e-6, atol=1e-6)


def test_shrunk_it_does_not_survive_any_linear_map():
    rows, labels, queries = random(60, 6), torch.arange(60) % 5, random(20, 6, seed=1)
    mapped_by = torch.diag(torch.tensor([10.0, 1.0, 1.0, 1.0, 1.0, 0.1], dtype=torch.float64))
    one = scores(fitted(rows, labels, 5, shrinkage=1.0), queries)
    other = scores(fitted(rows @ mapped_by, labels, 5, shrinkage=1.0), queries @ mapped_by)
    assert ((one / one.std() - other / other.std()).abs() > 0.1).any()


def test_covariance_and_shrinkage_are_the_published_ones():
    """(N - 1) P / D of the paper: the inverse of Sigma + tr(Sigma) / (N - 1) I, Sigma over N - 1."""
    rows, labels = random(40, 6), torch.arange(40) % 5
    deviations = rows - torch.stack([rows[labels == label].mean(dim=0) for label in range(5)])[labels]
    sigma = torch.cov(deviations.T)
    published = 6 * torch.linalg.pinv(39 * sigma + sigma.trace() * torch.eye(6, dtype=torch.float64))
    covariance, count = within_class_covariance(statistics_of(rows, labels, 5), images=True)
    torch.testing.assert_close(6 / 39 * torch.linalg.inv(shrunk(covariance, count, shrinkage=1.0)), published)
    assert count == 40


def test_views_count_as_images_or_as_rows():
    views, labels = random(40, 3, 6), torch.arange(40) % 5
    statistics = ClassStatistics.from_views(views, labels, num_classes=5)
    as_images, images = within_class_covariance(statistics, images=True)
    as_rows, rows = within_class_covariance(statistics, images=False)
    assert (images, rows) == (40, 120)
    torch.testing.assert_close(as_rows, statistics.scatter / 119)
    torch.testing.assert_close(as_images, statistics.scatter / 120 * 40 / 39)


def test_without_scatter_the_covariance_is_the_identity():
    assert torch.equal(shrunk(torch.zeros(4, 4), 1, shrinkage=1.0), torch.eye(4))


def test_fewer_rows_than_channels_give_finite_scores():
    statistics = ClassStatistics.from_views(random(4, 1, 1024), torch.tensor([0, 0, 1, 1]), num_classes=2)
    covariance, count = within_class_covariance(statistics, images=True)
    plane = discriminant(statistics.means, statistics.images > 0, shrunk(covariance, count, shrinkage=1.0))
    assert plane.weight.isfinite().all()
    assert plane.bias.isfinite().all()


@quick
@given(seed=st.integers(0, 50))
def test_permuting_the_classes_permutes_the_rows(seed):
    rows, labels = normalize(random(60, 6, seed=seed), dim=1), torch.arange(60) % 5
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    plane, permuted = (fitted(rows, each, 5, shrinkage=1.0) for each in (labels, order.argsort()[labels]))
    torch.testing.assert_close(permuted.weight, plane.weight[order])
    torch.testing.assert_close(permuted.bias, plane.bias[order])


@pytest.mark.parametrize("others", [1, 64])
def test_the_number_of_examples_of_a_class_is_no_prior(others):
    """Classes at mirrored places, of 128 rows and of one or more: a row halfway belongs to both alike."""
    deviations = torch.cat([random(64, 6), -random(64, 6)])
    place = torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    rows = torch.cat([place + deviations, -place.expand(others, 6)])
    plane = fitted(rows, torch.arange(len(rows)) // 128, 2, shrinkage=1.0)
    assert float(plane.bias[0]) == pytest.approx(float(plane.bias[1]), abs=1e-9)


def gaussian_task(condition, *, shots, classes=40, dim=8, seed=0):
    """Return shots and test rows of classes with a known covariance, and the rule of Bayes for them."""
    axes = torch.linalg.qr(random(dim, dim, seed=seed)).Q
    root = axes @ torch.diag(torch.logspace(0, torch.tensor(condition).log10(), dim, dtype=torch.float64).sqrt())
    means, labels = 6.0 * random(classes, dim, seed=seed + 1), torch.arange(classes).repeat_interleave(shots)
    rows = means[labels] + random(len(labels), dim, seed=seed + 2) @ root.T
    asked = torch.arange(classes).repeat_interleave(100)
    queries = means[asked] + random(len(asked), dim, seed=seed + 3) @ root.T
    return rows, labels, queries, asked, discriminant(means, torch.ones(classes, dtype=torch.bool), root @ root.T)


def accuracy(plane, rows, labels):
    return float(((rows @ plane.weight.T + plane.bias).argmax(dim=1) == labels).double().mean())


@pytest.mark.parametrize("seed", range(3))
def test_it_is_as_good_as_bayes_and_better_than_the_nearest_mean(seed):
    rows, labels, queries, asked, bayes = gaussian_task(100.0, shots=64, seed=10 * seed)
    found, nearest = (fitted(rows, labels, 40, shrinkage=shrinkage) for shrinkage in (1.0, 1e9))
    reached = accuracy(found, queries, asked)
    assert reached >= accuracy(bayes, queries, asked) - 0.005
    assert reached >= accuracy(nearest, queries, asked) + 0.05
