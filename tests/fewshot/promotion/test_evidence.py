"""Evidence: its closed form, its promise, and what it refuses."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.special import betaln
from scipy.stats import beta

from fewshot.promotion import Comparison, log_evidence, log_evidence_of_counts


def closed_form(better: int, worse: int, p0: float = 0.5) -> float:
    """The uniform mixture over p > p0, as evidence.md writes it."""
    tail = beta.logsf(p0, better + 1, worse + 1)
    likelihood = better * np.log(p0) + worse * np.log1p(-p0)
    return float(betaln(better + 1, worse + 1) + tail - np.log1p(-p0) - likelihood)


def gains(better: int, worse: int, equal: int = 0) -> np.ndarray:
    return np.repeat([1, -1, 0], [better, worse, equal])


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (0, 1), (5, 2), (30, 10), (10, 30), (400, 300)])
def test_evidence_without_margin_is_the_closed_form(better: int, worse: int) -> None:
    assert log_evidence(gains(better, worse)) == pytest.approx(closed_form(better, worse), abs=1e-9)
    assert log_evidence(gains(better, worse, 50)) == pytest.approx(closed_form(better, worse), abs=1e-9)
    assert log_evidence_of_counts(better, worse, better + worse + 50) == pytest.approx(
        log_evidence(gains(better, worse))
    )


def test_one_bet_is_the_product_of_its_factors() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice([-1, 0, 1], 40)
    bets = (np.arange(20_000) + 0.5) / 20_000
    factors = 1.0 + bets[:, None] * (values + 0.05) / (1.0 - 0.05)
    expected = np.log(np.prod(factors, axis=1).mean())
    assert log_evidence(values, margin=0.05) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.02, 0.3])
def test_expected_evidence_is_one_on_the_edge_of_the_hypothesis_and_less_beyond(margin: float) -> None:
    """Exactly, over all outcomes of three images."""
    for loss, expected in ((margin, 1.0), (margin + 0.1, None)):
        shares = {1: (0.6 - loss) / 2, -1: (0.6 + loss) / 2, 0: 0.4}
        total = sum(
            np.prod([shares[gain] for gain in outcome]) * np.exp(log_evidence(np.array(outcome), margin=margin))
            for outcome in product(shares, repeat=3)
        )
        assert total == pytest.approx(expected, abs=1e-9) if expected else total < 1.0


def test_the_order_of_images_and_images_on_which_both_agree_change_nothing_without_margin() -> None:
    rng = np.random.default_rng(1)
    values = rng.choice([-1, 0, 1], 200)
    assert log_evidence(values) == pytest.approx(log_evidence(rng.permutation(values)))
    assert log_evidence(values) == pytest.approx(log_evidence(values[values != 0]))


def test_images_on_which_both_agree_show_that_a_candidate_is_not_worse_by_a_margin() -> None:
    assert log_evidence(gains(5, 5, 2000), margin=0.05) > np.log(20) > log_evidence(gains(5, 5, 2000))


def test_evidence_of_many_images_stays_finite() -> None:
    assert np.isfinite(log_evidence_of_counts(50_000, 40_000, 1_000_000, margin=0.01))
    assert log_evidence(gains(0, 100_000)) < -10
    assert log_evidence(np.zeros(0)) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([2], {}, "gains of -1, 0 or 1"),
        ([-2], {}, "gains of -1, 0 or 1"),
        ([0.5], {}, "gains of -1, 0 or 1"),
        ([1], {"margin": 1.0}, "margin"),
        ([1], {"margin": -0.1}, "margin"),
    ],
)
def test_values_out_of_range_are_refused(values: list[float], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_evidence(np.array(values), **options)  # type: ignore[arg-type]


def test_harm_is_the_evidence_with_both_exchanged() -> None:
    values = np.array([1, 1, -1, 0] * 4)
    one, other = Comparison(values), Comparison(-values)
    assert (one.better, one.worse) == (other.worse, other.better) == (8, 4)
    assert one.log_harm() == other.log_evidence()
    assert one.log_evidence(margin=0.1) != one.log_evidence()
