from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.calibration.temperature import Scaling
from fewshot.inference.predict import predict, stable_top_k
from fewshot.methods import build_method
from tests.problems import World, make_problem


@pytest.fixture(scope="module")
def calibrated():
    return fit_calibrated(build_method("zero_shot"), World(7).problem([2] * 7), seed=0)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(0, 40), tile_rows=st.integers(1, 50), top=st.integers(1, 9))
def test_scores_are_the_sorted_softmax_for_any_tile(calibrated, rows, tile_rows, top):
    features, _ = World(7).test_images(rows)
    scored = predict(calibrated, features, top=top, tile_rows=tile_rows)
    probabilities = torch.softmax(calibrated.scaling(calibrated.classifier.logits(features)), dim=1)
    expected = probabilities.sort(dim=1, descending=True)
    assert scored.top_scores.shape == (rows, min(top, 7))
    torch.testing.assert_close(scored.top_scores, expected.values[:, :top], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scored.margin, expected.values[:, 0] - expected.values[:, 1], rtol=1e-4, atol=1e-6)
    assert torch.equal(scored.label, expected.indices[:, 0])
    assert torch.equal(scored.top_labels[:, 0], scored.label)
    assert torch.equal(scored.top_scores[:, 0], scored.score)


def test_predictions_have_the_documented_dtypes(calibrated):
    scored = predict(calibrated, World(7).test_images(3)[0])
    assert [getattr(scored, name).dtype for name in ("label", "score", "margin", "abstained")] == [
        torch.int64,
        torch.float32,
        torch.float32,
        torch.bool,
    ]


def test_only_scores_below_the_threshold_abstain(calibrated):
    features, _ = World(7).test_images(50)
    scores = predict(calibrated, features).score
    threshold = float(scores.sort().values[20])
    assert torch.equal(predict(replace(calibrated, threshold=threshold), features).abstained, scores < threshold)


@given(values=st.lists(st.integers(0, 3), min_size=1, max_size=9), data=st.data())
def test_ties_rank_the_lowest_class_first(values, data):
    count = data.draw(st.integers(1, len(values)))
    indices, found = stable_top_k(torch.tensor([values], dtype=torch.float32), count=count)
    expected = sorted(range(len(values)), key=lambda label: (-values[label], label))[:count]
    assert indices[0].tolist() == expected
    assert found[0].tolist() == [values[label] for label in expected]


@settings(max_examples=30, deadline=None)
@given(classes=st.sampled_from([1, 63, 64, 65, 128, 449, 1000]), levels=st.integers(1, 30), seed=st.integers(0, 9))
def test_the_best_of_many_classes_are_those_of_a_stable_sort(classes, levels, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(levels, (20, classes), generator=generator).float()
    logits[torch.rand(logits.shape, generator=generator) < 0.001] = float("nan")
    indices, found = stable_top_k(logits, count=min(5, classes))
    expected = logits.sort(dim=1, descending=True, stable=True)
    assert torch.equal(indices, expected.indices[:, :5])
    torch.testing.assert_close(found, expected.values[:, :5], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("cache_bytes", [1, 4 * 300 * 7, 2**30])
def test_the_rows_that_are_ranked_at_a_time_change_no_bit(monkeypatch, cache_bytes):
    world = World(300)
    calibrated = fit_calibrated(build_method("zero_shot"), world.problem([1] * 300, views=1), seed=0)
    calibrated = replace(calibrated, scaling=Scaling(1.3, 0.5, 0.7))
    features, _ = world.test_images(50)
    whole = predict(calibrated, features)
    monkeypatch.setattr("fewshot.inference.predict.CACHE_BYTES", cache_bytes)
    parts = predict(calibrated, features)
    assert all(torch.equal(getattr(parts, name), getattr(whole, name)) for name in parts.__slots__)


def test_two_classes_have_a_margin_and_two_scores():
    problem, features = make_problem([1, 1])
    scored = predict(fit_calibrated(build_method("zero_shot"), problem, seed=0), features, top=5)
    assert scored.top_labels.shape == (40, 2)
    torch.testing.assert_close(scored.margin, scored.top_scores[:, 0] - scored.top_scores[:, 1])
    torch.testing.assert_close(scored.top_scores.sum(dim=1), torch.ones(40))
