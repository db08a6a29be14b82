"""Attention pools whose query is a learned vector: CoCa's `AttentionalPooler` and timm's `AttentionPoolLatent`.

CoCa has 256 queries, of which only the first reaches the feature; the others are left out.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fewshot.backbones.pooling.attention import attend

COCA_SCOPES = {
    "attn": ("query", "ln_q.", "ln_k.", "attn."),
    "attn+proj": ("query", "ln_q.", "ln_k.", "attn.", "proj"),
}
MAP_SCOPES = {"attn": ("pool.",)}


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
        """Torch keeps them joint when the tokens are as wide as the query."""
        if self.attn.in_proj_weight is not None:
            joint: tuple[Tensor, ...] = self.attn.in_proj_weight.chunk(3)
            return joint
        return self.attn.q_proj_weight, self.attn.k_proj_weight, self.attn.v_proj_weight


class MapHead(nn.Module):
    """Pools [B, T, C] to [B, D] as SigLIP does: attention, an MLP, and whatever the tower has after it.

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
