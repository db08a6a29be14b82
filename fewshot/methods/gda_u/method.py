"""GDA whose class means learn from a sample of the archive. Not published; derived from GDA and SS-Text-U.

GDA (`fewshot.methods.gda`) is Bayes' rule for Gaussian classes with one covariance. With few examples its means are
bad and the archive knows better: a few rounds of expectation maximisation move them, where

* only means move. The covariance is that of the examples: re-estimated on unlabelled images it collapses.
* the examples are anchors. Each weighs like M / K images, so that the influence of the archive fades with more of them.
* responsibilities are balanced over the classes, as by the optimal transport of SS-Text-U (arXiv 2603.02959), but only
  loosely (`fewshot.methods.gda_u.functional.balance`): an archive is hardly ever balanced, and full transport makes
  rare classes swallow common ones. Where the user knows the `shares` of the classes, they are held firmly, and the
  balance is then kept for prediction, too.
* a background component takes images of no class. Its mean is that of the whole sample, its covariance that of the
  classes, since one of its own would have more numbers than there are examples. It wins where an image deviates from
  the middle towards no class.
* logits are divided by the temperature that makes GDA's own held-out logits probabilities.

Whether the archive helps is decided on hidden examples: those of each fold are classified by GDA and by GDA-U that were
fitted without them. The archive is used only if that gains more than the standard error of the gain, in the log-loss
that is to be expected in the archive (`fewshot.model_selection.archive_gain`). The shares of the classes there are
those that are given, or those that GDA expects. With one example a class there is nothing to hide, and the archive is
used, which gains there most; with two, hidden examples cannot decide, and it is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from fewshot.calibration.temperature import fit_temperature
from fewshot.classes import LabelSpace
from fewshot.errors import DataError, UnknownNameError
from fewshot.methods.gda.method import EffectiveRows, Gda
from fewshot.methods.gda_u.functional import balanced_offsets, expected_shares, in_order_of_content, learned_means
from fewshot.methods.gda_u.mixture import Mixture
from fewshot.methods.hyperparameters import check_number
from fewshot.model_selection.archive_gain import HIDING_SEED, choose_by_gain
from fewshot.model_selection.candidates import CandidateResult
from fewshot.model_selection.cross_validation import FOLDS, Split, held_out_splits
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem
from fewshot.prototypes import LinearClassifier

ONE_SHOT_TEMPERATURE = 10 / 3
"""With one example a class. Fixed on photographs of sign digits, and flat rather than sharp."""
LOOSE, FIRM = 0.5, 9.0
"""How firmly masses are held to shares that are assumed to be even, and to those that are given."""
LEAST_SHARE = 1e-3
"""A class has at least this part of an even share, so that it stays possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GdaU:
    """Hyperparameters of GDA that learns from the archive; None is chosen inside the shots.

    Attributes:
        text_share: see `fewshot.methods.gda.method.Gda`.
        shrinkage: see `fewshot.methods.gda.method.Gda`.
        n_effective: see `fewshot.methods.gda.method.Gda`.
        shares: share of each class among the archive's images of any class, where it is known, as {cat = 0.7, dog =
            0.2}. Classes that are not named have even parts of the rest. Scores and abstention are calibrated for these
            shares: a held-out example counts as often as its class occurs. Not set: unknown.
        temperature: divides the logits before unlabelled images are given to classes, > 0.
        weight: 1 if the class means learn from the archive, 0 if not. 1 is refuted by hidden examples like None.
    """

    name: ClassVar[str] = "gda_u"
    classifier_type: ClassVar[type[LinearClassifier]] = LinearClassifier
    folds: ClassVar[int] = FOLDS

    text_share: float | None = None
    shrinkage: float = 1.0
    n_effective: EffectiveRows = "images"
    shares: Mapping[str, float] | None = None
    temperature: float | None = None
    weight: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range, or shares sum to more than 1.
        """
        _ = self.gda
        check_number("gda_u.temperature", self.temperature, low=1e-3, high=1e6)
        check_number("gda_u.weight", self.weight, high=1.0)
        if self.weight not in (None, 0, 1):
            raise DataError(f"gda_u.weight must be 0 or 1, got {self.weight!r}")
        _check_shares(self.shares)

    @property
    def gda(self) -> Gda:
        """The same without the archive."""
        return Gda(text_share=self.text_share, shrinkage=self.shrinkage, n_effective=self.n_effective)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return self.compare(problem, seed=seed, training_cache=training_cache)[0]

    def compare(
        self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache
    ) -> tuple[Self, tuple[CandidateResult, ...]]:
        """Decide on hidden examples whether means learn from the archive; without any, or an archive, no results."""
        helped = self.filled_in(problem, seed=seed)
        without = replace(helped, weight=0.0)
        if self.weight == 0 or not has_archive(problem):
            return without, ()
        return choose_by_gain(
            problem,
            ("gda", without),
            (self.name, helped),
            hidden_logits=_hidden_logits,
            shares=helped.expected_shares,
        )

    def filled_in(self, problem: Problem, *, seed: int) -> Self:
        """Return the method with every hyperparameter, and with the archive's help, whether that gains or not."""
        share = self.gda.select(problem, seed=seed).text_share
        temperature = self.temperature
        if temperature is None:
            gda = Gda(text_share=share, shrinkage=self.shrinkage, n_effective=self.n_effective)
            temperature = _hidden_temperature(gda, held_out_splits(problem, seed=HIDING_SEED))
        return replace(self, text_share=share, shares=self.shares or {}, temperature=temperature, weight=1.0)

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> LinearClassifier:
        """See `Method.fit`."""
        if self.shares is None or None in (self.text_share, self.temperature, self.weight):
            return self.select(problem, seed=seed).fit(problem, seed=seed)
        if not len(problem.support):
            return self.gda.fit(problem, seed=seed)
        mixture, sample = self.mixture(problem)
        means = self._means(mixture, sample)
        if not self.shares:
            return mixture.classifier(means)
        shares = shares_of(self.shares, problem.label_space.names)
        if not len(sample):
            return mixture.classifier(means, (shares * len(shares)).log())
        offsets = balanced_offsets(sample, mixture.scores(means), shares, firmness=FIRM)
        return mixture.classifier(means, offsets[:-1])

    def known_shares(self, label_space: LabelSpace) -> Tensor | None:
        """See `fewshot.calibration.calibrate.ShareMethod`."""
        return shares_of(self.shares, label_space.names) if self.shares else None

    def expected_shares(self, problem: Problem) -> Tensor:
        """Return [K] float64: the shares of the classes in the archive, as they are known or GDA expects them."""
        mixture, sample = self.mixture(problem)
        known = self.known_shares(problem.label_space)
        return expected_shares(sample, mixture.scores(mixture.anchors.means)) if known is None else known

    def means(self, problem: Problem) -> Tensor:
        """Return [K, D] float64: the class means that examples and archive share, or of the examples alone."""
        return self._means(*self.mixture(problem))

    def mixture(self, problem: Problem) -> tuple[Mixture, Tensor]:
        """Return what is learned from the examples, and the sample, in an order of its own."""
        sample = problem.class_embeddings[:0] if problem.archive is None else in_order_of_content(problem.archive)
        temperature = ONE_SHOT_TEMPERATURE if self.temperature is None else self.temperature
        return Mixture.from_problem(problem, self.gda, sample, temperature=temperature), sample

    def _means(self, mixture: Mixture, sample: Tensor) -> Tensor:
        if not self.weight or not len(sample):
            return mixture.anchors.means
        shares = shares_of(self.shares or {}, mixture.problem.label_space.names)
        firmness = FIRM if self.shares else LOOSE
        return learned_means(mixture.anchors, sample, mixture.scores, shares=shares, firmness=firmness)


