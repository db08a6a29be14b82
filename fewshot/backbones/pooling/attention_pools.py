"""The attention pools of image towers, each as a module from tokens [B, T, C] to features [B, D].

All of them need the result of one query only, so attention is folded: both products with tokens move to the query's
side, exactly,

    q·(Wₖ x + bₖ) = (Wₖᵀ q)·x + const          Σ aₙ (Wᵥ xₙ + bᵥ) = Wᵥ (Σ aₙ xₙ) + bᵥ

The keys' bias adds the same to every logit and drops out of the softmax: it is not among the weights here, where its
gradient would be rounding noise (which Adam turns into drift). For RN50 an image then costs 0.02 instead of 0.74
billion multiply-adds.

* `MapPool`: CLIP's ResNets, and timm's `AttentionPool2d` (the embedded tower). The query is the mean of the map, which
  is also one of the tokens attended to; every position has a learned vector:

      T = [mean x; x_1 … x_L] + P      f = W_c · concat_h(Σ_j a_j v_j) + b_c,   a = softmax(<q(T_0), k(T_j)> / √d)

* `ClassTokenPool`: the class token's row of the last residual block of a ViT. The query is the class token, keys and
  values are all tokens that enter the block. The other rows never reach the feature and are not computed.
* `CocaPool` and `MapHeadPool`: the query is a learned vector. CoCa has 256 of them, of which only the first reaches the
  feature; the others are left out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

MAP_POOL_SCOPES = {"attn": ("position", "query.", "key", "value.", "output.")}
CLASS_TOKEN_SCOPES = {
    "attn": ("attn.",),
    "attn+proj": ("attn.", "proj"),
    "block": ("ln_1.", "attn.", "ls_1.", "ln_2.", "mlp.", "ls_2.", "ln_post.", "proj"),
}
COCA_SCOPES = {
    "attn": ("query", "ln_q.", "ln_k.", "attn."),
    "attn+proj": ("query", "ln_q.", "ln_k.", "attn.", "proj"),
}
MAP_HEAD_SCOPES = {"attn": ("pool.",)}


def attend(query: Tensor, tokens: Tensor, key: Tensor, value: Tensor, *, position: Tensor | None = None) -> Tensor:
    """Return the multi-head attention of one query over tokens.

    Args:
        query: [B, heads, d] or [1, heads, d] float32: projected, not scaled.
        tokens: [B, T, C] float32.
        key: [heads * d, C], the key projection.
        value: [heads * d, C], the value projection; the caller adds its bias.
        position: [T, C], added to the tokens of every image. It is separate so that training it needs no gradient of B
            maps.

    Returns:
        [B, heads * d] float32, heads side by side.
    """
    heads, width = query.shape[1:]
    folded = torch.einsum("bhd,hdc->bhc", query, key.view(heads, width, -1)) / math.sqrt(width)
    logits = folded @ tokens.transpose(1, 2)  # [B, heads, T]
    if position is not None:
        logits = logits + folded @ position.T
    attention = logits.softmax(dim=-1)
    mixed = attention @ tokens  # [B, heads, C]
    if position is not None:
        mixed = mixed + attention @ position
    return torch.einsum("bhc,hdc->bhd", mixed, value.view(heads, width, -1)).flatten(1)


class MapPool(nn.Module):
    """Pools [B, L, C] to [B, D], see the module's docstring.

    Args:
        position: [L + 1, C].
        query, value, output: projections with bias: C -> E, C -> E and E -> D.
        key: [E, C], without bias, which has no effect.
        heads: number of heads.
        after: the tower's layers after the pool, [B, D] -> [B, D'].
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


def map_pool_from_open_clip(pool: Any) -> MapPool:
    """Build a pool from `open_clip.modified_resnet.AttentionPool2d`."""
    return MapPool(
        pool.positional_embedding.detach(),
        pool.q_proj,
        pool.k_proj.weight.detach(),
        pool.v_proj,
        pool.c_proj,
        heads=pool.num_heads,
    )


def map_pool_from_timm(pool: Any, after: nn.Module) -> MapPool:
    """Build a pool from `timm.layers.AttentionPool2d` without a class token, and the layers after it."""
    query, key, value = (pool.q, pool.k, pool.v) if pool.qkv is None else _split_projection(pool.qkv)
    return MapPool(
        pool.pos_embed.detach(), query, key.weight.detach(), value, pool.proj, heads=pool.num_heads, after=after
    )


