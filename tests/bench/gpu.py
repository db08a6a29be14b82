"""The rates of the whole system on one GPU, each as a share of the rate of one large matrix product: ten minutes.

Weights are random, and photographs synthetic, so that nothing has to be there but a GPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cluster import Event, Ledger, LocalExecutor, Store, UnitDone, Workers, WorkersReady, run_stage
from cluster.records import open_source
from fewshot.backbones import ClipBackbone, ClipSpec
from fewshot.backbones.diffusion import DiffusionBackbone
from fewshot.diffusion.adapter_training import AdapterSettings, train_adapters
from fewshot.diffusion.lora import LoraPair, Pairs, initial_pairs, injected, unet_sites
from fewshot.diffusion.random_draws import LatentImages
from ray_jobs.inputs.archive import archive_units
from ray_jobs.steps.embed import Embedder, EmbedStep
from ray_jobs.steps.placement import GPU_OVERLAP
from tests.bench.gpu_rates import WARM_UP, Row, calls_per_second, flops_of, matmul_flops, peak_memory, release, row
from tests.bench.lora import RANK, with_peft
from tests.bench.photographs import write_photographs
from tests.bench.random_networks import DiffusionShape, random_clip, random_diffusion
from tests.bench.result import Gate, Result

FORWARD, FROM_FILES = "forward, images on the device", "from JPEG files to features"
BARE, STACKED, NAMED = "no adapter", "stacked adapters", "PEFT adapter_names"
TRAINING = "training"
MEASURED_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What is measured.

    Attributes:
        clips: names of open_clip's architectures.
        batch: images in a forward.
        matrix: rows and columns of the matrices whose product is the limit.
        diffusion: shape of the diffusion model.
        rows: of a forward of its UNet.
        classes: with adapters, in a forward of the UNet.
        blocks: classes that are trained in one batch, one number for each measurement.
        decode_threads: that feed the device.
    """

    clips: Sequence[str] = ("ViT-B-32", "ViT-L-14", "ViT-H-14")
    batch: int = 256
    matrix: int = 8192
    diffusion: DiffusionShape = field(default_factory=DiffusionShape)
    rows: int = 32
    classes: int = 32
    blocks: Sequence[int] = (1, 4, 8)
    decode_threads: int = 16


def run(*, images: int, repeat: int, sizes: Sizes = Sizes(), device: str = "cuda") -> Result:
    """Measure embedding, scoring and training.

    Args:
        images: JPEG files to embed with each CLIP.
        repeat: not used: each number is from one measurement of some seconds, so that all fit into ten minutes.
        sizes: what is measured.
        device: where.
    """
    del repeat
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("the section gpu measures a GPU, and PyTorch finds none on this machine")
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    limit = matmul_flops(sizes.matrix, place, dtype)
    rows: list[Row] = [
        row("matrix product", f"{sizes.matrix} x {sizes.matrix}", limit / (2 * sizes.matrix**3), limit, limit)
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder) / "images", images)
        for name in sizes.clips:
            clip = random_clip(name, batch_size=sizes.batch, device=place, dtype=dtype)
            rows += _embedding(name, clip, Path(folder), sizes, limit)
            del clip
            release(place)
    backbone = random_diffusion(sizes.diffusion, device=place, dtype=dtype)
    rows += _scoring(backbone, sizes, limit)
    rows += [_training(backbone, block, limit) for block in sizes.blocks]
    return Result("gpu", _title(place, dtype), rows, _gates(rows))


def _title(device: torch.device, dtype: torch.dtype) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"one {name}, {str(dtype).removeprefix('torch.')}, random weights"


def _gates(rows: Sequence[Row]) -> list[Gate]:
    """Return bounds on our own ways beside the plain ones of the same run."""
    rate = {(row["what"], row["how"]): float(row["a second"]) for row in rows}
    gates = [
        Gate.at_least(f"{what}: {FROM_FILES} / {FORWARD}", rate[what, FROM_FILES] / bare, 0.9)
        for (what, how), bare in rate.items()
        if how == FORWARD
    ]
    scoring = {how: value for (what, how), value in rate.items() if how in (BARE, STACKED, NAMED)}
    return [
        *gates,
        Gate.at_least(f"UNet: {STACKED} / {BARE}", scoring[STACKED] / scoring[BARE], 0.85),
        Gate.at_least(f"UNet: {STACKED} / {NAMED}", scoring[STACKED] / scoring[NAMED], 1.3),
    ]


@torch.inference_mode()
def _embedding(name: str, clip: ClipBackbone, folder: Path, sizes: Sizes, limit: float) -> Iterator[Row]:
    shape = (sizes.batch, 3, *clip.input_size)
    with peak_memory(clip.device) as peak_gib:
        rate, each = forwards(clip, torch.zeros(shape, device=clip.device, dtype=clip.dtype))
        yield row(name, FORWARD, rate, rate * each, limit, peak_gib())
    with peak_memory(clip.device) as peak_gib:
        rate = files_per_second(clip, folder / "images", folder / name, sizes.decode_threads)
        yield row(name, FROM_FILES, rate, rate * each, limit, peak_gib())


