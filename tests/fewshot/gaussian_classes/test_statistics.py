"""Statistics of classes add up."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fewshot.errors import DataError
from fewshot.gaussian_classes import ClassStatistics, statistics

quick = settings(max_examples=20, deadline=None)
CLASSES = 4


def images(count=30, *, views=3, dim=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return torch.randn(count, views, dim, generator=generator), labels


def of(views, labels):
    return ClassStatistics.from_views(views, labels, num_classes=CLASSES)


def assert_equal(one, other):
    for field in fields(ClassStatistics):
        torch.testing.assert_close(getattr(one, field.name), getattr(other, field.name), rtol=0, atol=1e-10)


def test_means_and_scatter_are_those_of_the_unit_rows():
    views, labels = images()
    found, rows = of(views, labels), normalize(views.double(), dim=-1)
    means = torch.stack([rows[labels == label].flatten(0, 1).mean(dim=0) for label in range(CLASSES)])
    deviations = (rows - means[labels][:, None]).flatten(0, 1)
    torch.testing.assert_close(found.means, means)
    torch.testing.assert_close(found.scatter, deviations.T @ deviations)
    assert found.images.tolist() == torch.bincount(labels, minlength=CLASSES).tolist()
    assert torch.equal(found.rows, 3 * found.images)


@quick
@given(seed=st.integers(0, 50), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_blocks_in_any_order_sum_to_the_whole(seed, cuts):
    views, labels = images(seed=seed)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    found = ClassStatistics.empty(num_classes=CLASSES, dim=12)
    for block in torch.tensor_split(order, sorted(cuts)):
        found = found.add(views[block], labels[block])
    assert_equal(found, of(views, labels))


def test_the_size_of_a_block_in_memory_makes_no_difference(monkeypatch):
    views, labels = images()
    whole = of(views, labels)
    monkeypatch.setattr(statistics, "BLOCK_BYTES", 1)
    assert_equal(of(views, labels), whole)


@quick
@given(seed=st.integers(0, 50), row=st.integers(0, 29))
def test_an_image_removed_and_added_again_leaves_no_trace(seed, row):
    views, labels = images(seed=seed)
    one, whole = (views[row : row + 1], labels[row : row + 1]), of(views, labels)
    kept = torch.arange(30) != row
    assert_equal(whole.remove(*one), of(views[kept], labels[kept]))
    assert_equal(whole.remove(*one).add(*one), whole)


def test_statistics_of_two_workers_merge():
    views, labels = images()
    assert_equal(of(views[:10], labels[:10]).merge(of(views[10:], labels[10:])), of(views, labels))


@pytest.mark.parametrize("repeated", [1, 5])
def test_equal_rows_have_no_scatter_at_all(repeated):
    views, _ = images(CLASSES, views=1)
    found = of(views.repeat(repeated, 1, 1), torch.arange(CLASSES).repeat(repeated))
    assert not found.scatter.any()


def test_rows_that_are_nearly_equal_have_a_scatter():
    views, labels = images(CLASSES, views=1)[0].double().repeat(5, 1, 1), torch.arange(CLASSES).repeat(5)
    close = views + 1e-4 * images(5 * CLASSES, views=1, seed=1)[0]
    found, rows = of(close, labels).scatter, normalize(close[:, 0], dim=1)
    deviations = rows - torch.stack([rows[labels == label].mean(dim=0) for label in range(CLASSES)])[labels]
    torch.testing.assert_close(found, deviations.T @ deviations, rtol=1e-6, atol=1e-14)


def test_what_does_not_fit_is_refused():
    views, labels = images()
    with pytest.raises(DataError, match=r"labels must lie in \[0, 4\), got labels in \[0, 4\]"):
        of(views, labels + (labels == 3))
    with pytest.raises(DataError, match=r"expected views \[M, V, D\] beside labels \[M\], got \[30, 12\]"):
        of(views[:, 0], labels)
    with pytest.raises(DataError, match="cannot be merged"):
        of(views, labels).merge(of(views[..., :6], labels))
    with pytest.raises(DataError, match="cannot remove 1 images of class 2: the statistics contain 0"):
        ClassStatistics.empty(num_classes=CLASSES, dim=12).remove(views[:1], torch.tensor([2]))
