"""The sites of adapters (TiF, arXiv 2403.02649): the linear layers that carry them, and their names.

UNet: q, k, v and out of both attentions of a transformer block, and the first linear layer of its feed-forward part.
Text encoder: q, k, v and out of every layer. Convolutions, the second feed-forward layer, the transformers' proj_in and
proj_out and the time embedding stay as they are.

A site is named by its module's path. Transformers before version 5 puts the text encoder's layers below `text_model`;
the name leaves that out, so that adapters fit both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from torch import nn

from fewshot.errors import DataError

BlockFilter = Literal["none", "all-1", "all-2"]
"""The number of shallowest resolutions with attention that have no adapters; the deepest one always has them."""

SHALLOWEST = {"none": 0, "all-1": 1, "all-2": 2}
OLD_PREFIX = "text_model."
_UNET = re.compile(
    r"(?:(?P<side>down|up)_blocks\.(?P<index>\d+)|mid_block)\.attentions\.\d+\.transformer_blocks\.\d+\."
    r"(?:attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.0\.proj)"
)
_TEXT = re.compile(r"encoder\.layers\.\d+\.self_attn\.(?:q|k|v|out)_proj")


def sites(model: nn.Module) -> dict[str, nn.Linear]:
    """Return every layer of a UNet or a text encoder that can carry an adapter, by site name, in the model's order.

    Raises:
        DataError: there is none: the model is neither of them.
    """
    found = {
        site: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (is_unet_site(site := name.removeprefix(OLD_PREFIX)) or is_text_site(site))
    }
    if not found:
        raise DataError(
            f"{type(model).__name__} has no layer for an adapter; expected the UNet of a Stable Diffusion or the text "
            "encoder of a CLIP"
        )
    return found


def is_unet_site(name: str) -> bool:
    """Whether a name is that of a site of some UNet."""
    return _UNET.fullmatch(name) is not None


def is_text_site(name: str) -> bool:
    """Whether a name is that of a site of some text encoder."""
    return _TEXT.fullmatch(name) is not None


def unet_sites(unet: nn.Module, blocks: BlockFilter = "none") -> dict[str, nn.Linear]:
    """Return the sites of a UNet that a filter leaves; on Stable Diffusion's four levels 144, 99 or 54.

    Args:
        unet: diffusers' `UNet2DConditionModel`, with any number of levels.
        blocks: the filter.

    Raises:
        DataError: as `sites`.
    """
    found = sites(unet)
    top = max(_indices(name for name, _ in unet.named_modules()), default=0)
    levels = {name: _level(name, top) for name in found}
    attending = sorted({level for level in levels.values() if level <= top})
    dropped = attending[:-1][: SHALLOWEST[blocks]]
    return {name: layer for name, layer in found.items() if levels[name] not in dropped}


def block_filter_for(shots: int) -> BlockFilter:
    """Return TiF's filter for a number of shots: few adapt only the deep blocks, 16 and more adapt all."""
    if shots < 8:
        return "all-2"
    return "all-1" if shots < 16 else "none"


def _indices(names: Iterable[str]) -> list[int]:
    """Return the numbers of the down blocks, with or without attention."""
    return [int(match[1]) for name in names if (match := re.fullmatch(r"down_blocks\.(\d+)", name))]


def _level(site: str, top: int) -> int:
    """Return the depth of a site: 0 at full resolution, `top` at the lowest, `top` + 1 in the middle block."""
    match = _UNET.fullmatch(site)
    assert match is not None, f"{site} is not a site of a UNet"
    if match["side"] is None:
        return top + 1
    return int(match["index"]) if match["side"] == "down" else top - int(match["index"])
