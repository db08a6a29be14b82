"""One class's adapters as the files that PEFT writes and reads: half precision, safetensors only.

    unet/adapter_config.json   unet/adapter_model.safetensors   text_encoder/…   text_encoder/…

`PeftModel.from_pretrained(unet, folder / "unet")` and diffusers' `unet.load_lora_adapter(folder / "unet",
prefix="base_model.model", weight_name="adapter_model.safetensors")` load them with s = 1. Nothing here touches a disk,
and the files name no class: the caller decides where the bytes are stored.

The configuration is written by hand, not by `peft.LoraConfig`, so that another version of PEFT changes no byte.

Pipelines of diffusers ignore these files without an error: `pipe.load_lora_weights(path)` takes one file, with names of
its own (`pipeline_file`), `unet.SITE` and `text_encoder.text_model.SITE`, whose `text_model` it drops where
transformers has no such level any more. With it a pipeline computes what scoring computed: it knows one strength for
both networks and takes 1, so s of each network, 0.6 and 0.7 as published, is multiplied into B.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fewshot.diffusion.lora.sites import OLD_PREFIX, is_text_site, is_unet_site
from fewshot.diffusion.lora.stacked_lora import LoraPair, Pairs, StackedLora, concatenated, count_and_rank
from fewshot.errors import DataError

UNET, TEXT = "unet", "text_encoder"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ADAPTER_FILES = tuple(f"{part}/{name}" for part in (UNET, TEXT) for name in (CONFIG, WEIGHTS))
"""The files of one class, as paths below its folder."""
UNET_FILES = ADAPTER_FILES[:2]
"""Those of the UNet's adapters."""
_PREFIX = "base_model.model."
_PIPELINE_PREFIXES = {"unet": "unet.", "text": f"text_encoder.{OLD_PREFIX}"}
_HALVES = {"A": ".lora_A.weight", "B": ".lora_B.weight"}
_PLAIN: Mapping[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "use_dora": False,
    "use_rslora": False,
    "alpha_pattern": {},
    "rank_pattern": {},
}
"""Values that a configuration must have, where it has the key: other kinds of LoRA compute something else."""


def save_adapter(stack: StackedLora, class_index: int) -> dict[str, bytes]:
    """Serialise one class. The same adapter always gives the same bytes.

    Args:
        stack: of K classes, on any device.
        class_index: in [0, K).

    Returns:
        Content by path below the class's folder.

    Raises:
        DataError: a weight is not finite in half precision.
    """
    return {
        f"{part}/{name}": content
        for part, pairs in ((UNET, stack.unet), (TEXT, stack.text))
        for name, content in ((CONFIG, _config(pairs)), (WEIGHTS, _weights(pairs, class_index)))
    }


def _config(pairs: Pairs) -> bytes:
    _, rank = count_and_rank(pairs)
    plain = {
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "target_modules": sorted(pairs),
        "inference_mode": True,
    }
    return (json.dumps({**_PLAIN, **plain}, indent=2, sort_keys=True) + "\n").encode()


def _weights(pairs: Pairs, class_index: int) -> bytes:
    tensors = {
        f"{_PREFIX}{site}{_HALVES[half]}": stacked[class_index].detach().to("cpu", torch.float16).contiguous()
        for site, pair in pairs.items()
        for half, stacked in pair._asdict().items()
    }
    if overflowing := _not_finite(tensors):
        raise DataError(
            f"{len(overflowing)} adapter weights are not finite in half precision, {overflowing[0]} among them; train "
            "with a smaller learning rate"
        )
    return safetensors.torch.save(tensors)


def _not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all())


def load_adapters(classes: Sequence[Mapping[str, bytes]]) -> StackedLora:
    """Load what `save_adapter` gave for many classes.

    Args:
        classes: the files of each of K classes, K >= 1; files of other names are ignored.

    Returns:
        float32 on the CPU, with exactly the stored numbers.

    Raises:
        DataError: a file is missing, damaged or pickled, a tensor is missing, superfluous, not finite or of another
            shape, the adapter is not a plain LoRA with s = 1, or the classes differ in sites or ranks.
    """
    stacks = [StackedLora(_part(files, UNET), _part(files, TEXT)) for files in classes]
    return concatenated([stack.mapped(Tensor.float) for stack in stacks])


def load_unet_adapters(files: Mapping[str, bytes]) -> Pairs:
    """Load the UNet's adapters of one class alone.

    Args:
        files: `UNET_FILES`; files of other names are ignored.

    Returns:
        of one class, on the CPU, in the precision that they are stored in.

    Raises:
        DataError: see `load_adapters`.
    """
    return _part(files, UNET)


