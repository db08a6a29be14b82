"""Fit a classifier with calibrated confidence from the shots alone.

The selected method is fitted again on folds of the shots (`fewshot.model_selection.cross_validation`). On the held-out
logits, `fewshot.calibration.temperature` fits a scaling to probabilities and `fewshot.calibration.abstention` the score
below which a prediction abstains.

The threshold promises something, so a held-out score comes from hyperparameters that were chosen without the image
(`fewshot.calibration.chosen_without`), and, where these are others, from a scaling that was fitted without it.

Limits: the temperature of the classifier is fitted to the images that its hyperparameters were chosen on, and is
slightly too optimistic; where methods were compared, so are the held-out scores of the winner, whose hyperparameters
are not chosen again (`HeldOutReport.nested_accuracy` is nested then, but for the choice among the methods). The
guarantee assumes that archive and shots have the same distribution, with balanced classes. Where the method knows the
shares of the classes in the archive, held-out images stand for those instead (`fewshot.calibration.label_shift`): they
are weighted for the scaling and all measures, and thinned for the threshold. With one shot of each class, none can be
held out and the class still be learned. Augmented views of the shot are far too easy as substitutes for other images,
so the class of a held-out image keeps only its text, and the measured accuracy, confidence and coverage are lower
bounds. With meaningless names this bound is chance: the labels are still the most probable ones, but their
probabilities are those of other labels. So they are no scores (`CalibratedClassifier.has_scores`): their order says
which labels are the most certain, and how many are right is unknown. A classifier that is the same without the held-out
images, as in zero-shot, is measured like on any other images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fewshot.calibration.abstention import HeldOutScores, check_error_limits
from fewshot.calibration.calibrated_classifier import CalibratedClassifier, HeldOutReport, Source
from fewshot.calibration.chosen_without import ChosenWithout, choices_without
from fewshot.calibration.label_shift import class_weights, thinned, weighted_mean
from fewshot.calibration.temperature import Scaling, fit_scaling
from fewshot.classes import LabelSpace
from fewshot.errors import DataError
from fewshot.evaluation.metrics import expected_calibration_error, negative_log_likelihood
from fewshot.method import Classifier, Method, features_for
from fewshot.model_selection.candidates import CandidateResult
from fewshot.model_selection.cross_validation import Split, held_out_splits, text_only_splits
from fewshot.optimization.training_cache import InMemoryCache, TrainingCache, no_cache
from fewshot.problem import Problem


@runtime_checkable
class ComparingMethod(Method, Protocol):
    """A method that selects one of several methods."""

    def compare(
        self, problem: Problem, *, seed: int, training_cache: TrainingCache
    ) -> tuple[Method, tuple[CandidateResult, ...]]:
        """Return the selected method and the results of all candidates, its own first; no results without images."""
        ...


@runtime_checkable
class ShareMethod(Method, Protocol):
    """A method that may know the shares of the classes in the archive."""

    def known_shares(self, label_space: LabelSpace) -> Tensor | None:
        """Return [K] float64, > 0 with sum 1; None if they are unknown."""
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
        problem: the shots to learn from.
        seed: of all random numbers.
        max_error: maximum error rate among predictions that do not abstain, in (0, 1); None never abstains.
        confidence: probability with which `max_error` must hold, in (0, 1).
        training_cache: cache of trained parameters; None uses one in memory for this call.

    Raises:
        DataError: `max_error` or `confidence` is out of range, or the method's training diverged: scores of held-out
            images, or its parameters, are not finite.
    """
    check_error_limits(max_error, confidence)
    training_cache = training_cache or InMemoryCache()
    selected, candidates = _selected(method, problem, seed=seed, training_cache=training_cache)
    source, logits, labels = held_out_logits(selected, problem, seed=seed, training_cache=training_cache)
    _check_finite(selected, logits)
    weights = _weights(selected, problem.label_space, labels)
    scaling = fit_scaling(logits, labels, weights)
    chosen_here = not candidates and source in ("val", "folds") and len(labels) > 0
    splits = calibration_splits(method, problem, seed=seed)[1] if chosen_here else []
    choices = choices_without(method, selected, problem, splits, seed=seed, training_cache=training_cache)
    scores, correct = _without_choosing(choices, logits, labels, scaling, weights)
    kept = slice(None) if weights is None else thinned(weights, seed=seed)
    nested_accuracy = weighted_mean(correct, weights) if chosen_here else None
    classifier = selected.fit(problem, seed=seed, training_cache=training_cache)
    _check_finite(selected, *_tensors(classifier))
    report = replace(
        _measured(source, logits, labels, scaling, weights),
        candidates=candidates,
        nested_accuracy=candidates[0].accuracy if candidates else nested_accuracy,
    )
    calibrated = CalibratedClassifier(
        method=selected,
        classifier=classifier,
        class_names=problem.label_space.names,
        logit_scale=problem.logit_scale,
        scaling=scaling,
        threshold=None,
        report=report,
        held_out=HeldOutScores(scores[kept].cpu().numpy(), correct[kept].cpu().numpy()),
    )
    return calibrated.with_max_error(max_error, confidence=confidence)


