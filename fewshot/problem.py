"""What a method may learn from, as values. There is no test split here, so nothing can be tuned on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.classes import LabelSpace
from fewshot.errors import DataError

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone
    from fewshot.backbones.pooling import Pooling
    from fewshot.backbones.text_tower import TextTower

__all__ = ["LabelSpace", "Labelled", "Problem"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled images as the frozen encoder sees them.

    Attributes:
        views: [M, V, D] float32, raw encoder outputs (not normalised), V >= 1. View 0 is the deterministic one that
            archive images get, too; views 1… are augmented.
        labels: [M] int64 in [0, K).
        dense: [M, T, C] float16, the tokens that the image tower's last layer pools, of the deterministic view
            (`fewshot.backbones.pooling`); None unless a method needs them.
        latents: [M, 2, C, h, w] float32, mean and standard deviation of what the diffusion model's VAE says of the
            image (`DiffusionBackbone.posterior`); None unless a method needs them.
    """

    views: Tensor
    labels: Tensor
    dense: Tensor | None = None
    latents: Tensor | None = None

    def __len__(self) -> int:
        """M."""
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Labelled:
        """The images selected by an index or a boolean mask, [m] or [M]."""
        dense, latents = (None if part is None else part[index] for part in (self.dense, self.latents))
        return Labelled(self.views[index], self.labels[index], dense, latents)

    @property
    def features(self) -> Tensor:
        """[M, D] float32, unit rows: the deterministic view."""
        return normalize(self.views[:, 0], dim=-1)

    @property
    def cache_keys(self) -> Tensor:
        """[M, D] float32, unit rows: the mean of the raw augmented views, then normalised (Tip-Adapter's cache).

        With no augmented view (V = 1), the deterministic one.
        """
        augmented = self.views[:, 1:] if self.views.shape[1] > 1 else self.views
        return normalize(augmented.mean(dim=1), dim=-1)


@dataclass(frozen=True, slots=True)
class Problem:
    """All that a method may learn from. The test split is not here, so nothing can be tuned on it.

    Attributes:
        label_space: the K classes.
        class_embeddings: [K, D] float32, unit rows: the prompt ensemble's text embedding of each class.
        support: the shots.
        val: extra labelled images to choose hyperparameters on; None chooses them by cross-validation inside
            the shots.
        logit_scale: the backbone's exp(logit_scale), 100 for CLIP.
        text_tower: the backbone's, for methods whose `needs` name it; None otherwise.
        pooling: the last layer of its image tower, for methods whose `needs` name it; None otherwise.
        diffusion: a diffusion model whose texts lie in the features' space, for methods whose `needs` name it; None
            otherwise.
    """

    label_space: LabelSpace
    class_embeddings: Tensor
    support: Labelled
    val: Labelled | None
    logit_scale: float
    text_tower: TextTower | None = None
    pooling: Pooling | None = None
    diffusion: DiffusionBackbone | None = None

    def __post_init__(self) -> None:
        """Check shapes and ranges.

        Raises:
            DataError: when they do not fit together.
        """
        K, D = len(self.label_space), self.class_embeddings.shape[-1]
        if self.class_embeddings.shape != (K, D):
            raise DataError(f"class_embeddings must be [K, D] = [{K}, D], got {list(self.class_embeddings.shape)}")
        for name, part in (("support", self.support), ("val", self.val)):
            if part is None:
                continue
            if part.views.ndim != 3 or part.views.shape[-1] != D or len(part.views) != len(part.labels):
                raise DataError(f"{name} views must be [M, V, {D}] beside [M] labels, got {list(part.views.shape)}")
            if len(part) and not (0 <= int(part.labels.min()) and int(part.labels.max()) < K):
                raise DataError(f"{name} labels must lie in [0, {K})")

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.label_space)

    @property
    def counts(self) -> Tensor:
        """[K] int64: shots of each class."""
        return torch.bincount(self.support.labels, minlength=self.num_classes)

    def with_support(self, support: Labelled) -> Problem:
        """The same problem with other shots (a fold of cross-validation)."""
        return replace(self, support=support)
