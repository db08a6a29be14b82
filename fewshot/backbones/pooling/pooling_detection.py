"""Detect the pooling layer of an open_clip image tower, and the module whose input are its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from fewshot.backbones.pooling import attention_pools
from fewshot.backbones.pooling.pooling_layer import Pooling
from fewshot.errors import BackboneError


@dataclass(frozen=True, slots=True)
class DetectedPooling:
    """The pooling layer of a tower.

    Attributes:
        module: part of the tower; its first input are the tokens.
        pooling: the tower from these tokens on.
    """

    module: nn.Module
    pooling: Pooling

    @contextmanager
    def recording(self, batches: list[Tensor]) -> Iterator[None]:
        """Append the tokens [B, T, C] float16 of every forward of the tower to `batches`, on its device."""

        def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            batches.append(map_to_tokens(inputs[0]).half())

        handle = self.module.register_forward_pre_hook(record)
        try:
            yield
        finally:
            handle.remove()


def detect_pooling(visual: Any) -> DetectedPooling:
    """Detect the attention pool of an image tower.

    Args:
        visual: `model.visual` of an open_clip model.

    Raises:
        BackboneError: the tower has no attention pool, or one of an unknown kind.
    """
    if isinstance(visual, ModifiedResNet):
        layer = attention_pools.map_pool_from_open_clip(visual.attnpool)
        return DetectedPooling(visual.attnpool, Pooling(layer, attention_pools.MAP_POOL_SCOPES))
    if isinstance(visual, VisionTransformer):
        return _vision_transformer(visual)
    if isinstance(visual, TimmModel):
        return _timm(visual)
    raise _refusal(f"its tower is a {type(visual).__name__}")


def map_to_tokens(features: Tensor) -> Tensor:
    """Return tokens [B, T, C]: of a map [B, C, H, W] its positions row by row, and tokens unchanged."""
    return features.flatten(2).transpose(1, 2) if features.ndim == 4 else features


def _vision_transformer(visual: Any) -> DetectedPooling:
    if visual.attn_pool is not None:
        if visual.attn_pool_contrastive is not None or visual.pool_type != "tok":
            raise _refusal("it uses more than the first query of its pool")
        layer = attention_pools.CocaPool(visual.attn_pool, visual.ln_post, visual.proj)
        return DetectedPooling(visual.attn_pool, Pooling(layer, attention_pools.COCA_SCOPES))
    block = visual.transformer.resblocks[-1]
    if visual.pool_type != "tok":
        raise _refusal(f"its tower ends in an average (pool_type = {visual.pool_type!r})")
    if type(block) is not ResidualAttentionBlock:
        raise _refusal(f"its last block is a {type(block).__name__}")
    pool = attention_pools.ClassTokenPool(block, visual.ln_post, visual.proj)
    return DetectedPooling(block, Pooling(pool, attention_pools.CLASS_TOKEN_SCOPES))


def _timm(visual: Any) -> DetectedPooling:
    from timm.layers.attention_pool import AttentionPoolLatent
    from timm.layers.attention_pool2d import AttentionPool2d

    pool, trunk = getattr(visual.head, "pool", None), visual.trunk
    if isinstance(pool, AttentionPool2d) and pool.cls_token is None:
        after = nn.Sequential(*(part for part in visual.head if part is not pool))
        layer = attention_pools.map_pool_from_timm(pool, after)
        return DetectedPooling(pool, Pooling(layer, attention_pools.MAP_POOL_SCOPES))
    pool = getattr(trunk, "attn_pool", None)
    if isinstance(pool, AttentionPoolLatent) and isinstance(pool.q_norm, nn.Identity):
        after = nn.Sequential(trunk.fc_norm, trunk.head, visual.head)
        return DetectedPooling(pool, Pooling(attention_pools.MapHeadPool(pool, after), attention_pools.MAP_HEAD_SCOPES))
    raise _refusal(f"its tower is timm's {type(trunk).__name__}, which ends in an average or in an unknown pool")


def _refusal(reason: str) -> BackboneError:
    return BackboneError(
        f"this model has no attention pool that could be tuned: {reason}. Methods that pool dense tokens need a CLIP"
        " ResNet, a ViT that pools its class token, CoCa, SigLIP, or model = 'embedded'."
    )