def _hidden_logits(method: Gda | GdaU, splits: Sequence[Split]) -> Tensor:
    """Return [n, K] float32: logits of the queries of all splits, each from a fit without them."""
    return torch.cat([method.fit(split.problem, seed=0).logits(split.queries.features) for split in splits])


def _hidden_temperature(gda: Gda, splits: Sequence[Split]) -> float:
    if not splits:
        return ONE_SHOT_TEMPERATURE
    return coarse_temperature(_hidden_logits(gda, splits), torch.cat([split.queries.labels for split in splits]))


def coarse_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature of held-out logits to a half power of 2 in [1/16, 256].

    Of a few images the likelihood is flat, and rounding errors would decide on the digits.
    """
    fitted = fit_temperature(logits, labels)
    return float(2.0 ** min(8.0, max(-4.0, round(2.0 * math.log2(fitted)) / 2.0)))


def shares_of(known: Mapping[str, float], names: tuple[str, ...]) -> Tensor:
    """Return [K] float64, sum 1: the shares of all classes, > 0.

    Raises:
        DataError: a name is not one of a class, or all are named with a share of 0.
    """
    for name in known:
        if name not in names:
            raise DataError(str(UnknownNameError("class in gda_u.shares", name, names)))
    others = len(names) - len(known)
    rest = max(0.0, 1.0 - sum(known.values())) / others if others else 0.0
    shares = torch.tensor([known.get(name, rest) for name in names], dtype=torch.float64)
    if not shares.any():
        raise DataError(f"gda_u.shares are 0 for all {len(names)} classes; expected numbers whose sum is 1")
    shares = shares.clamp(min=LEAST_SHARE / len(names))
    return shares / shares.sum()


def _check_shares(shares: object) -> None:
    if shares is None:
        return
    if not isinstance(shares, Mapping) or not all(isinstance(name, str) for name in shares):
        raise DataError(f"gda_u.shares must give class names their shares, as {{cat = 0.7}}, got {shares!r:.80}")
    for name, share in shares.items():
        check_number(f"gda_u.shares.{name}", share, high=1.0)
        if share is None:
            raise DataError(f"gda_u.shares.{name} must be a number in [0, 1]")
    if sum(shares.values()) > 1.0 + 1e-6:
        raise DataError(f"gda_u.shares must sum to at most 1, got {sum(shares.values()):g}")


def has_archive(problem: Problem) -> bool:
    """Return whether a problem has unlabelled images, and examples that they can help."""
    return problem.archive is not None and len(problem.archive) > 0 and len(problem.support) > 0
