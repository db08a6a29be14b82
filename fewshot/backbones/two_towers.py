"""Two backbones side by side: the features of an image are both unit features, one after the other.

A cosine of such features is the mean of both towers' cosines. Embeddings of texts are joined in the same way; a tower
without text has zeros there. The pixels of both towers travel as one image, one above the other, so that whatever takes
one backbone takes two.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.backbones.backbone import BackboneRecord
from fewshot.backbones.clip import ClipBackbone
from fewshot.backbones.determinism import pad_with_zeros
from fewshot.classes import LabelSpace
from fewshot.digests import digest
from fewshot.errors import BackboneError

if TYPE_CHECKING:
    from fewshot.backbones.image_crop import Crop
    from fewshot.images.resizing import Picture


NO_DENSE_TOKENS = "dense tokens belong to one image tower, and these are two models side by side"


@dataclass(frozen=True, slots=True)
class StackedCrop:
    """Brings an image to the input sizes of two models, one above the other.

    Attributes:
        upper, lower: the crops.
        input_size: (H, W) of the result, in pixels; the narrower crop has zeros on its right.
    """

    upper: Crop
    lower: Crop
    input_size: tuple[int, int]

    def __call__(self, image: Picture) -> Tensor:
        """Return [3, H, W] uint8."""
        upper, lower = self.upper(image), self.lower(image)
        stacked = upper.new_zeros(3, *self.input_size)
        stacked[:, : upper.shape[1], : upper.shape[2]] = upper
        stacked[:, upper.shape[1] :, : lower.shape[2]] = lower
        return stacked


@dataclass(frozen=True)
class TwoTowers:
    """Two loaded backbones on the same device, with the interface of one (`Backbone`).

    Attributes:
        first, second: the backbones, with the same batch size.
    """

    first: ClipBackbone
    second: ClipBackbone

    @property
    def towers(self) -> tuple[ClipBackbone, ClipBackbone]:
        """Both."""
        return self.first, self.second

    @property
    def device(self) -> torch.device:
        """Of both models."""
        return self.first.device

    @property
    def dtype(self) -> torch.dtype:
        """Of both models."""
        return self.first.dtype

    @property
    def batch_size(self) -> int:
        """Images in a forward of each."""
        return self.first.batch_size

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of both crops, one above the other."""
        heights, widths = zip(*(tower.input_size for tower in self.towers), strict=True)
        return sum(heights), max(widths)

    @property
    def longer_side(self) -> int:
        """The longer side of the larger input, in pixels."""
        return max(tower.longer_side for tower in self.towers)

    @property
    def crop(self) -> StackedCrop:
        """Decoded image of any size -> [3, H, W] uint8."""
        return StackedCrop(self.first.crop, self.second.crop, self.input_size)

    @property
    def has_text(self) -> bool:
        """Whether either embeds texts."""
        return any(tower.has_text for tower in self.towers)

    @property
    def dim(self) -> int:
        """D, the sum of both."""
        return sum(tower.dim for tower in self.towers)

    @property
    def logit_scale(self) -> float:
        """The scale with which the logits of texts are the mean of the logits of the towers with text.

        That is exact where these have the same scale; otherwise each has their mean.
        """
        with_text = [tower for tower in self.towers if tower.has_text]
        scales = [tower.logit_scale for tower in with_text or self.towers]
        return sum(scales) / len(scales) * math.sqrt(len(self.towers) / len(scales))

    @cached_property
    def record(self) -> BackboneRecord:
        """What they are together."""
        records = [tower.record for tower in self.towers]
        licences = dict.fromkeys(record.licence or "unknown" for record in records)
        return BackboneRecord(
            image_dim=self.dim,
            has_text=self.has_text,
            logit_scale=self.logit_scale,
            logit_bias=None,
            preprocessing=_digest_of(record.preprocessing for record in records),
            licence=None if [*licences] == ["unknown"] else " and ".join(licences),
            weights=_digest_of(record.weights for record in records),
        )

    @property
    def text_tower(self) -> NoReturn:
        """Not there.

        Raises:
            BackboneError: always.
        """
        raise BackboneError("context vectors belong to one text tower, and these are two models side by side")

    @property
    def pooling(self) -> NoReturn:
        """Not there.

        Raises:
            BackboneError: always.
        """
        raise BackboneError(NO_DENSE_TOKENS)

    @torch.inference_mode()
    def embed_images(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: [N, 3, H, W] uint8, from `crop`.

        Returns:
            [N, D] float32 on the CPU, unit rows.
        """
        return torch.cat([self._forward(part) for part in torch.split(images, self.batch_size)] or [torch.empty(0)])

    def _forward(self, images: Tensor) -> Tensor:
        padded = pad_with_zeros(images, self.batch_size)
        return self.encode_pixels(padded.to(self.device)).cpu()[: len(images)]

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Encode one batch on the device, without waiting for it.

        Args:
            pixels: [batch_size, 3, H, W] uint8 on `device`.

        Returns:
            [batch_size, D] float32 on `device`, unit rows.
        """
        height, width = self.first.input_size
        parts = [pixels[:, :, :height, :width], pixels[:, :, height:, : self.second.input_size[1]]]
        return _joined([tower.encode_pixels(part) for tower, part in zip(self.towers, parts, strict=True)])

    def embed_dense(self, images: Tensor) -> NoReturn:
        """Raise.

        Raises:
            BackboneError: always.
        """
        del images
        raise BackboneError(NO_DENSE_TOKENS)

    def encode_dense(self, pixels: Tensor) -> NoReturn:
        """Raise.

        Raises:
            BackboneError: always.
        """
        del pixels
        raise BackboneError(NO_DENSE_TOKENS)

    def prototypes(self, label_space: LabelSpace, templates: Sequence[str] | None = None) -> Tensor:
        """Return the zero-shot classifier's rows, see `ClipBackbone.prototypes`: those of both towers, joined.

        Args:
            label_space: K classes.
            templates: prompts with one "{}" each; None takes those of each tower.

        Returns:
            [K, D] float32, unit rows; zeros without text.
        """
        return _joined([tower.prototypes(label_space, templates) for tower in self.towers])


def _digest_of(digests: Iterable[str | None]) -> str:
    return digest(json.dumps([*digests]).encode())


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return unit rows [N, D] of rows [N, D_i]; a part that is zero stays zero."""
    return normalize(torch.cat([normalize(part, dim=-1) for part in parts], dim=-1), dim=-1)
