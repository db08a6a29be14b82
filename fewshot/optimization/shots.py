"""The shots as a training sees them: listed by content, with labels that count only the classes that have any.

Gradient descent makes a large difference of a last bit. In this order neither how the shots were listed nor how the
classes were numbered changes one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.optimization.content_order import content_digests
from fewshot.problem import Problem


def draw_views(views: Tensor, rows: Tensor, *, generator: torch.Generator) -> Tensor:
    """[b, D]: for each of rows [b] one of its views [M, V, D], drawn anew."""
    return views[rows, torch.randint(views.shape[1], (len(rows),), generator=generator)]


@dataclass(frozen=True, slots=True)
class Shots:
    """M shots of the k classes that have any.

    Attributes:
        views: [M, V, D] float32, see `Labelled.views`, in the order of content.
        labels: [M] int64 in [0, k), places in `classes`.
        classes: [k] int64 in [0, K), in the order in which they first appear.
        rows: [M] int64, where each lies in `problem.support`.
    """

    views: Tensor
    labels: Tensor
    classes: Tensor
    rows: Tensor

    @classmethod
    def from_problem(cls, problem: Problem) -> Shots:
        """The same shots, bit for bit, however they were listed and their classes numbered."""
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
