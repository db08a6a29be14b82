"""Training the keys of a cache: Tip-Adapter-F (Zhang et al. 2022, arXiv 2207.09519), wherever its features come from.

    min over F of cross-entropy(s x W^T + alpha exp(-beta (1 - x F^T)) L, y)

From the authors' code: F begins at the cache and is never renormalised, text and labels stay as they are, one view of
an image a step, AdamW at 1e-3 with eps 1e-4, half a cosine, batches of 256, 20 epochs, alpha and beta fixed. Where we
differ, and why:

* A query does not see its own key. The authors' queries are augmented views of the very images that were cached, and
  the kernel of an image with itself is near its maximum, so that every query is right before a step is made and there
  is little to learn. Hidden, the task is the one of the test: to be recognised from the *other* examples. On held-out
  shots of groceries, rubbish and sign digits this is worth 3 to 8 points, the largest effect of all choices here. With
  one shot in each class there are no others, and the keys stay as they are. A class with one shot among larger ones
  only has its key pushed away by the others; that measured better than to show it to itself or to leave it out.
* alpha and beta while training are the two constants below in the units of `fewshot.key_value_cache.grids`, instead of
1.17 and 1,
  which lose to the untrained cache on all three sets: at beta = 1 the kernel of our features is almost flat. Within a
  factor of ten alpha makes no difference. Both are chosen anew afterwards, on held-out images.
* A few shots make few steps, so there are at least 200.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim import AdamW, Optimizer

from fewshot.key_value_cache.grids import default_beta
from fewshot.key_value_cache.kernel import kernel, segment_sum
from fewshot.optimization.content_order import image_ids
from fewshot.optimization.descent import descend
from fewshot.optimization.shots import Shots, draw_views
from fewshot.problem import Labelled, Problem
from fewshot.prototypes import text_logits

TRAINING_ALPHA_UNIT = 30.0
"""alpha while training, in the logit scale over the mean number of keys of a class: loud enough that the keys, not the
text, explain the labels; 10 to 300 measured alike."""


@dataclass(frozen=True, slots=True)
class GroupedShots:
    """The shots as the training of a cache sees them: grouped by class, whatever the number of a class is.

    Attributes:
        images: M shots; the classes in the order in which `fewshot.optimization.shots.Shots` has them, 0 to k - 1.
        counts: [k] int64, shots of each of these classes.
        classes: [k] int64 in [0, K), what the problem calls them.
        ids: [M] int64, equal where shots are the same image.
        cached: [M] int64, which shot is in which place of `Cache.from_problem(problem)`.
    """

    images: Labelled
    counts: Tensor
    classes: Tensor
    ids: Tensor
    cached: Tensor

    @classmethod
    def from_problem(cls, problem: Problem) -> GroupedShots:
        """The same, bit for bit, however the shots were listed and their classes numbered."""
        shots = Shots.from_problem(problem)
        grouped = shots.labels.argsort(stable=True)
        images = Labelled(shots.views[grouped], shots.labels[grouped])
        counts = torch.bincount(images.labels, minlength=len(shots.classes))
        cached = shots.classes[images.labels].argsort(stable=True)
        return cls(images, counts, shots.classes, image_ids(images), cached)

    @property
    def can_leave_one_out(self) -> bool:
        """Whether a class has two different images."""
        return len(torch.unique(self.ids)) > len(self.classes)

    def same_image(self, batch: Tensor) -> Tensor:
        """[M, B] bool: which keys are made of which image of a batch [B]."""
        return self.ids[:, None] == self.ids[batch]

    def training_alpha_beta(self, keys: Tensor, *, logit_scale: float) -> tuple[float, float]:
        """Alpha and beta while training, for keys [M, D or Q], unit rows."""
        return TRAINING_ALPHA_UNIT * logit_scale * len(self.classes) / max(1, len(keys)), default_beta(keys)


@dataclass(frozen=True, kw_only=True)
class CacheTrainingSettings:
    """How keys are trained; the defaults take about two seconds of one core for 81 classes of 16 shots.

    Attributes:
        learning_rate: peak of AdamW, along half a cosine.
        epochs: passes over the images.
        min_steps: steps at least, when the epochs make fewer.
        max_steps: steps at most; 4000 bound the time from about fifty thousand images on.
        batch_size: images in a step, at most.
    """

    learning_rate: float = 1e-3
    epochs: int = 20
    min_steps: int = 200
    max_steps: int = 4000
    batch_size: int = 256

    def steps(self, shots: GroupedShots) -> int:
        """How many steps a cache of these shots gets; none where no image can be recognised from another."""
        wanted = max(self.min_steps, self.epochs * -(-len(shots.ids) // self.batch_size))
        return min(wanted, self.max_steps) if shots.can_leave_one_out else 0


def train_cache_keys(problem: Problem, *, settings: CacheTrainingSettings, seed: int) -> Tensor:
    """Train the keys of a problem's cache. Whether its shots are photographs or made plays no part.

    Args:
        problem: the loss is over the classes of it that have shots.
        settings: how.
        seed: of the order of the shots and of their views.

    Returns:
        [M, D] float32 in the order of `Cache.from_problem(problem)`; not unit rows.
    """
    shots, scale = GroupedShots.from_problem(problem), problem.logit_scale
    keys, text, views = (
        shots.images.cache_keys,
        problem.class_embeddings[shots.classes],
        normalize(shots.images.views, dim=-1),
    )
    alpha, beta = shots.training_alpha_beta(keys, logit_scale=scale)

    def loss(parameters: Mapping[str, Tensor], batch: Tensor, generator: torch.Generator) -> Tensor:
        features, same_image = draw_views(views, batch, generator=generator), shots.same_image(batch)
        votes = leave_one_out_votes(parameters["keys"], shots.counts, features, same_image, beta=beta)
        return cross_entropy(text_logits(features, text, logit_scale=scale) + alpha * votes, shots.images.labels[batch])

    def optimizer(parameters: Iterable[Tensor]) -> Optimizer:
        return AdamW(parameters, lr=settings.learning_rate, eps=1e-4)

    tuned = descend(
        {"keys": keys},
        loss,
        optimizer=optimizer,
        rows=len(keys),
        batch_size=settings.batch_size,
        steps=settings.steps(shots),
        seed=seed,
    )
    return tuned["keys"][shots.cached]


def leave_one_out_votes(keys: Tensor, counts: Tensor, features: Tensor, same_image: Tensor, *, beta: float) -> Tensor:
    """Votes of the keys that are not made of the image itself; differentiable.

    Args:
        keys: [M, D] float32, grouped by class.
        counts: [k] int64 with sum M.
        features: [B, D] float32, unit rows.
        same_image: [M, B] bool, which keys are made of which image.
        beta: sharpness, >= 0.

    Returns:
        [B, k] float32.
    """
    return segment_sum(kernel(keys @ features.T, beta=beta).masked_fill(same_image, 0.0), counts).T