def forwards(clip: ClipBackbone, pixels: Tensor) -> tuple[float, int]:
    """Return the images a second of the image tower alone, and the floating-point operations for one image."""
    each = flops_of(lambda: clip.model.encode_image(pixels[:1]))
    return len(pixels) * calls_per_second(lambda: clip.model.encode_image(pixels), clip.device), each


@dataclass(frozen=True, slots=True)
class LoadedEmbedStep(EmbedStep):
    """`EmbedStep` with a backbone that is already loaded, for a worker in this process."""

    clip: ClipBackbone = field(kw_only=True)

    def setup(self) -> Embedder:
        """Return the backbone."""
        dim = self.clip.embed_texts(["a"]).shape[1]
        return Embedder.from_clip(self.clip, decode_threads=self.decode_threads, dim=dim)


def files_per_second(clip: ClipBackbone, images: Path, output: Path, decode_threads: int) -> float:
    """Run the stage that embeds, and return its rate once the worker is ready."""
    started = embedded = 0.0

    def on_event(event: Event) -> None:
        nonlocal started, embedded
        if isinstance(event, WorkersReady):
            started = time.monotonic()
        if isinstance(event, UnitDone):
            embedded += event.weight

    source, ledger = open_source(str(images)), Ledger(Store(str(output)))
    with LocalExecutor() as executor:
        step = LoadedEmbedStep(ClipSpec(), decode_threads, clip=clip)
        units = archive_units(source, "features")
        report = run_stage(executor, step, units, ledger, Workers(overlap=GPU_OVERLAP), on_event)
    assert not report.failed, report.failures
    return embedded / (time.monotonic() - started)


@torch.inference_mode()
def _scoring(backbone: DiffusionBackbone, sizes: Sizes, limit: float) -> Iterator[Row]:
    noisy = torch.randn(sizes.rows, *backbone.latent_shape, device=backbone.device, dtype=backbone.dtype)
    steps = torch.randint(1000, (sizes.rows,), device=backbone.device)
    contexts = torch.randn(sizes.rows, *sizes.diffusion.context, device=backbone.device, dtype=backbone.dtype)
    classes = torch.arange(sizes.rows) % sizes.classes
    pairs = random_pairs(backbone, sizes.classes)
    each = flops_of(lambda: backbone.unet(noisy[:1], steps[:1], contexts[:1]))
    contenders = {
        BARE: (nullcontext(), lambda: backbone.unet(noisy, steps, contexts).sample),
        STACKED: (injected(backbone.unet, pairs), lambda: backbone.unet(noisy, steps, contexts).sample),
    }
    what = f"UNet, {sizes.rows} rows"
    for how, (adapters, forward) in contenders.items():
        with adapters as set_classes, peak_memory(backbone.device) as peak_gib:
            if set_classes is not None:
                set_classes(classes)
            rate = sizes.rows * calls_per_second(forward, backbone.device)
            yield row(what, how, rate, rate * each, limit, peak_gib())
    adapted = with_peft(backbone.unet, pairs)
    names = [f"c{k}" for k in classes.tolist()]
    with peak_memory(backbone.device) as peak_gib:
        forward = lambda: adapted(noisy, steps, contexts, adapter_names=names).sample  # noqa: E731
        rate = sizes.rows * calls_per_second(forward, backbone.device)
        yield row(what, NAMED, rate, rate * each, limit, peak_gib())


def random_pairs(backbone: DiffusionBackbone, K: int) -> Pairs:
    """Return random adapters of K classes, in the backbone's precision, at all sites of its UNet."""
    layers, keys = unet_sites(backbone.unet), [str(k) for k in range(K)]

    def placed(tensor: Tensor) -> Tensor:
        return tensor.to(backbone.device, backbone.dtype)

    return {
        site: LoraPair(placed(pair.A), placed(0.02 * torch.randn_like(pair.B)))
        for site, pair in initial_pairs(layers, keys, rank=RANK, seed=0).items()
    }


def _training(backbone: DiffusionBackbone, block: int, limit: float) -> Row:
    """Train a block of classes for a few steps, an image of each in a step, with prior images."""
    ids = torch.ones(backbone.text_encoder.config.max_position_embeddings, dtype=torch.int64)
    shape = (4, *backbone.latent_shape)
    *classes, prior = [
        LatentImages(key, torch.randn(shape), torch.zeros(shape), ids) for key in (*map(str, range(block)), "prior")
    ]
    times: list[float] = []

    def on_step(step: int, losses: Tensor) -> None:
        del step, losses  # They are on the CPU: the device has finished the step before.
        times.append(time.monotonic())

    def train(steps: int, images: Sequence[LatentImages]) -> None:
        settings = AdapterSettings(steps=steps, rank=RANK)
        train_adapters(backbone, images, settings, block_size=len(images), seed=0, prior=prior, on_step=on_step)

    of_two_rows = flops_of(lambda: train(1, classes[:1]))
    times.clear()
    with peak_memory(backbone.device) as peak_gib:
        train(WARM_UP + MEASURED_STEPS + 1, classes)
        rate = 2 * block * MEASURED_STEPS / (times[-1] - times[WARM_UP])
        how = f"{2 * block} rows of {block} classes"
        return row(TRAINING, how, rate, rate * of_two_rows / 2, limit, peak_gib())
