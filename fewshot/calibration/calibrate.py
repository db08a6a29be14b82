"""From a method to a classifier whose confidence means something, with nothing but the shots.

The selected method is refitted on folds of the shots (`fewshot.model_selection.cross_validation`); on the held-out
logits, `fewshot.calibration.temperature` makes probabilities of them, and `fewshot.calibration.abstention` finds the
score below which a label is withheld.

What to keep in mind: hyperparameters, scaling and threshold are chosen on the same held-out images, which makes
all three a little optimistic; the guarantee assumes that the archive looks like the shots, whose classes are balanced.
With one shot a class nothing of a class can be held out and still be learned. Augmented views of the shot itself would
stand in for other images far too well; so the class of a held-out image keeps only its text, and the accuracy, the
confidence and the coverage measured are lower bounds of what the shots give. With meaningless names that bound is
chance: the labels are still the best guess, and their scores say that nothing is known about them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fewshot.calibration.abstention import guaranteed_threshold
from fewshot.calibration.calibrated_classifier import CalibratedClassifier, HeldOutReport, Source
from fewshot.calibration.temperature import Scaling, fit_scaling
from fewshot.errors import DataError
from fewshot.evaluation.metrics import expected_calibration_error, negative_log_likelihood
from fewshot.method import Method, features_for
from fewshot.model_selection.candidates import CandidateResult
from fewshot.model_selection.cross_validation import Split, held_out_splits, text_only_splits
from fewshot.optimization.training_cache import InMemoryCache, TrainingCache, no_cache
from fewshot.problem import Problem


@runtime_checkable
class ComparingMethod(Method, Protocol):
    """A method that chooses among others; what it selects is one of them."""

    def compare(
        self, problem: Problem, *, seed: int, training_cache: TrainingCache
    ) -> tuple[Method, tuple[CandidateResult, ...]]:
        """The method it selects, and how each did that was tried, the best first; nothing where none could be."""
        ...


def fit_calibrated(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    max_error: float | None = None,
    confidence: float = 0.9,
    training_cache: TrainingCache | None = None,
) -> CalibratedClassifier:
    """Select hyperparameters, fit, and calibrate on held-out images.

    Args:
        method: hyperparameters that are None are chosen.
        problem: what may be learned from.
        seed: of everything random.
        max_error: the share of wrong labels that is tolerated among labels given; None never abstains.
        confidence: probability with which the tolerance must hold, in (0, 1).
        training_cache: where trainings are kept; None keeps them until this returns.

    Raises:
        DataError: `max_error` or `confidence` is out of its range.
    """
    if max_error is not None and not 0.0 < max_error < 1.0:
        raise DataError(f"max_error must lie in (0, 1), got {max_error!r}")
    if not 0.0 < confidence < 1.0:
        raise DataError(f"confidence must lie in (0, 1), got {confidence!r}")
    training_cache = training_cache or InMemoryCache()
    selected, candidates = _selected(method, problem, seed=seed, training_cache=training_cache)
    source, logits, labels = held_out_logits(selected, problem, seed=seed, training_cache=training_cache)
    scaling = fit_scaling(logits, labels)
    scores, predicted = torch.softmax(scaling(logits), dim=1).max(dim=1)
    report, threshold = replace(_measured(source, logits, labels, scaling), candidates=candidates), None
    if max_error is not None:
        found = guaranteed_threshold(scores, predicted == labels, max_error=max_error, confidence=confidence)
        threshold = found.threshold
        report = replace(
            report,
            max_error=max_error,
            confidence=confidence,
            coverage=float((scores >= threshold).double().mean()) if len(scores) else 0.0,
            error_bound=found.error_bound,
        )
    return CalibratedClassifier(
        method=selected,
        classifier=selected.fit(problem, seed=seed, training_cache=training_cache),
        class_names=problem.label_space.names,
        logit_scale=problem.logit_scale,
        scaling=scaling,
        threshold=threshold,
        report=report,
    )


def _selected(
    method: Method, problem: Problem, *, seed: int, training_cache: TrainingCache
) -> tuple[Method, tuple[CandidateResult, ...] | None]:
    if isinstance(method, ComparingMethod):
        return method.compare(problem, seed=seed, training_cache=training_cache)
    return method.select(problem, seed=seed, training_cache=training_cache), None


def held_out_logits(
    method: Method, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache, folds: int | None = None
) -> tuple[Source, Tensor, Tensor]:
    """Logits of images that the classifier giving them has not learned from.

    Args:
        method: every hyperparameter filled in.
        problem: what to split.
        seed: of the folds and the fits.
        training_cache: where trainings are kept.
        folds: use at most so many; None uses all of the method's.

    Returns:
        where the images are from, their logits [n, K] float32 and labels [n] int64. n = 0 when there are no shots.
    """
    source, splits = calibration_splits(method, problem, seed=seed)
    logits = [problem.class_embeddings.new_zeros(0, problem.num_classes)]
    labels = [problem.support.labels[:0]]
    for split in splits[:folds]:
        classifier = method.fit(split.problem, seed=seed, training_cache=training_cache)
        logits.append(classifier.logits(features_for(classifier, split.queries)))
        labels.append(split.queries.labels)
    return source, torch.cat(logits), torch.cat(labels)


def calibration_splits(method: Method, problem: Problem, *, seed: int) -> tuple[Source, list[Split]]:
    """What a method is calibrated on, and with one shot a class what stands in for it (see the module).

    Args:
        method: says how many folds it can afford.
        problem: what to split.
        seed: of the folds.

    Returns:
        where the queries are from, and at most `method.folds` splits.
    """
    splits = held_out_splits(problem, seed=seed)
    source: Source = "folds" if problem.val is None or not len(problem.val) else "val"
    if not splits:
        splits, source = text_only_splits(problem, seed=seed), "text" if len(problem.support) else "none"
    return source, splits[: method.folds]


def _measured(source: Source, logits: Tensor, labels: Tensor, scaling: Scaling) -> HeldOutReport:
    if not len(labels):
        return HeldOutReport(source, 0)
    correct, scaled = logits.argmax(dim=1) == labels, scaling(logits)

    def ece(values: Tensor) -> float:
        return expected_calibration_error(torch.softmax(values, dim=1).amax(dim=1), correct)

    return HeldOutReport(
        source=source,
        images=len(labels),
        accuracy=float(correct.double().mean()),
        nll_before=negative_log_likelihood(logits, labels),
        nll_after=negative_log_likelihood(scaled, labels),
        ece_before=ece(logits),
        ece_after=ece(scaled),
    )
