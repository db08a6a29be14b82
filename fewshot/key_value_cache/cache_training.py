"""Train the keys of a cache: Tip-Adapter-F (Zhang et al. 2022, arXiv 2207.09519), wherever its features come from.

    min over F of cross-entropy(s x W^T + alpha exp(-beta (1 - x F^T)) L, y)

As in the authors' code, F starts at the cache and is never renormalised, text and labels are fixed, each step uses one
view of an image, AdamW runs at 1e-3 with eps 1e-4 along half a cosine for 20 epochs of batches of 256, and alpha and
beta are fixed. Differences, with reasons:

* The votes of a query leave out its own key. The authors' queries are augmented views of the cached images, and the
  kernel of an image with itself is near its maximum, so that every query is right before the first step and there is
  little to learn. Without its own key, the task of training is the task of the test: recognition from the *other*
  examples. On held-out shots of groceries, rubbish and sign digits this is worth 3 to 8 points, the largest effect of
  all choices here. With one shot in each class there are no other examples, and the keys stay as they are. In a class
  with one shot among larger classes, the other classes only push its key away; that measured better than keeping its
  own key or leaving the class out.
* While training, alpha and beta are fixed in the units of `fewshot.key_value_cache.grids`, instead of at 1.17 and 1,
  which lose to the untrained cache on all three sets: at beta = 1 the kernel of our features is almost flat. Within a
  factor of ten alpha makes no difference. Both are chosen again afterwards, on held-out images.
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
from fewshot.key_value_cache.published_settings import TRAINING_BETA
from fewshot.optimization.content_order import image_ids
from fewshot.optimization.descent import descend
from fewshot.optimization.shots import Shots, augmented_views, draw_views
from fewshot.problem import Labelled, Problem
from fewshot.prototypes import text_logits

TRAINING_ALPHA = 30.0
"""alpha while training, in units of the logit scale over the mean number of keys of a class. It is large enough for the
keys, not the text, to explain the labels; 10 to 300 measured alike."""


@dataclass(frozen=True, slots=True)
class GroupedShots:
    """The shots grouped by class, in an order that depends on neither their list nor the numbers of the classes.

    Attributes:
        images: M shots, labelled 0 to k - 1 in the order of classes of `fewshot.optimization.shots.Shots`.
        counts: [k] int64, number of shots of each of these classes.
        classes: [k] int64 in [0, K), their labels in the problem.
        ids: [M] int64, equal where shots are the same image.
        cache_order: [M] int64, the shots in the order of `Cache.from_problem(problem)`.
    """

    images: Labelled
    counts: Tensor
    classes: Tensor
    ids: Tensor
    cache_order: Tensor

    @classmethod
    def from_problem(cls, problem: Problem) -> GroupedShots:
        """Group the shots of a problem; the same, bit for bit, for any order of the shots and of the classes."""
        shots = Shots.from_problem(problem)
        grouped = shots.labels.argsort(stable=True)
        images = Labelled(shots.views[grouped], shots.labels[grouped])
        counts = torch.bincount(images.labels, minlength=len(shots.classes))
        cache_order = shots.classes[images.labels].argsort(stable=True)
        return cls(images, counts, shots.classes, image_ids(images), cache_order)

    @property
    def can_leave_one_out(self) -> bool:
        """Whether any class has two different images."""
        return len(torch.unique(self.ids)) > len(self.classes)

    def same_image(self, batch: Tensor) -> Tensor:
        """Return [M, B] bool: whether a key is computed from an image of the batch [B] of rows."""
        return self.ids[:, None] == self.ids[batch]

    def hidden(self, batch: Tensor, *, own_keys: bool) -> Tensor:
        """Return [M, B] bool: which keys do not vote on an image; none with `own_keys`, as published."""
        same = self.same_image(batch)
        return torch.zeros_like(same) if own_keys else same

    def training_alpha_beta(self, keys: Tensor, *, logit_scale: float) -> tuple[float, float]:
        """Return alpha and beta for training keys [M, D or Q], unit rows."""
        return TRAINING_ALPHA * logit_scale * len(self.classes) / max(1, len(keys)), default_beta(keys)


@dataclass(frozen=True, kw_only=True)
class CacheTrainingSettings:
    """Settings of the training of keys; the defaults take about two seconds of one core for 81 classes of 16 shots.

    Attributes:
        learning_rate: peak learning rate of AdamW, along half a cosine.
        epochs: passes over the images.
        min_steps: minimum number of steps, if the epochs make fewer.
        max_steps: maximum number of steps; 4000 bound the time from about fifty thousand images on.
        batch_size: maximum number of images in a step.
    """

    learning_rate: float = 1e-3
    epochs: int = 20
    min_steps: int = 200
    max_steps: int = 4000
    batch_size: int = 256

    def steps(self, shots: GroupedShots) -> int:
        """Return the number of steps for a cache of these shots; 0 if no class has two different images."""
        steps = max(self.min_steps, self.epochs * -(-len(shots.ids) // self.batch_size))
        return min(steps, self.max_steps) if shots.can_leave_one_out else 0

    def published_steps(self, images: int) -> int:
        """Return the number of steps of whole epochs, however few they are."""
        return min(self.max_steps, self.epochs * -(-images // self.batch_size))


def train_cache_keys(problem: Problem, *, settings: CacheTrainingSettings, seed: int) -> Tensor:
    """Train the keys of a problem's cache, of real or synthetic shots.

    Args:
        problem: classes without shots are left out of the loss.
        settings: schedule of the training.
        seed: of the order of the shots and of their views.

    Returns:
        [M, D] float32 in the order of `Cache.from_problem(problem)`; not unit rows.
    """
    shots = GroupedShots.from_problem(problem)
    alpha, beta = shots.training_alpha_beta(shots.images.cache_keys, logit_scale=problem.logit_scale)
    steps = settings.steps(shots)
    views = shots.images.views
    return _train(problem, shots, views, settings, alpha=alpha, beta=beta, own_keys=False, steps=steps, seed=seed)


def train_cache_keys_as_published(
    problem: Problem, *, settings: CacheTrainingSettings, alpha: float, seed: int
) -> Tensor:
    """Train the keys as the authors do: own keys vote, beta is 1, and only augmented views are drawn.

    Args:
        problem: see `train_cache_keys`.
        settings: learning rate, epochs, and the maximum number of steps.
        alpha: weight of the votes while training.
        seed: see `train_cache_keys`.

    Returns:
        see `train_cache_keys`.
    """
    shots = GroupedShots.from_problem(problem)
    views, steps = augmented_views(shots.images.views), settings.published_steps(len(shots.ids))
    beta = TRAINING_BETA
    return _train(problem, shots, views, settings, alpha=alpha, beta=beta, own_keys=True, steps=steps, seed=seed)


def _train(
    problem: Problem,
    shots: GroupedShots,
    views: Tensor,
    settings: CacheTrainingSettings,
    *,
    alpha: float,
    beta: float,
    own_keys: bool,
    steps: int,
    seed: int,
) -> Tensor:
    """Train on views [M, V, D] of the grouped shots; returns as `train_cache_keys`."""
    scale, keys = problem.logit_scale, shots.images.cache_keys
    text, views = problem.class_embeddings[shots.classes], normalize(views, dim=-1)

    def loss(parameters: Mapping[str, Tensor], batch: Tensor, generator: torch.Generator) -> Tensor:
        features, hidden = draw_views(views, batch, generator=generator), shots.hidden(batch, own_keys=own_keys)
        votes = leave_one_out_votes(parameters["keys"], shots.counts, features, hidden, beta=beta)
        return cross_entropy(text_logits(features, text, logit_scale=scale) + alpha * votes, shots.images.labels[batch])

    def optimizer(parameters: Iterable[Tensor]) -> Optimizer:
        return AdamW(parameters, lr=settings.learning_rate, eps=1e-4)

    trained = descend(
        {"keys": keys},
        loss,
        optimizer=optimizer,
        rows=len(keys),
        batch_size=settings.batch_size,
        steps=steps,
        seed=seed,
    )
    return trained["keys"][shots.cache_order]


def leave_one_out_votes(keys: Tensor, counts: Tensor, features: Tensor, same_image: Tensor, *, beta: float) -> Tensor:
    """Return the votes of all keys but an image's own; differentiable.

    Args:
        keys: [M, D] float32, grouped by class.
        counts: [k] int64 with sum M.
        features: [B, D] float32, unit rows.
        same_image: [M, B] bool, whether a key is computed from an image.
        beta: exponent of the kernel, >= 0.

    Returns:
        [B, k] float32.
    """
    return segment_sum(kernel(keys @ features.T, beta=beta).masked_fill(same_image, 0.0), counts).T
