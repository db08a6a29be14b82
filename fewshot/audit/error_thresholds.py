"""The threshold of a maximum error rate, from the answers of an audit: a promise about this archive.

As in `fewshot.calibration.abstention`, thresholds are tested from the strictest on, each at the full probability of
failure, until one does not pass (fixed-sequence test). Two things are different, so that the promise holds whenever one
looks: the thresholds are fixed before the answers (`THRESHOLDS`), and the tests are bets (`fewshot.audit.betting`) that
the error rate of the images of the archive with at least such a score is smaller. The first threshold that may not pass
is one and the same at every look, and with probability delta at most it ever does.

The sequence begins at the smallest part of the archive, at least `LEAST_SHARE`, of which the planned audit has
`RESERVE` times the answers that are needed without an error, so that a single wrong one does not end it. Bets need more
than the binomial test: 37 instead of 22 for a maximum error of 0.1 at a confidence of 0.9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fewshot.audit.betting import LARGEST, PARTS, Bets, log_capital
from fewshot.audit.draw import THRESHOLDS, UNKNOWN
from fewshot.audit.findings import Answered
from fewshot.calibration.abstention import check_error_limits

RESERVE = 1.5
LEAST_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class ErrorLimit:
    """What an audit promises for a maximum error rate.

    Attributes:
        max_error: the error rate, in (0, 1).
        needed: number of answers that can show it, if all are right.
        threshold: labels with a smaller score are to be withheld; None where none passes.
        share: of the images with predictions that reach it, in [0, 1].
        answered: number of answers to such images.
        wrong: how many of them are wrong, or not known to be right.
    """

    max_error: float
    needed: int
    threshold: float | None
    share: float
    answered: int
    wrong: int


def answers_needed(max_error: float, *, confidence: float) -> int:
    """Return how many answers, all right, show an error rate: 37 for 0.1 at a confidence of 0.9.

    Args:
        max_error: in (0, 1).
        confidence: in (0, 1).
    """
    gain = math.log1p(LARGEST * max_error / (1.0 - max_error))
    return math.ceil((math.log(1.0 / (1.0 - confidence)) - math.log(float(PARTS[-1]))) / gain)


def error_limit(answered: Answered, max_error: float, *, confidence: float) -> ErrorLimit:
    """Return the lowest threshold for which answers show an error rate.

    Args:
        answered: the answers.
        max_error: maximum error rate among images with at least such a score, in (0, 1).
        confidence: probability that all thresholds that are ever returned hold, in (0, 1).

    Raises:
        DataError: an argument is out of range.
    """
    check_error_limits(max_error, confidence)
    draw, needed = answered.draw, answers_needed(max_error, confidence=confidence)
    rows, population = draw.rows[: len(answered.answers)], draw.strata.population
    scores = np.array([math.nan if row.score is None or row.status == UNKNOWN else row.score for row in rows])
    fewest, passed = max(RESERVE * needed / answered.planned, LEAST_SHARE), None
    for threshold, reaching in reversed(list(zip(THRESHOLDS, draw.reaching, strict=True))):
        if reaching < fewest * population or (passed and reaching == passed.share * population):
            continue
        own = scores >= threshold
        if not _shown(answered, own, reaching, max_error, delta=1.0 - confidence):
            break
        wrong = int((own & ~answered.right).sum())
        passed = ErrorLimit(max_error, needed, threshold, reaching / population, int(own.sum()), wrong)
    return passed or ErrorLimit(max_error, needed, None, 0.0, 0, 0)


def _shown(answered: Answered, own: np.ndarray, reaching: int, max_error: float, *, delta: float) -> bool:
    """Whether the answers to the rows `own` show that of `reaching` rows of the archive no more are wrong."""
    right, known = answered.right[own].astype(float), int(own[: answered.floor].sum())
    bets = Bets.without_guesses(
        right[known:],
        planned=max(answered.planned * reaching / answered.draw.strata.population, 1.0),
        population=reaching,
        known=known,
        known_sum=float(right[:known].sum()),
    )
    capital = log_capital(bets, 1.0 - max_error, alpha=delta)
    return bool(len(capital) and capital[-1] >= -math.log(delta))
