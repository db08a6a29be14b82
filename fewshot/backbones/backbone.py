"""What a job needs of a backbone, one model or two side by side, and what it is. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fewshot.backbones.image_crop import Crop
    from fewshot.backbones.pooling import Pooling
    from fewshot.backbones.text_tower import TextTower
    from fewshot.classes import LabelSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRecord:
    """A backbone's record. Equal weights and settings have equal records.

    Attributes:
        image_dim: D, the size of a feature.
        has_text: whether texts can be embedded. Without, only methods that use no class names work
            (`MethodInfo.uses_text`); `ClipSpec.has_text` knows this before anything is loaded.
        logit_scale: by which cosines are multiplied to be logits, > 0.
        logit_bias: what the model adds to each logit (SigLIP); None for others. It moves the logits of all classes
            alike, so no probability depends on it.
        preprocessing: digest of what becomes of an image before it reaches the model. Equal ones give equal pixels.
        licence: of the weights, as they state it; None if they do not.
        weights: digest of what identifies the weights, see `ClipSpec.identity`; None for a model made elsewhere.
    """

    image_dim: int
    has_text: bool
    logit_scale: float
    logit_bias: float | None
    preprocessing: str
    licence: str | None
    weights: str | None


class Backbone(Protocol):
    """Embeds images, and class names if it has text; see `ClipBackbone`."""

    @property
    def record(self) -> BackboneRecord:
        """What it is and can do."""
        ...

    @property
    def crop(self) -> Crop:
        """Decoded image of any size -> [3, H, W] uint8."""
        ...

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of what `crop` returns, in pixels."""
        ...

    @property
    def longer_side(self) -> int:
        """The longer side of the largest input of a model, in pixels: images may be decoded smaller, not below it."""
        ...

    @property
    def batch_size(self) -> int:
        """Images in one forward."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes."""
        ...

    @property
    def dim(self) -> int:
        """D, the size of a feature."""
        ...

    @property
    def logit_scale(self) -> float:
        """By which cosines are multiplied to be logits."""
        ...

    @property
    def text_tower(self) -> TextTower:
        """The text tower, for context vectors. Raises BackboneError if there is none that takes them."""
        ...

    @property
    def pooling(self) -> Pooling:
        """The last layer of the image tower. Raises BackboneError if it is no attention pool."""
        ...

    def embed_images(self, images: Tensor) -> Tensor:
        """Encode images [N, 3, H, W] uint8 from `crop`, to [N, D] float32 on the CPU."""
        ...

    def embed_dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images, and return dense tokens as well. Raises BackboneError as `pooling`."""
        ...

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Encode one batch on the device, without waiting for it."""
        ...

    def encode_dense(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode one batch as `encode_pixels`, and return dense tokens as well."""
        ...

    def prototypes(self, label_space: LabelSpace, templates: Sequence[str] | None = None) -> Tensor:
        """Return the zero-shot classifier's rows [K, D] float32: unit rows, or zeros without text."""
        ...
