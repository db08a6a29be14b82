"""A backbone whose forward costs nothing, so that only the path to it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from ray_jobs.steps.embed import Embedder, EmbedStep

if TYPE_CHECKING:
    from fewshot.backbones import ClipBackbone

BATCH, SIZE, DIM = 32, 224, 16
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


class Stub:
    """Returns the first pixels as features."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        return pixels[:, 0, 0, :DIM]


@dataclass(frozen=True, slots=True)
class StubbedEmbedStep(EmbedStep):
    """`EmbedStep` with a stub for the model; imports, decoding, cropping, normalisation and parts are real."""

    def setup(self) -> Embedder:
        """Return a backbone with the stub."""
        return Embedder.from_clip(stub_backbone(BATCH), decode_threads=self.decode_threads, dim=DIM)


def stub_backbone(batch_size: int) -> ClipBackbone:
    """Return a backbone with the stub."""
    import torch
    from open_clip.transform import PreprocessCfg

    from fewshot.backbones.clip_loading import ClipBackbone
    from fewshot.backbones.image_crop import crop_of

    torch.set_num_threads(1)
    return ClipBackbone(
        model=Stub(),
        tokenize=lambda _: [],
        crop=crop_of(PreprocessCfg(size=SIZE)),
        mean=MEAN,
        std=STD,
        input_size=(SIZE, SIZE),
        batch_size=batch_size,
        templates=(),
        device=torch.device("cpu"),
        channels_last=False,
    )


def usual_preprocessing() -> Callable[[Image.Image], Tensor]:
    """Return the usual preprocessing of an image, for the other contenders."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    return Compose(
        [Resize(SIZE, InterpolationMode.BICUBIC), CenterCrop(SIZE), ToTensor(), Normalize(MEAN, STD)],
    )