def _split_projection(joint: nn.Linear) -> list[nn.Linear]:
    """Split a joint projection into those of query, key and value."""
    weights, biases = joint.weight.detach().chunk(3), joint.bias.detach().chunk(3)
    parts = [nn.Linear(joint.in_features, len(weight)) for weight in weights]
    for part, weight, bias in zip(parts, weights, biases, strict=True):
        part.weight.data.copy_(weight)
        part.bias.data.copy_(bias)
    return parts


class ClassTokenPool(nn.Module):
    """Pools [B, T, C], the class token first, to [B, D].

    Args:
        block: `open_clip.transformer.ResidualAttentionBlock`, the last one.
        ln_post: norm after it.
        proj: [C, D].
    """

    def __init__(self, block: Any, ln_post: nn.Module, proj: Tensor) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2
        self.ln_post = ln_post
        self.proj = nn.Parameter(proj.detach())

    def forward(self, dense: Tensor) -> Tensor:
        """See the class."""
        normed = self.ln_1(dense)
        query_weight, key, value = self.attn.in_proj_weight.chunk(3)
        query_bias, _, value_bias = self.attn.in_proj_bias.chunk(3)
        query = nn.functional.linear(normed[:, 0], query_weight, query_bias).view(
            len(dense), self.attn.num_heads, self.attn.head_dim
        )
        row = dense[:, 0] + self.ls_1(self.attn.out_proj(attend(query, normed, key, value) + value_bias))
        row = row + self.ls_2(self.mlp(self.ln_2(row)))
        pooled: Tensor = self.ln_post(row) @ self.proj
        return pooled


class CocaPool(nn.Module):
    """Pools [B, T, C] to [B, D].

    Args:
        pooler: `open_clip.transformer.AttentionalPooler`.
        ln_post: norm after it.
        proj: [C', D].
    """

    def __init__(self, pooler: Any, ln_post: nn.Module, proj: Tensor) -> None:
        super().__init__()
        self.query = nn.Parameter(pooler.query[:1].detach())
        self.ln_q, self.ln_k, self.attn = pooler.ln_q, pooler.ln_k, pooler.attn
        self.ln_post = ln_post
        self.proj = nn.Parameter(proj.detach())

    def forward(self, dense: Tensor) -> Tensor:
        """See the class."""
        query_weight, key, value = self._projections()
        query_bias, _, value_bias = self.attn.in_proj_bias.chunk(3)
        query = nn.functional.linear(self.ln_q(self.query), query_weight, query_bias)
        mixed = attend(query.view(1, self.attn.num_heads, -1), self.ln_k(dense), key, value)
        pooled: Tensor = self.ln_post(self.attn.out_proj(mixed + value_bias)) @ self.proj
        return pooled

    def _projections(self) -> tuple[Tensor, ...]:
        """Return the three projections, which torch keeps in one tensor where tokens are as wide as the query."""
        if self.attn.in_proj_weight is not None:
            joint: tuple[Tensor, ...] = self.attn.in_proj_weight.chunk(3)
            return joint
        return self.attn.q_proj_weight, self.attn.k_proj_weight, self.attn.v_proj_weight


class MapHeadPool(nn.Module):
    """Pools [B, T, C] to [B, D] as SigLIP does: attention, an MLP, and the tower's layers after it.

    Args:
        pool: `timm.layers.AttentionPoolLatent` without norms on queries and keys.
        after: [B, C] -> [B, D].
    """

    def __init__(self, pool: Any, after: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.after = after

    def forward(self, dense: Tensor) -> Tensor:
        """See the class."""
        pool = self.pool
        query = pool.q(pool.latent[:, 0]).view(1, pool.num_heads, -1)
        key, value = pool.kv.weight.chunk(2)
        position = pool.pos_embed
        row = attend(query, dense, key, value, position=position)
        if pool.kv.bias is not None:
            row = row + pool.kv.bias.chunk(2)[1]
        row = pool.proj(row)
        if pool.mlp is not None:
            row = row + pool.mlp(pool.norm(row))
        pooled: Tensor = self.after(row)
        return pooled
