"""The rows that a linear probe learns from: the examples, and the text of the classes if it is to count."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.optimization.shots import Shots
from fewshot.problem import Problem
from fewshot.prototypes import text_logits

Prior = Literal["zero", "text"]


class ProbeRows(NamedTuple):
    """Rows of k classes.

    Attributes:
        features: [R, D] float32, unit rows.
        labels: [R] int64 in [0, k).
        weights: [R] float32, > 0; None for 1.
        classes: [k] int64 in [0, K): those with shots, or all of them if the text counts.
        anchor: [k, D] float64, what the weights of the classes are drawn to; None for zero.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor | None
    classes: Tensor
    anchor: Tensor | None

    @classmethod
    def from_problem(cls, problem: Problem, *, text_weight: float, prior: Prior) -> Self:
        """Sort the rows so that neither the order of the shots nor the numbers of the classes change a bit.

        Args:
            problem: with at least one shot.
            text_weight: weight of the text of a class, in units of the mean number of shots of a class; 0 leaves it
                out.
            prior: "text" draws the weights of class k to lambda_k s t_k, see `text_probabilities`.
        """
        shots = Shots.from_problem(problem)
        features = normalize(shots.views[:, 0], dim=1)
        if not text_weight and prior == "zero":
            return cls(features, shots.labels, None, shots.classes, None)
        classes = torch.cat([shots.classes, _without_shots(problem)])
        text = problem.class_embeddings[classes]
        anchor = None
        if prior == "text":
            trust = text_probabilities(features, shots.labels, text, logit_scale=problem.logit_scale)
            anchor = problem.logit_scale * trust[:, None] * text.double()
        if not text_weight:
            return cls(features, shots.labels, None, classes, anchor)
        a_text = text_weight * len(features) / len(shots.classes)
        weights = torch.cat([torch.ones(len(features)), torch.full((len(text),), a_text)])
        labels = torch.cat([shots.labels, torch.arange(len(text))])
        return cls(torch.cat([features, text]), labels, weights, classes, anchor)


def text_probabilities(features: Tensor, labels: Tensor, text: Tensor, *, logit_scale: float) -> Tensor:
    """Return lambda: the mean probability that zero-shot gives to the right class of the examples of a class.

    Args:
        features: [M, D] float32, unit rows.
        labels: [M] int64 in [0, k).
        text: [k, D] float32, unit rows.
        logit_scale: the backbone's.

    Returns:
        [k] float64 in [0, 1]; of a class without examples, the mean of the others.
    """
    logits = text_logits(features, text, logit_scale=logit_scale)
    right = (logits.gather(1, labels[:, None]) - torch.logsumexp(logits, dim=1, keepdim=True)).exp()[:, 0].double()
    counts = torch.bincount(labels, minlength=len(text))
    sums = torch.zeros(len(text), dtype=torch.float64).index_add_(0, labels, right)
    means = sums / counts.clamp(min=1)
    return means.where(counts > 0, means[counts > 0].mean())


def _without_shots(problem: Problem) -> Tensor:
    """Return the classes without shots in the order of their texts."""
    missing = (problem.counts == 0).nonzero().flatten().tolist()
    text = problem.class_embeddings.detach().cpu().contiguous().numpy()
    return torch.tensor(sorted(missing, key=lambda label: text[label].tobytes()), dtype=torch.int64)
