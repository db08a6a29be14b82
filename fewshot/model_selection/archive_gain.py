"""Whether learning from the archive gains: a paired test on hidden examples that stand for the archive.

Two classifiers without an example give it logits, one of them with the archive's help. Where the help is small, few
hits change, and some dozens of examples prove nothing: an accuracy that is two points higher takes a thousand. So what
is compared is the log-loss, which every example changes, each classifier at the temperature that suits it best. And
what is asked for is the gain in the archive, where classes are not as frequent as among examples: an example of a class
that the archive hardly has tells hardly anything. So examples have the weights of `fewshot.calibration.label_shift`,
for shares that are known or expected. The gain counts as proven if it is larger than its standard error.

The folds of two examples a class leave one. Without any spread within a class that is another classifier, one that the
archive helps a lot, and nothing follows for two examples: there the archive is not used (`can_decide`).

Weights, log-loss and the one standard error were chosen on synthetic features, not on photographs: 71 worlds of 6 to 40
classes with and without subgroups, correlated channels and names that mean something, in four shapes of the archive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fewshot.calibration.label_shift import class_weights
from fewshot.calibration.temperature import fit_temperature
from fewshot.model_selection.candidates import CandidateResult, measure_candidates
from fewshot.model_selection.cross_validation import Split, held_out_splits
from fewshot.problem import Problem

HIDING_SEED = 0
"""Of the folds: another seed does not decide otherwise on the same examples."""

M = TypeVar("M")
"""A method."""


def choose_by_gain(
    problem: Problem,
    without: tuple[str, M],
    helped: tuple[str, M],
    *,
    hidden_logits: Callable[[M, Sequence[Split]], Tensor],
    shares: Callable[[Problem], Tensor],
) -> tuple[M, tuple[CandidateResult, ...]]:
    """Choose a method with or without the archive's help; with it and without results where nothing can be hidden.

    Args:
        problem: with examples and an archive.
        without: name in the results and method, without the archive's help.
        helped: the same with it.
        hidden_logits: returns [n, K] float32, logits of the queries of all splits, each from a fit without them.
        shares: returns [K] float64, > 0: of the classes in the archive.

    Returns:
        The method, and the results of both, the chosen one first; none where nothing was compared.
    """
    splits = held_out_splits(problem, seed=HIDING_SEED)
    if not splits:
        return helped[1], ()
    if not can_decide(problem, splits):
        return without[1], ()
    used, results = compare_with_archive(
        (without[0], hidden_logits(without[1], splits)),
        (helped[0], hidden_logits(helped[1], splits)),
        torch.cat([split.queries.labels for split in splits]),
        shares=shares(problem),
    )
    return (helped if used else without)[1], results


def can_decide(problem: Problem, splits: Sequence[Split]) -> bool:
    """Return whether the splits of a problem leave classifiers of its kind: ones that know a spread within a class."""
    labels = problem.support.labels
    stays = (torch.bincount(split.support_rows, minlength=len(labels)) > 0 for split in splits)
    left = (torch.bincount(labels[rows]) for rows in stays)
    return int(problem.counts.max()) < 2 or any(int(counts.max()) > 1 for counts in left)


def compare_with_archive(
    without: tuple[str, Tensor], helped: tuple[str, Tensor], labels: Tensor, *, shares: Tensor
) -> tuple[bool, tuple[CandidateResult, ...]]:
    """Decide whether the archive is used.

    Args:
        without: name of the method without the archive's help, and its logits [n, K] of hidden examples.
        helped: the same with it.
        labels: [n] int64 in [0, K), n >= 1.
        shares: see `gains_in_archive`.

    Returns:
        The decision, and the results of both methods, the chosen one first; the latter are those of the examples, each
        of which counts as much.
    """
    results = {result.method: result for result in measure_candidates(dict([without, helped]), labels)}
    used = gains_in_archive(without[1], helped[1], labels, shares)
    order = [helped[0], without[0]] if used else [without[0], helped[0]]
    return used, tuple(results[name] for name in order if name in results)


def gains_in_archive(without: Tensor, helped: Tensor, labels: Tensor, shares: Tensor) -> bool:
    """Return whether the archive's help lowers the log-loss in the archive by more than the standard error.

    Args:
        without: [n, K] float32, logits of hidden examples without the archive's help.
        helped: [n, K] float32, the same with it; if they are not all finite, they gain nothing.
        labels: [n] int64 in [0, K).
        shares: [K] float64, > 0: of the classes in the archive.
    """
    if len(labels) < 2 or not bool(helped.isfinite().all()):
        return False
    weights = class_weights(labels, shares)
    gains = weights * (_losses(without, labels, weights) - _losses(helped, labels, weights))
    return float(gains.mean()) > float(gains.std()) / math.sqrt(len(gains))


def _losses(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return [n] float64: log-losses in nats at the best temperature."""
    scaled = logits.double() / fit_temperature(logits, labels, weights=weights)
    return torch.logsumexp(scaled, dim=1) - scaled.gather(1, labels[:, None]).squeeze(1)
