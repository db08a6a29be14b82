"""Encoding: images in, latents out. Only images that somebody asks about are encoded, and only once."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load, save

from cluster import Part, Store, Unit, fingerprint
from cluster.records import Record, Shard, pick
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from ray_jobs.output.feature_parts import removed_if_damaged
from ray_jobs.steps.diffusion_worker import DiffusionWorker

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.backbones.diffusion import DiffusionBackbone

LATENTS_VERSION = 2
"""Part of every fingerprint of latents: raised when decoding or encoding changes."""


def latents_folder(spec: DiffusionSpec) -> str:
    """Where a model's latents are kept."""
    return f"latents/{fingerprint([LATENTS_VERSION, spec.identity()])}"


def latent_unit(spec: DiffusionSpec, place: str, shard: Shard, rows: Iterable[int]) -> Unit:
    """What encodes some images of a shard.

    Args:
        spec: the model.
        place: folder of the part, below that of the model's latents.
        shard: where the images are.
        rows: their places in it.
    """
    wanted = tuple(sorted(rows))
    name = f"{shard.fingerprint}-{fingerprint(wanted)[:8]}"
    return Unit(f"{latents_folder(spec)}/{place}/part-{name}.safetensors", LatentUnit(shard, wanted), len(wanted))


@dataclass(frozen=True, slots=True)
class LatentUnit:
    """What one unit encodes.

    Attributes:
        shard: where the images are.
        rows: their places in it.
    """

    shard: Shard
    rows: tuple[int, ...]

    def run(self, worker: DiffusionWorker) -> Part:
        """Encode the images; what cannot be read is a row with its reason."""
        import torch

        backbone = worker.backbone
        keys, errors, pixels = zip(*_decoded(backbone, self), strict=True)
        images = [p for p in pixels if p is not None]
        posterior = torch.zeros(len(keys), 2, *backbone.latent_shape)
        if images:
            read = torch.tensor([p is not None for p in pixels])
            posterior[read] = torch.stack(backbone.posterior(torch.stack(images)), dim=1)
        unread = float(sum(error is not None for error in errors))
        latents = Latents(keys, errors, posterior.numpy(), len(backbone.alphas_cumprod))
        return Part(encoded(latents), {"images": len(keys), "unreadable": unread})


@dataclass(frozen=True, slots=True)
class Latents:
    """Encoded images of one part.

    Attributes:
        images: n keys.
        errors: n reasons; None where the image was read.
        posterior: [n, 2, C, h, w] float32, mean and standard deviation of the latents; zero where it was not read.
        num_steps: T of the model.
    """

    images: tuple[str, ...]
    errors: tuple[str | None, ...]
    posterior: np.ndarray
    num_steps: int

    @property
    def read(self) -> np.ndarray:
        """[n] bool, which were read."""
        return np.array([error is None for error in self.errors], dtype=bool)

    def without(self, withheld: Container[int]) -> list[int]:
        """Rows that were read and are not withheld; all that were read, if that leaves none."""
        readable: list[int] = self.read.nonzero()[0].tolist()
        return [row for row in readable if row not in withheld] or readable


def _decoded(backbone: DiffusionBackbone, unit: LatentUnit) -> Iterator[tuple[str, str | None, Tensor | None]]:
    for record in pick(unit.shard, unit.rows):
        yield record.key, *_pixels(backbone, record)


def _pixels(backbone: DiffusionBackbone, record: Record) -> tuple[str | None, Tensor | None]:
    """The reason why there are no pixels, or the pixels."""
    from fewshot.errors import UnreadableImageError
    from fewshot.images import decode

    if record.data is None:
        return record.error, None
    try:
        return None, backbone.crop(decode(record.data, min_side=2 * backbone.image_size))
    except UnreadableImageError as error:
        return str(error), None


def encoded(latents: Latents) -> bytes:
    """A part as it is stored: safetensors, keys and reasons in the metadata. Equal parts give equal bytes."""
    # One entry: several would be written in any order.
    rows = json.dumps([latents.images, latents.errors, latents.num_steps])
    return save({"posterior": np.ascontiguousarray(latents.posterior, np.float32)}, {"rows": rows})


def get_latents(store: Store, path: str) -> Latents:
    """A part from storage.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    with removed_if_damaged(store, path):
        length = int.from_bytes(data[:8], "little")
        images, errors, num_steps = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["rows"])
        return Latents(tuple(images), tuple(errors), load(data)["posterior"], num_steps)
