"""Load the CLIP of a `ClipSpec`; errors name what is missing and how to get it.

Local weights are read from safetensors only: a pickled checkpoint can run code. Weights that open_clip itself fetches
under one of its tags may be pickled; they are read with `weights_only`, which creates nothing but tensors.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import torch

from fewshot.backbones.clip import ClipBackbone
from fewshot.backbones.clip_spec import EMBEDDED, ClipSpec
from fewshot.backbones.determinism import DTYPES, compute_capability, find_device, fix_arithmetic
from fewshot.backbones.image_crop import Crop, crop_of
from fewshot.backbones.untrusted_weights import check_clip_config, checked_config, read_config, remote_code_refused
from fewshot.errors import BackboneError, UnknownNameError
from fewshot.prompt_templates import IMAGENET_TEMPLATES, PLAIN_TEMPLATES

if TYPE_CHECKING:
    from fewshot.backbones.text_tower.prompt_tokens import Tokenize

CPU_BATCH, GPU_BATCH = 4, 128
CLIP_CONFIG, CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
OLD_CLIP_WEIGHTS = "open_clip_pytorch_model.safetensors"


def load_clip(spec: ClipSpec) -> ClipBackbone:
    """Load a CLIP for inference.

    This also sets the process's number of torch threads to `spec.threads`, allows TF32 or forbids it, and makes cuDNN
    use deterministic kernels: with the batch size they decide the last bits of every feature. A precision of "auto" is
    that of the device.

    Raises:
        BackboneError: packages, weights or a device are missing; the message says how to get them.
        UnknownNameError: open_clip has no such model.
    """
    device = find_device(spec.device)
    spec = spec.settled(compute_capability(device))
    assert spec.precision != "auto"
    fix_arithmetic(threads=spec.threads, tf32=spec.tf32)
    model, tokenize, templates = _embedded() if spec.model == EMBEDDED else _from_open_clip(spec)
    size, crop, mean, std = _preprocessing(model)
    if spec.compile:
        model.visual.compile(dynamic=False)
    return ClipBackbone(
        model=_to(device, DTYPES[spec.precision], model),
        tokenize=tokenize,
        crop=crop,
        mean=mean,
        std=std,
        image_size=size,
        batch_size=spec.batch_size or (CPU_BATCH if device.type == "cpu" else GPU_BATCH),
        templates=templates,
        device=device,
        dtype=DTYPES[spec.precision],
        is_compiled=spec.compile,
    )


def _to(device: torch.device, dtype: torch.dtype, model: Any) -> Any:
    """Return the model on a device; the scale of its logits, e to the power of a number, stays in float32."""
    scale = model.logit_scale.detach().float().to(device)
    model = model.to(device, dtype)
    model.logit_scale = torch.nn.Parameter(scale, requires_grad=False)
    return model


def _embedded() -> tuple[Any, Tokenize, tuple[str, ...]]:
    ClipSpec().check()  # Raises with the remedy if a package is missing.
    from fewshot.backbones.embedded_clip import assemble, tokenize

    return assemble(), tokenize, PLAIN_TEMPLATES


def _from_open_clip(spec: ClipSpec) -> tuple[Any, Tokenize, tuple[str, ...]]:
    name = _known_name(spec)
    _refuse_pickles(spec)
    try:
        with warnings.catch_warnings(), remote_code_refused():
            warnings.simplefilter("ignore")
            _check_config(spec, name)
            model = open_clip.create_model(name, pretrained=spec.pretrained, require_pretrained=True, weights_only=True)
            tokenizer = open_clip.get_tokenizer(name)
    except BackboneError:
        raise
    except Exception as error:  # Libraries that read untrusted files raise anything.
        raise BackboneError(_remedy(spec, error)) from error
    return model.eval().requires_grad_(False), tokenizer, IMAGENET_TEMPLATES


def _refuse_pickles(spec: ClipSpec) -> None:
    """Refuse pickled weights: open_clip would take any that it finds in a folder."""
    if spec.is_folder and not any((Path(spec.model) / name).is_file() for name in (CLIP_WEIGHTS, OLD_CLIP_WEIGHTS)):
        where = f"folder {spec.model!r} has no {CLIP_WEIGHTS}"
    elif spec.pretrained and Path(spec.pretrained).is_file() and not spec.pretrained.endswith(".safetensors"):
        where = f"cannot load a CLIP from {spec.pretrained}"
    else:
        return
    raise BackboneError(
        f"{where}: weights are read from safetensors only, as a pickled file can run code. If you trust the file, "
        "convert it once: `safetensors.torch.save_file(torch.load(file, weights_only=True), name)`."
    )


def _check_config(spec: ClipSpec, name: str) -> None:
    """Check a configuration from other people before open_clip follows it."""
    if spec.is_folder:
        path = Path(spec.model) / CLIP_CONFIG
        check_clip_config(read_config(path), str(path))
    elif spec.model.startswith("hf-hub:"):
        model = open_clip.get_model_config(name)
        check_clip_config({"model_cfg": checked_config(model, spec.model)}, f"{CLIP_CONFIG} of {spec.model}")


def _known_name(spec: ClipSpec) -> str:
    """Return the name for open_clip, after checks that open_clip makes late or not at all."""
    spec.check()
    if spec.is_folder:
        return f"local-dir:{Path(spec.model).resolve()}"
    tags = open_clip.list_pretrained_tags_by_model(spec.model)
    if spec.pretrained and spec.pretrained not in tags and not Path(spec.pretrained).is_file():
        raise UnknownNameError(f"weights of {spec.model}", spec.pretrained, tags)
    return spec.model


def _remedy(spec: ClipSpec, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
    if spec.is_folder or (spec.pretrained and Path(spec.pretrained).is_file()):
        return (
            f"cannot load a CLIP from {spec.pretrained or spec.model}: {reason}. A folder needs {CLIP_CONFIG} and "
            f"{CLIP_WEIGHTS}; a checkpoint must fit the named model."
        )
    return (
        f"the weights of {spec.model} {spec.pretrained or ''} are not on this machine and could not be fetched:"
        f" {reason}. Fetch them once on a machine that reaches the hub and copy its cache here, or set a local folder"
        " or checkpoint, or use model = 'embedded', which needs no download."
    )


def _preprocessing(model: Any) -> tuple[int, Crop, tuple[float, ...], tuple[float, ...]]:
    """Return open_clip's evaluation transform up to uint8 pixels; the rest happens on the device."""
    config = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
    size = config.size if isinstance(config.size, int) else config.size[0]
    return size, crop_of(config), tuple(config.mean), tuple(config.std)
