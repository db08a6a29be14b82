import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.calibration.temperature import Scaling, fit_scaling, fit_temperature, spreads
from fewshot.evaluation.metrics import expected_calibration_error, negative_log_likelihood

WIDER = Scaling(2.0, 0.75, 0.5)


def images(count, *, power, classes=10, seed=0):
    """Return logits [count, classes] of varying spread s, and labels drawn with logits of spread s^(1 - `power`)."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randn(count, classes, generator=generator)
    shape = (shape - shape.mean(dim=1, keepdim=True)) / shape.std(dim=1, keepdim=True, correction=0)
    spread = 0.2 * 100.0 ** torch.rand(count, 1, generator=generator)
    sure = torch.softmax(spread ** (1.0 - power) * shape, dim=1)
    return spread * shape, torch.multinomial(sure, 1, generator=generator)[:, 0]


@pytest.mark.parametrize("true", [0.5, 1.0, 8.0])
def test_the_true_temperature_is_recovered(true):
    generator = torch.Generator().manual_seed(0)
    logits = 4.0 * torch.randn(4000, 10, generator=generator)
    labels = torch.multinomial(torch.softmax(logits / true, dim=1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.08)


def test_the_temperature_scales_with_the_logits():
    logits = torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
    labels = logits.add(torch.randn(500, 5, generator=torch.Generator().manual_seed(1))).argmax(1)
    assert fit_temperature(10.0 * logits, labels) == pytest.approx(10.0 * fit_temperature(logits, labels), rel=1e-3)


def test_a_few_correct_images_do_not_give_certainty():
    logits = torch.eye(3).repeat(4, 1)
    temperature = fit_temperature(logits, torch.arange(3).repeat(4))
    assert 0.5 < float(torch.softmax(logits / temperature, dim=1).max()) < 0.99


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_true_spread_power_is_recovered(power):
    scaling = fit_scaling(*images(3000, power=power))
    assert scaling.spread_power == power


def test_scaling_calibrates_images_of_different_spread():
    held_out, held_out_labels = images(1000, power=1.0)
    logits, labels = images(4000, power=1.0, seed=1)
    plain, scaled = logits / fit_temperature(held_out, held_out_labels), fit_scaling(held_out, held_out_labels)(logits)
    assert negative_log_likelihood(scaled, labels) < negative_log_likelihood(plain, labels) - 0.1
    errors = (
        expected_calibration_error(torch.softmax(values, dim=1).amax(dim=1), values.argmax(dim=1) == labels)
        for values in (scaled, plain)
    )
    assert next(errors) < 0.03 < 0.06 < next(errors)


def test_equal_spread_reduces_to_temperature_scaling():
    logits = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    logits = logits / spreads(logits)[:, None]
    labels = torch.multinomial(torch.softmax(3.0 * logits, dim=1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    scaling = fit_scaling(logits, labels)
    assert scaling.spread_power == 0.0
    assert scaling.temperature == fit_temperature(logits, labels)
    assert torch.equal(scaling(logits), logits / scaling.temperature)


def test_few_images_give_small_spread_powers():
    powers = [fit_scaling(*images(6, power=0.0, seed=seed)).spread_power for seed in range(20)]
    assert sum(powers) / len(powers) < 0.2  # 0.5 by likelihood alone


def test_without_images_logits_stay_unscaled():
    assert fit_scaling(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)) == Scaling()


def test_constant_logits_are_scaled_without_dividing_by_zero():
    scaling = fit_scaling(torch.zeros(12, 3), torch.arange(12) % 3)
    assert scaling.spread_power == 0.0
    assert torch.equal(WIDER(torch.zeros(2, 3)), torch.zeros(2, 3))


@given(
    rows=st.lists(st.lists(st.sampled_from([-3.0, 0.0, 0.1, 7.0, 1e4]), min_size=4, max_size=4), min_size=1),
    scaling=st.builds(Scaling, st.floats(0.01, 1e4), st.sampled_from([0.0, 0.25, 1.0]), st.floats(1e-3, 1e3)),
)
def test_scaling_keeps_the_order_of_classes_and_ties(rows, scaling):
    logits = torch.tensor(rows)
    scaled = scaling(logits)
    for before, after in zip(logits, scaled, strict=True):
        assert torch.equal(before[:, None] > before, after[:, None] > after)


def test_only_spreads_above_the_least_raise_the_temperature():
    shape = torch.tensor([[1.0, -1.0]])
    assert WIDER(0.05 * shape)[0, 0] == pytest.approx(0.05 / 2.0)
    assert WIDER(8.0 * shape)[0, 0] == pytest.approx(8.0 / (2.0 * 16.0**0.75))


def test_scaling_treats_each_row_alone():
    logits, _ = images(100, power=0.0)
    assert torch.equal(WIDER(logits)[:7], WIDER(logits[:7]))


def test_logits_near_the_float_maximum_stay_ordered():
    logits = torch.tensor([[3e38, 1e38, -3e38]])
    assert WIDER(logits).isfinite().all()
    assert torch.equal(WIDER(logits).argsort(), logits.argsort())
