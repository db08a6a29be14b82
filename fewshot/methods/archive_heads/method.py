"""The archive's help for any head that learns from features: it learns from examples that were moved. Not published.

GDA-U (`fewshot.methods.gda_u`) finds the class means that examples and unlabelled images of the archive share. Here the
examples of a class move with its mean,

    x + (mu_k - m_k)        m_k: mean of the examples of k, mu_k: that of GDA-U

and the plain head learns from them as from any others. Their number and their spread stay, so the hyperparameters of
the head keep their meaning; that the covariance does not learn from the archive is part of GDA-U, too. GDA on moved
examples is GDA-U, but for the lengths of rows. A class without examples has none to be moved, and keeps its text.

Responsibilities are those of GDA-U, not of the head: the Gaussian mixture has a component for images of no class, needs
no temperature of its own for each head, and is the better classifier at few shots.

Whether the archive helps this head is decided on hidden examples, as for GDA-U: the head learns from the others, as
they are and moved (`fewshot.model_selection.archive_gain`). If it does not, the classifier is that of the plain head,
bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.errors import DataError
from fewshot.methods.gda_u import GdaU
from fewshot.methods.gda_u.method import has_archive
from fewshot.methods.hyperparameters import check_number, values_for
from fewshot.methods.linear_probe import LinearProbe
from fewshot.methods.nearest_mean import NearestMean
from fewshot.methods.rla import Rla
from fewshot.model_selection.archive_gain import HIDING_SEED, choose_by_gain
from fewshot.model_selection.candidates import CandidateResult
from fewshot.model_selection.cross_validation import FOLDS, Split
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem


@dataclass(frozen=True, kw_only=True)
class WithArchive:
    """Hyperparameters of the archive's help, beside those of the plain head; None is chosen inside the shots.

    Attributes:
        archive_weight: 1 if the examples are moved, 0 if not. 1 is refuted by hidden examples like None.
        archive_temperature: divides the logits before unlabelled images are given to classes, > 0.
        archive_text_share: share of the text in the class means that unlabelled images are given to, in [0, 1].
    """

    __slots__ = ()

    folds: ClassVar[int] = FOLDS
    plain: ClassVar[type[Any]]

    archive_weight: float | None = None
    archive_temperature: float | None = None
    archive_text_share: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("archive_weight", self.archive_weight, high=1.0)
        if self.archive_weight not in (None, 0, 1):
            raise DataError(f"archive_weight must be 0 or 1, got {self.archive_weight!r}")
        check_number("archive_temperature", self.archive_temperature, low=1e-3, high=1e6)
        check_number("archive_text_share", self.archive_text_share, high=1.0)
        self.plain.__post_init__(self)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return self.compare(problem, seed=seed, training_cache=training_cache)[0]

    def compare(
        self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache
    ) -> tuple[Self, tuple[CandidateResult, ...]]:
        """Decide on hidden examples whether examples are moved; without any, or an archive, there are no results."""
        plain = self._plain.select(problem, seed=seed, training_cache=training_cache)
        teacher = self._teacher.filled_in(problem, seed=seed)
        helped = replace(
            self,
            archive_weight=1.0,
            archive_temperature=teacher.temperature,
            archive_text_share=teacher.text_share,
            **values_for(self.plain, plain),
        )
        without = replace(helped, archive_weight=0.0)
        if self.archive_weight == 0 or not has_archive(problem):
            return without, ()
        return choose_by_gain(
            problem,
            (self.plain.name, without),
            (self.name, helped),  # type: ignore[attr-defined]
            hidden_logits=lambda method, splits: method._hidden_logits(splits, training_cache),
            shares=teacher.expected_shares,
        )

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Any:
        """See `Method.fit`."""
        if None in values_for(type(self), self).values():
            selected = self.select(problem, seed=seed, training_cache=training_cache)
            return selected.fit(problem, seed=seed, training_cache=training_cache)
        if self.archive_weight and has_archive(problem):
            problem = moved_by_archive(problem, self._teacher)
        return self._plain.fit(problem, seed=seed, training_cache=training_cache)

    @property
    def _plain(self) -> Any:
        return self.plain(**values_for(self.plain, self))

    @property
    def _teacher(self) -> GdaU:
        temperature, text_share = self.archive_temperature, self.archive_text_share
        return GdaU(temperature=temperature, text_share=text_share, weight=1.0, shares={})

    def _hidden_logits(self, splits: Sequence[Split], training_cache: TrainingCache) -> Tensor:
        fitted = [self.fit(split.problem, seed=HIDING_SEED, training_cache=training_cache) for split in splits]
        return torch.cat([one.logits(split.queries.features) for one, split in zip(fitted, splits, strict=True)])


def moved_by_archive(problem: Problem, teacher: GdaU) -> Problem:
    """Return the problem with the examples of each class moved as far as its mean moves.

    Args:
        problem: with examples and an archive.
        teacher: with a value for every hyperparameter; learns the means.
    """
    mixture, _ = teacher.mixture(problem)
    shifts = teacher.means(problem) - mixture.anchors.means
    rows = normalize(problem.support.views.double(), dim=-1)
    moved = rows + shifts[problem.support.labels][:, None]
    return problem.with_support(replace(problem.support, views=moved.float()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLinearProbe(WithArchive, LinearProbe):
    """Hyperparameters of the archive's help and of the linear probe, see `WithArchive` and `LinearProbe`."""

    name: ClassVar[str] = "archive_linear_probe"
    folds: ClassVar[int] = LinearProbe.folds
    plain: ClassVar[type[LinearProbe]] = LinearProbe


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveNearestMean(WithArchive, NearestMean):
    """Hyperparameters of the archive's help and of nearest class mean, see `WithArchive` and `NearestMean`."""

    name: ClassVar[str] = "archive_nearest_mean"
    folds: ClassVar[int] = NearestMean.folds
    plain: ClassVar[type[NearestMean]] = NearestMean


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRla(WithArchive, Rla):
    """Hyperparameters of the archive's help and of RLA, see `WithArchive` and `Rla`."""

    name: ClassVar[str] = "archive_rla"
    folds: ClassVar[int] = Rla.folds
    plain: ClassVar[type[Rla]] = Rla
