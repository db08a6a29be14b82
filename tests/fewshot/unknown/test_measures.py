"""The measures of `tools.unknown_images` and `tools.conformal_coverage`, on features made by hand."""

import pytest
import torch
from torch.nn.functional import normalize

from tools import conformal_coverage
from tools.unknown_images import DataSet, auroc, measure, measure_labels


def data_set(*, noise, tests=20):
    """Return a data set of 6 classes in 32 dimensions with 8 images each to draw examples from."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(6, 32, generator=generator, dtype=torch.float64)

    def images(count):
        labels = torch.arange(6).repeat_interleave(count)
        rows = centres[labels] + noise * torch.randn(6 * count, 32, generator=generator, dtype=torch.float64)
        return normalize(rows, dim=1), labels

    keys = tuple(f"{number}.png" for number in range(48))
    return DataSet(*images(8), *images(tests), keys, 100.0)


def test_the_area_counts_equal_scores_half():
    known, unknown = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0])
    assert auroc(known, unknown) == pytest.approx((1.5 + 3.0) / 6.0)


def test_clearly_separated_classes_are_found_to_be_unknown():
    found = measure(data_set(noise=0.2), shots=8, seed=1)
    assert all(found[name] > 0.99 for name in ("max logit", "energy", "nearest", "gda", "vim"))
    assert found["found"] > 0.9
    assert found["lost"] < 0.2
    assert found["accuracy"] == 1.0


def test_images_that_are_no_examples_are_test_images_where_a_set_has_no_others():
    found = measure(data_set(noise=0.2, tests=0), shots=6, seed=1)
    assert found["accuracy"] == 1.0


def test_label_sets_of_clearly_separated_classes_have_one_label():
    data = data_set(noise=0.2)
    found = conformal_coverage.measure(data, torch.eye(6, 32, dtype=torch.float64), shots=8, seed=1)
    contained, labels, single, wrong = found[0.1]
    assert contained > 0.85
    assert labels < 1.2
    assert single > 0.8
    assert wrong < 0.05


def test_labels_of_clearly_separated_classes_are_right_with_the_test_and_without():
    found = measure_labels(data_set(noise=0.2), max_error=0.3, shots=8, seed=1)
    assert found["labelled alone"] >= found["labelled with the test"] > 0.9
    assert all(value == 0.0 for name, value in found.items() if name.startswith("wrong"))
