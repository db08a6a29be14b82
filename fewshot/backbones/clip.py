"""A frozen CLIP: images and texts in, raw features out, with bits that do not depend on the rest of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.backbones.backbone import BackboneRecord
from fewshot.backbones.determinism import TEXT_BATCH, pad_with_copies, pad_with_zeros
from fewshot.classes import LabelSpace
from fewshot.prompt_templates import fill_templates

if TYPE_CHECKING:
    from fewshot.backbones.clip_spec import ClipSpec
    from fewshot.backbones.image_crop import Crop
    from fewshot.backbones.pooling import Pooling
    from fewshot.backbones.pooling.pooling_detection import DetectedPooling
    from fewshot.backbones.text_tower import TextTower
    from fewshot.backbones.text_tower.prompt_tokens import Tokenize


@dataclass(frozen=True)
class ClipBackbone:
    """A loaded CLIP, see `fewshot.backbones.load_clip`.

    Attributes:
        model: an open_clip model in evaluation mode, on `device`.
        tokenize: its tokenizer.
        crop: decoded image of any size -> [3, H, W] uint8, the model's input before normalisation.
        mean, std: the normalisation, over values in [0, 1].
        input_size: (H, W), in pixels.
        batch_size: images in one forward; a smaller batch is padded to it.
        templates: default templates of prompts, each with one "{}".
        device: of the model.
        dtype: of the model.
        channels_last: whether pixels are laid out channels last.
        is_compiled: whether the image tower was compiled; forwards that keep dense tokens run it as it was before.
        spec: what was loaded, on the hub at a commit; None for a model that was made elsewhere.
    """

    model: Any
    tokenize: Tokenize
    crop: Crop
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int]
    batch_size: int
    templates: tuple[str, ...]
    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = True
    is_compiled: bool = False
    spec: ClipSpec | None = None

    @cached_property
    def record(self) -> BackboneRecord:
        """What the model is and can do."""
        from fewshot.backbones.image_crop import pixels_digest
        from fewshot.backbones.licences import licence_of

        bias = getattr(self.model, "logit_bias", None)
        return BackboneRecord(
            image_dim=self.dim,
            has_text=self.has_text,
            logit_scale=self.logit_scale,
            logit_bias=None if bias is None else float(bias),
            preprocessing=pixels_digest(self.crop, self.mean, self.std, self.input_size),
            licence=None if self.spec is None else licence_of(self.spec, self.model),
            weights=None if self.spec is None else self.spec.weights_digest,
        )

    @property
    def has_text(self) -> bool:
        """Whether texts can be embedded."""
        return hasattr(self.model, "encode_text")

    @property
    def dim(self) -> int:
        """D, the size of a feature."""
        dim: int = self.embed_texts(["a"]).shape[1] if self.has_text else self.model.dim
        return dim

    @property
    def longer_side(self) -> int:
        """The longer side of the model's input, in pixels."""
        return max(self.input_size)

    @property
    def logit_scale(self) -> float:
        """exp(logit_scale): 100 for CLIP and for the embedded model."""
        return float(self.model.logit_scale.exp())

    @cached_property
    def text_tower(self) -> TextTower:
        """The text tower, for context vectors.

        Raises:
            BackboneError: the model has no text tower that takes context vectors.
        """
        from fewshot.backbones.text_tower import TextTower

        return TextTower(self.model, self.tokenize)

    @torch.inference_mode()
    def embed_images(self, images: Tensor) -> Tensor:
        """Encode images.

        Every forward has `batch_size` rows, missing ones zero, so that the arithmetic of a row does not depend on the
        number of the others.

        Args:
            images: [N, 3, H, W] uint8, from `crop`.

        Returns:
            [N, D] float32 on the CPU, raw encoder outputs (not normalised).
        """
        return torch.cat([self._forward(part) for part in torch.split(images, self.batch_size)] or [torch.empty(0)])

    def _forward(self, images: Tensor) -> Tensor:
        padded = pad_with_zeros(images, self.batch_size)
        return self.encode_pixels(padded.to(self.device)).cpu()[: len(images)]

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Encode one batch on the device of the model, without waiting for it: casts and normalises there.

        Args:
            pixels: [batch_size, 3, H, W] uint8 on `device`.

        Returns:
            [batch_size, D] float32 on `device`, raw encoder outputs.
        """
        mean, std = self._normalization
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        values = pixels.to(torch.float32, memory_format=memory_format)
        values.div_(255).sub_(mean).div_(std)  # In place: fresh memory for each step costs more than the arithmetic.
        features: Tensor = self.model.encode_image(values.to(self.dtype))
        return features.float()

    @cached_property
    def _normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [1, 3, 1, 1] on the device: copied there once, not for each batch."""
        mean, std = (torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return mean, std

    @torch.no_grad()
    def embed_dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images, and return the tokens that the tower's last layer pools as well. One pass for both.

        Args:
            images: [N, 3, H, W] uint8, from `crop`.

        Returns:
            The features [N, D] float32, bit for bit those of `embed_images`, and the tokens [N, T, C] float16, both
            on the CPU.

        Raises:
            BackboneError: the tower does not end in an attention pool.
        """
        parts = [self._forward_dense(part) for part in torch.split(images, self.batch_size)]
        return torch.cat([features for features, _ in parts]), torch.cat([dense for _, dense in parts])

    def _forward_dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, dense = self.encode_dense(pad_with_zeros(images, self.batch_size).to(self.device))
        return features.cpu()[: len(images)], dense.cpu()[: len(images)]

    def encode_dense(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode one batch as `encode_pixels`, and return the tokens of `embed_dense` as well.

        Args:
            pixels: [batch_size, 3, H, W] uint8 on `device`.

        Returns:
            Features [batch_size, D] float32 and tokens [batch_size, T, C] float16, both on `device`.

        Raises:
            BackboneError: the tower does not end in an attention pool.
        """
        batches: list[Tensor] = []
        with self._detected_pooling.recording(batches), self._eager():
            features = self.encode_pixels(pixels)
        return features, batches[0]

    def _eager(self) -> AbstractContextManager[object]:
        """A context without compiled code, which would not notice that tokens are recorded."""
        return torch.compiler.set_stance("force_eager") if self.is_compiled else nullcontext()

    @property
    def pooling(self) -> Pooling:
        """The last layer of the image tower, for tokens of `embed_dense`.

        Raises:
            BackboneError: the tower does not end in an attention pool.
        """
        return self._detected_pooling.pooling

    @cached_property
    def _detected_pooling(self) -> DetectedPooling:
        from fewshot.backbones.pooling.pooling_detection import detect_pooling

        return detect_pooling(self.model.visual)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts, in batches of the same token length.

        Args:
            texts: T strings.

        Returns:
            [T, D] float32 on the CPU, raw encoder outputs (not normalised).
        """
        ids = self.tokenize(list(texts))
        rows: list[Tensor] = [torch.empty(0)] * len(texts)
        by_length = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        for _, same_length in groupby(by_length, key=lambda i: len(ids[i])):
            group = list(same_length)
            for start in range(0, len(group), TEXT_BATCH):
                part = group[start : start + TEXT_BATCH]
                for i, row in zip(part, self._encode(torch.stack([ids[i] for i in part])), strict=True):
                    rows[i] = row
        return torch.stack(rows)

    def _encode(self, ids: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(pad_with_copies(ids, TEXT_BATCH).to(self.device))
        return features.float().cpu()[: len(ids)]

    def prototypes(self, label_space: LabelSpace, templates: Sequence[str] | None = None) -> Tensor:
        """Return the zero-shot classifier's rows: embeddings normalised, averaged over prompts, normalised again.

        Args:
            label_space: K classes; a description counts as one more prompt of its class.
            templates: prompts with one "{}" each; None takes the backbone's own.

        Returns:
            [K, D] float32, unit rows; zeros for a backbone without text.
        """
        if not self.has_text:
            return torch.zeros(len(label_space), self.dim)
        per_class = fill_templates(label_space, templates or self.templates)
        features = normalize(self.embed_texts([text for texts in per_class for text in texts]), dim=-1)
        means = [part.mean(dim=0) for part in torch.split(features, [len(texts) for texts in per_class])]
        return normalize(torch.stack(means), dim=-1)
