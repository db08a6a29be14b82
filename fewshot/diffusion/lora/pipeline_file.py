"""One class's adapters as one file that pipelines of diffusers load: `pipe.load_lora_weights(path)`.

The pipeline then computes what scoring computed. It knows one strength for both networks and takes 1, so s of each
network, 0.6 and 0.7 as published, is multiplied into B. Names are those that diffusers saves: `unet.SITE` and
`text_encoder.text_model.SITE`, whose `text_model` it drops where transformers has no such level any more. It ignores
what has other names without an error, so the files of PEFT (`fewshot.diffusion.lora.adapter_files`) change nothing
there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors.torch
import torch

from fewshot.diffusion.lora.sites import OLD_PREFIX
from fewshot.diffusion.lora.stacked_lora import StackedLora

PREFIXES = {"unet": "unet.", "text": f"text_encoder.{OLD_PREFIX}"}


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
        f"{PREFIXES[part]}{site}.lora_{half}.weight": stacked[0].detach().to("cpu", torch.float16).contiguous()
        for part, pairs in (("unet", scaled.unet), ("text", scaled.text))
        for site, pair in pairs.items()
        for half, stacked in pair._asdict().items()
    }
    # One entry: several would be written in any order.
    return safetensors.torch.save(tensors, {"about": json.dumps(dict(about), sort_keys=True)})
