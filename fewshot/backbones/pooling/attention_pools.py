"""Attention pools over feature maps: CLIP's ResNets, and timm's `AttentionPool2d` (the embedded tower).

The query is the mean of the map, which is also one of the tokens attended to; every position has a learned vector:

    T = [mean x; x_1 … x_L] + P      f = W_c · concat_h(Σ_j a_j v_j) + b_c,   a = softmax(<q(T_0), k(T_j)> / √d)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewshot.backbones.pooling.attention import attend

SCOPES = {"attn": ("position", "query.", "key", "value.", "output.")}


class MapPool(nn.Module):
    """Pools [B, L, C] to [B, D].

    Args:
        position: [L + 1, C].
        query, value, output: projections with bias: C -> E, C -> E and E -> D.
        key: [E, C], without bias, which has no effect.
        heads: how many.
        after: what the tower does to the feature, [B, D] -> [B, D'].
    """

    def __init__(
        self,
        position: Tensor,
        query: nn.Linear,
        key: Tensor,
        value: nn.Linear,
        output: nn.Module,
        *,
        heads: int,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.position = nn.Parameter(position)
        self.query = query
        self.key = nn.Parameter(key)
        self.value = value
        self.output = output
        self.heads, self.width = heads, len(key) // heads
        self.after = after or nn.Identity()

    def forward(self, dense: Tensor) -> Tensor:
        """See the class."""
        mean = dense.mean(dim=1, keepdim=True)
        query = self.query(mean[:, 0] + self.position[0]).view(len(mean), self.heads, self.width)
        tokens = torch.cat([mean, dense], dim=1)
        mixed = attend(query, tokens, self.key, self.value.weight, position=self.position)
        pooled: Tensor = self.after(self.output(mixed + self.value.bias))
        return pooled


def from_open_clip(pool: Any) -> MapPool:
    """Of `open_clip.modified_resnet.AttentionPool2d`."""
    return MapPool(
        pool.positional_embedding.detach(),
        pool.q_proj,
        pool.k_proj.weight.detach(),
        pool.v_proj,
        pool.c_proj,
        heads=pool.num_heads,
    )


def from_timm(pool: Any, after: nn.Module) -> MapPool:
    """Of `timm.layers.AttentionPool2d` without a class token, and what follows it."""
    query, key, value = (pool.q, pool.k, pool.v) if pool.qkv is None else _three(pool.qkv)
    return MapPool(
        pool.pos_embed.detach(), query, key.weight.detach(), value, pool.proj, heads=pool.num_heads, after=after
    )


def _three(joint: nn.Linear) -> list[nn.Linear]:
    """Three projections out of a joint one."""
    weights, biases = joint.weight.detach().chunk(3), joint.bias.detach().chunk(3)
    parts = [nn.Linear(joint.in_features, len(weight)) for weight in weights]
    for part, weight, bias in zip(parts, weights, biases, strict=True):
        part.weight.data.copy_(weight)
        part.bias.data.copy_(bias)
    return parts
