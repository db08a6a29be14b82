"""Few-shot problems as values: everything that a method may use. They have no test split to tune anything on."""

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
    """Labelled images, encoded by the frozen backbone.

    Attributes:
        views: [M, V, D] float32, raw encoder outputs (not normalised), V >= 1. View 0 is deterministic, as for images
            of an archive; the other views are augmented.
        labels: [M] int64 in [0, K).
        dense: [M, T, C] float16, the input tokens of the image tower's pooling layer, of the deterministic view
            (`fewshot.backbones.pooling`); None unless a method needs them.
        latents: [M, 2, C, h, w] float32, mean and standard deviation of the posterior of the diffusion model's VAE
            (`DiffusionBackbone.posterior`); None unless a method needs them.
    """

    views: Tensor
    labels: Tensor
    dense: Tensor | None = None
    latents: Tensor | None = None

    def __len__(self) -> int:
        """M."""
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Labelled:
        """Return the images selected by an index [m] or a boolean mask [M]."""
        dense, latents = (None if part is None else part[index] for part in (self.dense, self.latents))
        return Labelled(self.views[index], self.labels[index], dense, latents)

    @property
    def features(self) -> Tensor:
        """[M, D] float32, unit rows: the deterministic views."""
        return normalize(self.views[:, 0], dim=-1)

    @property
    def cache_keys(self) -> Tensor:
        """[M, D] float32, unit rows: the mean of the raw augmented views, normalised (Tip-Adapter's cache).

        Without augmented views (V = 1), the deterministic view.
        """
        augmented = self.views[:, 1:] if self.views.shape[1] > 1 else self.views
        return normalize(augmented.mean(dim=1), dim=-1)


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything that a method may learn from. It has no test split, so nothing can be tuned on one.

    Attributes:
        label_space: the K classes.
        class_embeddings: [K, D] float32, unit rows: the prompt ensemble's text embedding of each class.
        support: the shots.
        val: separate labelled images to choose hyperparameters on; None chooses them by cross-validation inside the
            shots.
        logit_scale: the backbone's exp(logit_scale), 100 for CLIP.
        text_tower: the backbone's text tower; None unless the `needs` of a method name it.
        pooling: the pooling layer of the backbone's image tower; None unless the `needs` of a method name it.
        diffusion: a diffusion model whose text embeddings lie in the space of the features; None unless the `needs` of
            a method name it.
        archive: [M, D] float32, unit rows: a sample of the unlabelled images that are to be classified. None unless the
            method learns from the archive (`MethodInfo.learns_from_archive`); others leave it alone.
        depth: 0 for a problem as it is given; 1 for one without a fold of it, which has one fold less.
    """

    label_space: LabelSpace
    class_embeddings: Tensor
    support: Labelled
    val: Labelled | None
    logit_scale: float
    text_tower: TextTower | None = None
    pooling: Pooling | None = None
    diffusion: DiffusionBackbone | None = None
    archive: Tensor | None = None
    depth: int = 0

    def __post_init__(self) -> None:
        """Check shapes and ranges.

        Raises:
            DataError: shapes or labels do not fit together, or features are not finite: one such image would spoil what
                is learned from all.
        """
        K, D = len(self.label_space), self.class_embeddings.shape[-1]
        if self.class_embeddings.shape != (K, D):
            raise DataError(f"class_embeddings must be [K, D] = [{K}, D], got {list(self.class_embeddings.shape)}")
        if wrong := _not_finite(self.class_embeddings):
            raise DataError(f"the text embeddings of {wrong} of {K} classes are not finite numbers")
        for name, part in (("support", self.support), ("val", self.val)):
            if part is None:
                continue
            dtypes = part.views.dtype, self.class_embeddings.dtype
            if dtypes[0] != dtypes[1] or dtypes[0] not in (torch.float32, torch.float64):
                raise DataError(
                    f"{name} views and class_embeddings must be float32, got {dtypes[0]} and {dtypes[1]}: use .float()"
                )
            if wrong := _not_finite(part.views):
                raise DataError(f"{name} features of {wrong} of {len(part)} images are not finite numbers")
            if part.views.ndim != 3 or part.views.shape[-1] != D or len(part.views) != len(part.labels):
                raise DataError(f"{name} views must be [M, V, {D}] beside [M] labels, got {list(part.views.shape)}")
            if len(part) and not (0 <= int(part.labels.min()) and int(part.labels.max()) < K):
                found = f"[{int(part.labels.min())}, {int(part.labels.max())}]"
                raise DataError(f"{name} labels must lie in [0, {K}), got labels in {found}")
        self._check_archive(D)

    def _check_archive(self, dim: int) -> None:
        if self.archive is None:
            return
        if self.archive.ndim != 2 or self.archive.shape[1] != dim:
            raise DataError(f"archive must be [M, {dim}], got {list(self.archive.shape)}")
        if wrong := _not_finite(self.archive):
            raise DataError(f"archive features of {wrong} of {len(self.archive)} images are not finite numbers")

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.label_space)

    @property
    def counts(self) -> Tensor:
        """[K] int64: the number of shots of each class."""
        return torch.bincount(self.support.labels, minlength=self.num_classes)

    def with_support(self, support: Labelled) -> Problem:
        """Return the problem with other shots, such as those of a fold."""
        return replace(self, support=support)


def _not_finite(rows: Tensor) -> int:
    """Return the number of rows of [N, ...] with NaN or infinity in them."""
    return int((~rows.isfinite()).flatten(1).any(dim=1).sum()) if len(rows) else 0
