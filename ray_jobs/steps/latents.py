"""Encoding: images in, latents out. Only images that a diffusion model scores or trains on are encoded, each once."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load, save

from cluster import Part, Store, Unit, fingerprint
from cluster.records import Record, Shard, pick
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from fewshot.digests import PLACEHOLDER, check_seal, seal
from fewshot.image_formats import decoding_identity
from ray_jobs.output.feature_parts import removed_if_damaged
from ray_jobs.steps.diffusion_worker import DiffusionWorker, LatentMeans

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.backbones.diffusion import DiffusionBackbone

LATENTS_VERSION = 3
"""Part of every fingerprint of latents, beside that of decoding: raised when encoding or the format changes."""


def latents_folder(spec: DiffusionSpec) -> str:
    """Return the folder of a model's latents."""
    return f"latents/{fingerprint([LATENTS_VERSION, decoding_identity(), spec.identity()])}"


def latent_unit(spec: DiffusionSpec, folder: str, shard: Shard, rows: Iterable[int]) -> Unit:
    """Return the unit that encodes some images of a shard.

    Args:
        spec: the model.
        folder: of the part, below that of the model's latents.
        shard: holds the images.
        rows: numbers of the images in the shard.
    """
    ordered = tuple(sorted(rows))
    name = f"{shard.fingerprint}-{fingerprint(ordered)[:8]}"
    return Unit(f"{latents_folder(spec)}/{folder}/part-{name}.safetensors", LatentUnit(shard, ordered), len(ordered))


@dataclass(frozen=True, slots=True)
class LatentUnit:
    """Images to encode.

    Attributes:
        shard: holds the images.
        rows: numbers of the images in the shard, rising.
    """

    shard: Shard
    rows: tuple[int, ...]

    def run(self, worker: DiffusionWorker) -> Part:
        """Encode the images; an unreadable one becomes a row with its reason."""
        import torch

        backbone = worker.backbone
        keys, errors, pixels = zip(*_decoded(backbone, self), strict=True)
        images = [p for p in pixels if p is not None]
        posterior = torch.zeros(len(keys), 2, *backbone.latent_shape)
        if images:
            read = torch.tensor([p is not None for p in pixels])
            with worker.device:
                posterior[read] = torch.stack(backbone.posterior(torch.stack(images)), dim=1)
        latents = Latents(keys, errors, posterior.numpy(), len(backbone.alphas_cumprod)).without_nonfinite()
        return Part(latents.to_bytes(), {"images": len(keys), "unreadable": float((~latents.read).sum())})


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
        """[n] bool, whether the image was read."""
        return np.array([error is None for error in self.errors], dtype=bool)

    def without_nonfinite(self) -> Latents:
        """Return the latents with a reason in place of those that are not finite: in fp16, autoencoders overflow."""
        finite = np.isfinite(self.posterior).all(axis=(1, 2, 3, 4))
        if finite.all():
            return self
        reason = "its latents are not finite numbers"
        errors = tuple(
            error or (None if ok else reason) for error, ok in zip(self.errors, finite.tolist(), strict=True)
        )
        return replace(self, errors=errors, posterior=np.where(finite[:, None, None, None, None], self.posterior, 0.0))

    def training_rows(self, held_out: Container[int]) -> list[int]:
        """Return the rows that were read and are not held out; all that were read, if none would be left."""
        readable: list[int] = self.read.nonzero()[0].tolist()
        return [row for row in readable if row not in held_out] or readable

    def to_bytes(self) -> bytes:
        """Return the part as stored: safetensors, keys and reasons in the metadata. Equal parts give equal bytes."""
        # One entry: several would be written in any order.
        rows = json.dumps([self.images, self.errors, self.num_steps, PLACEHOLDER])
        return seal(save({"posterior": np.ascontiguousarray(self.posterior, np.float32)}, {"rows": rows}))


def _decoded(backbone: DiffusionBackbone, unit: LatentUnit) -> Iterator[tuple[str, str | None, Tensor | None]]:
    for record in pick(unit.shard, unit.rows):
        yield record.key, *_pixels(backbone, record)


def read_pixels(backbone: DiffusionBackbone, unit: LatentUnit, rows: Sequence[int]) -> Tensor:
    """Return some images of a unit, cropped.

    Args:
        backbone: crops them.
        unit: the images.
        rows: n rows of the part that the unit makes.

    Returns:
        [n, 3, H, W] uint8.

    Raises:
        DataError: one of them cannot be read any more.
    """
    import torch

    from fewshot.errors import DataError

    found = list(_decoded(backbone, unit))
    if lost := [f"{key}: {error}" for key, error, pixels in map(found.__getitem__, rows) if pixels is None]:
        raise DataError(f"examples could be encoded before, and cannot be read any more: {'; '.join(lost)}")
    return torch.stack([pixels for _, _, pixels in map(found.__getitem__, rows) if pixels is not None])


def _pixels(backbone: DiffusionBackbone, record: Record) -> tuple[str | None, Tensor | None]:
    """Return the pixels, or the reason why there are none."""
    from fewshot.errors import UnreadableImageError
    from fewshot.images import decode, side_before_resizing

    if record.data is None:
        return record.error, None
    try:
        return None, backbone.crop(decode(record.data, min_side=side_before_resizing(backbone.image_size)))
    except UnreadableImageError as error:
        return str(error), None


def load_means(worker: DiffusionWorker, paths: Sequence[str]) -> list[LatentMeans]:
    """Return the latents of parts, those used last from memory.

    Raises:
        DamagedError: a part is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    read = partial(_get_means, worker.store)
    return worker.latents.get(paths, lambda missing: list(worker.readers.map(read, missing)))


def _get_means(store: Store, path: str) -> LatentMeans:
    latents = get_latents(store, path)
    return LatentMeans(latents.images, latents.posterior[:, 0].copy())


def get_latents(store: Store, path: str) -> Latents:
    """Read a part.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    with removed_if_damaged(store, path):
        check_seal(data)
        length = int.from_bytes(data[:8], "little")
        images, errors, num_steps, _ = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["rows"])
        return Latents(tuple(images), tuple(errors), load(data)["posterior"], num_steps).without_nonfinite()
