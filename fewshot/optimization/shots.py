"""The shots in the order of training: sorted by content, with labels of the classes that have shots only.

Gradient descent amplifies differences in a last bit. In this order, no bit depends on the order in which the shots are
listed or on the numbers of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.optimization.content_order import content_digests
from fewshot.problem import Problem


def draw_views(views: Tensor, rows: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return [b, D]: for each of the rows [b] of views [M, V, D], one view drawn at random."""
    return views[rows, torch.randint(views.shape[1], (len(rows),), generator=generator)]


def augmented_views(views: Tensor) -> Tensor:
    """Return the augmented ones of views [M, V, D], as published trainings see no others; the only view if V = 1."""
    return views[:, 1:] if views.shape[1] > 1 else views


@dataclass(frozen=True, slots=True)
class Shots:
    """M shots of the k classes that have shots.

    Attributes:
        views: [M, V, D] float32, see `Labelled.views`, in the order of content.
        labels: [M] int64 in [0, k), indices into `classes`.
        classes: [k] int64 in [0, K), in the order of first appearance.
        rows: [M] int64, the rows of the shots in `problem.support`.
    """

    views: Tensor
    labels: Tensor
    classes: Tensor
    rows: Tensor

    @classmethod
    def from_problem(cls, problem: Problem) -> Shots:
        """Sort a problem's shots; the same, bit for bit, for any order of the shots and any numbers of the classes."""
        support = problem.support
        digests, labels = content_digests(support), support.labels.tolist()
        order = sorted(range(len(labels)), key=lambda row: (digests[row], labels[row]))
        rows = torch.tensor(order, dtype=torch.int64)
        place = {label: i for i, label in enumerate(dict.fromkeys(labels[row] for row in order))}
        return cls(
            views=support.views[rows],
            labels=torch.tensor([place[labels[row]] for row in order], dtype=torch.int64),
            classes=torch.tensor(list(place), dtype=torch.int64),
            rows=rows,
        )