def _part(files: Mapping[str, bytes], part: str) -> Pairs:
    if missing := [path for name in (CONFIG, WEIGHTS) if (path := f"{part}/{name}") not in files]:
        pickled = " (pickled weights are not read)" if any(name.endswith((".bin", ".pt")) for name in files) else ""
        raise DataError(f"an adapter needs the file {missing[0]}, got {sorted(files)}{pickled}")
    try:
        tensors = safetensors.torch.load(files[f"{part}/{WEIGHTS}"])
    except safetensors.SafetensorError as error:
        raise DataError(f"{part}/{WEIGHTS} is not a safetensors file: {error}") from error
    if wrong := _not_finite(tensors):
        raise DataError(f"{part}/{WEIGHTS}: {wrong[0]} has values that are not finite numbers")
    rank = _rank(files[f"{part}/{CONFIG}"], part)
    pairs = _paired(tensors, part)
    if (found := count_and_rank(pairs)[1]) != rank:
        raise DataError(f"{part}/{CONFIG} has rank {rank}, but its weights have rank {found}")
    return pairs


def _rank(config: bytes, part: str) -> int:
    """Return the rank of a plain LoRA.

    Raises:
        DataError: the configuration is not that of a plain LoRA with s = 1.
    """
    try:
        settings = json.loads(config)
        rank, alpha = int(settings["r"]), settings["lora_alpha"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{part}/{CONFIG} is not a configuration of a LoRA: {error!r}") from error
    if odd := sorted(name for name, plain in _PLAIN.items() if settings.get(name, plain) != plain):
        name = odd[0]
        raise DataError(f"{part}/{CONFIG} is not a plain LoRA: {name} is {settings[name]!r}, expected {_PLAIN[name]!r}")
    if alpha != rank:
        raise DataError(
            f"{part}/{CONFIG}: lora_alpha is {alpha}, expected r = {rank}; multiply B by lora_alpha / r and set it to r"
        )
    return rank


def _paired(tensors: Mapping[str, Tensor], part: str) -> Pairs:
    """Return one class's pairs, from tensors by PEFT's names."""
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        site, half = _site_and_half(name, part)
        if tensor.ndim != 2:
            raise DataError(f"{name} has shape {list(tensor.shape)}, expected a matrix")
        halves.setdefault(site, {})[half] = tensor[None]
    if unpaired := sorted(site for site, pair in halves.items() if pair.keys() != _HALVES.keys()):
        raise DataError(f"{part}/{WEIGHTS}: {unpaired[0]} has only {''.join(halves[unpaired[0]])} of A and B")
    return {site: LoraPair(**pair) for site, pair in halves.items()}


def _site_and_half(name: str, part: str) -> tuple[str, str]:
    is_site = is_unet_site if part == UNET else is_text_site
    for half, suffix in _HALVES.items():
        site = name.removeprefix(_PREFIX).removeprefix(OLD_PREFIX).removesuffix(suffix)
        if name.startswith(_PREFIX) and name.endswith(suffix) and is_site(site):
            return site, half
    raise DataError(f"{part}/{WEIGHTS}: {name!r} belongs to no layer that can carry an adapter")


def pipeline_file(
    stack: StackedLora, class_index: int, *, unet_scale: float, text_scale: float, about: Mapping[str, str]
) -> bytes:
    """Serialise one class for a pipeline. The same adapter always gives the same bytes.

    Args:
        stack: of K classes, on any device.
        class_index: in [0, K).
        unet_scale: s of the UNet's adapters in inference.
        text_scale: of the text encoder's.
        about: what the metadata of the file should hold, e.g. the prompt that the adapters were trained with.

    Returns:
        The content of a safetensors file, in half precision.
    """
    scaled = stack.select([class_index]).scaled(unet=unet_scale, text=text_scale)
    tensors = {
        f"{_PIPELINE_PREFIXES[part]}{site}.lora_{half}.weight": stacked[0]
        .detach()
        .to("cpu", torch.float16)
        .contiguous()
        for part, pairs in (("unet", scaled.unet), ("text", scaled.text))
        for site, pair in pairs.items()
        for half, stacked in pair._asdict().items()
    }
    # One entry: several would be written in any order.
    return safetensors.torch.save(tensors, {"about": json.dumps(dict(about), sort_keys=True)})
