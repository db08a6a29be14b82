"""What the answers to a sample say about the whole archive.

Answers count in the order of the draw, up to the first image without one: an image that is looked at and passed over
must not be chosen by what it shows. Where the answer is that there is none (skipped, or nothing to be seen), the image
counts as wrong at the lower end of an interval, as right at the upper end, and as half right in the estimate: whatever
it shows, the interval holds. Such images are not missing at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fewshot.audit.betting import Bets, lower_bound, upper_bound
from fewshot.audit.draw import UNKNOWN, Draw, DrawnRow
from fewshot.audit.estimates import Estimate, estimate_mean, estimate_ratio
from fewshot.audit.guesses import Strata, guessed_bets


class Answer(NamedTuple):
    """What a person said about an image.

    Attributes:
        is_certain: False where nobody can say.
        label: the class; None: it is of no class, or nobody can say.
    """

    is_certain: bool
    label: str | None


NO_ANSWER = Answer(False, None)
"""Nobody can say."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the archive, with two intervals.

    Attributes:
        estimate: with the interval for a number of answers that was fixed beforehand; None with too few answers.
        low: lower end of the interval that holds at every look, in [0, 1].
        high: upper end.
    """

    estimate: Estimate | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassFindings:
    """What is known of a class.

    Attributes:
        label: the class.
        predicted: number of images that are predicted to be of it, of all.
        share: of the images that are of it.
        precision: share of the predicted ones that are of it.
        recall: share of those of it that are predicted.
    """

    label: str
    predicted: int
    share: Share
    precision: Share
    recall: Share


@dataclass(frozen=True, slots=True)
class Findings:
    """What the answers say.

    Attributes:
        answered: number of answers that count.
        uncertain: how many of them say that nobody can say.
        accuracy: share of right predictions.
        labelled_error: share of wrong labels among those given (status ok); None if none were given.
        classes: every class of the sample, predicted or answered, by name.
    """

    answered: int
    uncertain: int
    accuracy: Share
    labelled_error: Share | None
    classes: tuple[ClassFindings, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """The rows of a draw that have answers.

    Attributes:
        draw: the draw.
        answers: t of them, of its first t rows.
        planned: number of answers at which intervals are to be narrow.
        alpha: probability that an interval lacks what it is of.
    """

    draw: Draw
    answers: Sequence[Answer]
    planned: int
    alpha: float = 0.05

    @property
    def stratum(self) -> np.ndarray:
        """[t] int64."""
        return np.array([row.stratum for row in self._rows], dtype=np.int64)

    @property
    def score(self) -> np.ndarray:
        """[t] float64; 0 where there is none."""
        return np.array([row.score or 0.0 for row in self._rows])

    @property
    def floor(self) -> int:
        """Number of rows that are the first of their strata."""
        return min(self.draw.floor, len(self.answers))

    @property
    def certain(self) -> np.ndarray:
        """[t] bool."""
        return np.array([answer.is_certain for answer in self.answers], dtype=bool)

    @property
    def _rows(self) -> Sequence[DrawnRow]:
        return self.draw.rows[: len(self.answers)]

    def is_predicted(self, label: str) -> np.ndarray:
        """[t] bool, which rows are predicted to be of a class."""
        return np.array([row.label == label and row.status != UNKNOWN for row in self._rows], dtype=bool)

    def has_status(self, status: str) -> np.ndarray:
        """[t] bool."""
        return np.array([row.status == status for row in self._rows], dtype=bool)

    def is_of(self, label: str) -> np.ndarray:
        """[t] bool, which rows are certainly of a class."""
        return np.array([answer.label == label for answer in self.answers], dtype=bool)

    @property
    def right(self) -> np.ndarray:
        """[t] bool, which predictions are certainly right; of status unknown: whether the image is of no class."""
        pairs = zip(self._rows, self.answers, strict=True)
        told = [(None if row.status == UNKNOWN else row.label, answer) for row, answer in pairs]
        return np.array([answer.is_certain and answer.label == label for label, answer in told], dtype=bool)


def find(answered: Answered) -> Findings:
    """Return what answers say about the whole archive.

    Args:
        answered: at least one answer.
    """
    draw, certain, right = answered.draw, answered.certain, answered.right
    joined = replace(answered, draw=draw.joined(len(right), across=True))
    accuracy = _mean(answered, joined, right, right | ~certain)
    error = None
    if any(rule.status == "ok" for rule in draw.rules):
        by_status = replace(answered, draw=draw.joined(len(right)))
        error = _mean(answered, by_status, certain & ~right, ~right, of_given_labels=True)
    labels = {row.label for row in draw.rows[: len(right)] if row.status != UNKNOWN}
    labels |= {answer.label for answer in answered.answers if answer.label is not None}
    return Findings(
        answered=len(right),
        uncertain=int((~certain).sum()),
        accuracy=accuracy,
        labelled_error=error,
        classes=tuple(_of_class(answered, joined, label) for label in sorted(labels)),
    )


def _mean(
    answered: Answered, joined: Answered, low: np.ndarray, high: np.ndarray, *, of_given_labels: bool = False
) -> Share:
    """The mean of a value between `low` and `high`: of all rows, or, guessed from 1 - score, of those with a label."""
    stratum, strata = _domain(joined, of_given_labels)
    own = answered.has_status("ok") if of_given_labels else np.ones(len(low), bool)
    least, most, score = low[own].astype(float), high[own].astype(float), answered.score[own]
    score = 1.0 - score if of_given_labels else score
    ends = [estimate_mean(value, score, stratum, strata, alpha=answered.alpha) for value in (least, most)]
    stratum, strata = _domain(answered, of_given_labels)
    known = int(own[: answered.floor].sum())
    planned = max(answered.planned * strata.population / answered.draw.strata.population, 1.0)
    bets = [guessed_bets(value, score, stratum, strata, planned=planned, known=known) for value in (least, most)]
    return _share(ends, bets, alpha=answered.alpha)


def _domain(answered: Answered, of_given_labels: bool) -> tuple[np.ndarray, Strata]:
    """The strata of the rows, and all that is known of them; of those with labels only, with 1 - score."""
    if not of_given_labels:
        return answered.stratum, answered.draw.strata
    given = np.array([rule.status == "ok" for rule in answered.draw.rules])
    index = np.cumsum(given) - 1
    return index[answered.stratum[answered.has_status("ok")]], answered.draw.strata.only(given).reversed()


def _share(ends: Sequence[Estimate | None], bets: Sequence[Bets], *, alpha: float) -> Share:
    """The share of the least and the greatest values together."""
    (low, high), (least, most), estimate = ends, bets, None
    if low is not None and high is not None:
        estimate = Estimate((low.value + high.value) / 2.0, low.low, high.high)
    return Share(estimate, lower_bound(least, alpha=alpha / 2), upper_bound(most, alpha=alpha / 2))


def _of_class(answered: Answered, joined: Answered, label: str) -> ClassFindings:
    """What is known of one class; `low` and `high` are the rows that are certainly, or may be, of it."""
    draw, predicted, low = answered.draw, answered.is_predicted(label), answered.is_of(label)
    high = low | ~answered.certain
    counts = draw.predicted_counts(label)
    size = int(counts.sum())
    wrong_side, right_side = (~answered.certain & side for side in (~predicted, predicted))
    precision = _numbers(answered, low, high, predicted, size, answered.alpha)
    found = _numbers(answered, low, high, predicted, size, answered.alpha / 2)
    missed = _numbers(answered, low, high, ~predicted, draw.strata.population - size, answered.alpha / 2)
    return ClassFindings(
        label=label,
        predicted=size,
        share=_share_of_class(answered, joined, low, high, label),
        precision=Share(
            _ratio(joined, (low & predicted, predicted), (high & predicted, predicted)),
            precision[0] / size if size else 0.0,
            precision[1] / size if size else 1.0,
        ),
        recall=Share(
            _ratio(joined, (low & predicted, low | wrong_side), (high & predicted, low | right_side)),
            found[0] / (found[0] + missed[1]) if found[0] else 0.0,
            found[1] / (found[1] + missed[0]) if found[1] else float(not missed[0]),
        ),
    )


def _share_of_class(answered: Answered, joined: Answered, low: np.ndarray, high: np.ndarray, label: str) -> Share:
    """The share of a class, guessed from whether it is predicted."""
    counts, predicted = joined.draw.predicted_counts(label), answered.is_predicted(label)
    strata, size = Strata.of_indicator(joined.draw.strata.rows, counts), int(counts.sum())
    two = Strata.of_indicator(np.array([strata.population - size, size]), np.array([0, size]))
    score, group = predicted.astype(float), predicted.astype(np.int64)
    ends, bets = list[Estimate | None](), list[Bets]()
    for value in (low.astype(float), high.astype(float)):
        ends.append(estimate_mean(value, score, joined.stratum, strata, alpha=answered.alpha))
        bets.append(guessed_bets(value, 0.0 * score, group, two, planned=answered.planned, known=answered.floor))
    return _share(ends, bets, alpha=answered.alpha)


def _numbers(
    answered: Answered, low: np.ndarray, high: np.ndarray, domain: np.ndarray, size: int, alpha: float
) -> tuple[float, float]:
    """Bounds, which hold at every look, of the number of rows with a value, of the `size` rows of a domain."""
    if not size:
        return 0.0, 0.0
    known = int(domain[: answered.floor].sum())
    planned = max(answered.planned * size / answered.draw.strata.population, 1.0)
    least, most = (
        Bets.without_guesses(
            value[domain][known:].astype(float),
            planned=planned,
            population=size,
            known=known,
            known_sum=float(value[domain][:known].sum()),
        )
        for value in (low, high)
    )
    return size * lower_bound(least, alpha=alpha / 2), size * upper_bound(most, alpha=alpha / 2)


def _ratio(
    answered: Answered, least: tuple[np.ndarray, np.ndarray], most: tuple[np.ndarray, np.ndarray]
) -> Estimate | None:
    """The ratio of two numbers, part and whole, from its least to its greatest."""
    low, high = (
        estimate_ratio(
            part.astype(float), whole.astype(float), answered.stratum, answered.draw.strata, alpha=answered.alpha
        )
        for part, whole in (least, most)
    )
    return None if low is None or high is None else Estimate((low.value + high.value) / 2.0, low.low, high.high)
