"""Evidence: its closed form, its promise, and what it refuses."""

from __future__ import annotations

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
    values, weights = rng.choice([-1, 0, 1], 40), rng.uniform(0.2, 3.0, 40)
    bets = (np.arange(20_000) + 0.5) / 20_000
    factors = 1.0 + bets[:, None] * (weights * values + 0.05) / (4.0 - 0.05)
    expected = np.log(np.prod(factors, axis=1).mean())
    assert log_evidence(values, margin=0.05, weights=weights, bound=4.0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_expected_evidence_is_one_on_the_edge_of_the_hypothesis_and_less_beyond(margin: float, weighted: bool) -> None:
    """Exactly, over all outcomes of three images."""
    weights = np.array([0.5, 1.0, 1.5]) if weighted else np.ones(3)
    for loss, expected in ((margin, 1.0), (margin + 0.1, None)):
        shares = {1: (0.6 - loss) / 2, -1: (0.6 + loss) / 2, 0: 0.4}
        total = 0.0
        for first in shares:
            for second in shares:
                for third in shares:
                    # A drawn image has any of the three weights, with equal probability, whatever its gain.
                    for order in np.ndindex(3, 3, 3) if weighted else [(0, 1, 2)]:
                        drawn = weights[list(order)]
                        probability = shares[first] * shares[second] * shares[third] / (27 if weighted else 1)
                        outcome = np.array([first, second, third])
                        total += probability * np.exp(log_evidence(outcome, margin=margin, weights=drawn, bound=2.0))
        assert total == pytest.approx(expected, abs=1e-9) if expected else total < 1.0


def test_the_order_of_images_and_images_on_which_both_agree_change_nothing_without_margin() -> None:
    rng = np.random.default_rng(1)
    values = rng.choice([-1, 0, 1], 200)
    assert log_evidence(values) == pytest.approx(log_evidence(rng.permutation(values)))
    assert log_evidence(values) == pytest.approx(log_evidence(values[values != 0]))


def test_images_on_which_both_agree_show_that_a_candidate_is_not_worse_by_a_margin() -> None:
    assert log_evidence(gains(5, 5, 2000), margin=0.05) > np.log(20) > log_evidence(gains(5, 5, 2000))


def test_a_larger_bound_only_weakens_evidence_for_a_better_candidate() -> None:
    values = gains(40, 5)
    evidence = [log_evidence(values, weights=np.ones(45), bound=bound) for bound in (1.0, 2.0, 8.0)]
    assert evidence == sorted(evidence, reverse=True)


def test_evidence_of_many_images_stays_finite() -> None:
    assert np.isfinite(log_evidence_of_counts(50_000, 40_000, 1_000_000, margin=0.01))
    assert log_evidence(gains(0, 100_000)) < -10
    assert log_evidence(np.zeros(0)) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([2], {}, "gains of -1, 0 or 1"),
        ([0.5], {}, "gains of -1, 0 or 1"),
        ([1], {"margin": 1.0}, "margin"),
        ([1], {"margin": -0.1}, "margin"),
        ([1], {"weights": [0.0], "bound": 2.0}, "positive weight"),
        ([1, 1], {"weights": [1.0], "bound": 2.0}, "positive weight"),
        ([1], {"weights": [1.0], "bound": 0.5}, "0.5 at most"),
        ([1], {"weights": [1.0]}, "weights with a bound"),
        ([1], {"bound": 2.0}, "weights with a bound"),
        ([1], {"weights": [3.0], "bound": 2.0}, "2.0 at most"),
    ],
)
def test_values_out_of_range_are_refused(values: list[float], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_evidence(np.array(values), **options)  # type: ignore[arg-type]


def test_harm_is_the_evidence_with_both_exchanged() -> None:
    weights = np.array([0.5] * 8 + [1.5] * 8)
    values = np.array([1, 1, -1, 0] * 4)
    one, other = Comparison(values, weights, 2.0), Comparison(-values, weights, 2.0)
    assert (one.better, one.worse) == (other.worse, other.better) == (8, 4)
    assert one.log_harm() == other.log_evidence()
    assert one.log_evidence(margin=0.1) != one.log_evidence()


def test_rare_heavy_weights_keep_the_promise() -> None:
    """The mean gain is 0: a heavy image, one in fifty, favours production, all others the candidate, a little."""
    rng = np.random.default_rng(0)
    crossed = 0
    for _ in range(200):
        is_heavy = rng.random(400) < 0.02
        weights = np.where(is_heavy, 25.5, 0.5)  # Of mean 1.
        is_better = rng.random(400) < 0.02 * 25.5 * 0.52 / (0.98 * 0.5)
        values = np.where(is_heavy, rng.choice([-1, 1], 400, p=[0.76, 0.24]), np.where(is_better, 1, 0))
        looks = [log_evidence(values[:n], weights=weights[:n], bound=25.5) for n in range(20, 401, 20)]
        crossed += max(looks) >= np.log(20)
    assert crossed / 200 <= 0.05
