"""Published scores of images of no class."""

import pytest
import torch
from torch.nn.functional import normalize

from fewshot.unknown import energy, mahalanobis, nearest_row, residual_and_energy, unit_means

K, D, SHOTS = 4, 32, 8


@pytest.fixture(scope="module")
def known():
    """Examples and labels of K classes, other images of them, and images of other classes."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(2 * K, D, generator=generator, dtype=torch.float64)
    labels = torch.arange(2 * K).repeat_interleave(2 * SHOTS)
    rows = centres[labels] + torch.randn(len(labels), D, generator=generator, dtype=torch.float64)
    rows = normalize(rows, dim=1).view(2 * K, 2, SHOTS, D)
    examples, same, other = (part.reshape(-1, D) for part in (rows[:K, 0], rows[:K, 1], rows[K:]))
    return examples, torch.arange(K).repeat_interleave(SHOTS), same, other


@pytest.mark.parametrize(
    "score",
    [
        lambda images, rows, means, _: nearest_row(images, means),
        lambda images, rows, means, _: energy(images, means, logit_scale=20.0),
        lambda images, rows, means, _: nearest_row(images, rows),
        lambda images, rows, means, labels: mahalanobis(images, rows, labels, num_classes=K),
        lambda images, rows, means, _: residual_and_energy(images, rows, means, logit_scale=20.0),
    ],
    ids=["nearest_mean", "energy", "nearest_row", "mahalanobis", "residual_and_energy"],
)
def test_images_of_other_classes_score_higher(known, score):
    rows, labels, same, other = known
    means = unit_means(rows, labels, num_classes=K)
    inside, outside = (score(images, rows, means, labels) for images in (same, other))
    assert float((outside[:, None] > inside).double().mean()) > 0.9


def test_the_distance_is_that_of_the_shrunk_covariance(known):
    rows, labels, same, _ = known
    means = torch.stack([rows[labels == label].mean(dim=0) for label in range(K)])
    scatter = (rows - means[labels]).T @ (rows - means[labels])
    count = len(rows)
    metric = scatter / (count - 1) + scatter.trace() / (count - 1) ** 2 * torch.eye(D, dtype=torch.float64)
    deviations = same[:, None] - means
    expected = (deviations @ metric.inverse() * deviations).sum(dim=2).amin(dim=1)
    found = mahalanobis(same, rows, labels, num_classes=K)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)


def test_energy_of_a_large_scale_is_the_largest_logit(known):
    rows, labels, same, _ = known
    means = unit_means(rows, labels, num_classes=K)
    torch.testing.assert_close(energy(same, means, logit_scale=1e4) / 1e4, nearest_row(same, means), rtol=0, atol=1e-3)


def test_the_virtual_logit_of_vim_is_the_residual_in_units_of_the_largest_logits(known):
    """The paper's score, alpha |x residual| - logsumexp, with an eigendecomposition in place of the SVD."""
    rows, labels, same, _ = known
    means = normalize(torch.stack([rows[labels == label].mean(dim=0) for label in range(K)]), dim=1)
    origin = rows.mean(dim=0)
    axes = torch.linalg.eigh((rows - origin).T @ (rows - origin)).eigenvectors
    off = axes[:, : D - len(rows) // 2]  # Eigenvalues rise: all but the largest half as many as there are examples.

    def residual(images):
        return ((images - origin) @ off).norm(dim=1)

    logits = 20.0 * same @ means.T
    alpha = (20.0 * rows @ means.T).max(dim=1).values.mean() / residual(rows).mean()
    expected = alpha * residual(same) - logits.logsumexp(dim=1)
    torch.testing.assert_close(residual_and_energy(same, rows, means, logit_scale=20.0), expected)


def test_class_means_have_unit_length(known):
    rows, labels, *_ = known
    torch.testing.assert_close(unit_means(rows, labels, num_classes=K).norm(dim=1), torch.ones(K).double())


def test_images_in_the_principal_space_have_no_residual():
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(D, 2, generator=generator, dtype=torch.float64)).Q
    rows = normalize(torch.randn(20, 2, generator=generator, dtype=torch.float64) @ plane.T, dim=1)
    means = rows[:2]
    found = residual_and_energy(rows, rows, means, logit_scale=10.0)
    torch.testing.assert_close(found, energy(rows, means, logit_scale=10.0), rtol=0, atol=1e-6)