def _check_finite(method: Method, *values: Tensor) -> None:
    """Raise a DataError if there is NaN in scores or parameters of a method: it would score every image with it."""
    if any(bool(value.isnan().any()) for value in values if value.is_floating_point()):
        raise DataError(
            f"{method.name} diverged: its scores or parameters are not finite numbers. Lower its learning rate or its"
            " number of steps, or choose another method."
        )


def _tensors(classifier: Classifier) -> list[Tensor]:
    values = [getattr(classifier, field.name) for field in fields(classifier)]  # type: ignore[arg-type]
    nested = [part for value in values if isinstance(value, Mapping) for part in value.values()]
    return [value for value in (*values, *nested) if isinstance(value, Tensor)]


def _selected(
    method: Method, problem: Problem, *, seed: int, training_cache: TrainingCache
) -> tuple[Method, tuple[CandidateResult, ...] | None]:
    if isinstance(method, ComparingMethod):
        return method.compare(problem, seed=seed, training_cache=training_cache)
    return method.select(problem, seed=seed, training_cache=training_cache), None


def held_out_logits(
    method: Method, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache, folds: int | None = None
) -> tuple[Source, Tensor, Tensor]:
    """Return logits of held-out images, each from a classifier that was fitted without the image.

    Args:
        method: with a value for every hyperparameter.
        problem: the problem to split.
        seed: of the folds and the fits.
        training_cache: cache of trained parameters.
        folds: maximum number of folds; None uses all of the method's.

    Returns:
        The source of the images, logits [n, K] float32 and labels [n] int64; n = 0 without shots.
    """
    source, splits = calibration_splits(method, problem, seed=seed)
    logits = [problem.class_embeddings.new_zeros(0, problem.num_classes)]
    labels = [problem.support.labels[:0]]
    first: Classifier | None = None
    learns = len(splits) < 2  # From the shots, or nobody knows.
    for split in splits[:folds]:
        classifier = method.fit(split.problem, seed=seed, training_cache=training_cache)
        first = first or classifier
        learns = learns or not _equal(classifier, first)
        logits.append(classifier.logits(features_for(classifier, split.queries)))
        labels.append(split.queries.labels)
    return "folds" if source == "text" and not learns else source, torch.cat(logits), torch.cat(labels)


def _equal(one: Classifier, other: Classifier) -> bool:
    ours, theirs = _tensors(one), _tensors(other)
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def calibration_splits(method: Method, problem: Problem, *, seed: int) -> tuple[Source, list[Split]]:
    """Return the splits to calibrate on; with one shot of each class, splits to text (see the module).

    Args:
        method: its `folds` limits the number of splits.
        problem: the problem to split.
        seed: of the folds.

    Returns:
        The source of the queries, and at most `method.folds` splits.
    """
    splits = held_out_splits(problem, seed=seed)
    source: Source = "folds" if problem.val is None or not len(problem.val) else "val"
    if not splits:
        splits, source = text_only_splits(problem, seed=seed), "text" if len(problem.support) else "none"
    return source, splits[: method.folds]


def _weights(method: Method, label_space: LabelSpace, labels: Tensor) -> Tensor | None:
    """Return the weights of held-out images with these labels; None if all are equal."""
    shares = method.known_shares(label_space) if isinstance(method, ShareMethod) else None
    return None if shares is None else class_weights(labels, shares)


def _without_choosing(
    choices: Iterable[ChosenWithout], logits: Tensor, labels: Tensor, scaling: Scaling, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return scores and hits of images from hyperparameters and a temperature that were chosen without them.

    Args:
        choices: one for each part of the images; none leaves those of all images.
        logits: [n, K] float32, from the hyperparameters that were chosen on all images.
        labels: [n] int64.
        scaling: fitted to these.
        weights: [n] float64 of the images; None if all are equal.

    Returns:
        [n] float32 in [0, 1], and [n] bool.
    """
    scores, predicted = torch.softmax(scaling(logits), dim=1).max(dim=1)
    for choice in choices:
        if choice.logits is None:
            continue
        rows, rest = choice.rows, ~choice.rows
        fitted = scaling
        if bool(rest.any()):
            fitted = fit_scaling(choice.logits[rest], labels[rest], None if weights is None else weights[rest])
        found = torch.softmax(fitted(choice.logits[rows]), dim=1).max(dim=1)
        scores[rows], predicted[rows] = found.values.nan_to_num(0.0), found.indices
    return scores, predicted == labels


def _measured(
    source: Source, logits: Tensor, labels: Tensor, scaling: Scaling, weights: Tensor | None
) -> HeldOutReport:
    if not len(labels):
        return HeldOutReport(source, 0)
    correct, scaled = logits.argmax(dim=1) == labels, scaling(logits)

    def ece(values: Tensor) -> float:
        return expected_calibration_error(torch.softmax(values, dim=1).amax(dim=1), correct, weights)

    return HeldOutReport(
        source=source,
        images=len(labels),
        accuracy=weighted_mean(correct, weights),
        nll_before=negative_log_likelihood(logits, labels, weights),
        nll_after=negative_log_likelihood(scaled, labels, weights),
        ece_before=ece(logits),
        ece_after=ece(scaled),
    )
